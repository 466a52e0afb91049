"""Ledgers by Numba: identities stream through lanes that take their puzzles in step.

v1 stages over lanes, 20 ns a puzzle; v2 nothing written back under a mask (vmaskmov stores are slow on AMD), 13 ns; v3
short stages and a short series for small chances, 10 ns and 0.2 us an identity; v4 groups of 16 lanes side by side and
no reference counts inside loops, 9 to 10 ns and 0.12 us (Zen 3, busy machine). Some 150 vector instructions for four
puzzles would take 3 ns if four were issued in every cycle: chains of dependent operations hold back the rest.

Threads take runs of whole blocks, so that sums are the same bits with any number of them.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.jit import jit
from powsim_kernels.ledgers import identities, lanes, layout, spending, state
from powsim_kernels.ledgers.identities import WINDOW
from powsim_kernels.ledgers.layout import BLOCK, SUMS, Packed
from powsim_kernels.ledgers.state import BANKED, CLOCKED, LANES
from powsim_kernels.ledgers.tally import tally
from powsim_kernels.ledgers.totals import CELLS, COUNTS, ROWS, Part, added, rows_of
from powsim_kernels.threads import over_ranges
from powsim_kernels.wide import WIDTH


@jit
def _run(numbers, integers, table, begin, end, kept, out, rows):  # type: ignore[no-untyped-def]
    """Let identities begin..end live, a window at a time."""
    a, b = np.zeros(identities.FLOATS), np.zeros(identities.INTEGERS, np.uint64)
    f, g = np.zeros(state.SIZE), np.zeros(state.SIZE, np.uint64)
    sums, words = np.zeros(LANES * state.ORDERS), np.zeros(LANES * state.WORDS, np.uint64)
    values = np.empty(len(SUMS))
    whole, real = rows
    for first in range(begin, end, WINDOW):
        count = min(WINDOW, end - first)
        identities.draw(numbers, integers, table, first, count, a, b)
        _live(numbers, integers, table, count, a, b, f, g, sums, words)
        there = first - begin if whole.shape[1] else 0
        more = whole[:, there : there + count], real[:, there : there + count]
        block = first // BLOCK - begin // BLOCK
        parts = out[0], out[1], out[2][block:], out[3], out[4]
        tally(numbers, integers, table, first, count, a, b, kept, parts, more, values)


@jit
def _live(numbers, integers, table, count, a, b, f, g, sums, words):  # type: ignore[no-untyped-def]
    """Let the identities of a window ask all their queries."""
    live = min(LANES, count)
    entered = live
    for lane in range(live):
        state.enter(lane, lane, numbers, integers, table, a, b, f, g, sums)
    while live:
        wide = -(-live // WIDTH) * WIDTH
        for half in range(2):
            if integers[BANKED]:
                spending.bank_costs(live, half, numbers, integers, table, f, g, sums, words)
            lanes.prices(half, wide, numbers, integers, table, f, g)
            lanes.solve(half, wide, numbers, integers, f, g)
            if integers[CLOCKED]:
                lanes.end_requests(half, wide, numbers, f, g)
        lane = 0 if lanes.step(wide, f, g) else live
        while lane < live:
            place = state.place_of(lane)
            if f[state.POINT + place] < f[state.POINTS + place]:
                lane += 1
                continue
            state.leave(lane, integers, a, b, f, g)
            if entered < count:
                state.enter(lane, entered, numbers, integers, table, a, b, f, g, sums)
                entered += 1
                lane += 1
            else:
                live -= 1
                # The last lane takes its place, and has its own turn here.
                state.move(live, lane, f, g, sums, words)


def run(
    packed: Packed,
    begin: int,
    end: int,
    histograms: list[int],
    rows: bool,
    threads: int | None,
    before: NDArray[np.float64],
) -> Part:
    """Return what becomes of identities begin..end; their sums are added to those `before`."""
    devices, first = int(packed.integers[layout.INTEGERS.index("devices")]), begin // BLOCK
    blocks = -(-end // BLOCK) - first if end > begin else 0
    sums = np.zeros((blocks, *before.shape))
    found = end - begin if rows else 0
    whole, real = np.zeros((len(ROWS), found), np.uint64), np.zeros((1 + len(SUMS), found))
    kept = np.array(histograms, np.int64)
    lock, parts = threading.Lock(), []

    def work(low: int, high: int) -> None:
        start, stop = max((first + low) * BLOCK, begin), min((first + high) * BLOCK, end)
        counts, hashes = np.zeros((devices, len(COUNTS)), np.int64), np.zeros((devices, 2), np.uint64)
        cells, heaviest = np.zeros((len(kept), devices, CELLS), np.int64), np.zeros(1)
        place = slice(start - begin, stop - begin) if rows else slice(0)
        _run(
            *packed,
            start,
            stop,
            kept,
            (counts, hashes, sums[low:high], cells, heaviest),
            (whole[:, place], real[:, place]),
        )
        with lock:
            parts.append((counts, hashes, cells, heaviest[0]))

    over_ranges(work, blocks, threads=threads, grain=1)
    counts, hashes = np.zeros((devices, len(COUNTS)), np.int64), np.zeros((devices, 2), np.uint64)
    cells, heaviest = np.zeros((len(kept), devices, CELLS), np.int64), 0.0
    for part in parts:
        counts, hashes, cells = counts + part[0], hashes + part[1], cells + part[2]
        heaviest = max(heaviest, float(part[3]))
    return Part(counts, hashes, added(before, sums), cells, heaviest, rows_of(whole, real) if rows else None)
