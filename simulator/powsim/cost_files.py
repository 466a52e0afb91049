"""Costs of queries on disk, a piece at a time: Parquet, .npz or CSV by the file's suffix."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from powsim.costs import Columns, Sink
from powsim.results import OutputError

NOTICE = "costs depend on private votes: publishing them leaks"


@contextlib.contextmanager
def parquet(path: Path, rows: int) -> Iterator[Sink]:
    """Yield what takes the columns of a piece; the table is complete when the block ends."""
    import pyarrow.parquet as pq

    yield from _by_tables(lambda schema: pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True))


@contextlib.contextmanager
def csv(path: Path, rows: int) -> Iterator[Sink]:
    """Yield what takes the columns of a piece; floats are written with every digit."""
    import pyarrow.csv as pc

    yield from _by_tables(lambda schema: pc.CSVWriter(path, schema))


def _by_tables(opened: Callable[[Any], Any]) -> Iterator[Sink]:
    import pyarrow as pa

    with contextlib.ExitStack() as stack:
        writers: list[Any] = []

        def take(columns: Columns) -> None:
            try:
                table = pa.table(columns).replace_schema_metadata({"notice": NOTICE})
            except UnicodeEncodeError:
                raise OutputError("an identity is no Unicode text: choose an .npz --out") from None
            if not writers:
                writers.append(stack.enter_context(opened(table.schema)))
            writers[0].write_table(table)

        yield take


@contextlib.contextmanager
def npz(path: Path, rows: int) -> Iterator[Sink]:
    """Yield what takes the columns of a piece; they wait in unnamed files, since an archive takes one after another."""
    with contextlib.ExitStack() as stack:
        held: dict[str, IO[bytes]] = {}
        dtypes: dict[str, np.dtype[Any]] = {}

        def take(columns: Columns) -> None:
            for name, values in columns.items():
                if name not in held:
                    held[name] = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
                    dtypes[name] = values.dtype
                if values.dtype.hasobject:
                    raise OutputError(f"an .npz holds no texts of any length ({name}): choose a .parquet or .csv --out")
                held[name].write(values.astype(dtypes[name]).tobytes())

        yield take
        with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
            for name, file in held.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    descr = np.lib.format.dtype_to_descr(dtypes[name])
                    header = {"descr": descr, "fortran_order": False, "shape": (rows,)}
                    np.lib.format.write_array_header_1_0(member, header)
                    file.seek(0)
                    while block := file.read(1 << 20):
                        member.write(block)


WRITERS: dict[str, Callable[[Path, int], contextlib.AbstractContextManager[Sink]]] = {
    ".parquet": parquet,
    ".npz": npz,
    ".csv": csv,
}
"""Suffix -> what writes such a file."""
