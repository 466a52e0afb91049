"""Ledgers: reference, CPU twin and CUDA host build have the same bits, in any range, chunk and number of threads."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from ledger_plans import CLOCKS, MACHINES, PRICES, SOURCES, WHO, assert_same, plan
from nogpu import ledgers as host
from powsim_kernels.ledgers import Accounts, LedgerPlan, LedgerRows, Ledgers, LedgerTotals, Users, simulate_ledgers
from powsim_kernels.ledgers.layout import SUMS

EVERYTHING: dict[str, Any] = {"histograms": SUMS, "rows": True}
# Every price with every clock, sources and callers in turn.
MIXED = [
    (price, source, clock, who)
    for (price, clock), source, who in zip(
        itertools.product(PRICES, CLOCKS), itertools.cycle(SOURCES), itertools.cycle([*WHO, "users", "alike"])
    )
]


def run(made: LedgerPlan, begin: int = 0, end: int = 20, **more: Any) -> Ledgers:
    return simulate_ledgers(made, begin, end, **(EVERYTHING | {"backend": "cpu", "threads": 1} | more))


@pytest.mark.parametrize("parts", MIXED, ids="-".join)
def test_every_twin_has_the_references_bits(parts: tuple[str, str, str, str]) -> None:
    made = plan(*parts, sub_puzzles=1 + len(parts[0]) % 4)
    truth = run(made, 3, 23, backend="reference")
    assert_same(run(made, 3, 23), truth)
    assert_same(host.simulate(made, 3, 23, SUMS), truth)


@pytest.mark.parametrize("seed", range(25))
def test_random_plans_are_the_same_on_cpu_and_host_build(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pick = [str(rng.choice(list(group))) for group in (PRICES, SOURCES, CLOCKS, WHO)]
    made = plan(*pick)
    price = replace(made.price, every=int(rng.choice([1, 2, 3, 10, 64, 1000])), partial=bool(rng.integers(2)))
    made = replace(made, price=price, sub_puzzles=int(rng.choice([1, 2, 3, 4, 5, 16])), key=int(rng.integers(2**63)))
    begin = int(rng.integers(2**20))
    end = begin + int(rng.integers(1, 400))
    assert_same(run(made, begin, end), host.simulate(made, begin, end, SUMS))


def test_sub_puzzles_of_every_parity_draw_from_the_right_halves() -> None:
    for pieces in (1, 2, 3, 4, 5, 7):
        for every in (1, 64):
            made = plan("fixed", "flat", "busy", "alike", sub_puzzles=pieces)
            made = replace(made, price=replace(made.price, every=every))
            assert_same(run(made, 0, 3), run(made, 0, 3, backend="reference"))


@pytest.mark.parametrize(
    ("price", "source"), [("published", "trace"), ("calibrated", "bank"), ("all", "renyi"), ("fixed", "recorded")]
)
def test_threads_and_chunks_change_no_bit(price: str, source: str) -> None:
    made = plan(price, source)
    whole = run(made, 17, 1500)
    for threads, chunk in itertools.product((1, 2, 3), (1, 64, 100, 1024, 1 << 18)):
        assert_same(run(made, 17, 1500, threads=threads, chunk=chunk), whole)


@pytest.mark.parametrize("cuts", [(64,), (1,), (700, 701), (128, 512, 1000)])
@pytest.mark.parametrize("source", ["trace", "recorded"])
def test_shards_add_up_to_the_whole(source: str, cuts: tuple[int, ...]) -> None:
    made = plan("calibrated", source, clock="paced")
    whole = run(made, 0, 1200)
    ends = [0, *cuts, 1200]
    parts = [run(made, low, high) for low, high in itertools.pairwise(ends)]
    added, rows = parts[0].totals, parts[0].rows
    for part in parts[1:]:
        added, rows = added + part.totals, rows + part.rows  # type: ignore[operator]
    for f in fields(LedgerRows):
        np.testing.assert_array_equal(getattr(rows, f.name), getattr(whole.rows, f.name))
    for name in ("counts", "histograms"):
        np.testing.assert_array_equal(getattr(added, name), getattr(whole.totals, name))
    assert added.hashes_by_device == whole.totals.hashes_by_device
    for name in ("sums", "squares", "solve_service"):
        np.testing.assert_allclose(getattr(added, name), getattr(whole.totals, name), rtol=1e-12)


def test_identities_do_not_influence_each_other() -> None:
    # Lanes are refilled and moved as identities end: whoever shares them must not matter.
    for parts in (
        ("all", "bank", "thinking", "users"),
        ("decay", "trace", "paced", "users"),
        ("load", "renyi"),
        ("load", "recorded"),
    ):
        made = plan(*parts)
        whole = run(made, 0, 300).rows
        assert whole is not None
        for i in (0, 1, 63, 64, 65, 200, 299):
            alone = run(made, i, i + 1).rows
            assert alone is not None
            for f in fields(LedgerRows):
                assert getattr(alone, f.name)[0] == getattr(whole, f.name)[i], (parts, i, f.name)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097])
def test_numbers_of_identities_across_every_block(count: int) -> None:
    made = plan("published")
    rows = run(made, 0, count).rows
    assert rows is not None
    first = run(made, 0, 4200).rows
    assert first is not None
    np.testing.assert_array_equal(rows.hashes, first.hashes[:count])
    np.testing.assert_array_equal(rows.elapsed_s, first.elapsed_s[:count])


def test_totals_are_those_of_the_rows() -> None:
    result = run(plan("calibrated", clock="thinking"), 0, 2000)
    totals, rows = result.totals, result.rows
    assert rows is not None
    for device in range(len(MACHINES.share)):
        mine = rows.device == device
        assert totals.count("identities", device) == mine.sum()
        assert totals.count("queries", device) == rows.queries[mine].sum()
        assert totals.count("puzzles", device) == rows.puzzles[mine].sum()
        assert totals.count("above_2x", device) == (1.0 + rows.overhead[mine] > 2.0).sum()
        assert totals.hashes_by_device[device] == sum(rows.hashes[mine].tolist())
        for name in SUMS:
            values = np.asarray(getattr(rows, name)[mine], np.float64)
            assert totals.total(name, device) == pytest.approx(values.sum(), rel=1e-12)
            assert totals.std(name, device) == pytest.approx(values.std(), rel=1e-9)
        assert totals.solve_service[device] == pytest.approx((rows.solve_s * rows.service_s)[mine].sum(), rel=1e-12)
    assert totals.hashes == sum(rows.hashes.tolist())


@pytest.mark.parametrize("q", [0.0, 0.01, 0.5, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("name", SUMS)
def test_quantiles_are_within_their_stated_error(name: str, q: float) -> None:
    result = run(plan("calibrated"), 0, 3001)
    ordered = np.sort(np.asarray(getattr(result.rows, name), np.float64))
    exact = ordered[max(int(np.ceil(q * len(ordered))), 1) - 1]
    assert result.totals.quantile(name, q) == pytest.approx(exact, rel=1 / 129 + 1e-12)


def test_nobody_has_no_totals_and_no_rows() -> None:
    result = run(plan(), 5, 5)
    assert result.totals.count("identities") == 0
    assert result.totals.hashes == 0
    assert result.rows is not None
    assert len(result.rows.identity) == 0


def test_nothing_is_kept_that_was_not_asked_for() -> None:
    result = simulate_ledgers(plan(), 0, 10, histograms=(), backend="cpu")
    assert result.rows is None
    assert result.totals.histograms.size == 0
    with pytest.raises(ValueError, match="no histogram of 'work' was kept"):
        result.totals.quantile("work", 0.5)


def test_totals_of_different_groups_do_not_add_up() -> None:
    one = run(plan(), 0, 3).totals
    other = simulate_ledgers(plan(), 0, 3, histograms=("work",), backend="cpu").totals
    with pytest.raises(ValueError, match="not of one group"):
        _ = one + other
    assert isinstance(one + one, LedgerTotals)


def test_accounts_share_a_device_and_split_as_evenly_as_they_can() -> None:
    rows = run(plan("calibrated", who="accounts"), 0, 21).rows
    assert rows is not None
    assert rows.replica.tolist() == [0] * 7 + [1] * 7 + [2] * 7
    assert rows.identity.tolist() == list(range(7)) * 3
    assert rows.queries.tolist() == [143] * 6 + [142] + [143] * 6 + [142] + [143] * 6 + [142]
    for replica in range(3):
        assert len(set(rows.rate_hz[rows.replica == replica])) == 1
    assert len(set(rows.rate_hz)) == 3


@pytest.mark.parametrize(
    ("who", "range_", "message"),
    [
        (Users(10.0), (5, 4), "begin must not exceed end"),
        (Users(10.0), (0, 2**32 + 1), "do not fit"),
        (Accounts(10, 2), (0, 2**33 + 1), "do not fit"),
    ],
)
def test_ranges_that_cannot_be_addressed_are_refused(who: Any, range_: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_ledgers(plan(who="users") if who is None else replace(plan(), who=who), *range_)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_work_that_cannot_be_sampled_is_refused(backend: str) -> None:
    made = plan("calibrated")
    with pytest.raises(ValueError, match=r"more than 2\^58 can be sampled: lower the price"):
        run(replace(made, price=replace(made.price, base_bits=70.0, high=np.inf)), 0, 2, backend=backend)
    with pytest.raises(ValueError, match=r"more than 2\^58"):
        run(
            replace(made, price=replace(made.price, base_bits=57.9, high=np.inf, per_query=False)),
            0,
            30,
            backend=backend,
        )


def test_names_of_histograms_and_chunks_are_checked() -> None:
    with pytest.raises(ValueError, match="name each of work"):
        simulate_ledgers(plan(), 0, 1, histograms=("slowness",))
    with pytest.raises(ValueError, match="chunk=0"):
        simulate_ledgers(plan(), 0, 1, chunk=0)
