"""Cost curves by hand, and the least and greatest cost that a meter can give."""

from __future__ import annotations

import numpy as np
import pytest

from oracles import gnmax, straight_line, vectors
from powsim import study
from powsim.meter import CostCurve, cost_bounds, curve_of, published_curve, spread_cost

POINTS = np.array([0.0, 100.0, 200.0, 400.0]), np.array([0.0, 50.0, 150.0, 250.0])


def curve() -> CostCurve:
    return CostCurve(*POINTS)


def test_costs_between_points_lie_on_straight_lines() -> None:
    asked = np.array([0.0, 1.0, 50.0, 100.0, 150.0, 199.0, 200.0, 300.0, 400.0])
    np.testing.assert_allclose(curve()(asked), [0, 0.5, 25, 50, 100, 149, 150, 200, 250], rtol=1e-14)
    for n in asked[1:]:
        got = float(curve()(np.array([n]))[0])
        assert got == pytest.approx(straight_line(n, *map(list, POINTS)), rel=1e-14)


def test_beyond_the_last_point_the_cost_grows_at_the_mean_rate_of_the_second_half() -> None:
    # Points 2 and 3 of four: (250 - 150) / (400 - 200) = 0.5 a query.
    np.testing.assert_allclose(curve()(np.array([401.0, 500.0, 1400.0])), [250.5, 300, 750], rtol=1e-14)


def test_whole_numbers_and_tables_of_queries_are_fine() -> None:
    got = curve()(np.array([[50, 100], [150, 500]]))
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, [[25, 50], [100, 300]], rtol=1e-14)


def test_the_origin_is_put_in_front_only_where_it_is_missing() -> None:
    queries, cost = np.array([10.0, 30.0, 60.0]), np.array([5.0, 15.0, 90.0])
    assert curve_of(queries, cost).queries.tolist() == [0, 10, 30, 60]
    assert curve_of(queries, cost).cost.tolist() == [0, 5, 15, 90]
    assert curve_of(*POINTS).queries.tolist() == POINTS[0].tolist()
    assert float(curve_of(queries, cost)(np.array([5.0]))[0]) == 2.5


def test_two_points_make_a_straight_line_beyond_the_end_too() -> None:
    # The shortest trace that a CSV file may hold: 3 a query.
    for points in ((np.array([0.0, 1000.0]), np.array([0.0, 3000.0])), (np.array([1000.0]), np.array([3000.0]))):
        np.testing.assert_allclose(curve_of(*points)(np.array([10.0, 1000.0, 2000.0])), [30, 3000, 6000], rtol=1e-14)


@pytest.mark.parametrize("name", study.trace_names())
def test_a_published_curve_goes_through_its_points_from_nothing_and_never_falls(name: str) -> None:
    dataset, attack = name.split("/")
    series, found = study.trace(dataset, attack), published_curve(dataset, attack)
    np.testing.assert_allclose(found(series.queries), series.cost, rtol=1e-14)
    assert found(np.array([0]))[0] == 0
    asked = np.linspace(0, 2 * series.queries[-1], 5001)
    cost = found(asked)
    assert np.all(np.diff(cost) >= 0)
    # Beyond the end: the rate of the second half of the points, origin included.
    queries = series.queries if series.queries[0] == 0 else np.append(0.0, series.queries)
    costs = series.cost if series.queries[0] == 0 else np.append(0.0, series.cost)
    half = len(queries) // 2
    rate = (costs[-1] - costs[half]) / (queries[-1] - queries[half])
    assert float(cost[-1] - series.cost[-1]) == pytest.approx(rate * series.queries[-1], rel=1e-9)


@pytest.mark.parametrize(
    ("dataset", "teachers", "sigma", "delta", "least", "greatest"),
    [
        # paper.md 1.4, from the published analysis code.
        ("mnist", 250, 10.0, 1e-5, 0.1882613, 0.6886155),
        ("svhn", 250, 10.0, 1e-6, 0.2257017, 0.7533922),
        ("cifar10", 50, 2.0, 1e-5, 0.9608042, 3.6447036),
    ],
)
def test_the_bounds_are_those_of_unanimous_and_of_tied_teachers(
    dataset: str, teachers: int, sigma: float, delta: float, least: float, greatest: float
) -> None:
    low, high = cost_bounds(dataset)
    assert f"{low:.7f}" == f"{least:.7f}"
    assert f"{high:.7f}" == f"{greatest:.7f}"
    orders = vectors()["rdp_orders"]["values"]
    unanimous, tied = [teachers] + [0] * 9, [teachers // 10] * 10
    assert low == pytest.approx(gnmax(unanimous, sigma, delta, orders)[1], rel=1e-12)
    assert high == pytest.approx(gnmax(tied, sigma, delta, orders)[1], rel=1e-12)


@pytest.mark.parametrize("name", study.trace_names())
def test_every_published_trace_stays_within_the_bounds_of_its_meter(name: str) -> None:
    dataset, attack = name.split("/")
    low, high = cost_bounds(dataset)
    found = published_curve(dataset, attack)
    steps, costs = np.diff(found.queries), np.diff(found.cost)
    # Early rows of two series hold few queries (62.5), which the released counts round.
    assert np.all(costs <= high * steps * (1 + 1e-6))
    if attack not in ("worstcase", "entropyrev"):
        assert np.all(costs >= low * steps)


def test_shift_and_drift_scale_the_curve_by_hand() -> None:
    queries = np.array([[100, 200, 400], [100, 200, 400], [100, 200, 400]])
    shift, drift = np.array([0.0, 0.1, 0.0]), np.array([0.0, 0.0, 5.0])
    got = spread_cost(curve(), queries, shift, drift, (0.0, 10.0))
    np.testing.assert_allclose(got[0], [50, 150, 250], rtol=1e-14)
    np.testing.assert_allclose(got[1], [55, 165, 275], rtol=1e-14)
    # drift 5 per 10,000 queries: 1.05, 1.10, 1.20 times.
    np.testing.assert_allclose(got[2], [52.5, 165, 300], rtol=1e-14)


def test_a_users_cost_stays_within_the_meter_and_never_falls() -> None:
    rng = np.random.default_rng(1)
    queries = np.broadcast_to(64 * np.arange(1, 61), (200, 60))
    shift, drift = rng.normal(0, 1.0, 200), rng.normal(0, 5.0, 200)
    found = published_curve("cifar10", "standard")
    low, high = cost_bounds("cifar10")
    got = spread_cost(found, queries, shift, drift, (low, high))
    assert np.all(np.diff(got, axis=1) >= 0)
    assert np.all(got >= low * queries * (1 - 1e-12))
    assert np.all(got <= high * queries * (1 + 1e-12))
    # Both bounds bind somewhere, or the test would show nothing.
    assert np.any(np.isclose(got, low * queries, rtol=1e-12))
    assert np.any(np.isclose(got, high * queries, rtol=1e-12))
    for row in (0, 7, 199):  # and slowly, cell by cell
        before = 0.0
        for column, n in enumerate(queries[row].tolist()):
            cost = float(found(np.array([n]))[0]) * (1 + shift[row] + drift[row] * n / 10_000)
            before = max(before, min(max(cost, low * n), high * n))
            assert float(got[row, column]) == pytest.approx(before, rel=1e-12)


def test_users_do_not_influence_each_other() -> None:
    queries = np.tile(np.array([[100, 200, 400]]), (4, 1))
    shift, drift = np.array([0.0, 0.3, -0.2, 0.0]), np.array([0.0, 1.0, 0.0, -3.0])
    whole = spread_cost(curve(), queries, shift, drift, (0.1, 2.0))
    for row in range(4):
        alone = spread_cost(curve(), queries[[row]], shift[[row]], drift[[row]], (0.1, 2.0))
        np.testing.assert_array_equal(alone[0], whole[row])
