"""Ledgers whose costs come from recordings: each query at its position, in a recording drawn for its block."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from ledger_plans import assert_same, plan
from nogpu import ledgers as host
from oracles import philox_words
from powsim_kernels.ledgers import Accounts, Bank, LedgerPlan, LedgerRows, Price, Users, simulate_ledgers
from powsim_kernels.ledgers.layout import COST, SUMS

LEVEL = 1e-4
"""A correct law is rejected with this chance; keys are fixed, so that no test flickers."""
# Recordings, queries in each, block: blocks of one query, blocks that fill recordings, that do not, and a single block.
SHAPES = [(5, 8, 1), (7, 150, 16), (3, 192, 64), (4, 100, 64), (2, 64, 64), (1, 130, 9)]


def rows(made: LedgerPlan, end: int) -> LedgerRows:
    found = simulate_ledgers(made, 0, end, rows=True, histograms=(), backend="cpu", threads=1).rows
    assert found is not None
    return found


def bank(recordings: int, queries: int, block: int) -> Bank:
    """Return a bank whose costs tell where they stand: 1000 times the position, and the recording."""
    cost = np.arange(queries) * 1000.0 + np.arange(recordings)[:, None]
    return Bank(cost.astype(np.float64).ravel(), recordings=recordings, block=block)


def positions(queries: int, block: int, asked: int) -> list[int]:
    """Return where every query of a caller stands: once through, then the second half's blocks over and over."""
    found, blocks = list(range(queries)), queries // block
    tail = found[-block * (blocks - blocks // 2) :]
    while len(found) < asked:
        found += tail
    return found[:asked]


def costs_of_queries(source: Bank, who: Any, asked: int, identities: int) -> NDArray[np.int64]:
    """Return [asked, identities] what each query cost: what callers who ask one more have spent beyond the others."""
    made = plan("none", source, who=who)
    spent = [rows(replace(made, who=replace(who, median=float(n))), identities).cost for n in range(1, asked + 1)]
    return np.diff(np.array([np.zeros(identities), *spent]), axis=0).astype(np.int64)


@pytest.mark.parametrize("every", [1, 3, 64, 1000])
@pytest.mark.parametrize("shape", SHAPES)
def test_costs_are_those_of_a_plain_loop(shape: tuple[int, int, int], every: int) -> None:
    recordings, queries, block = shape
    source = Bank(np.random.default_rng(1).uniform(1.5, 3.6, recordings * queries), recordings=recordings, block=block)
    made = plan(Price(every=every), source, who=Accounts(2000, 9))
    found = rows(made, 18)
    assert set(found.replica) == {0, 1}
    for i in range(18):
        address, total = (int(found.identity[i]), int(found.replica[i])), 0.0
        for query, position in enumerate(positions(queries, block, int(found.queries[i]))):
            block_number = query // block
            word = philox_words((block_number // 4, COST, *address), made.key)[block_number % 4]
            total += float(source.cost.reshape(recordings, queries)[word * recordings >> 32, position])
        assert found.cost[i] == total


@pytest.mark.parametrize("shape", SHAPES)
def test_positions_are_kept_and_blocks_whole(shape: tuple[int, int, int]) -> None:
    recordings, queries, block = shape
    asked = 3 * queries if queries < 100 else queries + 70
    position, recording = np.divmod(costs_of_queries(bank(*shape), Users(1.0), asked, 40), 1000)
    np.testing.assert_array_equal(position, np.tile(positions(queries, block, asked), (40, 1)).T)
    for first in range(0, asked, block):
        np.testing.assert_array_equal(
            recording[first : first + block], recording[first : first + 1].repeat(block, 0)[: asked - first]
        )
    assert len(set(recording.ravel())) == recordings


def test_recordings_are_equally_likely_and_blocks_independent() -> None:
    recordings, queries, block = 6, 12, 3
    cost = costs_of_queries(bank(recordings, queries, block), Users(1.0), 24, 20_000)
    drawn = cost[::block] % 1000
    for one in drawn:
        assert stats.chisquare(np.bincount(one, minlength=recordings)).pvalue > LEVEL
    for one, other in itertools.pairwise(drawn):
        table = np.histogram2d(one, other, bins=recordings)[0]
        assert stats.chi2_contingency(table).pvalue > LEVEL


def test_the_mean_at_each_position_is_that_of_the_recordings() -> None:
    rng, recordings, queries = np.random.default_rng(5), 9, 20
    values = rng.integers(0, 1000, (recordings, queries)).astype(np.float64)
    cost = costs_of_queries(Bank(values.ravel(), recordings=recordings, block=4), Users(1.0), 20, 20_000)
    off = (cost.mean(axis=1) - values.mean(axis=0)) / (values.std(axis=0) / np.sqrt(20_000))
    assert np.all(np.abs(off) < stats.norm.isf(LEVEL / 2 / queries))


def test_one_recording_is_itself_in_order() -> None:
    cost = np.random.default_rng(7).uniform(1.0, 3.0, 100)
    made = plan("none", Bank(cost, recordings=1), who=Users(100.0, 0.5, 100))
    found = rows(made, 50)
    assert len(set(found.queries)) > 20
    np.testing.assert_array_equal(found.cost, np.cumsum(cost)[found.queries - 1])


@pytest.mark.parametrize("every", [1, 10, 64])
def test_recorded_renyi_costs_have_the_references_bits(every: int) -> None:
    cost = np.random.default_rng(2).uniform(0.0, 1e-3, (5 * 70, 6))
    source = Bank(cost, np.linspace(12.0, 0.3, 6), recordings=5, block=16)
    made = plan(Price(14.0, slope=0.1, expected_slope=0.01, high=40.0, every=every), source, who="shifted")
    more: dict[str, Any] = {"histograms": SUMS, "rows": True}
    truth = simulate_ledgers(made, 3, 43, backend="reference", **more)
    assert_same(simulate_ledgers(made, 3, 43, backend="cpu", **more), truth)
    assert_same(host.simulate(made, 3, 43, SUMS), truth)


def test_single_queries_are_recordings_of_one() -> None:
    cost = np.random.default_rng(3).uniform(1.0, 3.0, 50)
    plain, recorded = (plan(source=source) for source in (Bank(cost), Bank(cost, recordings=50, block=1)))
    np.testing.assert_array_equal(rows(plain, 100).cost, rows(recorded, 100).cost)
