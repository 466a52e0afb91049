"""From costs to puzzle times, and the exponent at which honest users keep the promise.

Times are in units of the baseline: the undefended time of the queries of one puzzle. A puzzle takes
floor * b^deviation, at most the ceiling; the time ratio is 1 + the mean over puzzles. All times are expectations, on
the device that was calibrated on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAPPINGS = ("cumulative", "one-sided", "batch")
"""cumulative: of |running total - expected|, the authors' shape; one-sided: of what the total is above expectation;
batch: of the mean of the puzzle's own queries, less the calibration mean (no account is kept)."""
FLOOR, CEILING = 0.25, 400.0
PROMISE, QUANTILE = 2.0, 0.95
STEEPEST = 1e9  # ln b: above it nobody deviates at all

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mapping:
    """One way of pricing, calibrated."""

    kind: str  # one of MAPPINGS
    queries_per_puzzle: int
    expected: float  # mean cost of a query in calibration
    log_base: float  # ln b per unit of cost
    floor: float = FLOOR
    ceiling: float = CEILING

    def times(self, costs: Floats) -> Floats:
        """Return the time of each whole puzzle, in baselines: [..., P] for costs [..., Q] in the order asked."""
        return times(self, deviations(self.kind, costs, self.queries_per_puzzle, self.expected))

    def ratios(self, costs: Floats) -> Floats:
        """Return time with puzzles over time without after each whole puzzle: [..., P]; the last is of all of them."""
        spent = np.cumsum(self.times(costs), axis=-1)
        return 1.0 + spent / np.arange(1, spent.shape[-1] + 1)


def deviations(kind: str, costs: Floats, queries_per_puzzle: int, expected: float) -> Floats:
    """Return what the exponent sees at each whole puzzle: [..., P] for costs [..., Q]; a rest of queries is left out.

    In units of cost: of one query's for "batch", of the whole account's for the others.
    """
    if kind not in MAPPINGS:
        raise ValueError(f"unknown mapping {kind!r}: choose one of {', '.join(MAPPINGS)}")
    puzzles = costs.shape[-1] // queries_per_puzzle
    whole = costs[..., : puzzles * queries_per_puzzle].reshape(*costs.shape[:-1], puzzles, queries_per_puzzle)
    above = whole.mean(axis=-1) - expected
    if kind == "batch":
        return np.asarray(above)
    total = np.cumsum(above, axis=-1) * queries_per_puzzle
    return np.asarray(np.abs(total) if kind == "cumulative" else np.maximum(total, 0.0))


def times(mapping: Mapping, deviation: Floats) -> Floats:
    """Return puzzle times in baselines for deviations of any shape."""
    most = math.log(mapping.ceiling / mapping.floor)
    exponent = mapping.log_base * deviation
    return np.where(exponent < most, mapping.floor * np.exp(np.minimum(exponent, most)), mapping.ceiling)


def at_ceiling(mapping: Mapping, puzzle_times: Floats) -> float:
    """Return the share of puzzles that cost the ceiling, NaN where there are none."""
    return float(np.mean(puzzle_times >= mapping.ceiling)) if puzzle_times.size else math.nan


def calibrate(
    kind: str,
    users: Floats,
    queries_per_puzzle: int,
    expected: float,
    *,
    promise: float = PROMISE,
    quantile: float = QUANTILE,
    floor: float = FLOOR,
    ceiling: float = CEILING,
) -> Mapping:
    """Return the mapping with the largest exponent at which the quantile of users keeps the promise.

    users: costs [U, Q] of simulated honest users, Q the horizon: their ratio over all of it counts. By bisection to 1
    in 1e12; where no exponent breaks the promise, since nobody deviates upward, ln b is 0. Raises ValueError.
    """
    if users.ndim != 2 or not len(users) or users.shape[1] < queries_per_puzzle:
        raise ValueError(
            f"users have shape {users.shape}: at least one, of at least {queries_per_puzzle} queries, is needed"
        )
    if not 0 < floor < promise - 1 < ceiling:
        raise ValueError(f"floor {floor} < promise {promise} - 1 < ceiling {ceiling} is needed")
    allowed = math.floor((1 - quantile) * len(users) + 1e-9)
    open_users = deviations(kind, users, queries_per_puzzle, expected)

    def broken(log_base: float) -> NDArray[np.bool_]:
        made = Mapping(kind, queries_per_puzzle, expected, log_base, floor, ceiling)
        return np.asarray(1.0 + times(made, open_users).mean(axis=1) > promise)

    # A user's ratio is convex in ln b and below the promise at 0, so it crosses the promise once, upward: who has
    # crossed at `low` stays above, who has not at `high` was never above, and neither is looked at again.
    low, high, above = 0.0, 1.0, 0
    while (over := broken(high)).sum() + above <= allowed:
        if high > STEEPEST:
            return Mapping(kind, queries_per_puzzle, expected, 0.0, floor, ceiling)
        above, open_users = above + int(over.sum()), open_users[~over]
        low, high = high, 2 * high
    while high - low > 1e-12 * high and low < (middle := (low + high) / 2) < high:
        over = broken(middle)
        if above + over.sum() <= allowed:
            above, open_users, low = above + int(over.sum()), open_users[~over], middle
        else:
            open_users, high = open_users[over], middle
    return Mapping(kind, queries_per_puzzle, expected, low, floor, ceiling)


def sybil_ratio(mapping: Mapping, costs: Floats, accounts: int) -> float:
    """Return the time ratio of a campaign over several accounts that are asked in turn, NaN where none gets a puzzle.

    Query i goes to account i mod accounts; ledgers are their own, the time of all is added up.
    """
    each = len(costs) // accounts
    ratios = mapping.ratios(costs[: each * accounts].reshape(each, accounts).T)
    return float(ratios[:, -1].mean()) if ratios.shape[-1] else math.nan
