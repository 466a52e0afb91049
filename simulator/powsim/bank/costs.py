"""What recorded queries cost, by any meter: made from votes anew, so that sigma and delta stay free."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powsim.bank.records import Bank, Pool, Recording
from powsim_kernels import PatePlan
from powsim_kernels.pate.conversion import surcharge

METERS = ("gnmax", "pknn", "entropy", "gap", "count")
COMPOSABLE = ("gnmax", "pknn")
CONVERSION = "classic"  # as published: eps = min over orders of RDP + ln(1/delta) / (order - 1)
FEW = 1500  # distinct rows that plain loops price sooner than a twin loads; 25 teachers give at most 1,455

Counts = NDArray[np.uint16]


def costs(
    bank: Bank,
    queries: Recording | Pool,
    meter: str = "gnmax",
    sigma: float | None = None,
    delta: float | None = None,
) -> NDArray[np.float64]:
    """Return what each query costs alone, float64 [Q], in order.

    gnmax, pknn: eps at `delta` of one answer, of the teachers' votes or of the nearest neighbours', never above what
    any votes can cost; sigma and delta default to the bank's own. entropy, gap: of the victim's softmax, in 0..1.
    count: 1.
    Raises ValueError for an unknown meter, or for sigma and delta that no plan can have.
    """
    if meter in COMPOSABLE:
        some, of_row = distinct(_votes(queries, meter))
        eps, _ = _plan(bank, meter, sigma, len(some)).eps(
            some, bank.delta if delta is None else delta, conversion=CONVERSION
        )
        return eps[of_row]
    if meter == "count":
        return np.ones(len(queries.votes))
    if meter not in METERS:
        raise ValueError(f"unknown meter {meter!r}: choose one of {', '.join(METERS)}")
    return np.asarray(getattr(queries, meter), np.float64)


def running_eps(
    bank: Bank,
    queries: Recording | Pool,
    meter: str = "gnmax",
    sigma: float | None = None,
    delta: float | None = None,
    every: int = 1,
) -> NDArray[np.float64]:
    """Return the eps of all queries so far, their Renyi costs added up first, after every `every`-th: [Q // every]."""
    if meter not in COMPOSABLE:
        raise ValueError(f"meter {meter!r} has no Renyi costs to add up: choose one of {', '.join(COMPOSABLE)}")
    some, of_row = distinct(_votes(queries, meter))
    plan = _plan(bank, meter, sigma, len(some))
    rdp, extra = plan.rdp(some), surcharge(plan.grid, bank.delta if delta is None else delta, CONVERSION)
    out, spent = np.empty(len(of_row) // every), np.zeros(len(extra))
    for step in range(len(out)):
        spent += np.bincount(of_row[step * every : (step + 1) * every], minlength=len(some)) @ rdp
        out[step] = (spent + extra).min()
    return out


@dataclass(frozen=True)
class RunCosts:
    """Costs of one seed's queries."""

    pool: NDArray[np.float64]  # [M]
    recordings: dict[str, NDArray[np.float64]]  # attack -> [Q]
    composed: Callable[[str, int], float]  # eps of an attack's first n queries, NaN for a meter without


def all_costs(
    bank: Bank, meter: str = "gnmax", sigma: float | None = None, delta: float | None = None
) -> list[RunCosts]:
    """Return the costs of every run; each different histogram of the whole bank is priced once."""
    if meter not in COMPOSABLE:
        return [
            RunCosts(
                costs(bank, run.pool, meter),
                {one.attack: costs(bank, one, meter) for one in run.recordings},
                lambda attack, n: math.nan,
            )
            for run in bank.runs
        ]
    every: list[Pool | Recording] = []
    for run in bank.runs:
        every += [run.pool, *run.recordings]
    some, of_row = distinct(np.concatenate([_votes(queries, meter) for queries in every]))
    plan, delta = _plan(bank, meter, sigma, len(some)), bank.delta if delta is None else delta
    rdp, extra = plan.rdp(some), surcharge(plan.grid, delta, CONVERSION)
    eps = np.array([max((row + extra).min(), 0.0) for row in rdp])
    ends = np.cumsum([len(queries.votes) for queries in every])
    kinds = iter(np.split(of_row, ends[:-1]))

    def composed(of: dict[str, NDArray[np.intp]]) -> Callable[[str, int], float]:
        return lambda attack, n: float((np.bincount(of[attack][:n], minlength=len(some)) @ rdp + extra).min())

    found = []
    for run in bank.runs:
        pool = eps[next(kinds)]
        rows = {one.attack: next(kinds) for one in run.recordings}
        found.append(RunCosts(pool, {attack: eps[own] for attack, own in rows.items()}, composed(rows)))
    return found


def cost_range(
    bank: Bank, meter: str = "gnmax", sigma: float | None = None, delta: float | None = None
) -> tuple[float, float]:
    """Return the least and the greatest cost that the meter gives a query: unanimous votes, and a tie of all."""
    if meter in ("entropy", "gap"):
        return 0.0, 1.0
    if meter == "count":
        return 1.0, 1.0
    voters = _voters(bank, meter)
    unanimous, tie = np.zeros(bank.classes), np.full(bank.classes, voters / bank.classes)
    unanimous[0] = voters
    plan = _plan(bank, meter, sigma, 2)
    low, high = plan.eps(np.stack([unanimous, tie]), bank.delta if delta is None else delta, conversion=CONVERSION)[0]
    return float(low), float(high)


def distinct(votes: Counts) -> tuple[Counts, NDArray[np.intp]]:
    """Return the different rows of votes, their classes sorted, and which of them each row is."""
    ordered = np.ascontiguousarray(np.sort(votes, axis=1)[:, ::-1])
    row = ordered.view(np.dtype((np.void, ordered.dtype.itemsize * ordered.shape[1]))).ravel()
    _, first, of_row = np.unique(row, return_index=True, return_inverse=True)
    return ordered[first], of_row


def _votes(queries: Recording | Pool, meter: str) -> Counts:
    return queries.votes if meter == "gnmax" else queries.knn


def _voters(bank: Bank, meter: str) -> int:
    return bank.teachers if meter == "gnmax" else bank.neighbours


def _plan(bank: Bank, meter: str, sigma: float | None, rows: int) -> PatePlan:
    if sigma is None:
        sigma = bank.sigma if meter == "gnmax" else bank.knn_sigma
    return PatePlan(_voters(bank, meter), bank.classes, sigma, backend="reference" if rows <= FEW else "auto")
