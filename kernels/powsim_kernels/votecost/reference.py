"""GNMax cost of one histogram at a time, as the papers write it: the specification.

Papernot et al. 2018 ("Scalable Private Learning with PATE"), proposition 7 for q, theorem 6 with the helper orders of
proposition 10 for the data-dependent bound; Mironov 2017, proposition 3 for the conversion to (eps, delta).
As written there, the bound loses digits at orders near 1 (1.5e-10 at order 1.0001): the CPU twin's form does not.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.pate.bounds import log_q_gnmax

CLIPPED, UNCLIPPED, DATA_INDEPENDENT = range(3)


def log_one_minus_exp(x: float) -> float:
    """Return ln(1 - exp(x)) for x < 0 without loss at either end."""
    return math.log1p(-math.exp(x)) if x < -1.0 else math.log(-math.expm1(x))


def log_add_exp(a: float, b: float) -> float:
    """Return ln(exp(a) + exp(b))."""
    high, low = max(a, b), min(a, b)
    return high + math.log1p(math.exp(low - high))


def rdp(lnq: float, sigma: float, order: float, bound: int) -> float:
    """Return the Renyi cost at `order` of a query whose ln q is `lnq`."""
    independent = order / sigma**2
    if bound == DATA_INDEPENDENT:
        return independent
    mu2 = sigma * math.sqrt(-lnq)
    mu1 = mu2 + 1.0
    eps1, eps2 = mu1 / sigma**2, mu2 / sigma**2
    if not (mu1 > order and mu2 > 1.0 and -lnq > eps2):
        return independent
    limit = (mu2 - 1.0) * eps2 - mu2 * (math.log1p(1.0 / (mu1 - 1.0)) + math.log1p(1.0 / (mu2 - 1.0)))
    if lnq > limit:
        return independent
    log1q = log_one_minus_exp(lnq)
    log_a = (order - 1.0) * (log1q - log_one_minus_exp((lnq + eps2) * (1.0 - 1.0 / mu2)))
    log_b = (order - 1.0) * (eps1 - lnq / (mu1 - 1.0))
    dependent = log_add_exp(log1q + log_a, lnq + log_b) / (order - 1.0)
    return min(dependent, independent) if bound == CLIPPED else dependent


def vote_cost(
    votes: NDArray[np.float64],
    sigma: float,
    delta: float,
    orders: NDArray[np.float64],
    bound: int,
    threads: int | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return ln q, eps and the index of the best order for each row; `threads` is not used."""
    lnq = np.array([log_q_gnmax(row, sigma) for row in votes.tolist()], dtype=np.float64)
    eps = np.empty(len(votes))
    best = np.empty(len(votes), np.int64)
    for row in range(len(votes)):
        candidates = [
            rdp(float(lnq[row]), sigma, order, bound) - math.log(delta) / (order - 1.0) for order in orders.tolist()
        ]
        best[row] = candidates.index(min(candidates))
        eps[row] = candidates[best[row]]
    return lnq, eps, best
