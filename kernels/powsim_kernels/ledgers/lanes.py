"""Puzzles of many identities side by side, by Numba: one loop over groups of lanes, whose values stay in registers.

Values are chosen, not branched for, where lanes differ; what the whole plan does not need is branched around.
"""

from __future__ import annotations

import numpy as np

from powsim_kernels.jit import helper, stage
from powsim_kernels.ledgers.identities import TWO_52, TWO_52_BITS, uniform_of
from powsim_kernels.ledgers.spending import curve_costs
from powsim_kernels.ledgers.state import (
    ADDED,
    ASKED,
    AT_BITS,
    AT_EDGES,
    AT_LOADS,
    BANDS,
    BANKED,
    BASE_BITS,
    BATCH,
    BEGINS_S,
    CLOCKED,
    COST,
    DECAY_RATE,
    DECAYS,
    EVERY,
    EVERY_BITS,
    EXPECTED_INTERCEPT,
    EXPECTED_SLOPE,
    FEWEST_BITS,
    FINISH_S,
    FORGOTTEN_COST,
    FORGOTTEN_QUERIES,
    HASHES,
    IDENTITY,
    ISSUED_S,
    KEY,
    LATER_S,
    LEAST_BITS,
    LN_REST,
    LN_U,
    LN_V,
    LOAD_STEP_S,
    LOADS,
    MOST_BITS,
    NONE,
    NOW,
    ONE,
    PAIR,
    PARALLEL,
    PARTIAL,
    PER_QUERY,
    POINT,
    POINTS,
    PRICE_SLOPE,
    PUZZLES,
    QUERIES,
    RATE,
    REPLICA,
    REQUEST_EVERY_S,
    REST_BITS,
    ROWS,
    SECONDS_PER_QUERY,
    SHORT_BITS,
    SPENT,
    START_S,
    STEPS,
    SUB_PUZZLES,
    THINK_S,
    TRIED,
    TRIES,
    TWO_32,
    TWO_SIDED,
    VERIFY_S,
    WHOLE,
    WORK,
    of_half,
)
from powsim_kernels.philox.cpu import HALF, LOW, five, later_keys
from powsim_kernels.realmath.cpu import SMALL, bits_of, choose, exp2, floor, fma, log, log1m, log1m_small, nearest
from powsim_kernels.wide import WIDTH, align_stack, any_of, load, pointer, splat, store


@helper
def _begins(i, row, before, numbers, f):  # type: ignore[no-untyped-def]
    """Return when requests begin: when they have arrived and the ones before them are done and thought about."""
    arrival = before
    if numbers[BATCH] != 1.0:
        arrival = arrival / numbers[BATCH]
    arrival = arrival * numbers[REQUEST_EVERY_S]
    ready = load(f, row + i) + numbers[THINK_S]
    return choose(arrival > ready, arrival, ready)


@helper
def _excess(i, n, asked, spent, begins_s, numbers, integers, f):  # type: ignore[no-untyped-def]
    """Return how far ledgers are above the expected line."""
    base, queries = spent, n
    if integers[DECAYS]:
        passed = (load(f, ISSUED_S + i) - begins_s) * numbers[DECAY_RATE]
        kept = exp2(choose(passed > -1000.0, passed, -1000.0))
        base = load(f, FORGOTTEN_COST + i) * kept + (spent - load(f, COST + i))
        queries = load(f, FORGOTTEN_QUERIES + i) * kept + asked
        store(f, FORGOTTEN_COST + i, base)
        store(f, FORGOTTEN_QUERIES + i, queries)
        store(f, ISSUED_S + i, begins_s)
    x = base - (numbers[EXPECTED_SLOPE] * queries + numbers[EXPECTED_INTERCEPT])
    return choose(integers[TWO_SIDED] > NONE, abs(x), choose(x > 0.0, x, 0.0))


@stage
def _load_bits(i, numbers, integers, table, f):  # type: ignore[no-untyped-def]
    """Replace times in ADDED by the bits that the load of that time adds."""
    loads, at = np.int64(integers[LOADS]), np.int64(integers[AT_LOADS])
    for lane in range(i, i + WIDTH):
        turn = min(np.floor(f[ADDED + lane] / numbers[LOAD_STEP_S]), TWO_52)
        f[ADDED + lane] = table[at + np.int64(turn) % loads]


@helper
def _bits(i, excess, asked, begins_s, numbers, integers, table, f):  # type: ignore[no-untyped-def]
    """Return the bits that are asked."""
    bits = splat(numbers[BASE_BITS])
    if integers[PER_QUERY]:
        bits = bits + choose(asked == numbers[EVERY], numbers[EVERY_BITS], load(f, REST_BITS + i))
    bits = bits + numbers[PRICE_SLOPE] * excess
    first, edges = np.int64(integers[AT_BITS]), np.int64(integers[AT_EDGES])
    added = splat(table[first])
    for band in range(np.int64(integers[BANDS])):
        added = choose(excess >= table[edges + band], table[first + band + 1], added)
    bits = bits + added
    if integers[LOADS] > ONE:
        store(f, ADDED + i, load(f, START_S + i) + begins_s)
        _load_bits(i, numbers, integers, table, f)
        bits = bits + load(f, ADDED + i)
    bits = choose(bits > numbers[LEAST_BITS], bits, numbers[LEAST_BITS])
    bits = choose(bits < numbers[MOST_BITS], bits, numbers[MOST_BITS])
    return choose(integers[WHOLE] > NONE, floor(bits), bits)


@helper
def _ln_rest(now, integers):  # type: ignore[no-untyped-def]
    """Return ln(1 - chance) of a hash at a sub-puzzle of so much work."""
    each = now * (1.0 / np.float64(integers[SUB_PUZZLES]))
    # No puzzle is as good as a hard one: what is drawn for it does not count.
    chance = nearest(2.0**64 / choose(now > 0.0, choose(each > 1.0, each, 1.0), 2.0**40)) * 2.0**-64
    ln_rest = log1m_small(chance)
    if any_of(chance > SMALL):
        ln_rest = log1m(chance)
    return ln_rest


@helper
def _whole(k):  # type: ignore[no-untyped-def]
    """Return whole numbers below 2^63 as integers, in two halves: before AVX-512 no instruction does it."""
    upper = floor(k * 2.0**-32)
    lower = fma(upper, -TWO_32, k)
    return ((bits_of(upper + TWO_52) - TWO_52_BITS) << HALF) + (bits_of(lower + TWO_52) - TWO_52_BITS)


@stage
def prices(half, count, numbers, integers, table, f, g):  # type: ignore[no-untyped-def]
    """Set what every lane's next puzzle asks, NOW and LN_REST: the first (half 0) or second of its pair.

    Lanes at their end have a puzzle of no queries, which is none.
    """
    align_stack()
    numbers, integers, table = pointer(numbers), pointer(integers), pointer(table)
    f, g = pointer(f), pointer(g)
    every = numbers[EVERY]
    row = FINISH_S if half else LATER_S  # a request begins after the one before it, the other of the pair
    least = 1.0 if integers[PARTIAL] else every  # queries that a puzzle stands for
    clocked = integers[CLOCKED] > NONE
    for group in range(count // WIDTH):
        i = group * (ROWS * WIDTH)
        point, queries = load(f, POINT + i) + np.float64(half), load(f, QUERIES + i)
        before, n = point * every, (point + 1.0) * every
        before, n = choose(before < queries, before, queries), choose(n < queries, n, queries)
        asked = n - before
        spent = load(f, SPENT + i) if integers[BANKED] else curve_costs(i, half, n, numbers, integers, table, f, g)
        begins_s = splat(0.0)
        if clocked:
            begins_s = _begins(i, row, before, numbers, f)
            store(f, BEGINS_S + i, begins_s)
            store(f, ASKED + i, asked)
        excess = _excess(i, n, asked, spent, begins_s, numbers, integers, f)
        bits = _bits(i, excess, asked, begins_s, numbers, integers, table, f)
        now = choose(bits > FEWEST_BITS, exp2(bits), 0.0)
        now = choose(asked >= least, now, 0.0)
        store(f, COST + i, spent)
        store(f, NOW + i, now)
        store(f, WORK + i, load(f, WORK + i) + now)
        store(f, PUZZLES + i, load(f, PUZZLES + i) + choose(now > 0.0, 1.0, 0.0))
        store(f, LN_REST + i, _ln_rest(now, integers))


@stage
def logarithms(number, count, integers, f, g):  # type: ignore[no-untyped-def]
    """Set ln u of both draws in block `number` of every lane's pair of puzzles."""
    align_stack()
    integers, f, g = pointer(integers), pointer(f), pointer(g)
    key, pieces, more = integers[KEY], integers[SUB_PUZZLES], np.uint64(number)
    k0, k1 = key & LOW, key >> HALF
    l0, l1 = later_keys(key)
    for group in range(count // WIDTH):
        i = group * (ROWS * WIDTH)
        place = load(g, PAIR + i) * pieces + more
        w0, w1, w2, w3 = five(place, splat(TRIES), load(g, IDENTITY + i), load(g, REPLICA + i), k0, k1)
        w0, w1, w2, w3 = five(w0, w1, w2, w3, l0, l1)
        store(f, LN_U + i, uniform_of(w0, w1))
        store(f, LN_V + i, uniform_of(w2, w3))
    for group in range(count // WIDTH):
        for i in (group * (ROWS * WIDTH) + LN_U, group * (ROWS * WIDTH) + LN_V):
            store(f, i, log(load(f, i)))


@stage
def solve(half, count, numbers, integers, f, g):  # type: ignore[no-untyped-def]
    """Draw the tries of every lane's puzzle, and set in TRIED those that take time."""
    pieces, parallel, short = (
        np.int64(integers[SUB_PUZZLES]),
        integers[PARALLEL] > NONE,
        numbers[MOST_BITS] <= SHORT_BITS,
    )
    p, q = pointer(f), pointer(g)
    for piece in range(pieces):
        number = half * pieces + piece
        if not number & 1:
            logarithms(number >> 1, count, integers, f, g)
        row = LN_V if number & 1 else LN_U
        for group in range(count // WIDTH):
            i = group * (ROWS * WIDTH)
            k = floor(load(p, row + i) / load(p, LN_REST + i))
            tries = bits_of(k + TWO_52) - (TWO_52_BITS - ONE) if short else _whole(k) + ONE
            tries = choose(load(p, NOW + i) > 0.0, tries, NONE)
            store(q, HASHES + i, load(q, HASHES + i) + tries)
            if piece:
                before = load(q, TRIED + i)
                tries = choose(before > tries, before, tries) if parallel else before + tries
            store(q, TRIED + i, tries)
    if parallel:
        for group in range(count // WIDTH):
            i = group * (ROWS * WIDTH)
            store(q, STEPS + i, load(q, STEPS + i) + load(q, TRIED + i))


@stage
def end_requests(half, count, numbers, f, g):  # type: ignore[no-untyped-def]
    """Set when every lane's request is done."""
    f, g, per_query, verify = pointer(f), pointer(g), numbers[SECONDS_PER_QUERY], numbers[VERIFY_S]
    row = LATER_S if half else FINISH_S
    for group in range(count // WIDTH):
        i = group * (ROWS * WIDTH)
        tried = load(g, TRIED + i)
        solve_s = fma(of_half(tried >> HALF), TWO_32, of_half(tried & LOW)) / load(f, RATE + i)
        busy_s = (load(f, ASKED + i) * per_query + solve_s) + choose(load(f, NOW + i) > 0.0, verify, 0.0)
        store(f, row + i, load(f, BEGINS_S + i) + busy_s)


@stage
def step(count, f, g):  # type: ignore[no-untyped-def]
    """Go on to the next two puzzles of every lane; return whether any has none left."""
    f, g, ended = pointer(f), pointer(g), False
    for group in range(count // WIDTH):
        i = group * (ROWS * WIDTH)
        point = load(f, POINT + i) + 2.0
        store(f, POINT + i, point)
        store(g, PAIR + i, load(g, PAIR + i) + ONE)
        ended = ended or any_of(point >= load(f, POINTS + i))
    return ended
