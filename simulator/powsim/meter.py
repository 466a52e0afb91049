"""Cost of queries from published traces: a curve per attack, and how single users differ from it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powsim import study
from powsim.ledger import Ledger, due_points, puzzle_counts
from powsim.study.published import meter_settings

PER_DRIFT_UNIT = 1e-4  # drift is the relative change of cost per 10,000 queries


@dataclass(frozen=True)
class CostCurve:
    """Summed cost after n queries: straight lines between the published points, starting at (0, 0)."""

    queries: NDArray[np.float64]  # [R] increasing, first is 0
    cost: NDArray[np.float64]  # [R]

    def __call__(self, queries: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the cost; beyond the last point it grows at the mean rate of the second half."""
        inside = np.interp(queries, self.queries, self.cost)
        return np.asarray(inside + np.maximum(queries - self.queries[-1], 0.0) * self.rate)

    @property
    def rate(self) -> float:
        """Return the cost per query beyond the last point."""
        half = min(len(self.queries) // 2, len(self.queries) - 2)
        return float((self.cost[-1] - self.cost[half]) / (self.queries[-1] - self.queries[half]))


def curve_of(queries: NDArray[np.float64], cost: NDArray[np.float64]) -> CostCurve:
    """Return the curve through published points, the origin put in front where it is missing."""
    if queries[0] > 0:
        queries, cost = np.append(0.0, queries), np.append(0.0, cost)
    return CostCurve(queries, cost)


@functools.cache
def cost_bounds(dataset: str) -> tuple[float, float]:
    """Return the least and greatest cost that the dataset's meter gives a query: unanimous votes, and a tie of all."""
    from powsim_kernels import vote_cost

    settings = meter_settings(dataset)
    unanimous = [settings["teachers"]] + [0] * 9
    result = vote_cost([unanimous, [1] * 10], sigma=settings["sigma"], delta=settings["delta"], backend="reference")
    return float(result.eps[0]), float(result.eps[1])


def spread_cost(
    curve: CostCurve,
    queries: NDArray[np.int64],
    shift: NDArray[np.float64],
    drift: NDArray[np.float64],
    bounds: tuple[float, float],
) -> NDArray[np.float64]:
    """Return each user's summed cost [A, P]: curve(n) * (1 + shift + drift * n / 10,000).

    shift, drift: [A]. The result stays within what the meter can give n queries, and never falls along a row.
    """
    factor = 1.0 + shift[:, None] + drift[:, None] * (queries * PER_DRIFT_UNIT)
    cost = np.clip(curve(queries) * factor, bounds[0] * queries, bounds[1] * queries)
    return np.maximum.accumulate(cost, axis=1)


def ledger_for(
    queries: NDArray[np.int64],
    every: int,
    partial: bool,
    cost: Callable[[NDArray[np.int64]], NDArray[np.float64]],
) -> Ledger:
    """Return the ledgers of identities that ask `queries` [A] in all, as wide as the longest of them.

    cost: from cumulative queries [A, P] to summed cost. The arrays cannot be written: a policy sees them.
    """
    columns = int(puzzle_counts(queries, every, partial=True).max())
    so_far, asked, due = due_points(queries, every, partial, columns)
    ledger = Ledger(so_far, asked, cost(so_far), due)
    for name in Ledger.__dataclass_fields__:
        getattr(ledger, name).setflags(write=False)
    return ledger


def published_curve(dataset: str, attack: str) -> CostCurve:
    """Return the curve of a published trace."""
    series = study.trace(dataset, attack)
    return curve_of(series.queries, series.cost)
