"""Slow, obvious truth: plain loops over Python numbers, written from the papers and independent of the product."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mpmath import mp, mpf

WORD = 2**32
PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)

Words = tuple[int, int, int, int]


@cache
def vectors() -> dict[str, Any]:
    """Return the numbers that the published analysis code printed (tests/data/vectors_mei.json)."""
    path = Path(__file__).parent / "data" / "vectors_mei.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


# Philox4x32-10, Salmon et al. 2011.


def philox_words(counter: Sequence[int], key: int) -> Words:
    """Return four random words, by the definition: multiply, split, exclusive-or, bump the key."""
    c = list(counter)
    k = [key % WORD, key // WORD]
    for _ in range(10):
        high0, low0 = divmod(PHILOX_MULTIPLIERS[0] * c[0], WORD)
        high1, low1 = divmod(PHILOX_MULTIPLIERS[1] * c[2], WORD)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[i] + PHILOX_WEYL[i]) % WORD for i in range(2)]
    return c[0], c[1], c[2], c[3]


def philox_counter(words: Sequence[int], key: int) -> Words:
    """Return the counter that gives `words`: every round is a bijection, so any draw has an address."""
    keys = [[(key % WORD + r * PHILOX_WEYL[0]) % WORD, (key // WORD + r * PHILOX_WEYL[1]) % WORD] for r in range(10)]
    inverse = [pow(m, -1, WORD) for m in PHILOX_MULTIPLIERS]
    c = list(words)
    for k in reversed(keys):
        c0, c2 = c[3] * inverse[0] % WORD, c[1] * inverse[1] % WORD
        c1 = c[0] ^ (PHILOX_MULTIPLIERS[1] * c2 // WORD) ^ k[0]
        c3 = c[2] ^ (PHILOX_MULTIPLIERS[0] * c0 // WORD) ^ k[1]
        c = [c0, c1, c2, c3]
    return c[0], c[1], c[2], c[3]


def uniform_at(key: int, stream: int, identity: int, replica: int, index: int) -> float:
    """Return draw `index` of an address: half a block's 64 bits, the upper 53 of them plus one, over 2^53."""
    words = philox_words((index // 2, stream, identity, replica), key)
    low, high = (words[0], words[1]) if index % 2 == 0 else (words[2], words[3])
    return ((high * WORD + low) // 2**11 + 1) / 2**53


def tries_for(p: float, u: float) -> tuple[int, int]:
    """Return the least and greatest tries that doubles may give for the uniform `u`: one number nearly always.

    Tries are floor(x) + 1 with x = ln u / ln(1 - p), here to 60 digits; two logarithms and a division in doubles
    err by 3 ulp together, which matters only where x is that close to a whole number.
    """
    if p == 1:
        return 1, 1
    with mp.workdps(60):
        x = mp.log(mpf(u)) / mp.log1p(-mpf(p))
        slack = 3 * x * mpf(2) ** -52
        return int(mp.floor(x - slack)) + 1, int(mp.floor(x + slack)) + 1


# GNMax, Papernot et al. 2018: proposition 7, theorem 6, proposition 10; Mironov 2017 for the conversion.


def gnmax(
    votes: Sequence[float], sigma: float, delta: float, orders: Sequence[float], bound: str = "clipped"
) -> tuple[float, float, float]:
    """Return (ln q, eps, best order) of one histogram at 50 digits, formula by formula as printed."""
    with mp.workdps(50):
        sigma = mpf(sigma)
        winner = max(range(len(votes)), key=lambda j: (votes[j], -j))
        tails = [
            mp.erfc((mpf(votes[winner]) - mpf(count)) / (2 * sigma)) / 2 for j, count in enumerate(votes) if j != winner
        ]
        q = min(mp.fsum(tails), 1 - mpf(1) / len(votes))
        best = None
        for order in orders:
            value = _gnmax_rdp(q, sigma, mpf(order), bound) + mp.log(1 / mpf(delta)) / (mpf(order) - 1)
            if best is None or value < best[0]:
                best = value, order
        assert best is not None
        return float(mp.log(q)), float(best[0]), float(best[1])


def _gnmax_rdp(q: mpf, sigma: mpf, order: mpf, bound: str) -> mpf:
    independent = order / sigma**2
    mu2 = sigma * mp.sqrt(mp.log(1 / q))
    mu1 = mu2 + 1
    e1, e2 = mu1 / sigma**2, mu2 / sigma**2
    if bound == "data-independent" or mu1 <= order or mu2 <= 1 or q * mp.exp(e2) >= 1:
        return independent
    if q > mp.exp((mu2 - 1) * e2) / (mu1 / (mu1 - 1) * mu2 / (mu2 - 1)) ** mu2:
        return independent
    a = (1 - q) / (1 - (q * mp.exp(e2)) ** ((mu2 - 1) / mu2))
    b = mp.exp(e1) / q ** (1 / (mu1 - 1))
    dependent = mp.log((1 - q) * a ** (order - 1) + q * b ** (order - 1)) / (order - 1)
    return min(dependent, independent) if bound == "clipped" else dependent


# The released price rule and replay (paper section 3.3, code pow/proof_of_work.py).

# fmt: off
SOLVE_TABLE = (
    1.8e-05, 4.6e-05, 5e-05, 5.6e-05, 0.000181, 0.000315, 0.000325, 0.000704, 0.001079, 0.00348, 0.007472,
    0.008756, 0.018955, 0.0496, 0.065657, 0.239012, 0.489723, 0.549378, 1.474332, 2.927822, 4.340743, 8.519815,
    15.106678, 23.196483, 151.251428, 245.364584, 565.612546, 666.044603, 1069.022753, 1533.945173, 2832.509785,
    2948.467908,
)
# fmt: on
CAP_S = 2948.467908


def least_squares(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return slope and intercept by the normal equations, in sums."""
    n = len(x)
    sx, sy = math.fsum(x), math.fsum(y)
    sxx, sxy = math.fsum(a * a for a in x), math.fsum(a * b for a, b in zip(x, y, strict=True))
    slope = (n * sxy - sx * sy) / (n * sxx - sx * sx)
    return slope, (sy - slope * sx) / n


def price_s(excess: float, base: float = 1.0075) -> float:
    """Return base^|excess| seconds between 0.1 and the timing table's last entry."""
    if abs(excess) * math.log(base) > math.log(CAP_S):
        return CAP_S
    return min(max(base ** abs(excess), 0.1), CAP_S)


def server_bits(seconds: float) -> int:
    """Return the bits that the released server asks for a wanted time."""
    slope, intercept = least_squares([math.log10(s) for s in SOLVE_TABLE], list(range(1, 33)))
    return int(max(slope * math.log10(seconds) + intercept, 16))


def replay_rows(
    queries: Sequence[float],
    cost: Sequence[float],
    time_s: float,
    fit: tuple[float, float],
    *,
    one_sided: bool = False,
    bits_rate: float | None = None,
) -> float:
    """Return `time_s` plus one price per row; the first row counts as no queries at no cost, a second cheaper."""
    total = time_s
    for row, (n, c) in enumerate(zip(queries, cost, strict=True)):
        n, c = (0.0, 0.0) if row == 0 else (n, c)
        excess = c - (fit[0] * n + fit[1])
        if one_sided and excess < 0:
            excess = 0.0
        price = price_s(excess)
        if bits_rate is not None:
            price = 2.0 ** server_bits(price) / bits_rate
        total += price - (1.0 if n == 0 else 0.0)
    return total


def straight_line(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return y at x on straight lines between points; x within them."""
    for i in range(1, len(xs)):
        if x <= xs[i]:
            return ys[i - 1] + (ys[i] - ys[i - 1]) * (x - xs[i - 1]) / (xs[i] - xs[i - 1])
    raise ValueError(f"{x} is beyond {xs[-1]}")


def replay_requests(
    queries: Sequence[float], cost: Sequence[float], time_s: float, fit: tuple[float, float], *, one_sided: bool
) -> float:
    """Return `time_s` plus a price per request of 64 queries and one for a last, smaller request."""
    xs, ys = list(queries), list(cost)
    if xs[0] > 0:
        xs, ys = [0.0, *xs], [0.0, *ys]
    total, asked = time_s, 0.0
    while asked < xs[-1]:
        asked = min(asked + 64, xs[-1])
        excess = straight_line(asked, xs, ys) - (fit[0] * asked + fit[1])
        total += price_s(max(excess, 0.0) if one_sided else excess)
    return total


# Queues.


def lindley(arrival: Sequence[float], duration: Sequence[float]) -> list[float]:
    """Return when each request is done: it starts once it has arrived and the one before it is done."""
    done: list[float] = []
    for j, arrived in enumerate(arrival):
        start = arrived if j == 0 else max(arrived, done[-1])
        done.append(start + duration[j])
    return done


def simpy_queue(
    arrival: Sequence[float],
    service: Sequence[float],
    servers: int = 1,
    room: int | None = None,
    patience: Sequence[float] | None = None,
    retries: int = 0,
    back_off: float = 1.0,
    growth: float = 2.0,
) -> list[tuple[float, float, float, int, int]]:
    """Return (last coming, start, end, fate, attempts) of each job, played by SimPy's events and resource.

    Fates: 0 served, 1 refused, 2 gave up. Instants at which two things happen at once are SimPy's own affair.
    """
    import simpy

    env = simpy.Environment()
    pool = simpy.Resource(env, capacity=servers)
    out: list[Any] = [None] * len(arrival)

    def job(number: int) -> Any:
        yield env.timeout(arrival[number])
        pause = back_off
        for attempt in range(retries + 1):
            came, fate = env.now, 1
            if room is None or pool.count < servers or len(pool.queue) < room:
                request = pool.request()
                yield request if patience is None else request | env.timeout(patience[number])
                if request.triggered:
                    start = env.now
                    yield env.timeout(service[number])
                    pool.release(request)
                    out[number] = came, start, env.now, 0, attempt + 1
                    return
                request.cancel()
                fate = 2
            out[number] = came, math.nan, env.now, fate, attempt + 1
            if attempt < retries:
                yield env.timeout(pause)
                pause *= growth

    for number in range(len(arrival)):
        env.process(job(number))
    env.run()
    return out


def simpy_gate(
    messages: Sequence[tuple[float, int, float, float | None]],
    gate_servers: int | None,
    servers: int,
    room: int,
    time_out: float,
) -> list[tuple[float | None, float]]:
    """Return (wait for the gate, wait for the model) of each message, played by SimPy; None where it got lost.

    A message is (time, 1 if honest, seconds at the gate, seconds at the model or None where the gate stops it). Only
    the honest lose patience. gate_servers None: one pool does both kinds of work, without a second wait.
    """
    import simpy

    env = simpy.Environment()
    model = simpy.Resource(env, capacity=servers)
    gate = model if gate_servers is None else simpy.Resource(env, capacity=gate_servers)
    out: list[Any] = [(None, 0.0)] * len(messages)

    def stay(pool: Any, honest: int, effort: float) -> Any:
        came = env.now
        if pool.count == pool.capacity and len(pool.queue) >= room:
            return None
        request = pool.request()
        yield request | env.timeout(time_out) if honest else request
        if not request.triggered:
            request.cancel()
            return None
        start = env.now
        yield env.timeout(effort)
        pool.release(request)
        return start - came

    def play(number: int) -> Any:
        time, honest, first, second = messages[number]
        yield env.timeout(time)
        both = first + second if second is not None and gate_servers is None else first
        wait = yield from stay(gate, honest, both)
        more = 0.0
        if wait is not None and second is not None and gate_servers is not None:
            more = yield from stay(model, honest, second)
            wait = None if more is None else wait
        out[number] = wait, 0.0 if more is None else more

    for number in range(len(messages)):
        env.process(play(number))
    env.run()
    return out


@cache
def pate_vectors() -> list[dict[str, Any]]:
    """Return the 132 cases of vectors_pate.json: exact inputs, expected values as decimal strings."""
    text = (Path(__file__).parent / "data" / "vectors_pate.json").read_text(encoding="utf-8")
    cases: list[dict[str, Any]] = json.loads(text)["cases"]
    return cases


def screening(top: float, threshold: float, sigma1: float, order: float) -> str:
    """Return the screening bit's cost as the formula is written, with digits enough for 1 - p."""
    x = abs((threshold - top) / sigma1)
    with mp.workdps(int(60 + x * x / 2)):
        z, step, a = abs((mp.mpf(threshold) - top) / sigma1), 1 / mp.mpf(sigma1), mp.mpf(order)
        tail = lambda at: mp.erfc(at / mp.sqrt(2)) / 2  # noqa: E731
        p, f = tail(z), tail(-z)
        others = [(tail(z + d), tail(-z - d)) for d in (step, -step)]
        return str(max(mp.log(p**a * p1 ** (1 - a) + f**a * f1 ** (1 - a)) / (a - 1) for p1, f1 in others))
