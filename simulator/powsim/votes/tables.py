"""Parquet tables of votes: a list column, or a column per class, a row group's pages at a time."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim.files import reason
from powsim.text import shown
from powsim.votes import Piece, Votes, VotesError, listed

READ_AT_ONCE = 1 << 20  # of a column's bytes in the file: row groups may be larger than memory


@dataclass(frozen=True)
class TableVotes:
    """Votes in a Parquet file."""

    path: Path
    rows: int
    classes: int
    columns: tuple[str, ...]  # one list column, or one per class
    listed: bool
    identity: str | None
    about: str

    def pieces(self, most: int) -> Iterator[Piece]:
        """Yield every row."""
        wanted = list(self.columns) + ([] if self.identity is None else [self.identity])
        with _told(self.path), _open(self.path) as file:
            first = 0
            for batch in file.iter_batches(batch_size=most, columns=list(dict.fromkeys(wanted))):
                votes = self._votes(batch, first)
                whose = None if self.identity is None else self._identities(batch.column(self.identity), first)
                yield Piece(first, votes, whose)
                first += len(votes)
            if first != self.rows:
                raise VotesError(f"{shown(str(self.path), 300)} has {first} rows and says {self.rows}: write it again")

    def _votes(self, batch: Any, first: int) -> NDArray[Any]:
        if not self.listed:
            parts = [self._whole(batch.column(name), first, name) for name in self.columns]
            return np.stack([part.to_numpy(zero_copy_only=False) for part in parts], axis=1)
        column = self._whole(batch.column(self.columns[0]), first, self.columns[0])
        lengths = column.value_lengths().to_numpy(zero_copy_only=False)
        if (lengths != self.classes).any():
            row = int(np.argmax(lengths != self.classes))
            raise VotesError(
                f"{shown(str(self.path), 300)}, row {first + row}: {lengths[row]} votes, where row 0 has {self.classes}"
            )
        values = column.flatten()
        if values.null_count:
            row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False))) // self.classes
            raise VotesError(f"{shown(str(self.path), 300)}, row {first + row}: a vote is missing (null)")
        return np.array(values.to_numpy(zero_copy_only=False)).reshape(-1, self.classes)

    def _identities(self, column: Any, first: int) -> NDArray[Any]:
        import pyarrow as pa

        whole = self._whole(column, first, self.identity or "")
        if pa.types.is_dictionary(whole.type):
            whole = whole.dictionary_decode()
        values: NDArray[Any] = whole.to_numpy(zero_copy_only=False)
        return values

    def _whole(self, column: Any, first: int, name: str) -> Any:
        """Return a column, or raise where a row has nothing in it."""
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise VotesError(f"{shown(str(self.path), 300)}, row {first + row}: column {shown(name)} is empty (null)")
        return column


def opened(path: Path, key: str | None, identity: str | None) -> Votes:
    """Return the votes of a Parquet file."""
    with _told(path), _open(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        _check_names(path, schema.names)
        if identity is not None:
            _check_identity(path, schema, identity)
        columns = _chosen(path, schema, key, identity)
        kind = schema.field(columns[0]).type
        if not _is_list(kind):
            types = ", ".join(dict.fromkeys(str(schema.field(name).type) for name in columns))
            about = f"{len(columns)} columns, {shown(columns[0])} to {shown(columns[-1])}, {types}"
            return TableVotes(path, rows, len(columns), columns, False, identity, about)
        return TableVotes(
            path, rows, _width(file, columns[0], kind), columns, True, identity, f"column {shown(columns[0])}, {kind}"
        )


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what reading may raise into a VotesError."""
    import pyarrow as pa

    try:
        yield
    except VotesError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error) or type(error).__name__
        raise VotesError(f"cannot read {shown(str(path), 300)}: {shown(why.splitlines()[0], 300)}") from None


def _open(path: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, buffer_size=READ_AT_ONCE, pre_buffer=False, page_checksum_verification=True)


def _check_names(path: Path, names: list[str]) -> None:
    twice = [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []
    if twice:
        raise VotesError(f"{shown(str(path), 300)} has two columns {shown(twice[0])}: rename one")


def _check_identity(path: Path, schema: Any, identity: str) -> None:
    import pyarrow as pa

    if identity not in schema.names:
        raise VotesError(f"{shown(str(path), 300)} has no column {shown(identity)}: it has {listed(schema.names)}")
    kind = schema.field(identity).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise VotesError(f"column {shown(identity)} has type {kind}: identities are integers or texts")


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _chosen(path: Path, schema: Any, key: str | None, identity: str | None) -> tuple[str, ...]:
    """Return the columns that hold the votes."""
    name = shown(str(path), 300)
    others = [column for column in schema.names if column != identity]
    if key is None and "votes" in others:
        key = "votes"
    if key is None:
        import pyarrow as pa

        wrong = [column for column in others if not pa.types.is_integer(schema.field(column).type)]
        if wrong or not others:
            raise VotesError(
                f"{name} has no column votes, and not every column is one of integers (it has {listed(schema.names)}): "
                f"name the votes with --key"
            )
        return tuple(others)
    if key in schema.names:
        found = [key]
    else:
        patterns = [part.strip() for part in key.split(",")]
        found = [c for c in others if any(c == part or fnmatch.fnmatchcase(c, part) for part in patterns)]
        absent = [part for part in patterns if not any(c == part or fnmatch.fnmatchcase(c, part) for c in others)]
        if absent:
            raise VotesError(f"{name} has no column {shown(absent[0])}: it has {listed(schema.names)}")
    for column in found:
        kind = schema.field(column).type
        inner = kind.value_type if _is_list(kind) and len(found) == 1 else kind
        if not _is_number(inner):
            raise VotesError(f"column {shown(column)} of {name} has type {kind}: votes are integers or floats")
    return tuple(found)


def _width(file: Any, column: str, kind: Any) -> int:
    """Return how many votes the lists hold; where the type does not say, as many as the first row's."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    for batch in file.iter_batches(batch_size=1, columns=[column]):
        first = batch.column(column)
        if len(first):
            return len(first[0].as_py() or ())
    return 2  # no rows: there is nothing to be wrong
