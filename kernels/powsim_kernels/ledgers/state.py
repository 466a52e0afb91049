"""Lanes: what each carries of its identity, and how identities enter, move and leave. Two puzzles are a step.

Lanes live in one array of floats and one of integers, WIDTH of them after each other with all that they carry: a lane
has one place in both, and rows are at constant distances from it.
"""

from __future__ import annotations

import math

import numpy as np

from powsim_kernels.jit import helper, stage
from powsim_kernels.ledgers import identities as window
from powsim_kernels.ledgers import layout
from powsim_kernels.ledgers.identities import TWO_52, TWO_52_BITS
from powsim_kernels.realmath.cpu import log2, of_bits
from powsim_kernels.wide import WIDTH, pointer

LANES = 128
ROWS = 28
ORDERS = 16
WORDS = 64  # of the bank's draws, held per lane

# What a lane carries while its identity lives.
(QUERIES, POINTS, RATE, SHIFT, DRIFT, START_S, REST_BITS, POINT, COST, WORK, PUZZLES, FINISH_S, LATER_S) = (
    i * WIDTH for i in range(13)
)
NEXT, X, Y, SLOPE, FORGOTTEN_COST, FORGOTTEN_QUERIES, ISSUED_S = (i * WIDTH for i in range(13, 20))
CARRIED = 20
# ... and what a puzzle needs.
ASKED, BEGINS_S, NOW, LN_REST, LN_U, LN_V, ADDED, SPENT = (i * WIDTH for i in range(20, 28))
IDENTITY, REPLICA, HASHES, STEPS, PAIR, ROW, SEGMENT, DRAWN, LEFT, BEGIN, PLACE, TRIED = (i * WIDTH for i in range(12))
CARRIED_INTEGERS = 11
SIZE = ROWS * LANES

_NUMBERS = dict(zip(layout.NUMBERS, range(len(layout.NUMBERS)), strict=True))
BASE_BITS, PRICE_SLOPE, EXPECTED_SLOPE, EXPECTED_INTERCEPT, LEAST_BITS, MOST_BITS, EVERY, EVERY_BITS = (
    _NUMBERS[name]
    for name in (*("base_bits", "slope", "expected_slope", "expected_intercept", "low", "high", "every", "every_bits"),)
)
LOAD_STEP_S, DECAY_RATE, SECONDS_PER_QUERY, BATCH, REQUEST_EVERY_S, THINK_S, VERIFY_S = (
    _NUMBERS[name]
    for name in (
        *("load_step_s", "decay_rate", "seconds_per_query", "batch", "request_every_s", "think_s", "verify_s"),
    )
)
LEAST_COST, GREATEST_COST = _NUMBERS["least_cost"], _NUMBERS["greatest_cost"]
_INTEGERS = dict(zip(layout.INTEGERS, range(len(layout.INTEGERS)), strict=True))
KEY, SUB_PUZZLES, PER_QUERY, TWO_SIDED, WHOLE, PARTIAL, TIMED, DECAYS, CLOCKED, PARALLEL, SPREAD, BANKED = (
    _INTEGERS[name]
    for name in (
        *("key", "sub_puzzles", "per_query", "two_sided", "whole", "partial", "timed", "decays", "clocked"),
        *("parallel", "spread", "banked"),
    )
)
CURVE_POINTS, RECORDINGS, RECORDED, BANK_BLOCK, PERIOD, BANK_ORDERS, BANDS, LOADS = (
    _INTEGERS[name] for name in ("points", "recordings", "recorded", "bank_block", "period", "orders", "bands", "loads")
)
AT_CURVE, AT_BANK, AT_SURCHARGE, AT_EDGES, AT_BITS, AT_LOADS = (
    _INTEGERS[name] for name in ("at_curve", "at_bank", "at_surcharge", "at_edges", "at_bits", "at_loads")
)
CURVE_COLUMNS = len(layout.CURVE_COLUMNS)
PER_DRIFT_UNIT, FEWEST_BITS = layout.PER_DRIFT_UNIT, layout.FEWEST_BITS
TRIES, COST_STREAM = np.uint64(layout.TRIES), np.uint64(layout.COST)
NONE, ONE = np.uint64(0), np.uint64(1)
INFINITE, TWO_32 = math.inf, 2.0**32
SHORT_BITS = 46.0
"""Up to this difficulty draws, 36.74 times the work at most, stay below 2^52."""


@helper
def place_of(lane):  # type: ignore[no-untyped-def]
    """Return where the rows of a lane begin."""
    return lane // WIDTH * (ROWS * WIDTH) + lane % WIDTH


@stage
def enter(number, i, numbers, integers, table, a, b, f, g, sums):  # type: ignore[no-untyped-def]
    """Put identity `i` of the window into a lane."""
    lane, numbers, integers, f, g = place_of(number), pointer(numbers), pointer(integers), pointer(f), pointer(g)
    a, b, sums, table = pointer(a), pointer(b), pointer(sums), pointer(table)
    f[QUERIES + lane], f[RATE + lane] = a[window.QUERIES + i], a[window.RATE + i]
    f[SHIFT + lane], f[DRIFT + lane], f[START_S + lane] = (
        a[window.SHIFT + i],
        a[window.DRIFT + i],
        a[window.START_S + i],
    )
    every = numbers[EVERY]
    points = np.ceil(f[QUERIES + lane] / every)
    f[POINTS + lane] = points
    f[POINT + lane] = f[WORK + lane] = f[PUZZLES + lane] = 0.0
    f[LATER_S + lane] = -numbers[THINK_S]  # nobody thinks before the first request
    f[FORGOTTEN_COST + lane] = f[FORGOTTEN_QUERIES + lane] = f[ISSUED_S + lane] = 0.0
    f[COST + lane] = 0.0
    if integers[PER_QUERY]:
        f[REST_BITS + lane] = log2(f[QUERIES + lane] - (points - 1.0) * every)
    g[IDENTITY + lane], g[REPLICA + lane], g[ROW + lane] = b[window.IDENTITY + i], b[window.REPLICA + i], np.uint64(i)
    g[HASHES + lane] = g[STEPS + lane] = g[PAIR + lane] = NONE
    if integers[BANKED]:
        g[DRAWN + lane] = g[LEFT + lane] = g[BEGIN + lane] = g[PLACE + lane] = NONE
        for order in range(ORDERS):
            sums[number * ORDERS + order] = 0.0
    else:
        segment(lane, 0, integers, table, f, g)


@stage
def leave(number, integers, a, b, f, g):  # type: ignore[no-untyped-def]
    """Write what became of a lane's identity to the window."""
    lane, a, b, f, g = place_of(number), pointer(a), pointer(b), pointer(f), pointer(g)
    i = np.int64(g[ROW + lane])
    a[window.COST + i], a[window.WORK + i], a[window.PUZZLES + i] = f[COST + lane], f[WORK + lane], f[PUZZLES + lane]
    odd = f[POINT + lane] > f[POINTS + lane]  # the second of its last two requests was none
    a[window.FINISH_S + i] = f[FINISH_S + lane] if odd else f[LATER_S + lane]
    b[window.HASHES + i] = g[HASHES + lane]
    b[window.STEPS + i] = g[STEPS + lane] if integers[PARALLEL] else g[HASHES + lane]


@stage
def move(source, lane, f, g, sums, words):  # type: ignore[no-untyped-def]
    """Move the identity of one lane to another."""
    to, of = place_of(lane), place_of(source)
    for row in range(CARRIED):
        f[row * WIDTH + to] = f[row * WIDTH + of]
    for row in range(CARRIED_INTEGERS):
        g[row * WIDTH + to] = g[row * WIDTH + of]
    for order in range(ORDERS):
        sums[lane * ORDERS + order] = sums[source * ORDERS + order]
    for word in range(WORDS):
        words[lane * WORDS + word] = words[source * WORDS + word]


@stage
def segment(lane, row, integers, table, f, g):  # type: ignore[no-untyped-def]
    """Let a lane read the curve from point `row` on."""
    at = np.int64(integers[AT_CURVE]) + row * CURVE_COLUMNS
    last = row + 1 == np.int64(integers[CURVE_POINTS])
    g[SEGMENT + lane] = np.uint64(row)
    f[X + lane], f[Y + lane], f[SLOPE + lane] = table[at], table[at + 1], table[at + 2]
    f[NEXT + lane] = INFINITE if last else table[at + CURVE_COLUMNS]


@helper
def of_half(word):  # type: ignore[no-untyped-def]
    """Return a 32-bit number as a double."""
    return of_bits(word | TWO_52_BITS) - TWO_52
