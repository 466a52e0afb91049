"""Totals at any number of orders for the price of one: eight power moments of s = sqrt(-ln q) in cells, by Numba.

At each order a row's cost is order / sigma^2 below one crossover and one smooth function of s above. Cells are cut at
every crossover; in a cell the cost is replaced by its Chebyshev interpolant of degree 7, whose sum over rows the
moments give. Cells are 1/64 wide in s up to s = 8 and 1/4 wide in s^2 beyond, where costs fall as exp(-s^2): the
interpolant is then good to 1e-14 of the cost itself.
v1 all orders of every row; v2 moments: one multiply-add for each of eight, and the orders once per touched cell
(12 ns a row); v3 roots by blocks, and the search for the cell without a branch (6 ns).
"""

from __future__ import annotations

import math

import numpy as np

from powsim_kernels.jit import helper, jit
from powsim_kernels.pate.costs import fill
from powsim_kernels.pate.grid import DEGREE, EVEN, PER_S, PER_SQUARE

BLOCK = 128  # rows whose roots are taken together, as vector code


@helper
def locate(lnq, low, size, cells, roots, steps):  # type: ignore[no-untyped-def]
    """Fill sqrt(-ln q) of a block of rows, and the step of the finder it is in; -1 where no cell holds it, as NaN."""
    for i in range(size):
        less = -lnq[np.uint64(low) + np.uint64(i)]
        s = math.sqrt(less)
        at = s * PER_S if less < EVEN * EVEN else EVEN * PER_S + (less - EVEN * EVEN) * PER_SQUARE
        roots[np.uint64(i)], steps[np.uint64(i)] = s, np.int32(at if less <= cells.most else -1.0)


@helper
def cell_of(s, step, edges, first):  # type: ignore[no-untyped-def]
    """Return the cell of s, looking from where its step of the finder begins."""
    cell = np.uint64(first[np.uint64(step)])
    cell += np.uint64(s >= edges[cell + np.uint64(1)])  # what is left to the loop is too rare to be mispredicted
    while s >= edges[cell + np.uint64(1)]:
        cell += np.uint64(1)
    return cell


@jit
def gather(lnq, weights, groups, cells, moments, left, begin, end):  # type: ignore[no-untyped-def]
    """Add rows begin..end to moments [G M, 8]; return how many rows no cell holds, their numbers in `left`.

    weights and groups: per row, or empty where every weight is 1 and every row in group 0.
    """
    beyond = np.uint64(0)
    edges, middle, inverse, first = cells.edges, cells.middle, cells.inverse, cells.first
    roots, steps = np.empty(BLOCK), np.empty(BLOCK, np.int32)
    for low in range(begin, end, BLOCK):
        size = min(BLOCK, end - low)
        locate(lnq, low, size, cells, roots, steps)
        for i in range(size):
            row, s, step = np.uint64(low + i), roots[np.uint64(i)], steps[np.uint64(i)]
            if step < 0:
                left[beyond] = row
                beyond += np.uint64(1)
                continue
            cell = cell_of(s, step, edges, first)
            t = (s - middle[cell]) * inverse[cell]
            if groups.shape[0] > 0:
                cell += np.uint64(groups[row]) * np.uint64(middle.shape[0])
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
    return np.int64(beyond)


@jit
def finish(moments, cells, step, sums):  # type: ignore[no-untyped-def]
    """Add to sums [G, L] what the rows in moments [G, M, 8] cost; nodes are priced once for all groups."""
    groups, orders = moments.shape[0], step.k.shape[0]
    cost, helps, share = np.empty((DEGREE, orders)), np.empty(orders), np.empty(DEGREE)
    for cell in range(moments.shape[1]):
        mu, known = step.sigma * cells.middle[cell], False
        for group in range(groups):
            count = moments[group, cell, 0]
            if count == 0.0:
                continue
            if not known:
                known = True
                for at in range(orders):
                    helps[at] = 1.0 if mu >= step.cross[at] else 0.0
                for node in range(DEGREE if step.least <= mu <= step.far else 0):
                    s = cells.middle[cell] + cells.nodes[node] / cells.inverse[cell]
                    fill(s * s, step, cost[node])
            for at in range(orders):
                sums[group, at] += (1.0 - helps[at]) * count * step.ceiling[at]
            if mu < step.least or mu > step.far:
                continue
            for node in range(DEGREE):
                share[node] = 0.0
                for power in range(DEGREE):
                    share[node] += cells.basis[node, power] * moments[group, cell, power]
            for node in range(DEGREE):
                for at in range(orders):
                    # Rounding may put a node on the other side of a cut nearby; its value is then the cut's own.
                    sums[group, at] += helps[at] * share[node] * cost[node, at]
