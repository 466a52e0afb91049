"""A shard: one part of one point, simulated by whoever is asked, as the bytes of a Parquet file that proves itself."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim import __version__
from powsim.scenario import Scenario, parse_scenario
from powsim.sweeps.spec import Point, point_id
from powsim.totals import GroupTotals, Histogram

FORMAT = "powsim-shard-1"
LIMB = 32  # exact counts are kept in pieces of so many bits: hashes pass 2^64
COLUMNS = ("group", "kind", "name", "bin", "count", "value")
COUNT, SUM, BINS, ENDS = range(4)  # kinds of rows
KEPT = 256  # scenarios that a worker keeps parsed

Totals = dict[str, GroupTotals]  # by group, in the scenario's order


class ShardError(ValueError):
    """A shard file that cannot be used; the text says why."""


@dataclass(frozen=True)
class Task:
    """What a worker needs for one shard: plain values, so that it travels to another process or machine."""

    point: str
    raw: str  # the scenario as JSON
    folder: str
    seed: int
    shard: int
    shards: int
    backend: str
    threads: int | None


def task_of(point: Point, shard: int, shards: int, backend: str, threads: int | None) -> Task:
    """Return the task of one shard."""
    return Task(point.id, point.raw, str(point.folder.resolve()), point.seed, shard, shards, backend, threads)


def simulated(task: Task) -> bytes:
    """Return the shard as the bytes of its file.

    Raises ValueError as `powsim.simulate` does, and where the scenario's files are others than those of the sweep.
    """
    from powsim.sweeps.streaming import simulate_totals

    scenario = _scenario(task.raw, task.folder)
    if point_id(scenario, task.seed) != task.point:
        raise ValueError("a file that the scenario names has changed, or is another one on the worker's machine")
    part = (task.shard, task.shards)
    totals = simulate_totals(scenario, seed=task.seed, backend=task.backend, threads=task.threads, part=part)
    return encoded(totals, {**about(scenario, task.seed, *part), "backend": task.backend})


@functools.lru_cache(maxsize=KEPT)
def _scenario(raw: str, folder: str) -> Scenario:
    return parse_scenario(json.loads(raw), folder=Path(folder))


def about(scenario: Scenario, seed: int, shard: int, shards: int) -> dict[str, str]:
    """Return what a shard's metadata must say, to be taken for that shard."""
    return {
        "format": FORMAT,
        "powsim": __version__,
        "point": point_id(scenario, seed),
        "scenario": scenario.text,
        "seed": str(seed),
        "shard": f"{shard} of {shards}",
    }


def encoded(totals: Totals, metadata: dict[str, str]) -> bytes:
    """Return totals as the bytes of a Parquet file: one row per number, and the SHA-256 of the columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = sorted({name for one in totals.values() for name in (*one.counts, *one.sums, *one.histograms)})
    place = {name: number for number, name in enumerate(names)}
    blocks = [(g, *block) for g, one in enumerate(totals.values()) for block in _numbers(one)]
    lengths = [len(bins) for _, _, _, bins, _, _ in blocks]
    group, kind, name, bins, counts, values = zip(*blocks, strict=True)
    columns: list[NDArray[Any]] = [
        np.repeat(np.array(group, np.int32), lengths),
        np.repeat(np.array(kind, np.int8), lengths),
        np.repeat(np.array([place[one] for one in name], np.int32), lengths),
        np.concatenate(bins).astype(np.int64),
        np.concatenate(counts).astype(np.int64),
        np.concatenate(values).astype(np.float64),
    ]
    texts = {"groups": json.dumps(list(totals)), "names": json.dumps(names)}
    metadata = {**metadata, **texts, "sha256": _sha256(columns, texts)}
    table = pa.table(dict(zip(COLUMNS, columns, strict=True)))
    table = table.replace_schema_metadata({key: value.encode() for key, value in metadata.items()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_statistics=False)
    return buffer.getvalue()


def _numbers(one: GroupTotals) -> list[tuple[int, str, Any, Any, Any]]:
    """Return (kind, name, bins, counts, values) of all that a group's totals hold; the last three are as long."""
    rows: list[tuple[int, str, Any, Any, Any]] = []
    for name, count in one.counts.items():
        limbs = [count >> place & (1 << LIMB) - 1 for place in range(0, max(count.bit_length(), 1), LIMB)]
        rows.append((COUNT, name, range(len(limbs)), limbs, [0.0] * len(limbs)))
    rows += [(SUM, name, [0], [0], [value]) for name, value in one.sums.items()]
    for name, histogram in one.histograms.items():
        rows.append((BINS, name, histogram.bins, histogram.counts, np.zeros(len(histogram.bins))))
        rows.append((ENDS, name, [0, 1], [0, 0], [histogram.least, histogram.most]))
    return rows


def _sha256(columns: list[NDArray[Any]], texts: dict[str, str]) -> str:
    """Return the hash of the columns' values, names of groups and numbers included."""
    found = hashlib.sha256(json.dumps(texts, sort_keys=True).encode())
    for column in columns:
        found.update(column.astype(column.dtype.newbyteorder("<")).tobytes())
    return found.hexdigest()


def decoded(content: bytes, expected: dict[str, str]) -> Totals:
    """Return the totals in a shard's file. Raises ShardError unless it is whole and says of itself what is expected."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(content), use_threads=False)
        columns = [table[name].to_numpy() for name in COLUMNS]
        said = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        texts = {"groups": said["groups"], "names": said["names"]}
        groups, names = json.loads(texts["groups"]), json.loads(texts["names"])
        whole = said["sha256"] == _sha256(columns, texts)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ShardError(f"cannot be read: {str(error)[:200] or type(error).__name__}") from None
    for key, value in expected.items():
        if (found := said.get(key, "none")) != value:
            short = max(len(found), len(value)) <= 40
            raise ShardError(f"is of {key} {found}, not {value}" if short else f"is of another {key}")
    if not whole:
        raise ShardError("does not hold what was written: its SHA-256 differs")
    return _totals(groups, names, columns)


def _totals(groups: list[str], names: list[str], columns: list[NDArray[Any]]) -> Totals:
    group, kind, name, bins, counts, values = columns
    totals = {one: GroupTotals() for one in groups}
    starts = np.flatnonzero(np.diff(group, prepend=-1) | np.diff(kind, prepend=-1) | np.diff(name, prepend=-1))
    found: dict[tuple[int, int, int], slice] = {}
    for begin, end in zip(starts, [*starts[1:], len(group)], strict=True):
        found[int(group[begin]), int(kind[begin]), int(name[begin])] = slice(begin, end)
    for (g, k, n), rows in found.items():
        one, what = totals[groups[g]], names[n]
        if k == COUNT:
            one.counts[what] = sum(int(c) << LIMB * int(b) for b, c in zip(bins[rows], counts[rows], strict=True))
        elif k == SUM:
            one.sums[what] = float(values[rows][0])
        elif k == ENDS:
            where = found.get((g, BINS, n), slice(0, 0))  # no rows where nothing fell into it
            least, most = values[rows].tolist()
            one.histograms[what] = Histogram(bins[where].copy(), counts[where].copy(), least, most)
    return totals
