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
from powsim_kernels.pate.costs import EDGE, block_costs, shapes
from powsim_kernels.pate.grid import DEGREE
from powsim_kernels.pate.moments import gather

LEAST_BLOCK, MOST_BLOCK, GROWTH = 32, 1024, 16
SLACK = 1e-12  # eps of two orders nearer than this are not told apart by the bounds


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
        overflows = shapes(lnq, 0, size, step, less, mu, la, lb, keep) > EDGE
        for i in range(count):
            block_costs(which[i], size, step, less, mu, la, lb, keep, overflows, price)
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
        overflows = shapes(lnq, begin, size, step, less, mu, la, lb, keep) > EDGE
        block_costs(best, size, step, less, mu, la, lb, keep, overflows, lead)
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
                block_costs(at, size, step, less, mu, la, lb, keep, overflows, price)
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
