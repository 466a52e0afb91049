"""Puzzles of many identities side by side, by Numba: every stage is one loop over lanes, which LLVM makes vector code.

A lane holds one identity; all lanes take two puzzles at a time, since one Philox block holds the draws of two. Lanes
live in one array of floats and one of integers at constant offsets, so that LLVM need not ask whether rows overlap.
"""

from __future__ import annotations

import math

import numpy as np

from powsim_kernels.jit import helper
from powsim_kernels.ledgers import identities as window
from powsim_kernels.ledgers import layout
from powsim_kernels.ledgers.identities import TWO_52, TWO_52_BITS, uniform_of
from powsim_kernels.pate.vector import bits_of, of_bits
from powsim_kernels.philox.cpu import HALF, LOW, five, later_keys
from powsim_kernels.philox.cpu import unrolled as block
from powsim_kernels.realmath.cpu import (
    SMALL,
    choose,
    exp2,
    floor,
    fma,
    log1m,
    log1m_small,
    log2,
    log_joined,
    log_parts,
    nearest,
)

LANES = 64
ORDERS = 16
WORDS = 64  # of the bank's draws, held per lane

# What a lane carries while its identity lives ...
(QUERIES, POINTS, RATE, SHIFT, DRIFT, START_S, REST_BITS, POINT, COST, WORK, PUZZLES, FINISH_S, LATER_S) = (
    i * LANES for i in range(13)
)
NEXT, X, Y, SLOPE, FORGOTTEN_COST, FORGOTTEN_QUERIES, ISSUED_S = (i * LANES for i in range(13, 20))
CARRIED = 20
# ... and what a puzzle needs.
N, ASKED, BEGINS_S, EXCESS, BITS, NOW, LN_REST, LN_U, LN_V, ADDED, SPENT, CHANCE, LN_N, LN_F, LN_S = (
    i * LANES for i in range(20, 35)
)
FLOATS = 35 * LANES
IDENTITY, REPLICA, HASHES, STEPS, PAIR, ROW, SEGMENT = (i * LANES for i in range(7))
CARRIED_INTEGERS = 7
TRIED, LATEST, W0, W1, W2, W3 = (i * LANES for i in range(7, 13))
INTEGERS = 13 * LANES

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
CURVE_POINTS, BANK_ROWS, BANK_ORDERS, BANDS, LOADS = (
    _INTEGERS[name] for name in ("points", "bank_rows", "orders", "bands", "loads")
)
AT_CURVE, AT_BANK, AT_SURCHARGE, AT_EDGES, AT_BITS, AT_LOADS = (
    _INTEGERS[name] for name in ("at_curve", "at_bank", "at_surcharge", "at_edges", "at_bits", "at_loads")
)
CURVE_COLUMNS = len(layout.CURVE_COLUMNS)
PER_DRIFT_UNIT, FEWEST_BITS = layout.PER_DRIFT_UNIT, layout.FEWEST_BITS
TRIES, COST_STREAM = np.uint64(layout.TRIES), np.uint64(layout.COST)
NONE, ONE, THREE = np.uint64(0), np.uint64(1), np.uint64(3)
INFINITE, TWO_32 = math.inf, 2.0**32
SHORT_BITS = 46.0
"""Up to this difficulty draws, 36.74 times the work at most, stay below 2^52."""


@helper
def enter(lane, i, numbers, integers, table, a, b, f, g, sums):  # type: ignore[no-untyped-def]
    """Put identity `i` of the window into a lane."""
    f[QUERIES + lane], f[RATE + lane] = a[window.QUERIES + i], a[window.RATE + i]
    f[SHIFT + lane], f[DRIFT + lane], f[START_S + lane] = (
        a[window.SHIFT + i],
        a[window.DRIFT + i],
        a[window.START_S + i],
    )
    every = numbers[EVERY]
    points = np.ceil(f[QUERIES + lane] / every)
    f[POINTS + lane] = points
    f[POINT + lane] = f[WORK + lane] = f[PUZZLES + lane] = f[LATER_S + lane] = 0.0
    f[FORGOTTEN_COST + lane] = f[FORGOTTEN_QUERIES + lane] = f[ISSUED_S + lane] = 0.0
    f[COST + lane] = 0.0
    if integers[PER_QUERY]:
        f[REST_BITS + lane] = log2(f[QUERIES + lane] - (points - 1.0) * every)
    g[IDENTITY + lane], g[REPLICA + lane], g[ROW + lane] = b[window.IDENTITY + i], b[window.REPLICA + i], np.uint64(i)
    g[HASHES + lane] = g[STEPS + lane] = g[PAIR + lane] = NONE
    if integers[BANKED]:
        for order in range(ORDERS):
            sums[lane * ORDERS + order] = 0.0
    else:
        _segment(lane, 0, integers, table, f, g)


@helper
def leave(lane, integers, a, b, f, g):  # type: ignore[no-untyped-def]
    """Write what became of a lane's identity to the window."""
    i = np.int64(g[ROW + lane])
    a[window.COST + i], a[window.WORK + i], a[window.PUZZLES + i] = f[COST + lane], f[WORK + lane], f[PUZZLES + lane]
    odd = f[POINT + lane] > f[POINTS + lane]  # the second of its last two requests was none
    a[window.FINISH_S + i] = f[FINISH_S + lane] if odd else f[LATER_S + lane]
    b[window.HASHES + i] = g[HASHES + lane]
    b[window.STEPS + i] = g[STEPS + lane] if integers[PARALLEL] else g[HASHES + lane]


@helper
def move(source, lane, f, g, sums, words):  # type: ignore[no-untyped-def]
    """Move the identity of one lane to another."""
    for row in range(CARRIED):
        f[row * LANES + lane] = f[row * LANES + source]
    for row in range(CARRIED_INTEGERS):
        g[row * LANES + lane] = g[row * LANES + source]
    for order in range(ORDERS):
        sums[lane * ORDERS + order] = sums[source * ORDERS + order]
    for word in range(WORDS):
        words[lane * WORDS + word] = words[source * WORDS + word]


@helper
def _segment(lane, row, integers, table, f, g):  # type: ignore[no-untyped-def]
    """Let a lane read the curve from point `row` on."""
    at = np.int64(integers[AT_CURVE]) + row * CURVE_COLUMNS
    last = row + 1 == np.int64(integers[CURVE_POINTS])
    g[SEGMENT + lane] = np.uint64(row)
    f[X + lane], f[Y + lane], f[SLOPE + lane] = table[at], table[at + 1], table[at + 2]
    f[NEXT + lane] = INFINITE if last else table[at + CURVE_COLUMNS]


@helper
def advance(half, count, numbers, f):  # type: ignore[no-untyped-def]
    """Set the queries before and after the next puzzle of every lane; lanes at their end stand for none."""
    every = numbers[EVERY]
    for i in range(count):
        before, n = (f[POINT + i] + half) * every, (f[POINT + i] + half + 1.0) * every
        before = choose(before < f[QUERIES + i], before, f[QUERIES + i])
        n = choose(n < f[QUERIES + i], n, f[QUERIES + i])
        f[N + i], f[ASKED + i] = n, n - before


@helper
def step(count, f, g):  # type: ignore[no-untyped-def]
    """Go on to the next two puzzles of every lane; return how many lanes have none left."""
    ended = 0
    for i in range(count):
        f[POINT + i] += 2.0
        g[PAIR + i] += ONE
        ended += choose(f[POINT + i] < f[POINTS + i], 0, 1)
    return ended


@helper
def curve_costs(live, count, numbers, integers, table, f, g):  # type: ignore[no-untyped-def]
    """Set every lane's cost by the curve."""
    beyond = 0
    for i in range(count):
        beyond += choose(f[N + i] >= f[NEXT + i], 1, 0)
    if beyond:
        for i in range(live):
            if f[N + i] >= f[NEXT + i]:
                row = np.int64(g[SEGMENT + i])
                while f[N + i] >= f[NEXT + i]:
                    row += 1
                    _segment(i, row, integers, table, f, g)
    if integers[SPREAD]:
        least, greatest = numbers[LEAST_COST], numbers[GREATEST_COST]
        for i in range(count):
            n = f[N + i]
            cost = (f[SLOPE + i] * (n - f[X + i]) + f[Y + i]) * (f[SHIFT + i] + f[DRIFT + i] * (n * PER_DRIFT_UNIT))
            cost = choose(cost > least * n, cost, least * n)
            cost = choose(cost < greatest * n, cost, greatest * n)
            f[SPENT + i] = choose(cost > f[COST + i], cost, f[COST + i])
    else:
        for i in range(count):
            f[SPENT + i] = f[SLOPE + i] * (f[N + i] - f[X + i]) + f[Y + i]


@helper
def _fill(lane, query, key, g, words):  # type: ignore[no-untyped-def]
    """Draw the words of 64 queries of a lane."""
    who, which, first = g[IDENTITY + lane], g[REPLICA + lane], np.uint64(query) // np.uint64(4)
    for i in range(WORDS // 4):
        w0, w1, w2, w3 = block((first + np.uint64(i)) & LOW, COST_STREAM, who & LOW, which & LOW, key)
        at = lane * WORDS + i
        words[at], words[at + 16], words[at + 32], words[at + 48] = w0, w1, w2, w3


@helper
def bank_costs(count, numbers, integers, table, f, g, sums, words):  # type: ignore[no-untyped-def]
    """Add the costs of every lane's queries, one by one."""
    rows, orders, at = integers[BANK_ROWS], np.int64(integers[BANK_ORDERS]), np.int64(integers[AT_BANK])
    extra, spread = np.int64(integers[AT_SURCHARGE]), integers[SPREAD]
    plain = not orders and not spread
    least, greatest = numbers[LEAST_COST], numbers[GREATEST_COST]
    for i in range(count):
        n, asked = np.int64(f[N + i]), np.int64(f[ASKED + i])
        total = f[COST + i]
        for query in range(n - asked, n):
            place = query & (WORDS - 1)
            if place == 0:
                _fill(i, query, integers[KEY], g, words)
            chosen = np.int64((words[i * WORDS + (place & 3) * 16 + (place >> 2)] * rows) >> HALF)
            if plain:
                total += table[at + chosen]
                continue
            factor = 1.0
            if spread:
                factor = f[SHIFT + i] + f[DRIFT + i] * (np.float64(query + 1) * PER_DRIFT_UNIT)
                factor = choose(factor > 0.0, factor, 0.0)
            if orders:
                for order in range(orders):
                    sums[i * ORDERS + order] += table[at + chosen * orders + order] * factor
            else:
                cost = table[at + chosen] * factor
                cost = choose(cost > least, cost, least)
                total += choose(cost < greatest, cost, greatest)
        if orders:
            total = INFINITE
            for order in range(orders):
                eps = sums[i * ORDERS + order] + table[extra + order]
                total = choose(eps < total, eps, total)
            total = choose(total > 0.0, total, 0.0)
        f[SPENT + i] = total


@helper
def begin_requests(row, half, count, numbers, f):  # type: ignore[no-untyped-def]
    """Set when every lane's request begins: when it has arrived and the one before it is done and thought about."""
    batch, pause, think = numbers[BATCH], numbers[REQUEST_EVERY_S], numbers[THINK_S]
    for i in range(count):
        arrival = (f[N + i] - f[ASKED + i]) / batch * pause
        ready = choose(f[POINT + i] + half > 0.0, f[row + i] + think, 0.0)
        f[BEGINS_S + i] = choose(arrival > ready, arrival, ready)


@helper
def excesses(half, count, numbers, integers, f):  # type: ignore[no-untyped-def]
    """Set how far every lane's ledger is above the expected line."""
    slope, intercept, both = numbers[EXPECTED_SLOPE], numbers[EXPECTED_INTERCEPT], integers[TWO_SIDED] > NONE
    if integers[DECAYS]:
        rate = numbers[DECAY_RATE]
        for i in range(count):
            passed = (f[ISSUED_S + i] - f[BEGINS_S + i]) * rate
            kept = exp2(choose(passed > -1000.0, passed, -1000.0))
            f[FORGOTTEN_COST + i] = f[FORGOTTEN_COST + i] * kept + (f[SPENT + i] - f[COST + i])
            f[FORGOTTEN_QUERIES + i] = f[FORGOTTEN_QUERIES + i] * kept + f[ASKED + i]
            f[ISSUED_S + i] = f[BEGINS_S + i]
            x = f[FORGOTTEN_COST + i] - (slope * f[FORGOTTEN_QUERIES + i] + intercept)
            f[EXCESS + i] = choose(both, abs(x), choose(x > 0.0, x, 0.0))
    else:
        for i in range(count):
            x = f[SPENT + i] - (slope * f[N + i] + intercept)
            f[EXCESS + i] = choose(both, abs(x), choose(x > 0.0, x, 0.0))


@helper
def difficulties(count, numbers, integers, table, f):  # type: ignore[no-untyped-def]
    """Set the bits that are asked of every lane."""
    base, slope, every, full = numbers[BASE_BITS], numbers[PRICE_SLOPE], numbers[EVERY], numbers[EVERY_BITS]
    below = 0.0 if integers[BANDS] else table[np.int64(integers[AT_BITS])]
    if integers[PER_QUERY]:
        for i in range(count):
            more = choose(f[ASKED + i] == every, full, f[REST_BITS + i])
            f[BITS + i] = ((base + more) + slope * f[EXCESS + i]) + below
    else:
        for i in range(count):
            f[BITS + i] = (base + slope * f[EXCESS + i]) + below
    bands, first, edges = np.int64(integers[BANDS]), np.int64(integers[AT_BITS]), np.int64(integers[AT_EDGES])
    if bands:
        for i in range(count):
            f[ADDED + i] = table[first]
        for band in range(bands):
            edge, above = table[edges + band], table[first + band + 1]
            for i in range(count):
                f[ADDED + i] = choose(f[EXCESS + i] >= edge, above, f[ADDED + i])
        for i in range(count):
            f[BITS + i] = f[BITS + i] + f[ADDED + i]
    loads = np.int64(integers[LOADS])
    if loads > 1:
        step, at = numbers[LOAD_STEP_S], np.int64(integers[AT_LOADS])
        for i in range(count):
            turn = floor((f[START_S + i] + f[BEGINS_S + i]) / step)
            f[BITS + i] = f[BITS + i] + table[at + np.int64(choose(turn < TWO_52, turn, TWO_52)) % loads]


@helper
def works(count, numbers, integers, f):  # type: ignore[no-untyped-def]
    """Set the expected hashes of every lane's puzzle, 0 for none, and ln(1 - chance) of a hash at a sub-puzzle."""
    fewest, most, whole = numbers[LEAST_BITS], numbers[MOST_BITS], integers[WHOLE] > NONE
    least = 1.0 if integers[PARTIAL] else numbers[EVERY]  # queries that a puzzle stands for
    share, coarse = 1.0 / np.float64(integers[SUB_PUZZLES]), 0
    # Short loops: the CPU works on several rounds at a time, and long chains would leave it room for one or two.
    for i in range(count):
        bits = choose(f[BITS + i] > fewest, f[BITS + i], fewest)
        bits = choose(bits < most, bits, most)
        bits = choose(whole, floor(bits), bits)
        work = choose(bits > FEWEST_BITS, exp2(bits), 0.0)
        f[NOW + i] = choose(f[ASKED + i] >= least, work, 0.0)
    for i in range(count):
        now = f[NOW + i]
        each = now * share
        # No puzzle is as good as a hard one: what is drawn for it does not count.
        chance = nearest(2.0**64 / choose(now > 0.0, choose(each > 1.0, each, 1.0), 2.0**40)) * 2.0**-64
        f[CHANCE + i], f[LN_REST + i] = chance, log1m_small(chance)
        coarse += choose(chance > SMALL, 1, 0)
        f[WORK + i] += now
        f[PUZZLES + i] += choose(now > 0.0, 1.0, 0.0)
        f[COST + i] = f[SPENT + i]
    if coarse:
        for i in range(count):
            f[LN_REST + i] = log1m(f[CHANCE + i])


@helper
def _logarithm(row, count, f):  # type: ignore[no-untyped-def]
    """Set a row to the logarithms of its numbers."""
    for i in range(count):
        f[LN_N + i], f[LN_F + i], f[LN_S + i] = log_parts(f[row + i])
    for i in range(count):
        f[row + i] = log_joined(f[LN_N + i], f[LN_F + i], f[LN_S + i])


@helper
def logarithms(number, count, integers, f, g):  # type: ignore[no-untyped-def]
    """Set ln u of both draws in block `number` of every lane's pair of puzzles."""
    key, pieces, more = integers[KEY], integers[SUB_PUZZLES], np.uint64(number)
    k0, k1 = key & LOW, key >> HALF
    for i in range(count):
        place = g[PAIR + i] * pieces + more
        g[W0 + i], g[W1 + i], g[W2 + i], g[W3 + i] = five(place, TRIES, g[IDENTITY + i], g[REPLICA + i], k0, k1)
    k0, k1 = later_keys(key)
    for i in range(count):
        w0, w1, w2, w3 = five(g[W0 + i], g[W1 + i], g[W2 + i], g[W3 + i], k0, k1)
        f[LN_U + i] = uniform_of(w0 & LOW, w1 & LOW)
        f[LN_V + i] = uniform_of(w2 & LOW, w3 & LOW)
    _logarithm(LN_U, count, f)
    _logarithm(LN_V, count, f)


@helper
def draw(row, count, numbers, f, g):  # type: ignore[no-untyped-def]
    """Set one geometric draw of every lane by the logarithms in `row`; 0 where there is no puzzle."""
    if numbers[MOST_BITS] <= SHORT_BITS:
        for i in range(count):
            tries = np.uint64(bits_of(floor(f[row + i] / f[LN_REST + i]) + TWO_52) - (TWO_52_BITS - 1))
            g[LATEST + i] = choose(f[NOW + i] > 0.0, tries, NONE)
    else:
        for i in range(count):
            k = floor(f[row + i] / f[LN_REST + i])
            # In two halves: without AVX-512 no instruction turns doubles into 64-bit integers.
            upper = floor(k * 2.0**-32)
            lower = fma(upper, -TWO_32, k)
            tries = np.uint64(bits_of(upper + TWO_52) - TWO_52_BITS) << HALF
            tries = tries + np.uint64(bits_of(lower + TWO_52) - (TWO_52_BITS - 1))
            g[LATEST + i] = choose(f[NOW + i] > 0.0, tries, NONE)


@helper
def solve(half, count, numbers, integers, f, g):  # type: ignore[no-untyped-def]
    """Draw the tries of every lane's puzzle, and set in TRIED those that take time."""
    pieces, parallel = np.int64(integers[SUB_PUZZLES]), integers[PARALLEL] > NONE
    for piece in range(pieces):
        number = half * pieces + piece
        if number & 1:
            draw(LN_V, count, numbers, f, g)
        else:
            logarithms(number >> 1, count, integers, f, g)
            draw(LN_U, count, numbers, f, g)
        if piece == 0:
            for i in range(count):
                g[TRIED + i] = g[LATEST + i]
                g[HASHES + i] += g[LATEST + i]
        elif parallel:
            for i in range(count):
                g[TRIED + i] = max(g[TRIED + i], g[LATEST + i])
                g[HASHES + i] += g[LATEST + i]
        else:
            for i in range(count):
                g[TRIED + i] += g[LATEST + i]
                g[HASHES + i] += g[LATEST + i]
    if parallel:
        for i in range(count):
            g[STEPS + i] += g[TRIED + i]


@helper
def end_requests(row, count, numbers, f, g):  # type: ignore[no-untyped-def]
    """Set when every lane's request is done."""
    per_query, verify = numbers[SECONDS_PER_QUERY], numbers[VERIFY_S]
    for i in range(count):
        upper = of_half(g[TRIED + i] >> HALF)
        solve_s = fma(upper, TWO_32, of_half(g[TRIED + i] & LOW)) / f[RATE + i]
        busy_s = (f[ASKED + i] * per_query + solve_s) + choose(f[NOW + i] > 0.0, verify, 0.0)
        f[row + i] = f[BEGINS_S + i] + busy_s


@helper
def of_half(word):  # type: ignore[no-untyped-def]
    """Return a 32-bit number as a double."""
    return of_bits(np.int64(word) | TWO_52_BITS) - TWO_52
