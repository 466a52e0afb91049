"""Eps after every query, by Numba: only the orders that can be the best in a block of rows are priced there.

Costs are not negative, so an order whose spending before a block already gives more than some order's at its end is
never the best inside it. Spending is exact for orders that were priced, else what it was when last known, a lower
bound; where that does not exclude an order, the rows of each cell at the least cost inside it may; where that does not
either, its spending comes from the moments of all rows so far.
v1 all orders of every row (4 us a row at 396 orders); v2 the orders left in blocks, 0.3 to 0.5 us; v3 one evaluation
a cell for most orders that seem to come back, instead of eight, 0.1 us.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.jit import helper, jit
from powsim_kernels.pate.costs import block_costs, shapes
from powsim_kernels.pate.grid import DEGREE, Cells, Step
from powsim_kernels.pate.moments import finish, gather

LEAST_BLOCK, MOST_BLOCK, GROWTH = 32, 1024, 16
SLACK = 1e-12  # eps of two orders nearer than this are not told apart by the bounds


class Past(NamedTuple):
    """All rows so far; a NamedTuple, so that Numba takes it whole."""

    spent: NDArray[np.float64]  # [L] what came before them
    known: NDArray[np.float64]  # [L] what was spent with them, at least
    fresh: NDArray[np.bool_]  # [L] whether known is exact
    moments: NDArray[np.float64]  # [M, 8] their answers
    counts: NDArray[np.float64]  # [T + 1] how many had so many votes for their winner, where there is a threshold
    gates: NDArray[np.float64]  # [L, T + 1] what the threshold step costs by most votes
    at: NDArray[np.int64]  # rows, best order, first and last cell with a row


def past(spent: NDArray[np.float64], extra: NDArray[np.float64], gates: NDArray[np.float64], cells: Cells) -> Past:
    """Return that no row has come yet."""
    places = np.array([0, np.argmin(spent + extra), len(cells.middle), -1])
    moments = np.zeros((len(cells.middle), DEGREE))
    return Past(
        spent.copy(), spent.copy(), np.ones(spent.size, np.bool_), moments, np.zeros(gates.shape[1]), gates, places
    )


def settle(past: Past, cells: Cells, step: Step, spent: NDArray[np.float64]) -> None:
    """Add to spent [L] what all rows so far cost."""
    finish(past.moments[None], cells, step, spent[None])
    spent += past.gates @ past.counts


@helper
def _stale(past, extra, bound, which):  # type: ignore[no-untyped-def]
    """Fill the orders that the bound does not exclude and whose spending is not exact; return how many."""
    count = 0
    for at in range(extra.shape[0]):
        if past.known[at] + extra[at] <= bound and not past.fresh[at]:
            which[count] = at
            count += 1
    return count


@jit
def _account(which, exact, past, cells, step):  # type: ignore[no-untyped-def]
    """Set past.known[which] to what all rows so far cost, their nodes standing for them; or, if not exact, raise it.

    The rows of a cell cost at least what its upper edge does: inside a cell, costs fall as s rises.
    """
    less, mu, la, lb = np.empty(MOST_BLOCK), np.empty(MOST_BLOCK), np.empty(MOST_BLOCK), np.empty(MOST_BLOCK)
    keep, price, lnq, share = np.empty(MOST_BLOCK), np.empty(MOST_BLOCK), np.empty(MOST_BLOCK), np.empty(MOST_BLOCK)
    totals, moments = np.empty(which.shape[0]), past.moments
    for i in range(which.shape[0]):
        totals[i] = past.spent[which[i]]
        for top in range(past.counts.shape[0]):
            totals[i] += past.counts[top] * past.gates[which[i], top]
    cell, high = past.at[2], past.at[3]
    while cell <= high:
        size = 0
        while cell <= high and size + DEGREE <= MOST_BLOCK:
            if moments[cell, 0] != 0.0 and not exact:
                s = cells.edges[cell + 1] * (1.0 - 4e-16)  # the edge itself may be on the other side of a cut
                share[size], lnq[size] = moments[cell, 0], -s * s
                size += 1
            elif moments[cell, 0] != 0.0:
                for node in range(DEGREE):
                    part = 0.0
                    for power in range(DEGREE):
                        part += cells.basis[node, power] * moments[cell, power]
                    s = cells.middle[cell] + cells.nodes[node] / cells.inverse[cell]
                    share[size], lnq[size] = part, -s * s
                    size += 1
            cell += 1
        overflows = shapes(lnq, 0, size, step, less, mu, la, lb, keep)
        for i in range(which.shape[0]):
            block_costs(which[i], size, step, less, mu, la, lb, keep, overflows, price)
            for at in range(size):
                totals[i] += share[at] * price[at]
    for i in range(which.shape[0]):
        order = which[i]
        past.known[order] = totals[i] if exact else max(past.known[order], totals[i] * (1.0 - SLACK))
        past.fresh[order] = exact


@helper
def _through_gate(at, paid, top, begin, size, past, price):  # type: ignore[no-untyped-def]
    """Turn what answers cost into what queries cost where there is a threshold."""
    for i in range(size if paid.shape[0] > 0 else 0):
        row = np.uint64(begin + i)
        price[i] = paid[row] * price[i] + past.gates[np.uint64(at), np.uint64(top[row])]


@jit
def run(lnq, paid, top, extra, step, cells, past, eps):  # type: ignore[no-untyped-def]
    """Fill eps after each row, and add the rows to the past; every -ln q lies in the cells.

    With a threshold: paid [N] is Pr[answered], top [N] the most votes.
    """
    rows, orders, known = lnq.shape[0], extra.shape[0], past.known
    less, mu, la, lb = np.empty(MOST_BLOCK), np.empty(MOST_BLOCK), np.empty(MOST_BLOCK), np.empty(MOST_BLOCK)
    keep, price, lead = np.empty(MOST_BLOCK), np.empty(MOST_BLOCK), np.empty(MOST_BLOCK)
    left, which, none = np.empty(MOST_BLOCK, np.int64), np.empty(orders, np.int64), np.empty(0, np.int64)
    begin = 0
    while begin < rows:
        best = past.at[1]
        size = min(max(LEAST_BLOCK, past.at[0] // GROWTH), MOST_BLOCK, rows - begin)
        overflows = shapes(lnq, begin, size, step, less, mu, la, lb, keep)
        block_costs(best, size, step, less, mu, la, lb, keep, overflows, lead)
        _through_gate(best, paid, top, begin, size, past, lead)
        bound = known[best] + extra[best]
        for i in range(size):
            bound += lead[i]
        bound += SLACK * abs(bound)
        for i in range(size):
            eps[begin + i] = math.inf
        for exact in (False, True):
            count = _stale(past, extra, bound, which)
            if count > 0:
                _account(which[:count], exact, past, cells, step)
        least = math.inf
        for at in range(orders):
            if known[at] + extra[at] > bound:
                past.fresh[at] = False
                continue
            if at == best:
                price[:size] = lead[:size]
            else:
                block_costs(at, size, step, less, mu, la, lb, keep, overflows, price)
                _through_gate(at, paid, top, begin, size, past, price)
            base, total = known[at] + extra[at], 0.0  # the block apart: one long sum would drift
            for i in range(size):
                total += price[i]
                now = base + total
                eps[begin + i] = now if now < eps[begin + i] else eps[begin + i]
            known[at] += total
            if known[at] + extra[at] < least:
                past.at[1], least = at, known[at] + extra[at]
        gather(lnq, paid, none, cells, past.moments, left, begin, begin + size)
        nearest, farthest = math.inf, 0.0
        for i in range(size):
            nearest, farthest = min(nearest, less[i]), max(farthest, less[i])
            if paid.shape[0] > 0:
                past.counts[top[begin + i]] += 1.0
        while past.at[2] > 0 and math.sqrt(nearest) < cells.edges[past.at[2]]:
            past.at[2] -= 1
        while past.at[3] < cells.middle.shape[0] - 1 and (
            past.at[3] < 0 or math.sqrt(farthest) >= cells.edges[past.at[3] + 1]
        ):
            past.at[3] += 1
        past.at[0] += size
        begin += size


@jit
def add_up(costs, groups, spent, extra, eps):  # type: ignore[no-untyped-def]
    """Fill eps of each row's group after it, all orders looked at; costs [n, L] are added to spent [G, L]."""
    for row in range(costs.shape[0]):
        group, least = groups[row], math.inf
        for at in range(extra.shape[0]):
            spent[group, at] += costs[row, at]
            least = min(least, spent[group, at] + extra[at])
            if math.isnan(spent[group, at]):
                least = math.nan
                break
        eps[row] = least
