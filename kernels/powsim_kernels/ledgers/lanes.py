"""Puzzles of many identities side by side, by Numba: every stage is one loop over lanes, which LLVM makes vector code.

Loops are short: the CPU looks ahead at so many operations, and through long chains it would see a round or two. Values
are chosen, not branched for: a value written back or kept becomes a masked store, which AMD's CPUs do very slowly.
"""

from __future__ import annotations

import numpy as np

from powsim_kernels.jit import helper, stage
from powsim_kernels.ledgers.identities import TWO_52, TWO_52_BITS, uniform_of
from powsim_kernels.ledgers.state import (
    ADDED,
    ASKED,
    AT_BITS,
    AT_EDGES,
    AT_LOADS,
    BANDS,
    BASE_BITS,
    BATCH,
    BEGINS_S,
    BITS,
    CHANCE,
    COST,
    DECAY_RATE,
    DECAYS,
    EVERY,
    EVERY_BITS,
    EXCESS,
    EXPECTED_INTERCEPT,
    EXPECTED_SLOPE,
    FEWEST_BITS,
    FORGOTTEN_COST,
    FORGOTTEN_QUERIES,
    HASHES,
    IDENTITY,
    ISSUED_S,
    KEY,
    LATEST,
    LEAST_BITS,
    LN_F,
    LN_N,
    LN_REST,
    LN_S,
    LN_U,
    LN_V,
    LOAD_STEP_S,
    LOADS,
    MOST_BITS,
    NONE,
    NOW,
    PAIR,
    PARALLEL,
    PARTIAL,
    PER_QUERY,
    POINT,
    PRICE_SLOPE,
    PUZZLES,
    RATE,
    REPLICA,
    REQUEST_EVERY_S,
    REST_BITS,
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
    W0,
    W1,
    W2,
    W3,
    WHOLE,
    WORK,
    N,
    of_half,
)
from powsim_kernels.pate.vector import bits_of
from powsim_kernels.philox.cpu import HALF, LOW, five, later_keys
from powsim_kernels.realmath.cpu import (
    SMALL,
    choose,
    exp2,
    floor,
    fma,
    log1m,
    log1m_small,
    log_joined,
    log_parts,
    nearest,
)


@helper
def begin_requests(row, half, count, numbers, f):  # type: ignore[no-untyped-def]
    """Set when every lane's request begins: when it has arrived and the one before it is done and thought about."""
    batch, pause, think = numbers[BATCH], numbers[REQUEST_EVERY_S], numbers[THINK_S]
    for i in range(count):
        arrival = (f[N + i] - f[ASKED + i]) / batch * pause
        ready = choose(f[POINT + i] + half > 0.0, f[row + i] + think, 0.0)
        f[BEGINS_S + i] = choose(arrival > ready, arrival, ready)


@stage
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


@stage
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


@stage
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


@stage
def _logarithm(row, count, f):  # type: ignore[no-untyped-def]
    """Set a row to the logarithms of its numbers."""
    for i in range(count):
        f[LN_N + i], f[LN_F + i], f[LN_S + i] = log_parts(f[row + i])
    for i in range(count):
        f[row + i] = log_joined(f[LN_N + i], f[LN_F + i], f[LN_S + i])


@stage
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


@stage
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


@stage
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
