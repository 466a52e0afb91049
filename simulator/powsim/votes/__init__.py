"""Files of votes, read in pieces: NumPy arrays (.npy, .npz) and Parquet tables, larger than memory or not.

>>> source = open_votes(Path("votes.npz"))
>>> for piece in source.pieces(10_000):
...     plan.eps(piece.votes, 1e-5)
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from powsim.files import kind_of, reason
from powsim.text import printable, shown

ROOMS = ((b"\x93NUMPY", "arrays"), (b"PK", "arrays"), (b"PAR1", "tables"))


class VotesError(ValueError):
    """A file that cannot be read as votes; the text names it, says why, and what to do."""


@dataclass(frozen=True)
class Piece:
    """Some rows of a file, in its order."""

    first: int  # number of its first row in the file
    votes: NDArray[Any]  # [n, C] integers or floats, not looked at
    identities: NDArray[Any] | None  # [n] integers or texts


class Votes(Protocol):
    """A file of votes whose form is known to be right; its values are not."""

    @property
    def rows(self) -> int:
        """How many queries."""

    @property
    def classes(self) -> int:
        """How many classes."""

    @property
    def about(self) -> str:
        """Where in the file the votes stand, and of what type they are."""

    def pieces(self, most: int) -> Iterator[Piece]:
        """Yield every row, at most `most` at a time. Raises VotesError where the file is not what it says."""


def open_votes(path: Path, key: str | None = None, identity: str | None = None) -> Votes:
    """Return the votes of a .npy, .npz or Parquet file, known by its first bytes; nothing but its form is read.

    key: the array of an .npz, the list column of a Parquet table, or the columns, one per class ("class_*", "a,b,c").
    Default "votes", else the only candidate. identity: the array or column that says whose query each row is.
    Raises VotesError.
    """
    name = shown(str(path), 300)
    try:
        kind = kind_of(path.stat().st_mode)
        if kind is not None:
            raise VotesError(f"{name} is {kind}, not a file: write the votes into one")
        with path.open("rb") as file:
            begin = file.read(6)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        if isinstance(error, VotesError):
            raise
        raise VotesError(f"cannot read {name}: {reason(error)}") from None
    if not begin:
        raise VotesError(f"{name} is empty")
    room = next((room for magic, room in ROOMS if begin.startswith(magic)), None)
    if room is None:
        raise VotesError(f"{name} is neither a NumPy file (.npy, .npz) nor a Parquet one: convert it to one of these")
    source: Votes = importlib.import_module(f"powsim.votes.{room}").opened(path, key, identity)
    if source.rows == 0:
        raise VotesError(f"{name} holds no rows of votes")
    if source.classes < 2:
        raise VotesError(f"{name} holds votes for {source.classes} class: at least 2 are needed")
    return source


def listed(names: list[str]) -> str:
    """Return names of a foreign file in a message."""
    return printable(", ".join(names[:12])) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
