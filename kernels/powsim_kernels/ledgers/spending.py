"""What the queries of every lane have cost so far, by Numba: from a curve, or from a bank of single queries' costs."""

from __future__ import annotations

import numpy as np

from powsim_kernels.jit import stage
from powsim_kernels.ledgers.state import (
    ASKED,
    AT_BANK,
    AT_SURCHARGE,
    BANK_BLOCK,
    BANK_ORDERS,
    BEGIN,
    COST,
    COST_STREAM,
    DRAWN,
    DRIFT,
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
    RECORDED,
    RECORDINGS,
    REPLICA,
    SEGMENT,
    SHIFT,
    SLOPE,
    SPENT,
    SPREAD,
    WORDS,
    N,
    X,
    Y,
    segment,
)
from powsim_kernels.philox.cpu import HALF, LOW
from powsim_kernels.philox.cpu import unrolled as block
from powsim_kernels.realmath.cpu import choose


@stage
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
                    segment(i, row, integers, table, f, g)
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


@stage
def _fill(lane, number, key, g, words):  # type: ignore[no-untyped-def]
    """Draw the words of a lane's next 64 blocks of queries."""
    who, which, first = g[IDENTITY + lane], g[REPLICA + lane], np.uint64(number) // np.uint64(4)
    for i in range(WORDS // 4):
        w0, w1, w2, w3 = block((first + np.uint64(i)) & LOW, COST_STREAM, who & LOW, which & LOW, key)
        at = lane * WORDS + i
        words[at], words[at + 16], words[at + 32], words[at + 48] = w0, w1, w2, w3


@stage
def bank_costs(count, numbers, integers, table, f, g, sums, words):  # type: ignore[no-untyped-def]
    """Add the costs of every lane's queries, one by one, a stretch of one recording at a time."""
    orders, at = np.int64(integers[BANK_ORDERS]), np.int64(integers[AT_BANK])
    recordings, recorded = integers[RECORDINGS], np.int64(integers[RECORDED])
    block_queries, period = np.int64(integers[BANK_BLOCK]), np.int64(integers[PERIOD])
    extra, spread = np.int64(integers[AT_SURCHARGE]), integers[SPREAD]
    plain = not orders and not spread
    least, greatest = numbers[LEAST_COST], numbers[GREATEST_COST]
    for i in range(count):
        n, asked = np.int64(f[N + i]), np.int64(f[ASKED + i])
        total, query = f[COST + i], n - asked
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
                    _fill(i, drawn, integers[KEY], g, words)
                begin = np.int64((words[i * WORDS + (word & 3) * 16 + (word >> 2)] * recordings) >> HALF) * recorded
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
                        sums[i * ORDERS + order] += table[at + chosen * orders + order] * factor
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
                eps = sums[i * ORDERS + order] + table[extra + order]
                total = choose(eps < total, eps, total)
            total = choose(total > 0.0, total, 0.0)
        f[SPENT + i] = total
