"""What a file of votes costs: every query alone, all of them together, and every identity, in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim.monitor import Monitor
from powsim.text import shown
from powsim.votes import Votes, VotesError
from powsim_kernels import PatePlan
from powsim_kernels.pate.conversion import surcharge

LEVELS = (0.01, 0.25, 0.5, 0.75, 0.9, 0.99)
LARGEST = 5
PIECE_BYTES = 8 << 20
MOST_ROWS = 1 << 16
BIN = math.log1p(1e-3)  # quantiles are exact to half of that
BINS = round(math.log(1e12) / BIN)  # on either side of 1

Columns = dict[str, NDArray[Any]]
Sink = Callable[[Columns], None]


@dataclass(frozen=True)
class CostlyRow:
    """A query among the dearest."""

    row: int
    eps: float
    identity: int | str | None
    votes: tuple[float, ...]  # at most 20 of them


@dataclass(frozen=True)
class IdentityCost:
    """What one identity's queries cost together, by either accounting."""

    identity: int | str
    queries: int
    sum_epsilon: float
    composed_eps: float


@dataclass(frozen=True)
class CostSummary:
    """Costs of all queries of a file; eps are at the delta and conversion that were asked for."""

    rows: int
    share_answered: float  # expected, 1 without a threshold
    least: float  # eps of a query alone
    largest: float
    quantiles: dict[float, float]  # level -> eps, to 0.1 %
    sum_epsilon: float
    composed_eps: float
    order: float
    at_edge: bool  # the order is the first or the last of several
    other_sums: int  # rows whose votes do not add up to the number of teachers
    dearest: tuple[CostlyRow, ...]
    identities: tuple[IdentityCost, ...] | None  # the dearest first


def price(
    source: Votes,
    plan: PatePlan,
    delta: float,
    *,
    conversion: str = "improved",
    identities: bool = False,
    sink: Sink | None = None,
    step: Callable[[float], None] | None = None,
) -> CostSummary:
    """Return what the votes cost, reading them once in pieces; memory does not grow with rows, only with identities.

    sink gets every piece's columns: row, identity (where there are any), log_q, answered (with a threshold), eps (of
    the query alone) with its order, eps_so_far (of all queries to this one, of the same identity where there are any).
    step is told the share done. Raises VotesError naming the first row that cannot be votes.
    """
    monitor = Monitor(plan, delta, conversion=conversion) if identities else None
    whole = plan.accumulator()
    quantiles, dearest, sums = _Quantiles(), list[CostlyRow](), np.zeros(0)
    rows, answered, summed, other_sums, least = 0, 0.0, 0.0, 0, math.inf
    size = max(1, min(MOST_ROWS, PIECE_BYTES // (8 * source.classes)))
    for piece in source.pieces(size):
        wide = piece.votes
        if wide.dtype.kind == "f" and wide.dtype.itemsize not in (4, 8):  # half, or longer than what is computed with
            wide = wide.astype(np.float32 if wide.dtype.itemsize == 2 else np.float64)
        votes = np.require(wide, requirements=["C", "W"])
        other_sums += _check(votes, piece.first, plan.num_voters)
        columns: Columns = {"row": np.arange(piece.first, piece.first + len(votes))}
        if piece.identities is not None:
            columns["identity"] = piece.identities
        columns["log_q"] = plan.logq(votes)
        if plan.confident:
            columns["answered"] = np.exp(plan.log_pr_answered(votes))
        # A row costs what its ln q (and its share answered) makes it cost: many rows of few teachers have the same.
        kind = columns["log_q"] + 1j * columns["answered"] if plan.confident else columns["log_q"]
        _, some, of_row = np.unique(kind, return_index=True, return_inverse=True)
        eps_of, index = plan.eps(votes[some], delta, conversion=conversion)
        columns["eps"] = eps = eps_of[of_row]
        columns["order"] = plan.grid[index][of_row]
        if monitor is not None and piece.identities is not None:
            columns["eps_so_far"] = monitor.add(piece.identities, votes)
            sums = np.append(sums, np.zeros(len(monitor) - len(sums)))
            sums += np.bincount(monitor.slots(piece.identities), weights=eps, minlength=len(sums))
        else:
            columns["eps_so_far"] = plan.running_eps(votes, delta, start=whole.total(), conversion=conversion)
        whole.add(votes)
        rows += len(votes)
        answered += float(columns["answered"].sum()) if plan.confident else len(votes)
        summed += float(eps.sum())
        least = min(least, float(eps.min(initial=math.inf)))
        quantiles.add(eps)
        dearest = _dearest(dearest, eps, votes, piece.first, piece.identities)
        if sink is not None:
            sink(columns)
        if step is not None:
            step(rows / source.rows)
    composed = whole.total() + surcharge(plan.grid, delta, conversion)
    best = int(np.argmin(composed))
    return CostSummary(
        rows,
        answered / rows,
        least,
        dearest[0].eps,
        {level: min(max(quantiles.at(level), least), dearest[0].eps) for level in LEVELS},
        summed,
        max(float(composed[best]), 0.0),
        float(plan.grid[best]),
        plan.grid.size > 1 and best in (0, plan.grid.size - 1),
        other_sums,
        tuple(dearest),
        None if monitor is None else _by_identity(monitor, sums),
    )


def _check(votes: NDArray[Any], first: int, teachers: int) -> int:
    """Return how many rows do not add up to the teachers, or raise for the first that cannot be votes."""
    good = ((votes >= 0) & (votes <= teachers)).all(axis=1)  # NaN compares false
    if not good.all():
        row = int(np.argmin(good))
        counts = shown(votes[row, :20].tolist(), 200)
        raise VotesError(
            f"row {first + row}: {counts} holds a negative, NaN or infinite count, or one above --teachers {teachers}"
        )
    return int(np.count_nonzero(np.abs(votes.sum(axis=1, dtype=np.float64) - teachers) > 1e-6 * teachers))


def _dearest(
    before: list[CostlyRow], eps: NDArray[np.float64], votes: NDArray[Any], first: int, whose: NDArray[Any] | None
) -> list[CostlyRow]:
    """Return the dearest of those before and of new rows; of equal ones the first."""
    found = []
    for row in np.argsort(-eps, kind="stable")[:LARGEST].tolist():
        name = None if whose is None else whose[row].item() if isinstance(whose[row], np.generic) else whose[row]
        found.append(CostlyRow(first + row, float(eps[row]), name, tuple(votes[row, :20].tolist())))
    return sorted(before + found, key=lambda one: (-one.eps, one.row))[:LARGEST]


def _by_identity(monitor: Monitor, sums: NDArray[np.float64]) -> tuple[IdentityCost, ...]:
    every = zip(monitor.identities, monitor.queries.tolist(), sums.tolist(), monitor.eps().tolist(), strict=True)
    return tuple(sorted((IdentityCost(*one) for one in every), key=lambda one: -one.composed_eps))


class _Quantiles:
    """Counts of values in bins of equal ratio, so that quantiles of any number of them take the same memory."""

    def __init__(self) -> None:
        self.counts = np.zeros(2 * BINS + 1, np.int64)

    def add(self, values: NDArray[np.float64]) -> None:
        """Count values, which are not negative."""
        logs = np.log(np.maximum(values, 1e-12))
        bins, found = np.unique(np.clip(np.rint(logs / BIN), -BINS, BINS).astype(np.int64), return_counts=True)
        self.counts[bins + BINS] += found

    def at(self, level: float) -> float:
        """Return the least value that this share of all values does not exceed."""
        up_to = np.cumsum(self.counts)
        return math.exp((int(np.searchsorted(up_to, level * up_to[-1])) - BINS) * BIN)
