"""Theorem 6 at all orders of one ln q, by Numba: where it holds, where it helps, and what it says there.

v1 the C library's functions, about 25 ns an order; v2 branch-free vector functions over the orders of a row, 15 ns;
v3 for `[N, L]`, over a block of rows of one order: no remainder, and what does not depend on the order is vector code;
v4 runs of evenly spaced orders by recurrence.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.jit import helper, jit
from powsim_kernels.pate.bounds import least_mu
from powsim_kernels.pate.grid import Step, step_with
from powsim_kernels.pate.ported import theorem_6
from powsim_kernels.pate.vector import exp, expm1, fused, log1p

BLOCK = 128  # rows priced together
EDGE = 600.0  # exponents above are their own logarithms


@jit
def _crossings(orders, sigma, least, clip):  # type: ignore[no-untyped-def]
    """Return mu from which theorem 6 holds at each order and, with clip, lies below order / sigma^2."""
    found = np.empty(orders.shape[0])
    for at in range(orders.shape[0]):
        order = orders[at]
        low = max(least, np.nextafter(order - 1.0, math.inf))
        while low + 1.0 <= order:  # the condition is order < mu + 1 as rounded
            low = np.nextafter(low, math.inf)
        ceiling = order / (sigma * sigma)
        found[at] = low
        if clip and theorem_6(-((low / sigma) ** 2), low, sigma, order) > ceiling:
            high = 2.0 * low + 10.0 * sigma
            while theorem_6(-((high / sigma) ** 2), high, sigma, order) > ceiling:
                high *= 2.0
            while True:
                middle = 0.5 * (low + high)
                if not (low < middle < high):
                    break
                if theorem_6(-((middle / sigma) ** 2), middle, sigma, order) > ceiling:
                    low = middle
                else:
                    high = middle
            found[at] = high
    return found


def step_of(orders: NDArray[np.float64], sigma: float, clip: bool) -> Step:
    """Return the step with this noise at these orders."""
    return step_with(orders, sigma, _crossings(orders, sigma, least_mu(sigma), clip))


@fused
def _dependent(k, la, lb, less, keep):  # type: ignore[no-untyped-def]
    """Return theorem 6 at order k + 1, without a branch; less = -ln q, keep = 1 - q."""
    rise = k * lb
    exponent = rise - less
    bounded = exponent if exponent < EDGE else EDGE
    inner = log1p(keep * expm1(k * la) + exp(bounded) * -expm1(-rise))
    return (exponent if exponent > EDGE else inner) / k


@helper
def shape(less, step):  # type: ignore[no-untyped-def]
    """Return (mu, ln A, ln B, 1 - q) of theorem 6 for less = -ln q."""
    mu = step.sigma * math.sqrt(less)
    over = 1.0 / (step.sigma * step.sigma)
    x = (2.0 * mu - 1.0) * over
    log_r = -(((mu - 1.0) / step.sigma) ** 2)
    la = math.log1p(math.exp(log_r) * -math.expm1(-x) / -math.expm1(log_r)) if mu > 1.0 else 0.0
    return mu, la, (2.0 * mu + 1.0) * over, -math.expm1(-less)


@helper
def fill(less, step, out):  # type: ignore[no-untyped-def]
    """Fill the costs [L] of a row with less = -ln q."""
    mu, la, lb, keep = shape(less, step)
    n = step.k.shape[0]
    if mu < step.least:
        for at in range(n):
            out[at] = step.ceiling[at]
    elif mu > step.far:
        for at in range(n):
            out[at] = 0.0
    elif la * mu > EDGE:  # orders reach mu + 1: the slow way, since exp(k ln A) may overflow (unclipped only)
        for at in range(n):
            dependent = theorem_6(-less, mu, step.sigma, step.k[at] + 1.0) if mu >= step.cross[at] else 0.0
            out[at] = dependent if mu >= step.cross[at] else step.ceiling[at]
    else:
        _fill_all(mu, la, lb, less, keep, step.k, step.ceiling, step.cross, out)


@helper
def _fill_all(mu, la, lb, less, keep, ks, ceiling, cross, out):  # type: ignore[no-untyped-def]
    for at in range(ks.shape[0]):
        k, independent = ks[at], ceiling[at]
        k = k if k < mu else mu  # beyond mu nothing holds, and exp could overflow
        dependent = _dependent(k, la, lb, less, keep)
        out[at] = dependent if mu >= cross[at] else independent


@fused
def shapes(lnq, begin, size, step, less, mu, la, lb, keep):  # type: ignore[no-untyped-def]
    """Fill what theorem 6 needs of each row of a block; return the largest mu ln A."""
    over, root = 1.0 / (step.sigma * step.sigma), 1.0 / step.sigma
    most = 0.0
    for i in range(size):
        minus = -lnq[begin + i]
        at = step.sigma * math.sqrt(minus)
        safe = at if at > step.least else step.least  # below, the bound is not used
        up = (safe - 1.0) * root
        log_r = -(up * up)
        ratio = exp(log_r) * expm1((1.0 - 2.0 * safe) * over) / expm1(log_r)
        found = log1p(ratio)
        less[i], mu[i], la[i], lb[i], keep[i] = minus, at, found, (2.0 * at + 1.0) * over, -expm1(-minus)
        most = max(most, found * at)
    return most


@helper
def block_costs(at, size, step, less, mu, la, lb, keep, overflows, out):  # type: ignore[no-untyped-def]
    """Fill the costs of a block's rows at one order."""
    order_k, independent, cross = step.k[at], step.ceiling[at], step.cross[at]
    if overflows:
        for i in range(size):
            out[i] = independent
            if mu[i] >= cross:
                out[i] = theorem_6(-less[i], mu[i], step.sigma, order_k + 1.0)
        return
    for i in range(size):
        k = order_k if order_k < mu[i] else mu[i]
        dependent = _dependent(k, la[i], lb[i], less[i], keep[i])
        out[i] = dependent if mu[i] >= cross else independent


@fused
def _run_costs(at, size, step, less, mu, la, lb, keep, room, out):  # type: ignore[no-untyped-def]
    """Fill the costs of a block's rows at a run of even orders.

    With E = expm1(k ln A) and D = q expm1(k ln B), a step d of k takes E to E + g (1 + E) and D to D + h (D + q),
    g = expm1(d ln A), h = expm1(d ln B): only positive terms, and no exponential per order.
    """
    grown, risen, g, h, add, price = room[0], room[1], room[2], room[3], room[4], room[5]
    k, d = step.k[at], step.k[at + 1] - step.k[at]
    for i in range(size):
        bounded = k if k < mu[i] else mu[i]
        rise = bounded * lb[i]
        grown[i] = expm1(bounded * la[i])
        risen[i] = exp(rise - less[i]) * -expm1(-rise)
    for i in range(size):
        g[i], h[i] = expm1(d * la[i]), expm1(d * lb[i])
        add[i] = exp(-less[i]) * h[i]
    for j in range(step.even[at]):
        k, independent, cross = step.k[at + j], step.ceiling[at + j], step.cross[at + j]
        over = 1.0 / k
        for i in range(size):
            e, r = grown[i], risen[i]
            dependent = log1p(keep[i] * e + r) * over
            price[i] = dependent if mu[i] >= cross else independent
            grown[i], risen[i] = e + (g[i] + g[i] * e), r + (add[i] + h[i] * r)
        for i in range(size):
            out[np.uint64(i), np.uint64(j)] = price[i]


@jit
def fill_rows(lnq, step, out, begin, end):  # type: ignore[no-untyped-def]
    """Fill the costs of rows begin..end, [N, L]: order by order of a block of rows, which stays in the first cache."""
    less, mu, la, lb = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    keep, price, room = np.empty(BLOCK), np.empty(BLOCK), np.empty((6, BLOCK))
    for first in range(begin, end, BLOCK):
        size = min(BLOCK, end - first)
        overflows = shapes(lnq, first, size, step, less, mu, la, lb, keep) > EDGE
        most, deepest = 0.0, 0.0
        for i in range(size):
            most, deepest = max(most, mu[i]), max(deepest, less[i])
        runs = not overflows and deepest < 690.0 and (most * most + most) / (step.sigma * step.sigma) < EDGE
        steepest = (2.0 * most + 1.0) / (step.sigma * step.sigma)
        at = 0
        while at < step.k.shape[0]:
            # The last condition keeps expm1(d ln B) below overflow.
            if runs and step.even[at] > 3 and (step.k[at + 1] - step.k[at]) * steepest < EDGE:
                _run_costs(at, size, step, less, mu, la, lb, keep, room, out[first:, at:])
                at += step.even[at]
                continue
            block_costs(at, size, step, less, mu, la, lb, keep, overflows, price)
            for i in range(size):
                out[np.uint64(first + i), np.uint64(at)] = price[i]
            at += 1
        for row in range(first, first + size):
            if not lnq[row] <= 0.0:
                out[row, :] = math.nan


@jit
def add_row(less, step, factor, buffer, out):  # type: ignore[no-untyped-def]
    """Add factor times the costs of one row to out [L]."""
    fill(less, step, buffer)
    for at in range(buffer.shape[0]):
        out[at] += factor * buffer[at]
