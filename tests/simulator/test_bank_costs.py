"""Costs from a bank's votes equal the cost kernel's reference, row by row and added up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from banks import made_bank
from powsim.bank import Bank
from powsim.bank.costs import COMPOSABLE, METERS, cost_range, costs, distinct, running_eps
from powsim_kernels import PatePlan, vote_cost


@pytest.fixture(scope="module")
def bank() -> Bank:
    return made_bank(1, queries=300, copies=3)


def plan_of(bank: Bank, meter: str) -> PatePlan:
    voters, sigma = (bank.teachers, bank.sigma) if meter == "gnmax" else (bank.neighbours, bank.knn_sigma)
    return PatePlan(voters, bank.classes, sigma, backend="reference")


@pytest.mark.parametrize("meter", COMPOSABLE)
def test_a_query_costs_what_the_reference_says(bank: Bank, meter: str) -> None:
    queries = bank.runs[0].recordings[1]
    votes = queries.votes if meter == "gnmax" else queries.knn
    sigma = bank.sigma if meter == "gnmax" else bank.knn_sigma
    found = costs(bank, queries, meter)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, vote_cost(votes, sigma=sigma, delta=1e-5, backend="reference").eps, rtol=1e-12)
    assert len(set(found)) > 50
    low, high = cost_range(bank, meter)
    assert low <= found.min()
    assert found.max() <= high * (1 + 1e-12)


def test_25_teachers_cost_within_the_band_that_was_published(bank: Bank) -> None:
    """e2e.md section 2, from a routine of another author: [1.967, 7.789] for T = 25, sigma = 1, delta = 1e-5."""
    assert cost_range(bank) == pytest.approx((1.967, 7.789), abs=5e-4)


def test_rows_do_not_influence_each_other(bank: Bank) -> None:
    queries = bank.runs[0].recordings[1]
    order = np.random.default_rng(1).permutation(300)
    mixed = replace(queries, votes=queries.votes[order], knn=queries.knn[order], entropy=queries.entropy[order])
    for meter in ("gnmax", "pknn", "entropy"):
        assert np.array_equal(costs(bank, mixed, meter), costs(bank, queries, meter)[order])
    alone = replace(queries, votes=queries.votes[7:8], knn=queries.knn[7:8])
    assert costs(bank, alone)[0] == costs(bank, queries)[7]


def test_who_votes_for_what_does_not_matter_to_the_cost(bank: Bank) -> None:
    queries = bank.runs[0].recordings[0]
    turned = replace(queries, votes=np.roll(queries.votes, 3, axis=1))
    assert np.array_equal(costs(bank, turned), costs(bank, queries))
    some, of_row = distinct(queries.votes)
    assert len(some) < 300
    assert np.array_equal(some[of_row], np.sort(queries.votes, axis=1)[:, ::-1])


def test_sigma_and_delta_stay_free(bank: Bank) -> None:
    queries = bank.runs[0].recordings[0]
    other = costs(bank, queries, sigma=3.0, delta=1e-7)
    expected = vote_cost(queries.votes, sigma=3.0, delta=1e-7, backend="reference").eps
    np.testing.assert_allclose(other, expected, rtol=1e-12)
    low, high = cost_range(bank, "gnmax", 3.0, 1e-7)
    assert low <= other.min()
    assert high >= other.max()
    for bad in ({"sigma": 0.0}, {"delta": 0.0}, {"delta": 1.0}):
        with pytest.raises(ValueError, match="must lie between"):
            costs(bank, queries, **bad)


@pytest.mark.parametrize("meter", COMPOSABLE)
@pytest.mark.parametrize("every", [1, 7])
def test_composed_costs_add_renyi_costs_first(bank: Bank, meter: str, every: int) -> None:
    queries = bank.runs[0].recordings[1]
    plan = plan_of(bank, meter)
    rdp = np.cumsum(plan.rdp(queries.votes if meter == "gnmax" else queries.knn), axis=0)[every - 1 :: every]
    truth = np.array([(row + np.log(1e5) / (plan.grid - 1)).min() for row in rdp])
    np.testing.assert_allclose(running_eps(bank, queries, meter, every=every), truth, rtol=1e-12)


def test_the_other_meters_are_read_as_recorded(bank: Bank) -> None:
    queries = bank.runs[0].pool
    assert np.array_equal(costs(bank, queries, "entropy"), queries.entropy)
    assert np.array_equal(costs(bank, queries, "gap"), queries.gap)
    assert (costs(bank, queries, "count") == 1).all()
    assert [cost_range(bank, meter) for meter in METERS[2:]] == [(0, 1), (0, 1), (1, 1)]


def test_nothing_asked_costs_nothing(bank: Bank) -> None:
    queries = bank.runs[0].recordings[0]
    none = replace(
        queries, votes=queries.votes[:0], knn=queries.knn[:0], entropy=queries.entropy[:0], gap=queries.gap[:0]
    )
    for meter in METERS:
        assert costs(bank, none, meter).shape == (0,)
    assert running_eps(bank, none).shape == (0,)


def test_unknown_meters_are_refused(bank: Bank) -> None:
    with pytest.raises(ValueError, match="unknown meter 'cost': choose one of gnmax, pknn, entropy, gap, count"):
        costs(bank, bank.runs[0].pool, "cost")
    with pytest.raises(ValueError, match="meter 'gap' has no Renyi costs"):
        running_eps(bank, bank.runs[0].pool, "gap")
