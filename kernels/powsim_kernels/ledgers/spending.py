"""What the queries of every lane have cost so far, by Numba: from a curve, or from a bank of single queries' costs."""

from __future__ import annotations

import numpy as np

from powsim_kernels.jit import helper, stage
from powsim_kernels.ledgers.state import (
    AT_BANK,
    AT_SURCHARGE,
    BANK_BLOCK,
    BANK_ORDERS,
    BEGIN,
    COST,
    COST_STREAM,
    DRAWN,
    DRIFT,
    EVERY,
    GREATEST_COST,
    IDENTITY,
    INFINITE,
    KEY,
    LEAST_COST,
    LEFT,
    NEXT,
    ORDERS,
    PER_DRIFT_UNIT,
    PERIOD,
    PLACE,
    POINT,
    QUERIES,
    RECORDED,
    RECORDINGS,
    REPLICA,
    SEGMENT,
    SHIFT,
    SLOPE,
    SPENT,
    SPREAD,
    WORDS,
    X,
    Y,
    place_of,
    segment,
)
from powsim_kernels.philox.cpu import HALF, LOW
from powsim_kernels.philox.cpu import unrolled as block
from powsim_kernels.realmath.cpu import choose
from powsim_kernels.wide import WIDTH, any_of, load


@stage
def _go_along(i, half, numbers, integers, table, f, g):  # type: ignore[no-untyped-def]
    """Let lanes from i on read the curve where their next puzzle ends."""
    for lane in range(i, i + WIDTH):
        n = min((f[POINT + lane] + half + 1.0) * numbers[EVERY], f[QUERIES + lane])
        row = np.int64(g[SEGMENT + lane])
        while n >= f[NEXT + lane]:
            row += 1
            segment(lane, row, integers, table, f, g)


@helper
def curve_costs(i, half, n, numbers, integers, table, f, g):  # type: ignore[no-untyped-def]
    """Return what n queries of lanes from i on cost by the curve."""
    if any_of(n >= load(f, NEXT + i)):
        _go_along(i, half, numbers, integers, table, f, g)
    cost = load(f, SLOPE + i) * (n - load(f, X + i)) + load(f, Y + i)
    if integers[SPREAD]:
        least, greatest = numbers[LEAST_COST], numbers[GREATEST_COST]
        cost = cost * (load(f, SHIFT + i) + load(f, DRIFT + i) * (n * PER_DRIFT_UNIT))
        cost = choose(cost > least * n, cost, least * n)
        cost = choose(cost < greatest * n, cost, greatest * n)
        before = load(f, COST + i)
        cost = choose(cost > before, cost, before)
    return cost


@stage
def _fill(lane, number, key, g, words):  # type: ignore[no-untyped-def]
    """Draw the words of a lane's next 64 blocks of queries."""
    place = place_of(lane)
    who, which, first = g[IDENTITY + place], g[REPLICA + place], np.uint64(number) // np.uint64(4)
    for i in range(WORDS // 4):
        w0, w1, w2, w3 = block((first + np.uint64(i)) & LOW, COST_STREAM, who & LOW, which & LOW, key)
        at = lane * WORDS + i
        words[at], words[at + 16], words[at + 32], words[at + 48] = w0, w1, w2, w3


@stage
def bank_costs(count, half, numbers, integers, table, f, g, sums, words):  # type: ignore[no-untyped-def]
    """Set what every lane has spent: its queries' costs one by one, a stretch of one recording at a time."""
    orders, at = np.int64(integers[BANK_ORDERS]), np.int64(integers[AT_BANK])
    recordings, recorded = integers[RECORDINGS], np.int64(integers[RECORDED])
    block_queries, period = np.int64(integers[BANK_BLOCK]), np.int64(integers[PERIOD])
    extra, spread = np.int64(integers[AT_SURCHARGE]), integers[SPREAD]
    plain = not orders and not spread
    least, greatest = numbers[LEAST_COST], numbers[GREATEST_COST]
    for lane in range(count):
        i = place_of(lane)
        before = (f[POINT + i] + half) * numbers[EVERY]
        n = np.int64(min(before + numbers[EVERY], f[QUERIES + i]))
        total, query = f[COST + i], np.int64(before)
        drawn, left, begin, place = (
            np.int64(g[DRAWN + i]),
            np.int64(g[LEFT + i]),
            np.int64(g[BEGIN + i]),
            np.int64(g[PLACE + i]),
        )
        while query < n:
            if left == 0:
                word = drawn & (WORDS - 1)
                if word == 0:
                    _fill(lane, drawn, integers[KEY], g, words)
                begin = np.int64((words[lane * WORDS + (word & 3) * 16 + (word >> 2)] * recordings) >> HALF) * recorded
                drawn, left = drawn + 1, block_queries
            many = min(n - query, left, recorded - place)
            for chosen in range(begin + place, begin + place + many):
                query += 1
                if plain:
                    total += table[at + chosen]
                    continue
                factor = 1.0
                if spread:
                    factor = f[SHIFT + i] + f[DRIFT + i] * (np.float64(query) * PER_DRIFT_UNIT)
                    factor = choose(factor > 0.0, factor, 0.0)
                if orders:
                    for order in range(orders):
                        sums[lane * ORDERS + order] += table[at + chosen * orders + order] * factor
                else:
                    cost = table[at + chosen] * factor
                    cost = choose(cost > least, cost, least)
                    total += choose(cost < greatest, cost, greatest)
            left, place = left - many, place + many
            place = place - period if place == recorded else place
        g[DRAWN + i], g[LEFT + i], g[BEGIN + i], g[PLACE + i] = (
            np.uint64(drawn),
            np.uint64(left),
            np.uint64(begin),
            np.uint64(place),
        )
        if orders:
            total = INFINITE
            for order in range(orders):
                eps = sums[lane * ORDERS + order] + table[extra + order]
                total = choose(eps < total, eps, total)
            total = choose(total > 0.0, total, 0.0)
        f[SPENT + i] = total
