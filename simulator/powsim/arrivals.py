"""When requests come: Poisson, bursts, batches, or a log. Every number is drawn by address, as everywhere.

A process is any object with `times`; the same key and replica give the same times, and a longer window only adds to
those of a shorter one.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from powsim.files import read_file
from powsim.text import shown
from powsim_kernels import uniform

MOST = 20_000_000
"""Requests of one replica: about 3 GB while they are simulated."""

LARGEST_LOG = 1 << 30


@dataclass(frozen=True)
class Draws:
    """Where one replica's numbers come from: value = f(key, replica, stream, index)."""

    key: int
    replica: int
    backend: str = "auto"
    threads: int | None = None

    def uniform(self, stream: int, count: int) -> NDArray[np.float64]:
        """Return the first `count` uniforms in (0, 1] of a stream."""
        who = np.arange(count, dtype=np.int64)
        return uniform(
            who, key=self.key, stream=stream, replica=self.replica, backend=self.backend, threads=self.threads
        )

    def exponential(self, stream: int, count: int) -> NDArray[np.float64]:
        """Return the first `count` exponential numbers of mean 1 of a stream."""
        return np.asarray(-np.log(self.uniform(stream, count)))


# Streams that a process may use of the draws that it is given; those from 8 on are the callers'.
GAPS, STATES, SIZES = range(3)


class Arrivals(Protocol):
    """A process of arrivals."""

    def times(self, draws: Draws, seconds: float) -> NDArray[np.float64]:
        """Return when requests come, float64 [J], not falling, within 0..seconds. Uses streams 0 to 7 of `draws`."""


@dataclass(frozen=True)
class Poisson:
    """Independent requests, `rate_hz` a second."""

    rate_hz: float

    def times(self, draws: Draws, seconds: float) -> NDArray[np.float64]:
        """Return the times."""
        return _unit_points(draws, self.rate_hz * seconds) / self.rate_hz


@dataclass(frozen=True)
class Bursts:
    """A Markov-modulated Poisson process: quiet and busy spells of exponential length, each with its rate.

    It starts in either state as often as it is in it in the long run.
    """

    quiet_hz: float
    busy_hz: float
    quiet_s: float
    busy_s: float

    @property
    def rate_hz(self) -> float:
        """Return requests a second in the long run."""
        return (self.quiet_hz * self.quiet_s + self.busy_hz * self.busy_s) / (self.quiet_s + self.busy_s)

    def times(self, draws: Draws, seconds: float) -> NDArray[np.float64]:
        """Return the times: unit-rate Poisson points, carried back through the integral of the rate."""
        spells = 2 * (int(seconds / (self.quiet_s + self.busy_s)) + 8)
        while True:
            _check_count(spells, "spells")
            numbers = draws.uniform(STATES, spells + 1)
            busy = (np.arange(spells) + int(numbers[0] * (self.quiet_s + self.busy_s) <= self.busy_s)) % 2 == 1
            length = -np.log(numbers[1:]) * np.where(busy, self.busy_s, self.quiet_s)
            edges = np.concatenate(([0.0], np.cumsum(length)))
            if edges[-1] >= seconds:
                break
            spells *= 2
        intensity = np.concatenate(([0.0], np.cumsum(length * np.where(busy, self.busy_hz, self.quiet_hz))))
        # Beyond the window lies nothing: its last spell is cut there, so that a longer window only adds.
        points = _unit_points(draws, float(np.interp(seconds, edges, intensity)))
        return np.asarray(np.interp(points, intensity, edges))


@dataclass(frozen=True)
class Batches:
    """Requests that come at once: batches at Poisson instants, their sizes geometric with mean `size`."""

    rate_hz: float  # requests, not batches, a second
    size: float

    def times(self, draws: Draws, seconds: float) -> NDArray[np.float64]:
        """Return the times."""
        often = self.rate_hz / self.size
        instants = _unit_points(draws, often * seconds) / often
        if self.size == 1:
            return instants
        u = draws.uniform(SIZES, len(instants))
        sizes = np.floor(np.log(u) / np.log1p(-1.0 / self.size)).astype(np.int64) + 1
        _check_count(float(sizes.sum()))
        return np.repeat(instants, sizes)


@dataclass(frozen=True)
class Log:
    """The times of a log, from its first on; every replica replays the same."""

    log_s: NDArray[np.float64] = field(repr=False)  # [J], not falling, from 0
    speed: float = 1.0  # 2: twice as fast

    @property
    def rate_hz(self) -> float:
        """Return requests a second over the log."""
        span = float(self.log_s[-1]) / self.speed
        return len(self.log_s) / span if span > 0 else np.inf

    def times(self, draws: Draws, seconds: float) -> NDArray[np.float64]:
        """Return the times within the window."""
        when = self.log_s / self.speed
        return np.asarray(when[when < seconds])


def read_log(name: str, folder: Path, column: str = "timestamp") -> NDArray[np.float64]:
    """Return seconds since the first request, float64 [J], of a CSV or Parquet file with a column of times.

    The column holds seconds as numbers, or dates (ISO 8601 in a CSV file). Raises ValueError naming file, row and cure.
    """
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet

    told = shown(name)
    try:
        content = io.BytesIO(read_file(folder / name, LARGEST_LOG))
        table = parquet.read_table(content) if name.endswith(".parquet") else csv.read_csv(content)
    except (OSError, ValueError) as error:  # pyarrow's errors are among them
        raise ValueError(f"cannot read {told}: {str(error)[:200]}") from None
    if column not in table.column_names:
        known = ", ".join(map(shown, table.column_names[:8]))
        raise ValueError(f"{told} has no column {shown(column)}, only {known}: name one as `column`")
    if table.column_names.count(column) > 1:
        raise ValueError(f"{told} has {table.column_names.count(column)} columns {shown(column)}: one is needed")
    values = table.column(column).combine_chunks()
    when = _seconds(pa, values, f"{told}, column {shown(column)}")
    if len(when) < 2:
        raise ValueError(f"{told} holds {len(when)} times: at least two are needed")
    if len(when) > MOST:
        raise ValueError(f"{told} holds {len(when):,} times, more than {MOST:,}: cut it")
    if not np.isfinite(when).all():
        row = int(np.argmin(np.isfinite(when)))
        value = "an empty cell" if values[row].as_py() is None else values[row]
        raise ValueError(f"{told}, row {row + 1}: {value} is no time: remove the row")
    steps = np.diff(when)
    if np.any(steps < 0):
        row = int(np.argmax(steps < 0)) + 1
        raise ValueError(f"{told}, row {row + 1}: {values[row]} is before the row above: sort the file by time")
    if when[-1] == when[0]:
        raise ValueError(f"{told}: all {len(when)} times are the same")
    return np.asarray(when - when[0])


def _seconds(pa: Any, values: Any, told: str) -> NDArray[np.float64]:
    """Return an Arrow column as float64 seconds, empty cells as NaN."""
    kind = values.type
    if pa.types.is_timestamp(kind):
        # From the first on, in whole ticks: seconds since 1970 have no room for microseconds in 53 bits.
        ticks = values.cast(pa.int64())
        empty = np.asarray(values.is_null().to_numpy(zero_copy_only=False))
        whole = ticks.fill_null(0).to_numpy(zero_copy_only=False)
        first = whole[~empty][0] if not empty.all() else 0
        per_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[kind.unit]
        return np.where(empty, np.nan, (whole - first) / per_second)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
    raise ValueError(f"{told} holds values of type {kind}: seconds as numbers or dates (ISO 8601) are needed")


def _unit_points(draws: Draws, length: float) -> NDArray[np.float64]:
    """Return the points of a Poisson process of rate 1 below `length`."""
    _check_count(length)
    count = int(length + 6 * length**0.5 + 16)
    while True:
        points = np.cumsum(draws.exponential(GAPS, count))
        if points[-1] >= length:
            return np.asarray(points[: int(np.searchsorted(points, length))])
        count *= 2


def _check_count(expected: float, what: str = "requests") -> None:
    if not expected <= MOST:
        raise ValueError(f"{expected:,.0f} {what} in one replica, more than {MOST:,}: lower the rate or the seconds")
