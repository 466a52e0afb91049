"""What `simulate_ledgers` gives back: totals that merge with `+`, and rows for those who want every identity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.ledgers.layout import SUMS

SUB_BITS = 7
LOWEST, HIGHEST = -64, 64
CELLS = (HIGHEST - LOWEST << SUB_BITS) + 2
"""Cells of a histogram: below 2^-64, 128 of equal width in every octave from there to 2^64, and above."""

QUANTILE_ERROR = 1 / 257
"""Relative error of a quantile at most: half a cell, 0.39 %; values below 2^-64 count as 0."""

ROWS = ("identity", "replica", "device", "queries", "puzzles", "hashes")
"""The whole numbers of a row, in the order in which twins write them; its floats are the rate and SUMS."""

COUNTS = ("identities", "queries", "puzzles", "above_2x")


@dataclass(frozen=True)
class LedgerRows:
    """One row per identity, in order."""

    identity: NDArray[np.int64]  # [A] within its repetition
    replica: NDArray[np.int64]  # [A] repetition of a campaign; 0 for a population
    device: NDArray[np.int64]  # [A]
    rate_hz: NDArray[np.float64]  # [A]
    queries: NDArray[np.int64]  # [A]
    cost: NDArray[np.float64]  # [A] at the end, as the ledger's source gives it: nothing forgotten
    puzzles: NDArray[np.int64]  # [A]
    work: NDArray[np.float64]  # [A] expected hashes
    hashes: NDArray[np.uint64]  # [A] hashes really needed
    service_s: NDArray[np.float64]  # [A] without puzzles
    solve_s: NDArray[np.float64]  # [A] spent on puzzles
    elapsed_s: NDArray[np.float64]  # [A] from the first request to the last answer
    energy_j: NDArray[np.float64]  # [A] of solving alone
    cost_usd: NDArray[np.float64]  # [A] of solving alone
    overhead: NDArray[np.float64]  # [A] time for puzzles, verification included, over service_s: slowdown - 1

    def __add__(self, other: LedgerRows) -> LedgerRows:
        """Return the rows of both parts, in order."""
        return LedgerRows.joined([self, other])

    @staticmethod
    def joined(parts: Sequence[LedgerRows]) -> LedgerRows:
        """Return the rows of all parts, in order."""
        return LedgerRows(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(LedgerRows)))


@dataclass(frozen=True)
class LedgerTotals:
    """Totals of identities, by device; those of two parts of a group add up to the whole's.

    Counts, hashes and histograms are exact and the same on every backend. Sums are the same bits on every backend, with
    any threads and chunks; added up from shards they differ by the order of additions, below 1e-12 relative.
    """

    counts: NDArray[np.int64]  # [D, 4] COUNTS
    hashes_by_device: tuple[int, ...]  # [D] exact
    sums: NDArray[np.float64]  # [D, 9] SUMS
    squares: NDArray[np.float64]  # [D, 9] sums of squares
    solve_service: NDArray[np.float64]  # [D] sum of solve_s * service_s, for the interval of their ratio
    histogram_names: tuple[str, ...]
    histograms: NDArray[np.int64]  # [H, D, CELLS]

    def __add__(self, other: LedgerTotals) -> LedgerTotals:
        """Return the totals of both parts. Raises ValueError where they count other devices or histograms."""
        mine, theirs = ((self.counts.shape, self.histogram_names), (other.counts.shape, other.histogram_names))
        if mine != theirs:
            raise ValueError(f"totals of {theirs} cannot be added to totals of {mine}: they are not of one group")
        return LedgerTotals(
            self.counts + other.counts,
            tuple(a + b for a, b in zip(self.hashes_by_device, other.hashes_by_device, strict=True)),
            self.sums + other.sums,
            self.squares + other.squares,
            self.solve_service + other.solve_service,
            self.histogram_names,
            self.histograms + other.histograms,
        )

    def count(self, name: str, device: int | None = None) -> int:
        """Return one of COUNTS, of a device or of all."""
        return int(self._of(self.counts, device)[COUNTS.index(name)])

    @property
    def hashes(self) -> int:
        """Return the hashes of all, exact."""
        return sum(self.hashes_by_device)

    def total(self, name: str, device: int | None = None) -> float:
        """Return the sum over identities of one of SUMS."""
        return float(self._of(self.sums, device)[SUMS.index(name)])

    def square(self, name: str, device: int | None = None) -> float:
        """Return the sum over identities of the square of one of SUMS."""
        return float(self._of(self.squares, device)[SUMS.index(name)])

    def std(self, name: str, device: int | None = None) -> float:
        """Return the standard deviation between identities of one of SUMS, as `numpy.std`."""
        n = self.count("identities", device)
        mean = self.total(name, device) / n
        return math.sqrt(max(self.square(name, device) / n - mean * mean, 0.0))

    def order_statistic(self, name: str, rank: int, device: int | None = None) -> float:
        """Return the rank-th smallest (from 1) of a histogram's quantity, within QUANTILE_ERROR.

        0 stands for values below 2^-64, infinity for those from 2^64. Raises ValueError for another rank or name.
        """
        if name not in self.histogram_names:
            raise ValueError(f"no histogram of {name!r} was kept: ask simulate_ledgers for it with histograms=")
        cells = self._of(self.histograms[self.histogram_names.index(name)], device)
        if not 1 <= rank <= int(cells.sum()):
            raise ValueError(f"rank {rank} does not exist among {int(cells.sum())} identities")
        cell = int(np.searchsorted(np.cumsum(cells), rank))
        if cell in (0, CELLS - 1):
            return 0.0 if cell == 0 else float("inf")
        low, high = edge(cell), edge(cell + 1)
        return 2.0 * low * high / (low + high)

    def quantile(self, name: str, q: float, device: int | None = None) -> float:
        """Return the ceil(q n)-th smallest of a histogram's quantity, within QUANTILE_ERROR; q in 0..1."""
        n = self.count("identities", device)
        return self.order_statistic(name, min(max(int(np.ceil(q * n)), 1), n), device)

    @staticmethod
    def _of(array: NDArray[np.generic], device: int | None) -> NDArray[np.generic]:
        return np.asarray(array.sum(axis=0) if device is None else array[device])


def edge(cell: int) -> float:
    """Return the lower edge of a cell of a histogram, 1 <= cell < CELLS."""
    octave, part = divmod(cell - 1, 1 << SUB_BITS)
    return float((1 + part / (1 << SUB_BITS)) * 2.0 ** (octave + LOWEST))


class Part(NamedTuple):
    """What a twin gives back for a run of identities."""

    counts: NDArray[np.int64]  # [D, 4]
    hashes: NDArray[np.uint64]  # [D, 2] sums of the low and of the high 32 bits
    sums: NDArray[np.float64]  # [D, 19] sums, squares and solve * service, those before included
    histograms: NDArray[np.int64]  # [H, D, CELLS]
    heaviest: float  # greatest work of an identity
    rows: LedgerRows | None


def rows_of(whole: NDArray[np.uint64], real: NDArray[np.float64]) -> LedgerRows:
    """Return the rows of identities; hashes stay unsigned."""
    columns: dict[str, Any] = dict(zip(SUMS, real[1:], strict=True)) | {"rate_hz": real[0]}
    columns |= {name: column.astype(np.int64) for name, column in zip(ROWS[:-1], whole, strict=False)}
    return LedgerRows(**(columns | {"hashes": whole[-1]}))


def totals_of(names: Sequence[str], devices: int) -> LedgerTotals:
    """Return the totals of nobody."""
    return LedgerTotals(
        np.zeros((devices, len(COUNTS)), np.int64),
        (0,) * devices,
        np.zeros((devices, len(SUMS))),
        np.zeros((devices, len(SUMS))),
        np.zeros(devices),
        tuple(names),
        np.zeros((len(names), devices, CELLS), np.int64),
    )


def sums_of(totals: LedgerTotals) -> NDArray[np.float64]:
    """Return what twins add to: [D, 19] sums, squares and solve * service."""
    return np.concatenate((totals.sums, totals.squares, totals.solve_service[:, None]), axis=1)


def added(before: NDArray[np.float64], blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums [D, 19] with those of blocks [n, D, 19] added one after the other."""
    # NumPy pairs additions only along the axis that is contiguous in memory.
    total: NDArray[np.float64] = np.add.reduce(np.concatenate((before[None], blocks)), axis=0)
    return total


def with_part(totals: LedgerTotals, part: Part) -> LedgerTotals:
    """Return the totals with a part's numbers."""
    hashes = (low + (high << 32) for low, high in part.hashes.tolist())
    return LedgerTotals(
        totals.counts + part.counts,
        tuple(a + b for a, b in zip(totals.hashes_by_device, hashes, strict=True)),
        part.sums[:, : len(SUMS)],
        part.sums[:, len(SUMS) : -1],
        part.sums[:, -1],
        totals.histogram_names,
        totals.histograms + part.histograms,
    )
