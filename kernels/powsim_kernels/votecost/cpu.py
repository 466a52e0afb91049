"""GNMax cost by Numba, threads over rows, in the cancellation-free form.

With mu = sigma sqrt(-ln q) the four quantities of theorem 6 are quadratics in mu, the conditions on (sigma, q)
become one test that no order enters, and eps_dep = log1p((1-q) expm1((order-1) la) + q expm1((order-1) lb)) / (order-1)
adds only positive terms, so nothing cancels at any order.
v1 plain loops over classes and orders, about 400 transcendental calls a row.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.jit import helper, jit
from powsim_kernels.threads import over_ranges

GRAIN = 64
CLIPPED, DATA_INDEPENDENT = 0, 2


@helper
def _log_erfcx(x):  # type: ignore[no-untyped-def]
    """Return ln(exp(x^2) erfc(x)) for x >= 0."""
    if x < 20.0:
        return math.log(math.erfc(x)) + x * x
    term, total = 1.0, 1.0
    for k in range(1, 9):
        term *= -(2 * k - 1) / (2.0 * x * x)
        total += term
    return math.log(total) - math.log(x * math.sqrt(math.pi))


@helper
def _log_q(votes, sigma):  # type: ignore[no-untyped-def]
    classes = votes.shape[0]
    winner = 0
    for j in range(1, classes):
        if votes[j] > votes[winner]:
            winner = j
    runner_up = math.inf
    for j in range(classes):
        if j != winner:
            runner_up = min(runner_up, (votes[winner] - votes[j]) / (2.0 * sigma))
    # Scaled by the runner-up's term, so that no gap can underflow.
    scaled = 0.0
    log_lead = _log_erfcx(runner_up)
    for j in range(classes):
        if j != winner:
            x = (votes[winner] - votes[j]) / (2.0 * sigma)
            exponent = (runner_up - x) * (runner_up + x)
            if exponent > -45.0:
                scaled += math.exp(exponent + _log_erfcx(x) - log_lead)
    return min(math.log(0.5 * scaled) + log_lead - runner_up * runner_up, math.log1p(-1.0 / classes))


@helper
def _dependent(lnq, mu, sigma2, order):  # type: ignore[no-untyped-def]
    """Return theorem 6's bound at `order`; the caller has checked that it holds."""
    k = order - 1.0
    x = (2.0 * mu - 1.0) / sigma2
    log_r = -((mu - 1.0) ** 2) / sigma2
    # q expm1(x) equals r (1 - exp(-x)) since ln q + x = ln r: the form that neither overflows nor underflows.
    la = math.log1p(math.exp(log_r) * -math.expm1(-x) / -math.expm1(log_r))
    first = (1.0 - math.exp(lnq)) * math.expm1(k * la)
    # q expm1(k lb) as one exponential: q alone may underflow while the product does not.
    lb = (2.0 * mu + 1.0) / sigma2
    exponent = lnq + k * lb
    rest = -math.expm1(-k * lb)
    if exponent > 600.0:  # `first` is below one ulp of the sum here
        return (exponent + math.log(rest)) / k
    return math.log1p(first + math.exp(exponent) * rest) / k


@jit
def _rows(votes, sigma, log_inv_delta, orders, bound, lnq, eps, best, begin, end):  # type: ignore[no-untyped-def]
    sigma2 = sigma * sigma
    for row in range(begin, end):
        lnq[row] = _log_q(votes[row], sigma)
        mu = sigma * math.sqrt(-lnq[row])
        # Theorem 6's conditions on (sigma, q): mu2 > 1 and 2 atanh(1/mu) <= (2 mu - 1) / sigma^2.
        holds = bound != DATA_INDEPENDENT and mu > 1.0 and 2.0 * math.atanh(1.0 / mu) <= (2.0 * mu - 1.0) / sigma2
        least = math.inf
        at = 0
        for j in range(orders.shape[0]):
            order = orders[j]
            cost = order / sigma2
            if holds and mu + 1.0 > order:
                dependent = _dependent(lnq[row], mu, sigma2, order)
                cost = min(cost, dependent) if bound == CLIPPED else dependent
            candidate = cost + log_inv_delta / (order - 1.0)
            if candidate < least:
                least = candidate
                at = j
        eps[row] = least
        best[row] = at


def vote_cost(
    votes: NDArray[np.float64],
    sigma: float,
    delta: float,
    orders: NDArray[np.float64],
    bound: int,
    threads: int | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return ln q, eps and the index of the best order for each row."""
    lnq, eps, best = np.empty(len(votes)), np.empty(len(votes)), np.empty(len(votes), np.int64)
    log_inv_delta = -math.log(delta)  # 1 / delta overflows for the smallest delta
    over_ranges(
        lambda begin, end: _rows(votes, sigma, log_inv_delta, orders, bound, lnq, eps, best, begin, end),
        len(votes),
        threads=threads,
        grain=GRAIN,
    )
    return lnq, eps, best
