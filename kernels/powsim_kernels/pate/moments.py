"""Totals at any number of orders for the price of one: eight power moments of s = sqrt(-ln q) in cells, by Numba.

At each order a row's cost is order / sigma^2 below one crossover and one smooth function of s above. Cells are cut at
every crossover; in a cell the cost is replaced by its Chebyshev interpolant of degree 7, whose sum over rows the
moments give. Cells are 1/64 wide in s up to s = 8 and 1/4 wide in s^2 beyond, where costs fall as exp(-s^2): the
interpolant is then good to 1e-14 of the cost itself.
v1 all orders of every row; v2 moments: one multiply-add for each of eight, and the orders once per touched cell.
"""

from __future__ import annotations

import math

import numpy as np

from powsim_kernels.jit import jit
from powsim_kernels.pate.costs import fill
from powsim_kernels.pate.grid import DEGREE, EVEN, PER_S, PER_SQUARE


@jit
def gather(lnq, weights, cells, moments, left, begin, end):  # type: ignore[no-untyped-def]
    """Add rows begin..end to moments [M, 8]; return how many rows no cell holds, their numbers in `left`."""
    beyond = 0
    edges, middle, inverse, first = cells.edges, cells.middle, cells.inverse, cells.first
    for row in range(begin, end):
        less = -lnq[row]
        if not (less <= cells.most):  # NaN too
            left[beyond] = row
            beyond += 1
            continue
        s = math.sqrt(less)
        at = np.uint64(s * PER_S) if less < EVEN * EVEN else np.uint64(EVEN * PER_S + (less - EVEN * EVEN) * PER_SQUARE)
        cell = np.uint64(first[at])
        while s >= edges[cell + np.uint64(1)]:
            cell += np.uint64(1)
        t = (s - middle[cell]) * inverse[cell]
        w = weights[row] if weights.shape[0] > 0 else 1.0
        t2 = t * t
        wt, t4 = w * t, t2 * t2
        moments[cell, np.uint64(0)] += w
        moments[cell, np.uint64(1)] += wt
        moments[cell, np.uint64(2)] += w * t2
        moments[cell, np.uint64(3)] += wt * t2
        moments[cell, np.uint64(4)] += w * t4
        moments[cell, np.uint64(5)] += wt * t4
        moments[cell, np.uint64(6)] += w * t4 * t2
        moments[cell, np.uint64(7)] += wt * t4 * t2
    return beyond


@jit
def finish(moments, cells, step, sums):  # type: ignore[no-untyped-def]
    """Add to sums [L] what the rows in moments [M, 8] cost."""
    orders = step.k.shape[0]
    cost, helps = np.empty(orders), np.empty(orders)
    for cell in range(moments.shape[0]):
        count = moments[cell, 0]
        if count == 0.0:
            continue
        mu = step.sigma * cells.middle[cell]
        for at in range(orders):
            helps[at] = 1.0 if mu >= step.cross[at] else 0.0
            sums[at] += (1.0 - helps[at]) * count * step.ceiling[at]
        if mu < step.least or mu > step.far:
            continue
        for node in range(DEGREE):
            share = 0.0
            for power in range(DEGREE):
                share += cells.basis[node, power] * moments[cell, power]
            s = cells.middle[cell] + cells.nodes[node] / cells.inverse[cell]
            fill(s * s, step, cost)
            for at in range(orders):
                # Near an edge rounding may put a node on the other side of the cut; its value is then the cut's own.
                sums[at] += helps[at] * share * cost[at]
