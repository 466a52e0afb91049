"""Totals of a group that merge with `+`: exact counts, float sums, and histograms whose quantiles have a known error.

A histogram's bins are fixed: 128 to an octave, the leading 7 bits of a float64's fraction. The bin is cut out of the
number's own bits, so it is the same on every machine; the fused kernel has the same bins. A bin is 1/128 to 1/256 of
its values wide, so its middle is within RESOLUTION = 1/256 (0.39 %) of whatever fell into it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from powsim.groups import Group
from powsim.ledger import Service
from powsim.outcome import Outcome
from powsim.summary import PROMISE
from powsim_kernels.ledgers import LedgerTotals
from powsim_kernels.ledgers.totals import CELLS, HIGHEST, LOWEST, SUB_BITS

SHIFT = 52 - SUB_BITS
FIRST = 1023 + LOWEST << SUB_BITS
"""The bin of the kernel's cell 1; its cell 0 holds what is less, which is counted as 0."""

RESOLUTION = 2.0 ** -(SUB_BITS + 1)
"""Largest relative distance of a quantile read from a histogram from the sample's own."""

MOMENTS = ("solve_s", "service_s", "inference_s")
"""Their products two by two are summed as well: the intervals of ratios need them."""

LEDGER_HISTOGRAMS = ("overhead", "elapsed_s", "cost_usd")
"""What the kernel counts of a population, a histogram each; overhead is the slowdown less 1."""

ADDED = ("hashes", "elapsed_s", "solve_s", "energy_j", "cost_usd")
"""A population's quantities with a sum and a sum of squares, which the intervals of totals need."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Histogram:
    """How many values, none below 0, fell into which bin; only bins that hold any are kept."""

    bins: NDArray[np.int64]  # [K] rising; bin b holds the floats whose bits are b << SHIFT and on
    counts: NDArray[np.int64]  # [K]
    least: float
    most: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Histogram:
        """Return the histogram of a sample. Raises ValueError for negative, infinite or missing values."""
        if not len(values):
            return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.inf, -np.inf)
        least, most = float(values.min()), float(values.max())
        if not 0 <= least <= most < np.inf:
            raise ValueError(f"a histogram takes finite values from 0, not {least:g} to {most:g}")
        # + 0.0 makes the negative zero, whose bits are another bin's, a plain one.
        bins, counts = np.unique((np.ascontiguousarray(values) + 0.0).view(np.int64) >> SHIFT, return_counts=True)
        return cls(bins, counts.astype(np.int64), least, most)

    @classmethod
    def of_cells(cls, cells: NDArray[np.int64]) -> Histogram:
        """Return a histogram of the kernel, cells [CELLS]; its ends are those of the outer bins."""
        if cells[-1]:
            raise ValueError(f"{cells[-1]} values are 2^{HIGHEST} or more, and no histogram holds them")
        held = np.flatnonzero(cells)
        if not len(held):
            return cls.of(np.empty(0))
        bins = np.where(held > 0, held - 1 + FIRST, 0)
        least, most = (bins[[0, -1]] + np.array([0, 1]) << SHIFT).view(np.float64).tolist()
        return cls(bins, cells[held], least, most if bins[-1] else 0.0)

    @classmethod
    def as_in_ledgers(cls, values: NDArray[np.float64]) -> Histogram:
        """Return the histogram that the kernel makes of a sample."""
        cells = (np.ascontiguousarray(values) + 0.0).view(np.int64) >> SHIFT
        return cls.of_cells(np.bincount(np.clip(cells - FIRST + 1, 0, CELLS - 1), minlength=CELLS))

    def __add__(self, other: Histogram) -> Histogram:
        """Return the histogram of both samples together."""
        bins = np.union1d(self.bins, other.bins)
        counts = np.zeros(len(bins), np.int64)
        for part in (self, other):
            counts[np.searchsorted(bins, part.bins)] += part.counts
        return Histogram(bins, counts, min(self.least, other.least), max(self.most, other.most))

    @property
    def total(self) -> int:
        """Return how many values there are."""
        return int(self.counts.sum())

    def edges(self, rank: int) -> tuple[float, float]:
        """Return the ends between which the value of this rank lies, 0 for the smallest."""
        where = self.bins[np.searchsorted(np.cumsum(self.counts), rank, side="right")]
        if where == 0:  # zero, and numbers below 1e-308 that are as good as zero
            return 0.0, 0.0
        low, high = np.array([where << SHIFT, (where + 1) << SHIFT], np.int64).view(np.float64)
        return max(float(low), self.least), min(float(high), self.most)

    def quantile(self, q: float) -> float:
        """Return the q-quantile as numpy.quantile has it, within RESOLUTION of it; exact where all values are equal."""
        position = q * (self.total - 1)
        below = int(position)
        low, high = (sum(self.edges(rank)) / 2 for rank in (below, min(below + 1, self.total - 1)))
        return low + (position - below) * (high - low)


@dataclass(frozen=True)
class GroupTotals:
    """What is kept of a group, or of a part of one. A device's own figures stand under "name/device"."""

    counts: dict[str, int] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)

    def __add__(self, other: GroupTotals) -> GroupTotals:
        """Return the totals of both parts. Counts and histograms do not depend on the order; sums do, by rounding."""
        return GroupTotals(
            _joined(self.counts, other.counts, lambda a, b: a + b),
            _joined(self.sums, other.sums, lambda a, b: a + b),
            _joined(self.histograms, other.histograms, lambda a, b: a + b),
        )


def _joined(one: dict[str, Value], two: dict[str, Value], add: Callable[[Value, Value], Value]) -> dict[str, Value]:
    """Return both tables in one, values under the same name added."""
    return {
        name: add(one[name], two[name]) if name in one and name in two else one.get(name, two.get(name))  # type: ignore[misc]
        for name in sorted({*one, *two})
    }


def totals_of(group: Group, outcome: Outcome) -> GroupTotals:
    """Return the totals of a group's outcome: of its users for a population, of its repetitions for a campaign."""
    exact = {name: _exact_sum(getattr(outcome, name)) for name in ("queries", "puzzles", "hashes")}
    sums = {name: float(np.sum(getattr(outcome, name))) for name in (*MOMENTS, "elapsed_s", "energy_j", "cost_usd")}
    counts = {**exact, "identities": len(outcome.queries)}
    if group.role == "campaign":
        counts["replicas"] = group.replicas
        histograms = {name: Histogram.of(values) for name, values in campaigns(group, outcome).items()}
        return GroupTotals(counts, sums, histograms)
    for place, one in enumerate(MOMENTS):
        for two in MOMENTS[place:]:
            sums[f"{one}*{two}"] = float(np.sum(getattr(outcome, one) * getattr(outcome, two)))
    for name in ADDED:
        sums[f"{name}^2"] = float(np.sum(getattr(outcome, name).astype(np.float64) ** 2))
    excess, above = outcome.solve_s / outcome.service_s, outcome.slowdown > PROMISE
    histograms = {
        "slowdown-1": Histogram.as_in_ledgers(excess),
        "elapsed_s": Histogram.as_in_ledgers(outcome.elapsed_s),
        "cost_usd": Histogram.as_in_ledgers(outcome.cost_usd),
    }
    counts["above"] = int(above.sum())
    for index, device in enumerate(group.devices):
        mine = outcome.device == index
        counts[f"identities/{device.name}"] = int(mine.sum())
        counts[f"above/{device.name}"] = int(above[mine].sum())
        histograms[f"slowdown-1/{device.name}"] = Histogram.as_in_ledgers(excess[mine])
    return GroupTotals(counts, sums, histograms)


def totals_of_ledgers(group: Group, totals: LedgerTotals, service: Service) -> GroupTotals:
    """Return what `totals_of` makes of a population's outcome, from the kernel's totals with LEDGER_HISTOGRAMS."""
    counts = {name: totals.count(name) for name in ("queries", "puzzles", "identities")}
    counts |= {"hashes": totals.hashes, "above": totals.count("above_2x")}
    sums = {name: totals.total(name) for name in ("solve_s", "service_s", "elapsed_s", "energy_j", "cost_usd")}
    sums |= {f"{name}^2": totals.square(name) for name in ADDED}
    # Inference is the same share of everybody's service time.
    share = service.inference_s / (service.inference_s + service.metering_s)
    solve_service, service_service = float(totals.solve_service.sum()), totals.square("service_s")
    sums |= {
        "inference_s": share * sums["service_s"],
        "solve_s*solve_s": sums["solve_s^2"],
        "solve_s*service_s": solve_service,
        "solve_s*inference_s": share * solve_service,
        "service_s*service_s": service_service,
        "service_s*inference_s": share * service_service,
        "inference_s*inference_s": share * share * service_service,
    }
    cells = dict(zip(totals.histogram_names, totals.histograms, strict=True))
    histograms = {name: Histogram.of_cells(cells[name].sum(axis=0)) for name in ("elapsed_s", "cost_usd")}
    histograms["slowdown-1"] = Histogram.of_cells(cells["overhead"].sum(axis=0))
    for index, device in enumerate(group.devices):
        counts[f"identities/{device.name}"] = totals.count("identities", index)
        counts[f"above/{device.name}"] = totals.count("above_2x", index)
        histograms[f"slowdown-1/{device.name}"] = Histogram.of_cells(cells["overhead"][index])
    return GroupTotals(counts, sums, histograms)


def _exact_sum(values: NDArray[np.int64] | NDArray[np.uint64]) -> int:
    """Return the sum of non-negative integers, however large it is: in halves, which fit up to 2^32 values."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


def campaigns(group: Group, outcome: Outcome) -> dict[str, NDArray[np.float64]]:
    """Return each headline of every repetition of a campaign, [B]; slowdowns less 1, where their digits are."""
    shape = (group.replicas, group.accounts)

    def summed(name: str) -> NDArray[np.float64]:
        return np.asarray(getattr(outcome, name).reshape(shape).sum(axis=1, dtype=np.float64))

    excess = (outcome.solve_s / outcome.service_s).reshape(shape)
    solve_s, service_s, inference_s = (summed(name) for name in MOMENTS)
    return {
        "hashes": summed("hashes"),
        "slowdown-1": solve_s / service_s,
        "slowdown_p50-1": np.quantile(excess, 0.50, axis=1),
        "slowdown_p95-1": np.quantile(excess, 0.95, axis=1),
        "slowdown_p99-1": np.quantile(excess, 0.99, axis=1),
        "slowdown_undefended-1": np.maximum((service_s + solve_s) / inference_s - 1.0, 0.0),  # not below by rounding
        "share_above_2x": (outcome.slowdown.reshape(shape) > PROMISE).mean(axis=1),
        "hours": summed("elapsed_s") / 3600,
        "puzzle_hours": solve_s / 3600,
        "energy_kwh": summed("energy_j") / 3.6e6,
        "cost_usd": summed("cost_usd"),
    }
