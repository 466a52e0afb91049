"""GNMax cost of single queries: published vectors, fifty-digit truth, twins, invariances, bad input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from oracles import gnmax, vectors
from powsim_kernels import VoteCost, default_orders, vote_cost

TWINS = ("reference", "cpu")
both = pytest.mark.parametrize("backend", TWINS)
FEW = settings(max_examples=60, deadline=None, derandomize=True)
BOUNDS = ("clipped", "unclipped", "data-independent")
SINGLE = vectors()["gnmax_single_query"]
FIELDS = {
    "clipped": ("eps_pate_cost", "order_opt"),
    "unclipped": ("eps_no_upper_bound", "order_opt_no_upper_bound"),
    "data-independent": ("eps_data_independent", "order_opt_data_independent"),
}
# The published numbers and ours are float64 over 396 orders with up to 300 in |ln q|: the vectors' own tolerance.
PUBLISHED = 1e-12


def same(left: VoteCost, right: VoteCost) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in ("log_q", "eps", "order"))


def test_the_orders_are_the_published_396() -> None:
    orders = default_orders()
    assert orders.shape == (396,)
    np.testing.assert_allclose(orders, vectors()["rdp_orders"]["values"], rtol=1e-15)


@both
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("case", SINGLE, ids=lambda case: case["id"])
def test_the_published_single_queries_come_out(case: dict[str, Any], bound: str, backend: str) -> None:
    cost = vote_cost(case["votes"], sigma=case["sigma"], delta=case["delta"], bound=bound, backend=backend)
    eps, order = FIELDS[bound]
    assert cost.eps.shape == cost.log_q.shape == cost.order.shape == (1,)
    assert float(cost.log_q[0]) == pytest.approx(case["log_q"], rel=PUBLISHED)
    assert float(cost.eps[0]) == pytest.approx(case[eps], rel=PUBLISHED)
    # Two orders may tie to the last digit; then the published one must cost the same.
    if float(cost.order[0]) != pytest.approx(case[order], rel=1e-12):
        alone = vote_cost(
            case["votes"],
            sigma=case["sigma"],
            delta=case["delta"],
            orders=[case[order]],
            bound=bound,
            backend=backend,
        )
        assert float(alone.eps[0]) == pytest.approx(float(cost.eps[0]), rel=1e-14)


@both
def test_the_published_costs_at_every_single_order_come_out(backend: str) -> None:
    # Alone, an order's eps is its Renyi cost plus the conversion; near delta = 1 the conversion vanishes.
    delta = 1 - 2.0**-53
    for case in SINGLE[:9]:
        for name, bound in (("rdp_data_dependent", "clipped"), ("rdp_no_upper_bound", "unclipped")):
            for order, rdp in zip(case["rdp_selected_orders"], case[name], strict=True):
                cost = vote_cost(
                    case["votes"], sigma=case["sigma"], delta=delta, orders=[order], bound=bound, backend=backend
                )
                conversion = math.log(1 / delta) / (order - 1)
                assert float(cost.eps[0]) - conversion == pytest.approx(rdp, rel=PUBLISHED, abs=1e-15), (order, bound)


@both
@pytest.mark.parametrize("case", vectors()["composition"], ids=lambda case: case["id"])
def test_the_published_streams_cost_the_same_query_by_query(case: dict[str, Any], backend: str) -> None:
    cost = vote_cost(case["votes"], sigma=case["sigma"], delta=case["delta"], backend=backend)
    np.testing.assert_allclose(cost.eps, case["per_query_eps"], rtol=PUBLISHED)
    assert float(cost.eps.sum()) == pytest.approx(case["sum_per_query_eps"], rel=PUBLISHED)


def histograms() -> list[tuple[list[float], float, float]]:
    """Return votes, sigma and delta: peaked, flat, tied, soft and far apart."""
    rng = np.random.default_rng(4)
    cases: list[tuple[list[float], float, float]] = [
        ([30, 30, 0, 0], 4.0, 1e-5),
        ([7, 7, 7], 2.0, 1e-6),
        ([0, 0, 0, 0, 0], 3.0, 1e-5),
        ([1000, 0], 10.0, 1e-8),
        ([50.25, 49.5, 0.25], 5.0, 1e-5),
        ([3000] + [0] * 49, 28.0, 1e-5),
        ([5, 5], 0.5, 1e-5),  # mu below 1: theorem 6 does not apply at any order
        ([5, 5], 1.2, 1 - 1e-9),  # nearly no conversion, so that the least order is the best
    ]
    for _ in range(12):
        classes, teachers = int(rng.integers(2, 12)), int(rng.integers(10, 400))
        votes = rng.multinomial(teachers, rng.dirichlet(np.full(classes, 0.3))).tolist()
        cases.append((votes, float(rng.uniform(1, 30)), float(10 ** -rng.uniform(4, 9))))
    return cases


@both
@pytest.mark.parametrize("bound", BOUNDS)
def test_random_histograms_equal_fifty_digit_truth(bound: str, backend: str) -> None:
    orders = [1.2, 1.5, 2, 3.25, 6, 12, 25, 50, 99.5, 180, 400, 1000]
    for votes, sigma, delta in histograms():
        log_q, eps, order = gnmax(votes, sigma, delta, orders, bound)
        cost = vote_cost(votes, sigma=sigma, delta=delta, orders=orders, bound=bound, backend=backend)
        assert float(cost.log_q[0]) == pytest.approx(log_q, rel=1e-13), votes
        assert float(cost.eps[0]) == pytest.approx(eps, rel=1e-12), votes
        assert float(cost.order[0]) == order, votes


@both
@pytest.mark.parametrize(("sigma", "root"), [(1.0, 1.398), (10.0, 10.269), (40.0, 40.255), (150.0, 150.25)])
def test_theorem_6_begins_to_hold_where_the_literature_puts_it(sigma: float, root: float, backend: str) -> None:
    # pate.md 2.3: it holds from mu = sigma sqrt(-ln q) = root on, at every order below mu + 1; the cost jumps there.
    for mu, holds in ((root * 0.999, False), (root * 1.001, True)):
        gap = -special.ndtri_exp(-((mu / sigma) ** 2)) * sigma * 2**0.5  # ln q = ln Phi(-gap / (sqrt(2) sigma))
        votes, order, delta = [1000.0 + gap, 1000.0], 1.5, 1 - 2.0**-53
        more = {"sigma": sigma, "delta": delta, "orders": [order], "bound": "unclipped", "backend": backend}
        cost = vote_cost(votes, **more)
        assert sigma * (-float(cost.log_q[0])) ** 0.5 == pytest.approx(mu, rel=1e-9)
        rdp = float(cost.eps[0]) - math.log(1 / delta) / (order - 1)
        assert (rdp == pytest.approx(order / sigma**2, rel=1e-9)) is not holds
        truth = gnmax(votes, sigma, delta, [order], "unclipped")[1] - -math.log(delta) / (order - 1)
        assert rdp == pytest.approx(truth, rel=1e-11)


# The formula as printed subtracts numbers near 1 and divides by order - 1: at 1.0001 about four digits of fourteen go.
@pytest.mark.parametrize(("backend", "digits"), [("cpu", 1e-13), ("reference", 1e-9)])
@pytest.mark.parametrize(("votes", "sigma"), [([75, 35, 0], 10.0), ([90, 60, 0], 9.0), ([250, 130], 30.0)], ids=str)
def test_orders_near_one_keep_the_digits_they_can(votes: list[int], sigma: float, backend: str, digits: float) -> None:
    order, delta = 1.0001, 1 - 2.0**-53
    truth = gnmax(votes, sigma, delta, [order])[1] - -math.log(delta) / (order - 1)
    assert 1e-5 < truth < order / sigma**2  # data dependent, and far above the conversion's rounding
    cost = vote_cost(votes, sigma=sigma, delta=delta, orders=[order], backend=backend)
    assert float(cost.eps[0]) - -math.log(delta) / (order - 1) == pytest.approx(truth, rel=digits, abs=0)


count = st.one_of(st.integers(0, 400), st.floats(0, 400), st.sampled_from([0, 1, 250]))
votes_of = st.integers(2, 9).flatmap(lambda classes: st.lists(count, min_size=classes, max_size=classes))


@FEW
@given(
    votes_of, st.floats(0.3, 60.0), st.floats(1e-12, 0.5), st.sampled_from(BOUNDS), st.sampled_from([None, [1.01, 7]])
)
def test_the_twins_agree_to_thirteen_digits(
    votes: list[float], sigma: float, delta: float, bound: str, orders: list[float] | None
) -> None:
    more: dict[str, Any] = {"sigma": sigma, "delta": delta, "bound": bound, "orders": orders}
    left, right = (vote_cost(votes, backend=backend, **more) for backend in TWINS)
    np.testing.assert_allclose(left.log_q, right.log_q, rtol=1e-13)
    np.testing.assert_allclose(left.eps, right.eps, rtol=1e-13)
    if left.order[0] != right.order[0]:  # a tie to the last digit
        there = vote_cost(votes, backend="cpu", **(more | {"orders": left.order}))
        np.testing.assert_allclose(there.eps, right.eps, rtol=1e-13)


@pytest.mark.parametrize("sigma", [1e-3, 0.1, 1.0, 10.0, 1e3, 1e6])
@pytest.mark.parametrize("votes", [[10**6, 0], [10**9, 0, 0], [10**15, 1], [5, 4], [0, 0]], ids=str)
def test_the_twins_agree_however_large_the_gap(votes: list[int], sigma: float) -> None:
    left, right = (vote_cost(votes, sigma=sigma, delta=1e-5, backend=backend) for backend in TWINS)
    assert np.isfinite([left.log_q[0], left.eps[0]]).all()
    np.testing.assert_allclose(left.log_q, right.log_q, rtol=1e-13)
    np.testing.assert_allclose(left.eps, right.eps, rtol=1e-13)


@both
@pytest.mark.parametrize("votes", [[1e200, 0.0], [1e308, 0.0], [1e308, 1e307]], ids=str)
def test_counts_that_float64_cannot_count_are_refused(votes: list[float], backend: str) -> None:
    # Their squares would overflow, and the query would be charged the ceiling although it leaks nothing.
    with pytest.raises(ValueError, match=r"votes\[1\] = .* above 2\^53"):
        vote_cost([[1.0, 0.0], votes], sigma=10.0, delta=1e-5, backend=backend)


@both
def test_the_largest_counts_cost_no_more_than_a_wide_gap(backend: str) -> None:
    wide, widest = vote_cost([[1e6, 0], [2.0**53, 0]], sigma=10.0, delta=1e-5, backend=backend).eps
    assert float(widest) <= float(wide) * (1 + 1e-12)


@both
def test_no_histogram_depends_on_the_others(backend: str) -> None:
    votes = np.random.default_rng(5).multinomial(250, np.full(10, 0.1), size=200)
    votes[::3, 4] += 200
    whole = vote_cost(votes, sigma=10.0, delta=1e-5, backend=backend)
    for row in (0, 63, 64, 127, 128, 199):
        assert same(
            vote_cost(votes[row], sigma=10.0, delta=1e-5, backend=backend),
            VoteCost(whole.log_q[[row]], whole.eps[[row]], whole.order[[row]]),
        )
    pick = np.random.default_rng(6).permutation(200)
    mixed = vote_cost(votes[pick], sigma=10.0, delta=1e-5, backend=backend)
    assert same(mixed, VoteCost(whole.log_q[pick], whole.eps[pick], whole.order[pick]))


def test_threads_change_nothing() -> None:
    votes = np.random.default_rng(7).multinomial(250, np.full(10, 0.1), size=500)
    one = vote_cost(votes, sigma=10.0, delta=1e-5, threads=1)
    for threads in (2, 3):
        assert same(vote_cost(votes, sigma=10.0, delta=1e-5, threads=threads), one)


@both
def test_the_order_of_classes_does_not_matter(backend: str) -> None:
    rng = np.random.default_rng(8)
    votes = rng.multinomial(250, rng.dirichlet(np.full(10, 0.5)))
    rows = np.array([rng.permutation(votes) for _ in range(30)])
    cost = vote_cost(rows, sigma=10.0, delta=1e-5, backend=backend)
    # Only the order of a sum of ten positive terms changes.
    np.testing.assert_allclose(cost.log_q, cost.log_q[0], rtol=1e-14)
    np.testing.assert_allclose(cost.eps, cost.eps[0], rtol=1e-13)
    assert np.all(cost.order == cost.order[0])


@both
def test_the_type_of_votes_does_not_matter(backend: str) -> None:
    votes = np.random.default_rng(9).multinomial(100, np.full(7, 1 / 7), size=20)
    truth = vote_cost(votes, sigma=5.0, delta=1e-5, backend=backend)
    kinds = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)
    for dtype in (*kinds, np.float16, np.float32, np.float64):
        assert same(vote_cost(votes.astype(dtype), sigma=5.0, delta=1e-5, backend=backend), truth), dtype
    assert same(vote_cost(votes.tolist(), sigma=5.0, delta=1e-5, backend=backend), truth)
    assert same(vote_cost(np.asfortranarray(votes), sigma=5.0, delta=1e-5, backend=backend), truth)
    assert same(vote_cost(votes[:, ::-1][:, ::-1], sigma=5.0, delta=1e-5, backend=backend), truth)


@both
def test_a_tie_of_all_and_no_votes_at_all_cost_the_ceiling(backend: str) -> None:
    cost = vote_cost([[25] * 10, [0] * 10, [1] * 10], sigma=10.0, delta=1e-5, backend=backend)
    ceiling = vote_cost([[25] * 10], sigma=10.0, delta=1e-5, bound="data-independent", backend=backend)
    np.testing.assert_allclose(cost.log_q, math.log(0.9), rtol=1e-15)
    assert np.all(cost.eps == ceiling.eps[0])
    # By hand: order / 100 + ln(1e5) / (order - 1) is least on the grid at 35.
    assert float(ceiling.order[0]) == 35.0
    assert float(ceiling.eps[0]) == pytest.approx(0.35 + math.log(1e5) / 34, rel=1e-14)


@both
def test_a_two_way_tie_leaves_a_half(backend: str) -> None:
    cost = vote_cost([[1000, 1000, 0]], sigma=2.0, delta=1e-5, backend=backend)
    assert float(cost.log_q[0]) == pytest.approx(math.log(0.5), rel=1e-15)


@both
def test_the_cost_falls_as_the_winner_leads_by_more_and_never_passes_the_ceiling(backend: str) -> None:
    votes = np.array([[125 + lead, 125 - lead] + [0] * 8 for lead in range(126)])
    cost = vote_cost(votes, sigma=10.0, delta=1e-5, backend=backend)
    assert np.all(np.diff(cost.log_q) <= 0)
    assert np.all(np.diff(cost.eps) <= 1e-14)
    ceiling = vote_cost(votes, sigma=10.0, delta=1e-5, bound="data-independent", backend=backend)
    assert np.all(cost.eps <= ceiling.eps)
    free = vote_cost(votes, sigma=10.0, delta=1e-5, bound="unclipped", backend=backend)
    assert np.all(cost.eps <= free.eps * (1 + 1e-14))


@both
def test_the_first_of_equal_orders_is_reported(backend: str) -> None:
    # Data independent, sigma 1: order + ln(1/delta) / (order - 1) with ln(1/delta) = 2 gives 4 at both 2 and 3.
    delta = math.exp(-2.0)
    for orders in ([2, 3], [3, 2], [5, 3, 2], [2, 2]):
        cost = vote_cost([1, 1], sigma=1.0, delta=delta, orders=orders, bound="data-independent", backend=backend)
        assert float(cost.eps[0]) == pytest.approx(4.0, rel=1e-15)
        at = [order + math.log(1 / delta) / (order - 1) for order in orders]
        assert float(cost.order[0]) == orders[at.index(min(at))]


@both
def test_no_histograms_cost_nothing_and_many_classes_are_fine(backend: str) -> None:
    assert vote_cost(np.empty((0, 10)), sigma=1.0, delta=0.1, backend=backend).eps.shape == (0,)
    votes = np.zeros((2, 1000), int)
    votes[0, 999] = 800
    cost = vote_cost(votes, sigma=20.0, delta=1e-8, backend=backend)
    assert float(cost.log_q[0]) == pytest.approx(gnmax([800] + [0] * 999, 20.0, 1e-8, [2])[0], rel=1e-13)
    assert float(cost.log_q[1]) == pytest.approx(math.log1p(-1e-3), rel=1e-12)


@both
@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ([[1, 2], [3, -1], [-5, 0]], r"votes\[1\] = \[3, -1\] holds a negative, NaN or infinite count"),
        ([[1.0, 2.0], [np.nan, 1.0]], r"votes\[1\] = \[nan, 1\.0\] holds a negative, NaN or infinite"),
        ([[np.inf, 1.0]], r"votes\[0\] = \[inf, 1\.0\]"),
        ([-1, 0], r"votes\[0\] = \[-1, 0\]"),
        ([[1], [2]], r"votes have 1 class: with fewer than 2 there is nothing to leak"),
        (np.empty((3, 0)), r"votes have 0 class"),
        (np.zeros((2, 2, 2)), r"votes have shape \(2, 2, 2\): \[queries, classes\] is needed"),
        (5, r"votes have shape \(\)"),
    ],
    ids=["negative", "nan", "inf", "one row", "one class", "no class", "3-d", "number"],
)
def test_bad_votes_are_refused_naming_the_first_bad_row(votes: Any, message: str, backend: str) -> None:
    with pytest.raises(ValueError, match=message):
        vote_cost(votes, sigma=1.0, delta=0.1, backend=backend)


@both
@pytest.mark.parametrize(
    "votes",
    [[[True, False]], [[1 + 0j, 2]], [["1", "2"]], np.array([[1, 2]], dtype=object), [[2**70, 0]]],
    ids=["bool", "complex", "text", "object", "beyond 64 bits"],
)
def test_votes_that_are_no_counts_are_a_type_error(votes: Any, backend: str) -> None:
    with pytest.raises(TypeError, match=r"votes have dtype .*: counts must be integers or floats"):
        vote_cost(votes, sigma=1.0, delta=0.1, backend=backend)


@both
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sigma": 0.0}, r"sigma=0.0 must lie between"),
        ({"sigma": -1.0}, r"sigma=-1.0 must lie"),
        ({"sigma": math.nan}, r"sigma=nan must lie"),
        ({"sigma": math.inf}, r"sigma=inf must lie"),
        ({"delta": 0.0}, r"delta=0.0 must lie between 0 and 1"),
        ({"delta": 1.0}, r"delta=1.0 must lie"),
        ({"delta": math.nan}, r"delta=nan must lie"),
        ({"orders": []}, r"orders must be a non-empty list of finite numbers above 1"),
        ({"orders": [2.0, 1.0]}, r"orders must be"),
        ({"orders": [math.nan]}, r"orders must be"),
        ({"orders": [math.inf]}, r"orders must be"),
        ({"orders": [[2.0]]}, r"orders must be"),
        ({"bound": "tight"}, r"unknown bound 'tight': choose one of clipped, unclipped, data-independent"),
    ],
    ids=str,
)
def test_bad_settings_are_refused_by_name(more: dict[str, Any], message: str, backend: str) -> None:
    with pytest.raises(ValueError, match=message):
        vote_cost([1, 2], **({"sigma": 1.0, "delta": 0.1, "backend": backend} | more))


@both
@pytest.mark.parametrize("sigma", [1e-300, 1e-160, 1e155, 1e300])
def test_a_sigma_whose_square_is_no_number_is_refused_or_gives_a_finite_cost(sigma: float, backend: str) -> None:
    try:
        cost = vote_cost([3, 2, 1], sigma=sigma, delta=1e-5, backend=backend)
    except ValueError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert np.isfinite([cost.log_q[0], cost.eps[0]]).all()
    assert not refusal or "sigma" in refusal


@both
def test_a_delta_below_normal_numbers_is_still_finite(backend: str) -> None:
    cost = vote_cost([40, 10], sigma=2.0, delta=5e-324, orders=[2.0], bound="data-independent", backend=backend)
    assert float(cost.eps[0]) == pytest.approx(0.5 + 1074 * math.log(2), rel=1e-14)


@both
def test_votes_are_not_written_to(backend: str) -> None:
    votes = np.array([[3.0, 1.0]])
    vote_cost(votes, sigma=1.0, delta=0.1, backend=backend)
    assert votes.tolist() == [[3.0, 1.0]]
