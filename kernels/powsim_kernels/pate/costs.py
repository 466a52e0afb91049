"""Theorem 6 at all orders of one ln q, by Numba: where it holds, where it helps, and what it says there.

v1 the C library's functions, about 25 ns an order; v2 branch-free vector functions over the orders of a row, 15 ns;
v3 for `[N, L]`, over a block of rows of one order: no remainder, and what does not depend on the order is vector code;
v4 runs of evenly spaced orders by recurrence; v5 blocks of rows that theorem 6 says something about.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.jit import helper, jit
from powsim_kernels.pate.bounds import least_mu
from powsim_kernels.pate.grid import Step, step_with
from powsim_kernels.pate.ported import rdp_lnmax, theorem_6
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


@jit
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
    """Fill what theorem 6 needs of each row of a block; return whether mu ln A of a row is above EDGE.

    One array a loop: LLVM vectorises none that writes several, since it would have to tell too many arrays apart.
    """
    over, root = 1.0 / (step.sigma * step.sigma), 1.0 / step.sigma
    for i in range(size):
        less[i] = -lnq[np.uint64(begin) + np.uint64(i)]
    for i in range(size):
        mu[i] = step.sigma * math.sqrt(less[i])
    for i in range(size):
        lb[i] = (2.0 * mu[i] + 1.0) * over
    for i in range(size):
        keep[i] = -expm1(-less[i])
    for i in range(size):
        safe = mu[i] if mu[i] > step.least else step.least  # below, the bound is not used
        up = (safe - 1.0) * root
        log_r = -(up * up)
        la[i] = log1p(exp(log_r) * expm1((1.0 - 2.0 * safe) * over) / expm1(log_r))
    above = 0
    for i in range(size):
        above += la[i] * mu[i] > EDGE
    return above > 0


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
def _steps(d, size, less, la, lb, rises):  # type: ignore[no-untyped-def]
    """Fill what a step d of the order does to a block's rows: g = expm1(d ln A), h = expm1(d ln B), and q h."""
    g, h, add = rises[0], rises[1], rises[2]
    for i in range(size):
        g[i] = expm1(d * la[i])
    for i in range(size):
        h[i] = expm1(d * lb[i])
    for i in range(size):
        add[i] = exp(-less[i]) * h[i]


@fused
def _run_costs(at, size, step, less, mu, la, lb, keep, rises, room, pick, out):  # type: ignore[no-untyped-def]
    """Fill the costs of a block's rows at a run of even orders.

    With E = expm1(k ln A) and D = q expm1(k ln B), a step d of k takes E to E + g (1 + E) and D to D + h (D + q):
    only positive terms, and no exponential per order.
    """
    g, h, add = rises[0], rises[1], rises[2]
    grown, risen, price = room[0], room[1], room[2]
    k = step.k[at]
    for i in range(size):
        bounded = k if k < mu[i] else mu[i]
        grown[i] = expm1(bounded * la[i])
    for i in range(size):
        bounded = k if k < mu[i] else mu[i]
        rise = bounded * lb[i]
        risen[i] = exp(rise - less[i]) * -expm1(-rise)
    for j in range(step.even[at]):
        k, independent, cross = step.k[at + j], step.ceiling[at + j], step.cross[at + j]
        over = 1.0 / k
        for i in range(size):
            dependent = log1p(keep[i] * grown[i] + risen[i]) * over
            price[i] = dependent if mu[i] >= cross else independent
        for i in range(size):  # apart: a loop over more than five arrays is not vectorised
            grown[i] += g[i] + g[i] * grown[i]
        for i in range(size):
            risen[i] += add[i] + h[i] * risen[i]
        for i in range(size):
            out[pick[np.uint64(i)], np.uint64(at + j)] = price[i]


@jit
def _fill_block(lnq, pick, size, step, runs, out):  # type: ignore[no-untyped-def]
    """Fill the costs of the picked rows, order by order; runs: whether evenly spaced orders may go by recurrence."""
    less, mu, la, lb = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    keep, price, part = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    rises, room = np.empty((3, BLOCK)), np.empty((3, BLOCK))
    for i in range(size):
        part[i] = lnq[pick[i]]
    overflows = shapes(part, 0, size, step, less, mu, la, lb, keep)
    at, known = np.int64(0), 0.0  # a literal 0 would have all that takes it compiled twice
    while at < step.k.shape[0]:
        if runs and not overflows and step.even[at] > 3:
            d = step.k[at + 1] - step.k[at]
            if d != known:
                known = d
                _steps(d, size, less, la, lb, rises)
            _run_costs(at, size, step, less, mu, la, lb, keep, rises, room, pick, out)
            at += step.even[at]
            continue
        block_costs(at, size, step, less, mu, la, lb, keep, overflows, price)
        for i in range(size):
            out[pick[i], np.uint64(at)] = price[i]
        at += 1


@jit
def fill_rows(lnq, step, done, out, begin, end):  # type: ignore[no-untyped-def]
    """Fill the costs of rows begin..end, [N, L], but of those with done >= 0 (int32 [N], or empty).

    Rows that theorem 6 says nothing about are filled at once; the others are priced in full blocks, those that may go
    by recurrence apart from those that may not, so that no row decides how another is priced.
    """
    over, widest = 1.0 / (step.sigma * step.sigma), 0.0
    for at in range(step.k.shape[0]):
        if step.even[at] > 3:
            widest = max(widest, step.k[at + 1] - step.k[at])
    pick, count = np.empty((2, BLOCK), np.uint64), np.zeros(2, np.int64)
    for row in range(np.uint64(begin), np.uint64(end)):
        if done.shape[0] > 0 and done[row] >= 0:
            continue
        less = -lnq[row]
        mu = step.sigma * math.sqrt(less)
        if not less >= 0.0 or mu < step.least or mu > step.far:
            for at in range(step.k.shape[0]):
                out[row, np.uint64(at)] = step.ceiling[at] if mu < step.least else 0.0 if mu > step.far else math.nan
            continue
        rises = (mu * mu + mu) * over < EDGE and widest * (2.0 * mu + 1.0) * over < EDGE  # no exponential overflows
        kind = np.uint64(rises and less < 690.0)
        pick[kind, np.uint64(count[kind])] = row
        count[kind] += 1
        if count[kind] == BLOCK:
            _fill_block(lnq, pick[kind], count[kind], step, kind == 1, out)
            count[kind] = 0
    for last in range(2):
        if count[last] > 0:
            _fill_block(lnq, pick[last], count[last], step, last == 1, out)


@jit
def fill_lnmax(lnq, scale, orders, out, begin, end):  # type: ignore[no-untyped-def]
    """Fill the costs of rows begin..end under Laplace noise, [N, L]: theorem 6's form with ln B = 2 / scale."""
    lb, most = 2.0 / scale, 0.0
    least = math.log1p(math.exp(min(lb, 700.0)))  # -ln q from which theorem 3 of 2017 holds
    for at in range(orders.shape[0]):
        most = max(most, orders[at])
    for row in range(np.uint64(begin), np.uint64(end)):
        less, la = -lnq[row], math.inf
        if less >= least:
            la = math.log1p(math.exp(lb - less) * -math.expm1(-lb) / -math.expm1(lb - less))
        if not la * most <= EDGE:
            for at in range(orders.shape[0]):
                out[row, np.uint64(at)] = rdp_lnmax(lnq[row], scale, orders[at]) if less >= 0.0 else math.nan
            continue
        for at in range(orders.shape[0]):
            k = orders[at] - 1.0
            bound = 0.5 * lb * lb * orders[at]
            bound = bound if bound < lb else lb
            cost = _dependent(k, la, lb, less, -math.expm1(-less))
            out[row, np.uint64(at)] = cost if cost < bound else bound


@jit
def add_row(less, step, factor, buffer, out):  # type: ignore[no-untyped-def]
    """Add factor times the costs of one row to out [L]."""
    fill(less, step, buffer)
    for at in range(buffer.shape[0]):
        out[at] += factor * buffer[at]
