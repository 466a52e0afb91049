"""NumPy's files as streams: an .npy, or the members of an .npz, packed or not, never whole in memory."""

from __future__ import annotations

import contextlib
import lzma
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from powsim.files import reason
from powsim.text import shown
from powsim.votes import Piece, Votes, VotesError, listed

FAULTS = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, OverflowError, SyntaxError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, tokenize.TokenError),
)
WHOLE = 256 << 20  # an array stored column by column has to be read whole


@dataclass(frozen=True)
class _Array:
    """The header of one array."""

    member: str | None  # of the archive
    shape: tuple[int, ...]
    columns_first: bool
    dtype: np.dtype[Any]

    @property
    def name(self) -> str:
        return "the array" if self.member is None else f"array {shown(self.member)}"


@dataclass(frozen=True)
class ArrayVotes:
    """Votes in a NumPy file."""

    path: Path
    votes: _Array
    identity: _Array | None

    @property
    def rows(self) -> int:
        """How many queries."""
        return self.votes.shape[0]

    @property
    def classes(self) -> int:
        """How many classes."""
        return self.votes.shape[1]

    @property
    def about(self) -> str:
        """Where the votes stand."""
        return f"{self.votes.name}, {self.votes.dtype}"

    def pieces(self, most: int) -> Iterator[Piece]:
        """Yield every row."""
        with _told(self.path), contextlib.ExitStack() as stack:
            votes = _rows(stack, self.path, self.votes, most)
            whose = iter(lambda: None, 0) if self.identity is None else _rows(stack, self.path, self.identity, most)
            first = 0
            for piece, identities in zip(votes, whose, strict=self.identity is not None):
                yield Piece(first, piece, identities)
                first += len(piece)


def opened(path: Path, key: str | None, identity: str | None) -> Votes:
    """Return the votes of a NumPy file."""
    with _told(path), contextlib.ExitStack() as stack:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                if file.read(2) == b"PK":
                    raise VotesError(f"{shown(str(path), 300)} is a broken archive: it was cut off; write it again")
            if key is not None or identity is not None:
                raise VotesError(f"{shown(str(path), 300)} is one array without a name: --key and --identity need .npz")
            return ArrayVotes(path, _votes(path, _header(stack.enter_context(path.open("rb")), None)), None)
        archive = stack.enter_context(zipfile.ZipFile(path))
        names = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
        heads = {}
        for name in dict.fromkeys(names):
            with archive.open(f"{name}.npy") as file:
                heads[name] = _header(file, name)
    name_of_votes = _only(path, heads) if key is None else key
    for asked in (name_of_votes, identity):
        if asked is not None and asked not in heads:
            raise VotesError(f"{shown(str(path), 300)} has no array {shown(asked)}: it has {listed(names)}")
    votes = _votes(path, heads[name_of_votes])
    return ArrayVotes(path, votes, None if identity is None else _identity(path, heads[identity], votes.shape[0]))


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what reading may raise into a VotesError."""
    try:
        yield
    except VotesError:
        raise
    except FAULTS as error:
        why = reason(error) if isinstance(error, OSError) else str(error) or type(error).__name__
        raise VotesError(f"cannot read {shown(str(path), 300)}: {shown(why.splitlines()[0], 300)}") from None


def _header(file: IO[bytes], member: str | None) -> _Array:
    version = np.lib.format.read_magic(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # headers that Python 2 wrote are read all the same
        if version == (1, 0):
            shape, columns_first, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, columns_first, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"an array of NumPy's format {version[0]}.{version[1]}: only 1.0 and 2.0 hold votes")
    return _Array(member, shape, columns_first, dtype)


def _only(path: Path, heads: dict[str, _Array]) -> str:
    """Return the array that can only be the votes."""
    if "votes" in heads:
        return "votes"
    fit = [name for name, head in heads.items() if len(head.shape) == 2 and head.dtype.kind in "iuf"]
    if len(fit) != 1:
        raise VotesError(
            f"{shown(str(path), 300)} has {len(fit)} arrays that could be votes, and none of that name "
            f"(it has {listed(list(heads)) or 'none at all'}): name one with --key"
        )
    return fit[0]


def _votes(path: Path, head: _Array) -> _Array:
    name = f"{head.name} of {shown(str(path), 300)}"
    if head.dtype.hasobject:
        raise VotesError(f"{name} holds Python objects, which are not loaded: save it as numbers")
    if head.dtype.kind not in "iuf":
        raise VotesError(f"{name} has dtype {head.dtype}: votes are integers or floats")
    if len(head.shape) != 2:
        raise VotesError(f"{name} has shape {head.shape}: votes are [queries, classes]")
    if head.columns_first and min(head.shape) > 1 and head.shape[0] * head.shape[1] * head.dtype.itemsize > WHOLE:
        raise VotesError(f"{name} is stored column by column: save numpy.ascontiguousarray of it")
    return head


def _identity(path: Path, head: _Array, rows: int) -> _Array:
    name = f"{head.name} of {shown(str(path), 300)}"
    if head.dtype.kind not in "iuU":
        raise VotesError(f"{name} has dtype {head.dtype}: identities are integers or texts")
    if head.shape != (rows,):
        raise VotesError(f"{name} has shape {head.shape}: one identity per row, ({rows},), is needed")
    return head


def _rows(stack: contextlib.ExitStack, path: Path, head: _Array, most: int) -> Iterator[NDArray[Any]]:
    """Yield the array's rows as new arrays of at most `most`."""
    if head.member is None:
        file: IO[bytes] = stack.enter_context(path.open("rb"))
    else:
        file = stack.enter_context(stack.enter_context(zipfile.ZipFile(path)).open(f"{head.member}.npy"))
    if _header(file, head.member) != head:
        raise VotesError(f"{shown(str(path), 300)} was changed while it was read: start again")
    rows = head.shape[0]
    if head.columns_first and len(head.shape) == 2:
        whole = np.empty(head.shape[::-1], head.dtype)
        _fill(file, whole, path, head, 0)
        for begin in range(0, rows, most):
            yield np.ascontiguousarray(whole[:, begin : begin + most].T)
    else:
        for begin in range(0, rows, most):
            piece = np.empty((min(most, rows - begin), *head.shape[1:]), head.dtype)
            _fill(file, piece, path, head, begin)
            yield piece
    file.read(1)  # an archive's checksum is looked at where the member ends


def _fill(file: IO[bytes], piece: NDArray[Any], path: Path, head: _Array, begin: int) -> None:
    if piece.nbytes == 0:
        return
    room = memoryview(piece.reshape(-1).view(np.uint8).data)
    done = 0
    while done < len(room):
        got = file.readinto(room[done:])  # type: ignore[attr-defined]
        if not got:
            row = begin + done // (piece.nbytes // len(piece))
            raise VotesError(
                f"{shown(str(path), 300)} ends within row {row} of {head.shape[0]}: it was cut off; write it again"
            )
        done += got
