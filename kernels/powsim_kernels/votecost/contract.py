"""Checks and dispatch for the cost of single queries under GNMax (Papernot et al. 2018, theorem 6)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powsim_kernels.backend import resolve
from powsim_kernels.pate.conversion import default_orders
from powsim_kernels.threads import thread_count

OFFERED = ("reference", "cpu")
LEAST_SIGMA, MOST_SIGMA = 1e-6, 1e12
MOST_VOTES = 2.0**53  # counts above are not whole numbers in float64 any more, and their squares leave it
BOUNDS = ("clipped", "unclipped", "data-independent")


@dataclass(frozen=True)
class VoteCost:
    """Cost of each query taken alone."""

    log_q: NDArray[np.float64]  # [N] natural log of the bound on Pr[the noisy winner is not the true one]
    eps: NDArray[np.float64]  # [N] (eps, delta) cost of the single query
    order: NDArray[np.float64]  # [N] Renyi order at which eps is reached, the first on ties


def vote_cost(
    votes: ArrayLike,
    *,
    sigma: float,
    delta: float,
    orders: ArrayLike | None = None,
    bound: str = "clipped",
    backend: str = "auto",
    threads: int | None = None,
) -> VoteCost:
    """Return what each vote histogram leaks: eps of the single query at `delta`, with the order that gives it.

    votes: [N, C] (or one histogram [C]), C >= 2 classes, non-negative integers or floats. sigma: standard deviation
    of the GNMax noise, in votes. delta in (0, 1). orders: Renyi orders > 1, default `default_orders()`.
    bound: "clipped" takes the smaller of the data-dependent bound and order / sigma^2 wherever both hold (what
    the published server charges); "unclipped" takes the data-dependent one wherever its conditions hold (the published
    private-kNN accountant); "data-independent" is order / sigma^2 alone, the ceiling.
    eps = min over orders of rdp + ln(1/delta) / (order - 1), the classic conversion.

    The cost depends on private votes: publishing it leaks. Raises ValueError or TypeError naming the argument,
    and for votes the first bad row.
    """
    histograms = check_votes(votes)
    grid = default_orders() if orders is None else np.ascontiguousarray(orders, dtype=np.float64)
    if not LEAST_SIGMA <= sigma <= MOST_SIGMA:
        raise ValueError(f"sigma={sigma} must lie between {LEAST_SIGMA:g} and {MOST_SIGMA:g} votes")
    if not 0 < delta < 1:
        raise ValueError(f"delta={delta} must lie between 0 and 1, both excluded")
    if grid.ndim != 1 or grid.size == 0 or not np.all(np.isfinite(grid) & (grid > 1)):
        raise ValueError("orders must be a non-empty list of finite numbers above 1")
    if bound not in BOUNDS:
        raise ValueError(f"unknown bound {bound!r}: choose one of {', '.join(BOUNDS)}")
    twin = importlib.import_module(f"powsim_kernels.votecost.{resolve(backend, OFFERED)}")
    log_q, eps, best = twin.vote_cost(
        histograms, float(sigma), float(delta), grid, BOUNDS.index(bound), thread_count(threads)
    )
    return VoteCost(log_q, eps, grid[best])


def check_votes(votes: ArrayLike) -> NDArray[np.float64]:
    """Return votes as contiguous float64 [N, C], or raise naming the first bad row."""
    array = np.asarray(votes)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"votes have dtype {array.dtype}: counts must be integers or floats")
    if array.ndim == 1:
        array = array[None, :]
    if array.ndim != 2:
        raise ValueError(f"votes have shape {array.shape}: [queries, classes] is needed")
    if array.shape[1] < 2:
        raise ValueError(f"votes have {array.shape[1]} class: with fewer than 2 there is nothing to leak")
    counts = np.ascontiguousarray(array, dtype=np.float64)
    bad = ~np.all((counts >= 0) & (counts <= MOST_VOTES), axis=1)  # NaN compares false
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"votes[{row}] = {array[row].tolist()} holds a negative, NaN or infinite count, or one above 2^53"
        )
    return counts
