"""Ledgers: what is drawn has the law that it should, by SciPy; time is that of a plain queue, and of simpy's."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ledger_plans import CALIBRATED, COSTS, MACHINES, ONE, ORDERS, RENYI, TRACE, plan
from oracles import lindley, philox_words, uniform_at
from powsim_kernels import rdp_to_eps
from powsim_kernels.ledgers import Bank, Clock, Curve, LedgerRows, Price, Users, simulate_ledgers
from powsim_kernels.ledgers.layout import COST, TRIES

LEVEL = 1e-4
"""A correct law is rejected with this chance; keys are fixed, so that no test flickers."""


def rows(made: Any, end: int, begin: int = 0) -> LedgerRows:
    found = simulate_ledgers(made, begin, end, rows=True, histograms=(), backend="cpu").rows
    assert found is not None
    return found


def single(bits: float, pieces: int = 1) -> Any:
    """Return a plan of one puzzle per identity."""
    return plan(Price(bits), "flat", who=Users(1.0), devices=ONE, sub_puzzles=pieces)


@pytest.mark.parametrize("bits", [0.5, 1.0, 2.25, 5.0])
def test_tries_are_geometric(bits: float) -> None:
    p = np.rint(2.0**64 / 2.0**bits) * 2.0**-64
    tries = rows(single(bits), 200_000).hashes.astype(np.int64)
    law = stats.geom(p)
    most = int(law.ppf(1 - 50 / len(tries)))
    seen = np.bincount(np.minimum(tries, most + 1), minlength=most + 2)[1:]
    expected = len(tries) * np.append(law.pmf(np.arange(1, most + 1)), law.sf(most))
    assert stats.chisquare(seen, expected).pvalue > LEVEL


@pytest.mark.parametrize("bits", [20.0, 40.5, 57.0])
def test_hard_puzzles_take_exponential_time(bits: float) -> None:
    tries = rows(single(bits), 100_000).hashes.astype(np.float64)
    assert stats.kstest(tries * 2.0**-bits, "expon").pvalue > LEVEL


@pytest.mark.parametrize("pieces", [2, 5])
def test_sums_of_sub_puzzles_are_negative_binomial(pieces: int) -> None:
    tries = rows(single(6.0, pieces), 100_000).hashes.astype(np.int64)
    p = np.rint(2.0**64 / (64.0 / pieces)) * 2.0**-64
    law = stats.nbinom(pieces, p, loc=pieces)
    edges = np.unique(law.ppf(np.linspace(0.02, 0.98, 25)).astype(int))
    seen = np.histogram(tries, np.concatenate(([0], edges + 0.5, [1 << 40])))[0]
    chances = np.diff(np.concatenate(([0.0], law.cdf(edges), [1.0])))
    assert stats.chisquare(seen, len(tries) * chances).pvalue > LEVEL


def test_sub_puzzles_side_by_side_take_the_slowest() -> None:
    made = single(30.0, 8)
    apart = rows(made, 50_000)
    together = rows(replace(made, clock=replace(made.clock, parallel=True)), 50_000)
    np.testing.assert_array_equal(apart.hashes, together.hashes)
    np.testing.assert_array_equal(apart.energy_j, together.energy_j)
    slowest = together.solve_s * 1e6 * 8 / 2.0**30
    assert stats.kstest(slowest, lambda x: (1 - np.exp(-x)) ** 8).pvalue > LEVEL
    assert np.all(together.solve_s <= apart.solve_s)


def test_users_are_drawn_by_their_laws() -> None:
    who = Users(1000.0, 0.7, 10**9)
    found = rows(plan("none", "flat", who=who), 100_000)
    # Rounding to whole queries moves a value by half of one: far below what 100,000 users can tell.
    assert stats.kstest(found.queries, stats.lognorm(0.7, scale=1000.0).cdf).statistic < 0.005
    share = np.bincount(found.device, minlength=3)
    assert stats.chisquare(share, len(found.device) * np.array([0.5, 0.3, 0.2])).pvalue > LEVEL
    for device, (low, high) in enumerate(zip(MACHINES.low_hz, MACHINES.high_hz, strict=True)):
        rate = found.rate_hz[found.device == device]
        if low == high:
            np.testing.assert_array_equal(rate, low)
        else:
            assert stats.kstest(rate, stats.loguniform(low, high).cdf).pvalue > LEVEL
    # Streams are independent of each other.
    for one, other in ((found.queries, found.rate_hz), (found.queries, found.device)):
        assert abs(stats.spearmanr(one, other).statistic) < 4 / math.sqrt(len(one))


def test_volumes_are_cut_at_both_ends() -> None:
    found = rows(plan("none", "flat", who=Users(2.0, 2.0, 7)), 5000).queries
    assert (found.min(), found.max()) == (1, 7)


def test_shift_and_drift_are_normal_and_costs_stay_within_bounds() -> None:
    # A flat curve and 10,000 queries: cost / (2.9 n) = 1 + shift + drift.
    who = Users(1e4, 0.0, 10**5, 0.01, 0.02, 0.03)
    made = plan(Price(every=10_000), "flat", who=who)
    cost = rows(made, 50_000).cost / 2.9e4
    assert stats.kstest(cost, stats.norm(1.01, math.hypot(0.02, 0.03)).cdf).pvalue > LEVEL
    bounded = rows(replace(made, who=replace(who, low=2.9, high=2.95)), 5000).cost / 1e4
    assert (bounded.min(), bounded.max()) == (2.9, 2.95)


def test_a_spread_cost_never_falls() -> None:
    # With this drift the plain product would fall after its peak; puzzles every query see every n.
    who = Users(9000.0, 0.0, 9000, 0.0, 0.0, 2.0)
    longer = rows(plan(Price(every=1), who=who), 200).cost
    shorter = rows(plan(Price(every=1), who=replace(who, median=5000.0)), 200).cost
    assert np.all(longer >= shorter)
    assert np.any(longer == shorter)


@pytest.mark.parametrize("every", [1, 3, 64, 1000])
def test_a_bank_is_drawn_query_by_query_by_inverse_cdf(every: int) -> None:
    made = plan(Price(every=every), "bank", who=Users(70.0, 0.5, 200))
    found = rows(made, 30)
    for i in range(30):
        total = 0.0
        for query in range(int(found.queries[i])):
            word = philox_words((query // 4, COST, i, 0), made.key)[query % 4]
            total += float(COSTS.cost[word * len(COSTS.cost) >> 32])
        assert found.cost[i] == total


def test_bank_rows_are_equally_likely() -> None:
    found = rows(plan("none", Bank(np.arange(64.0)), who=Users(1.0)), 200_000).cost
    assert stats.chisquare(np.bincount(found.astype(int), minlength=64)).pvalue > LEVEL


def test_composed_costs_are_converted_once_by_the_best_order() -> None:
    made = plan(Price(every=100), "renyi", who=Users(300.0, 0.7, 1200))
    found = rows(made, 12)
    best = set()
    for i in range(12):
        words = [philox_words((query // 4, COST, i, 0), made.key)[query % 4] for query in range(int(found.queries[i]))]
        total = np.cumsum(RENYI.cost[[word * len(RENYI.cost) >> 32 for word in words]], axis=0)[-1]
        eps, index = rdp_to_eps(total, ORDERS, 1e-5, "classic")
        assert found.cost[i] == pytest.approx(float(eps), rel=1e-14)
        best.add(int(index))
    assert len(best) > 1  # else one order would do


@pytest.mark.parametrize("clock", ["paced", "thinking", "parallel"])
def test_elapsed_time_is_that_of_the_plain_queue_to_the_last_bit(clock: str) -> None:
    made = plan("fixed", "flat", clock, who="alike", devices=ONE)
    found, c = rows(made, 40), made.clock
    for i in range(40):
        # Tries come from single-puzzle identities' own addresses: draw j is u number j.
        finish = 0.0
        for j in range(-(-130 // 7)):
            before, n = 7 * j, min(7 * j + 7, 130)
            u = uniform_at(made.key, TRIES, i, 0, j)
            p = np.rint(2.0**64 / 2.0**20.25) * 2.0**-64
            tries = math.floor(math.log(u) / math.log1p(-p)) + 1
            start = max(before / c.batch * c.request_every_s, finish + c.think_s if j else 0.0)
            finish = start + ((n - before) * c.seconds_per_query + tries / 1e6 + c.verify_s)
        assert found.elapsed_s[i] == finish


def test_waiting_is_simpys() -> None:
    simpy = pytest.importorskip("simpy", reason="simpy is not installed: pip install -e '.[test]'")
    made = plan(Price(16.0), "flat", Clock(0.01, 1, request_every_s=0.076), Users(20_000.0), ONE)
    found = rows(made, 1)
    p = 2.0**-16
    tries = [math.floor(math.log(uniform_at(made.key, TRIES, 0, 0, j)) / math.log1p(-p)) + 1 for j in range(20_000)]
    assert sum(tries) == found.hashes[0]
    durations = [1.0 * 0.01 + count / 1e6 for count in tries]
    environment = simpy.Environment()
    server = simpy.Resource(environment, capacity=1)
    done = []

    def request(j: int) -> Any:
        yield environment.timeout(j * 0.076)
        with server.request() as turn:
            yield turn
            yield environment.timeout(durations[j])
        done.append(environment.now)

    for j in range(20_000):
        environment.process(request(j))
    environment.run()
    assert done == lindley([j * 0.076 for j in range(20_000)], durations)
    assert found.elapsed_s[0] == done[-1]


def test_decay_that_never_forgets_is_no_decay() -> None:
    made = plan("calibrated", clock="paced")
    forgets = replace(made, price=replace(made.price, decay_s=1e30))
    plain, slow = rows(made, 300), rows(forgets, 300)
    np.testing.assert_allclose(slow.work, plain.work, rtol=1e-10)
    quick = rows(replace(made, price=replace(made.price, slope=1.0, decay_s=1e-3)), 300)
    # All but the latest request is forgotten: nobody's excess can exceed what 64 queries leak.
    assert np.all(quick.work < plain.work.max() * 2.0**64)


def test_load_multiplies_by_the_time_a_puzzle_is_given_out() -> None:
    # A puzzle of 2^10 hashes at 1e6 Hz is quick; requests at 0, 10, 20, .. s see multipliers 1, 4, 16 in turn.
    price, clock = Price(10.0, load_bits=[0.0, 2.0, 4.0], load_step_s=10.0), Clock(1e-6, 1, request_every_s=10.0)
    made = plan(price, "flat", clock, Users(6.0), ONE)
    assert rows(made, 50).work.tolist() == [2 * (2.0**10 + 2.0**12 + 2.0**14)] * 50


def test_bands_price_by_excess() -> None:
    price = Price(0.0, band_edges=[2.0, 3.0], band_bits=[-math.inf, 5.0, 7.0])
    made = plan(price, Curve.constant(1.0), who=Users(4.0), devices=ONE)
    found = rows(made, 5)  # excess 1, 2, 3, 4: nothing, 2^5, 2^7, 2^7
    assert found.work.tolist() == [32.0 + 128.0 + 128.0] * 5
    assert found.puzzles.tolist() == [3] * 5


def test_energy_and_rent() -> None:
    found = rows(plan("calibrated"), 500)
    for device in range(3):
        mine = found.device == device
        np.testing.assert_allclose(found.energy_j[mine], (found.solve_s * MACHINES.watts[device])[mine], rtol=1e-14)
        rent = MACHINES.usd_per_h[device]
        per_s = rent / 3600 if rent >= 0 else MACHINES.watts[device] / 3.6e6 * 0.15
        np.testing.assert_allclose(found.cost_usd[mine], found.solve_s[mine] * per_s, rtol=1e-14)


def test_prices_depend_on_cost_and_not_on_luck() -> None:
    made = plan("calibrated", TRACE, who=Users(640.0))
    work = rows(made, 20).work
    assert len(set(work)) == 1
    n = np.arange(64, 641, 64)
    cost = np.interp(n, TRACE.queries, TRACE.cost)
    bits = CALIBRATED.base_bits + np.log2(64) + CALIBRATED.slope * np.maximum(cost - CALIBRATED.expected_slope * n, 0)
    assert work[0] == pytest.approx(np.exp2(bits).sum(), rel=1e-12)
