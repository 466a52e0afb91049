"""Eps after every query, by Numba: only the orders that can be the best in a block of rows are priced there.

Costs are not negative, so an order whose spending before a block already gives more than some order's at its end is
never the best inside it. Spending is exact for orders that were priced, else what it was when last known, a lower
bound; where that does not exclude an order, its spending comes from the moments of all rows so far.
v1 all orders of every row (4 us a row at 396 orders); v2 the orders left in blocks, 0.3 to 0.5 us.
"""

from __future__ import annotations

import math

import numpy as np

from powsim_kernels.jit import helper, jit
from powsim_kernels.pate.costs import EDGE, _dependent
from powsim_kernels.pate.moments import DEGREE, gather
from powsim_kernels.pate.ported import theorem_6
from powsim_kernels.pate.vector import exp, expm1, fused, log1p

LEAST_BLOCK, MOST_BLOCK, GROWTH = 32, 1024, 16
SLACK = 1e-12  # eps of two orders nearer than this are not told apart by the bounds


@fused
def _shapes(lnq, begin, size, step, less, mu, la, lb, keep):  # type: ignore[no-untyped-def]
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
def _block_costs(at, size, step, less, mu, la, lb, keep, overflows, out):  # type: ignore[no-untyped-def]
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


@helper
def _refresh(which, count, known, spent, moments, low, high, cells, step, room):  # type: ignore[no-untyped-def]
    """Set known[which[:count]] to what all rows in moments [M, 8] cost, nodes standing for rows."""
    less, mu, la, lb, keep, price, lnq, share = room
    for i in range(count):
        known[which[i]] = spent[which[i]]
    cell = low
    while cell <= high:
        size = 0
        while cell <= high and size + DEGREE <= MOST_BLOCK:
            if moments[cell, 0] != 0.0:
                for node in range(DEGREE):
                    part = 0.0
                    for power in range(DEGREE):
                        part += cells.basis[node, power] * moments[cell, power]
                    s = cells.middle[cell] + cells.nodes[node] / cells.inverse[cell]
                    share[size], lnq[size] = part, -s * s
                    size += 1
            cell += 1
        overflows = _shapes(lnq, 0, size, step, less, mu, la, lb, keep) > EDGE
        for i in range(count):
            _block_costs(which[i], size, step, less, mu, la, lb, keep, overflows, price)
            total = 0.0
            for at in range(size):
                total += share[at] * price[at]
            known[which[i]] += total


@jit
def run(lnq, spent, extra, step, cells, moments, eps):  # type: ignore[no-untyped-def]
    """Fill eps after each row; every -ln q lies in the cells."""
    rows, orders = lnq.shape[0], extra.shape[0]
    known, fresh = spent.copy(), np.ones(orders, np.bool_)
    room = (
        *(np.empty(MOST_BLOCK), np.empty(MOST_BLOCK), np.empty(MOST_BLOCK), np.empty(MOST_BLOCK)),
        *(np.empty(MOST_BLOCK), np.empty(MOST_BLOCK), np.empty(MOST_BLOCK), np.empty(MOST_BLOCK)),
    )
    less, mu, la, lb = np.empty(MOST_BLOCK), np.empty(MOST_BLOCK), np.empty(MOST_BLOCK), np.empty(MOST_BLOCK)
    keep, price, lead = np.empty(MOST_BLOCK), np.empty(MOST_BLOCK), np.empty(MOST_BLOCK)
    none, left, which = np.empty(0), np.empty(MOST_BLOCK, np.int64), np.empty(orders, np.int64)
    best, low, high = int(np.argmin(spent + extra)), cells.middle.shape[0], -1
    begin = 0
    while begin < rows:
        size = min(max(LEAST_BLOCK, begin // GROWTH), MOST_BLOCK, rows - begin)
        overflows = _shapes(lnq, begin, size, step, less, mu, la, lb, keep) > EDGE
        _block_costs(best, size, step, less, mu, la, lb, keep, overflows, lead)
        bound = known[best] + extra[best]
        for i in range(size):
            bound += lead[i]
        bound += SLACK * abs(bound)
        for i in range(size):
            eps[begin + i] = math.inf
        count = 0
        for at in range(orders):
            if known[at] + extra[at] <= bound and not fresh[at]:
                which[count] = at
                count += 1
                fresh[at] = True
        if count > 0:
            _refresh(which, count, known, spent, moments, low, high, cells, step, room)
        found, least = best, math.inf
        for at in range(orders):
            if known[at] + extra[at] > bound:
                fresh[at] = False
                continue
            if at == best:
                price[:size] = lead[:size]
            else:
                _block_costs(at, size, step, less, mu, la, lb, keep, overflows, price)
            base, total = known[at] + extra[at], 0.0  # the block apart: one long sum would drift
            for i in range(size):
                total += price[i]
                now = base + total
                eps[begin + i] = now if now < eps[begin + i] else eps[begin + i]
            known[at] += total
            if known[at] + extra[at] < least:
                found, least = at, known[at] + extra[at]
        best = found
        gather(lnq, none, cells, moments, left, begin, begin + size)
        for i in range(size):
            s = math.sqrt(less[i])
            while low > 0 and s < cells.edges[low]:
                low -= 1
            while high < cells.middle.shape[0] - 1 and (high < 0 or s >= cells.edges[high + 1]):
                high += 1
        begin += size
