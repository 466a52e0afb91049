"""Costs at many orders of many rows, by Numba: one polynomial per order in every cell of s that enough rows fall into.

The cells are those of the totals (`moments`): inside one, the cost at an order is either its ceiling or a smooth
function of s, which its interpolant at eight Chebyshev nodes gives to 1e-14 of the cost. Coefficients are those of the
difference from the value at a node near the middle, so that rounding counts for the variation inside a cell alone.
v1 theorem 6 at every order of every row (6 ns a value); v2 seven multiply-adds (0.8 ns), a cell costing as much as
eight rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.jit import jit
from powsim_kernels.pate import costs
from powsim_kernels.pate.costs import Step, fill
from powsim_kernels.pate.moments import BLOCK, DEGREE, Cells, cell_of, locate
from powsim_kernels.pate.vector import fused
from powsim_kernels.threads import over_ranges

LEAST_CALL, MOST_ROWS = 1024, 1 << 17  # rows that share polynomials
LEAST_ROWS = 16  # rows from which a cell is worth its polynomials
POLE = 40.0  # half widths from a cell to mu = 1, where theorem 6 has a pole, that leave interpolants their digits
MOST_CELLS = 1024  # with WIDTH orders at a time: 4 MiB of coefficients
WIDTH = 64
MIDDLE = DEGREE // 2  # the node from whose value differences are taken


@jit
def _place(lnq, cells, where, t, begin, end):  # type: ignore[no-untyped-def]
    """Fill each row's cell, or -1, and its position -1..1 in it."""
    roots, steps = np.empty(BLOCK), np.empty(BLOCK, np.int32)
    for low in range(begin, end, BLOCK):
        size = min(BLOCK, end - low)
        locate(lnq, low, size, cells, roots, steps)
        for i in range(size):
            row, s, step = np.uint64(low + i), roots[np.uint64(i)], steps[np.uint64(i)]
            where[row] = -1
            if step >= 0:
                cell = cell_of(s, step, cells.edges, cells.first)
                where[row] = np.int32(cell)
                t[row] = (s - cells.middle[cell]) * cells.inverse[cell]


@jit
def _choose(where, cells, step):  # type: ignore[no-untyped-def]
    """Return the cells worth their polynomials; `where` becomes each row's place among them, or -1.

    Cells in which every cost is its ceiling, or 0, are not, nor those near the pole.
    """
    counts = np.zeros(cells.middle.shape[0], np.int32)
    for i in range(where.shape[0]):
        if where[i] >= 0:
            counts[np.uint64(where[i])] += 1
    chosen, found = np.empty(MOST_CELLS, np.int64), 0
    for cell in range(counts.shape[0]):
        mu = step.sigma * cells.middle[cell]
        worth = counts[cell] >= LEAST_ROWS and step.least <= mu <= step.far and found < MOST_CELLS
        worth &= (mu - 1.0) * cells.inverse[cell] >= POLE * step.sigma
        counts[cell] = found if worth else -1
        if worth:
            chosen[found] = cell
            found += 1
    for i in range(where.shape[0]):
        if where[i] >= 0:
            where[i] = counts[np.uint64(where[i])]
    return chosen[:found]


@jit
def _coefficients(chosen, cells, step, table, begin, end):  # type: ignore[no-untyped-def]
    """Fill the coefficients [K, 8, L] of the powers of t in the chosen cells begin..end."""
    orders = step.k.shape[0]
    values = np.empty((DEGREE, orders))
    for slot in range(begin, end):
        cell = chosen[slot]
        middle = cells.middle[cell]
        for node in range(DEGREE):
            s = middle + cells.nodes[node] / cells.inverse[cell]
            fill(s * s, step, values[node])
        for power in range(DEGREE):
            for at in range(orders):
                table[slot, power, at] = values[MIDDLE, at] if power == 0 else 0.0
            for node in range(DEGREE):
                share = cells.basis[node, power]
                for at in range(orders):
                    table[slot, power, at] += share * (values[node, at] - values[MIDDLE, at])
        for at in range(orders):
            if step.sigma * middle < step.cross[at]:
                table[slot, :, at] = 0.0
                table[slot, 0, at] = step.ceiling[at]


@fused
def _polynomial(x, a, b, c, d, e, f, g, h):  # type: ignore[no-untyped-def]
    """Return a + b x + ... + h x^7."""
    return a + x * (b + x * (c + x * (d + x * (e + x * (f + x * (g + x * h))))))


@jit
def _read(where, t, table, first, out, begin, end):  # type: ignore[no-untyped-def]
    """Fill the costs of rows that have a place in the table, at the orders from `first` on."""
    for i in range(end - begin):
        row = np.uint64(begin + i)
        if where[row] < 0:
            continue
        x, slot = t[row], np.uint64(where[row])
        for j in range(table.shape[2]):
            at = np.uint64(j)
            out[row, np.uint64(first) + at] = _polynomial(
                x,
                *(table[slot, 0, at], table[slot, 1, at], table[slot, 2, at], table[slot, 3, at]),
                *(table[slot, 4, at], table[slot, 5, at], table[slot, 6, at], table[slot, 7, at]),
            )


def fill_rows(
    lnq: NDArray[np.float64], step: Step, cells: Cells, threads: int | None, out: NDArray[np.float64]
) -> None:
    """Fill the costs [n, L] of at most MOST_ROWS rows: by polynomials in full cells, else by theorem 6 itself."""

    def share(work: Callable[[int, int], None], total: int, values: int) -> None:
        over_ranges(work, total, threads=threads, grain=max(1, (1 << 18) // values))

    rows, orders = out.shape
    where = np.empty(rows if rows >= LEAST_CALL else 0, np.int32)
    if len(where):
        t = np.empty(rows)
        share(partial(_place, lnq, cells, where, t), rows, 8)
        chosen = _choose(where, cells, step)
        for first in range(0, orders if len(chosen) else 0, WIDTH):
            part = costs.slice_of(step, first, first + WIDTH)
            table = np.empty((len(chosen), DEGREE, part.k.size))
            share(partial(_coefficients, chosen, cells, part, table), len(chosen), 100 * WIDTH)
            share(partial(_read, where, t, table, first, out), rows, WIDTH)
    share(partial(costs.fill_rows, lnq, step, where, out), rows, orders)
