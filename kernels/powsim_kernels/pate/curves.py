"""Costs at many orders of many rows, by Numba: one polynomial per order in every cell of s that a row has fallen into.

The cells are those of the totals (`moments`): inside one, the cost at an order is either its ceiling or a smooth
function of s, which its interpolant at eight Chebyshev nodes gives to 1e-14 of the cost. Coefficients are those of the
difference from the value at a node near the middle, so that rounding counts for the variation inside a cell alone.
v1 theorem 6 at every order of every row (6 ns a value); v2 seven multiply-adds (0.8 ns), a cell costing as much as
eight rows. A plan keeps its coefficients; one whose orders are too many for that prices its rows by v1. So what a row
costs depends on the row and the plan alone, to the last bit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.jit import jit
from powsim_kernels.pate import costs
from powsim_kernels.pate.costs import fill
from powsim_kernels.pate.grid import DEGREE, Cells, Step
from powsim_kernels.pate.moments import BLOCK, cell_of, locate
from powsim_kernels.pate.vector import fused
from powsim_kernels.threads import over_ranges

MOST_ROWS = 1 << 17  # placed at once
MOST_BYTES = 4 << 20  # of coefficients: 100 orders in 600 cells
POLE = 40.0  # half widths from a cell to mu = 1, where theorem 6 has a pole, that leave interpolants their digits
MIDDLE = DEGREE // 2  # the node from whose value differences are taken


class Curves:
    """The polynomials of a step, made when a row first needs them."""

    def __init__(self, step: Step, cells: Cells) -> None:
        self.step, self.cells = step, cells
        mu = step.sigma * cells.middle
        # Where every cost is its ceiling, or 0, none is needed.
        able = (step.least <= mu) & (mu <= step.far) & ((mu - 1.0) * cells.inverse >= POLE * step.sigma)
        self.worth = int(able.sum()) * DEGREE * step.k.size * 8 <= MOST_BYTES
        self.places = np.where(able, np.cumsum(able) - 1, -1).astype(np.int32)  # [M] row of the table, or -1
        self._lock, self._middles = threading.Lock(), np.flatnonzero(able)
        count = len(self._middles) if self.worth else 0
        self.table = np.empty((count, DEGREE, step.k.size))
        self._ready = np.zeros(count, np.bool_)

    def prepare(self, where: NDArray[np.int32], threads: int | None) -> None:
        """Make the polynomials of the given rows of the table, -1 for none."""
        needed = np.zeros(len(self._ready), np.bool_)
        needed[where[where >= 0]] = True
        with self._lock:
            missing = np.flatnonzero(needed & ~self._ready)
            work = partial(_coefficients, missing, self._middles, self.cells, self.step, self.table)
            over_ranges(work, len(missing), threads=threads, grain=max(1, 3000 // self.step.k.size))
            self._ready[missing] = True


@jit
def _place(lnq, cells, places, where, t, begin, end):  # type: ignore[no-untyped-def]
    """Fill the place of each row's cell in the table, or -1, and its position -1..1 in the cell."""
    roots, steps = np.empty(BLOCK), np.empty(BLOCK, np.int32)
    for low in range(begin, end, BLOCK):
        size = min(BLOCK, end - low)
        locate(lnq, low, size, cells, roots, steps)
        for i in range(size):
            row, s, step = np.uint64(low + i), roots[np.uint64(i)], steps[np.uint64(i)]
            where[row] = -1
            if step >= 0:
                cell = cell_of(s, step, cells.edges, cells.first)
                where[row] = places[cell]
                t[row] = (s - cells.middle[cell]) * cells.inverse[cell]


@jit
def _coefficients(missing, numbers, cells, step, table, begin, end):  # type: ignore[no-untyped-def]
    """Fill the coefficients of the powers of t in some rows of the table [K, 8, L], which are cells `numbers` [K]."""
    orders = step.k.shape[0]
    values = np.empty((DEGREE, orders))
    for at_missing in range(begin, end):
        slot = missing[at_missing]
        cell = numbers[slot]
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
def _read(where, t, table, out, begin, end):  # type: ignore[no-untyped-def]
    """Fill the costs of rows that have a place in the table."""
    for i in range(end - begin):
        row = np.uint64(begin + i)
        if where[row] < 0:
            continue
        x, slot = t[row], np.uint64(where[row])
        for j in range(table.shape[2]):
            at = np.uint64(j)
            out[row, at] = _polynomial(
                x,
                *(table[slot, 0, at], table[slot, 1, at], table[slot, 2, at], table[slot, 3, at]),
                *(table[slot, 4, at], table[slot, 5, at], table[slot, 6, at], table[slot, 7, at]),
            )


def fill_rows(lnq: NDArray[np.float64], curves: Curves, threads: int | None, out: NDArray[np.float64]) -> None:
    """Fill the costs [n, L] of at most MOST_ROWS rows: by polynomials where the plan has them, else by theorem 6."""

    def share(work: Callable[[int, int], None], values: int) -> None:
        over_ranges(work, len(lnq), threads=threads, grain=max(1, (1 << 18) // values))

    where = np.empty(len(lnq) if curves.worth else 0, np.int32)
    if curves.worth:
        t = np.empty(len(lnq))
        share(partial(_place, lnq, curves.cells, curves.places, where, t), 8)
        curves.prepare(where, threads)
        share(partial(_read, where, t, curves.table, out), out.shape[1])
    share(partial(costs.fill_rows, lnq, curves.step, where, out), out.shape[1])
