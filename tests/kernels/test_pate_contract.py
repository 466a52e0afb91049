"""What `PatePlan` promises whatever the numbers: invariances, totals that merge, bad input named by row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nogpu.machine import imagined, install
from powsim_kernels import BackendUnavailable, PatePlan, default_orders, rdp_to_delta, rdp_to_eps
from powsim_kernels.pate.plan import OFFERED

__all__ = ["imagined", "install"]  # fixtures

pytestmark = pytest.mark.usefixtures("imagined")
both = pytest.mark.parametrize("backend", OFFERED)
ORDERS = [1.01, 1.5, 2, 3, 5, 9, 20, 64]
FEW = settings(max_examples=40, deadline=None, derandomize=True)
KINDS: list[dict[str, Any]] = [
    {},
    {"clip": False},
    {"threshold": 60, "sigma1": 15},
    {"threshold": 60, "sigma1": 15, "screening": "exact"},
    {"mechanism": "lnmax"},
]
every_kind = pytest.mark.parametrize("more", KINDS, ids=lambda more: "-".join(map(str, more.values())) or "plain")


def mixed(rows: int, teachers: int = 100, classes: int = 7, seed: int = 1) -> np.ndarray:
    """Return histograms from flat to unanimous, the last of them empty."""
    rng = np.random.default_rng(seed)
    votes = rng.multinomial(teachers, rng.dirichlet(np.full(classes, 0.2), size=rows))
    votes[: rows // 4] = 0
    votes[np.arange(rows // 4), rng.integers(0, classes, rows // 4)] = teachers
    votes[-1:] = 0
    return votes


def plan(backend: str, **more: Any) -> PatePlan:
    return PatePlan(100, 7, more.pop("sigma", 8.0), more.pop("orders", ORDERS), backend=backend, **more)


@both
@every_kind
def test_total_is_the_sum_of_rows_whatever_the_grouping(more: dict[str, Any], backend: str) -> None:
    votes, its = mixed(60), plan(backend, **more)
    rdp = its.rdp(votes)
    assert rdp.shape == (60, 8)
    exact = np.array([math.fsum(rdp[:, at]) for at in range(8)])
    np.testing.assert_allclose(its.total(votes), exact, rtol=1e-13)
    groups, weights = np.arange(60) % 4, np.linspace(0, 3, 60)
    grouped = its.total(votes, groups=groups)
    assert grouped.shape == (4, 8)
    np.testing.assert_allclose(grouped.sum(axis=0), exact, rtol=1e-13)
    for group in range(4):
        np.testing.assert_allclose(grouped[group], its.total(votes[groups == group]), rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(its.total(votes, weights=weights), weights @ rdp, rtol=1e-12)
    # Whole weights are repetitions.
    twice = its.total(np.repeat(votes, 2, axis=0))
    np.testing.assert_allclose(twice, its.total(votes, weights=np.full(60, 2.0)), rtol=1e-13)


@both
@every_kind
def test_parts_merge_to_the_whole(more: dict[str, Any], backend: str) -> None:
    votes, its = mixed(50), plan(backend, **more)
    whole = its.total(votes)
    parts = its.accumulator().add(votes[:13]).add(votes[13:30]) + its.accumulator().add(votes[30:])
    assert parts.rows == 50
    np.testing.assert_allclose(parts.total(), whole, rtol=1e-13)
    assert np.all(its.accumulator().total() == 0)
    assert its.accumulator(3).total().shape == (3, 8)
    with pytest.raises(ValueError, match="different plans or numbers of groups do not merge"):
        _ = its.accumulator(3) + its.accumulator()


@both
@every_kind
def test_realised_takes_only_what_was_answered(more: dict[str, Any], backend: str) -> None:
    votes, its = mixed(40), plan(backend, **more)
    if not its.confident:
        with pytest.raises(ValueError, match="realised says which queries passed"):
            its.rdp(votes, realised=np.ones(40, bool))
        return
    flags = np.arange(40) % 3 == 0
    none, all_, some, mean = (
        its.rdp(votes, realised=np.zeros(40, bool)),
        its.rdp(votes, realised=np.ones(40, bool)),
        its.rdp(votes, realised=flags),
        its.rdp(votes),
    )
    assert np.array_equal(some, np.where(flags[:, None], all_, none))
    share = np.exp(its.log_pr_answered(votes))[:, None]
    np.testing.assert_allclose(mean, none + share * (all_ - none), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(its.total(votes, realised=flags), some.sum(axis=0), rtol=1e-13)


@both
@every_kind
def test_no_row_depends_on_the_others(more: dict[str, Any], backend: str) -> None:
    votes, its = mixed(80), plan(backend, **more)
    rdp, lnq = its.rdp(votes), its.logq(votes)
    for row in (0, 1, 19, 20, 63, 64, 79):
        np.testing.assert_allclose(its.rdp(votes[row])[0], rdp[row], rtol=1e-13)
        assert its.logq(votes[row])[0] == lnq[row]
    pick = np.random.default_rng(2).permutation(80)
    np.testing.assert_allclose(its.rdp(votes[pick]), rdp[pick], rtol=1e-13)


@both
@every_kind
def test_the_order_of_classes_and_of_orders_does_not_matter(more: dict[str, Any], backend: str) -> None:
    rng, votes = np.random.default_rng(3), mixed(40)
    its = plan(backend, **more)
    shuffled = rng.permuted(votes, axis=1)
    np.testing.assert_allclose(its.logq(shuffled), its.logq(votes), rtol=1e-14)
    np.testing.assert_allclose(its.rdp(shuffled), its.rdp(votes), rtol=1e-12)
    turned = plan(backend, orders=ORDERS[::-1], **more)
    np.testing.assert_allclose(turned.rdp(votes)[:, ::-1], its.rdp(votes), rtol=1e-13)
    np.testing.assert_allclose(turned.total(votes)[::-1], its.total(votes), rtol=1e-13)


@both
def test_the_type_of_votes_changes_no_bit(backend: str) -> None:
    votes, its = mixed(50), plan(backend)
    lnq, total = its.logq(votes), its.total(votes)
    kinds = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.uint64)
    for dtype in (*kinds, np.float16, np.float32, np.float64):
        assert np.array_equal(its.logq(votes.astype(dtype)), lnq), dtype
        np.testing.assert_allclose(its.total(votes.astype(dtype)), total, rtol=1e-13)
    assert np.array_equal(its.logq(votes.tolist()), lnq)
    assert np.array_equal(its.logq(np.asfortranarray(votes)), lnq)
    assert np.array_equal(its.logq(votes.astype(">i4")), lnq)
    assert np.array_equal(its.logq(np.repeat(votes, 2, axis=0)[::2]), lnq)


@both
def test_results_go_where_they_are_told(backend: str) -> None:
    votes, its = mixed(20), plan(backend)
    truth = its.rdp(votes)
    out = np.full((20, 8), np.nan)
    assert its.rdp(votes, out=out) is out
    assert np.array_equal(out, truth)
    wide = np.zeros((20, 16), np.float32)
    its.rdp(votes, out=wide[:, ::2])
    assert np.array_equal(wide[:, ::2], truth.astype(np.float32))
    assert its.rdp(votes, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match=r"out has shape \(2, 2\)"):
        its.rdp(votes, out=np.zeros((2, 2)))
    with pytest.raises(TypeError, match="costs come as float64 or float32"):
        its.rdp(votes, dtype=np.int32)


@both
@every_kind
def test_running_eps_is_the_eps_of_what_was_spent(more: dict[str, Any], backend: str) -> None:
    votes, its = mixed(45), plan(backend, **more)
    rdp = np.cumsum(its.rdp(votes), axis=0)
    for conversion in ("classic", "improved"):
        truth = [float(np.min(eps)) for eps in map(lambda r: candidates(r, conversion), rdp)]  # noqa: C417
        eps = its.running_eps(votes, 1e-5, conversion=conversion)
        np.testing.assert_allclose(eps, truth, rtol=1e-12)
        assert np.array_equal(its.running_eps(votes, 1e-5, conversion=conversion, every=7), eps[6::7])
        later = its.running_eps(votes[20:], 1e-5, start=its.total(votes[:20]), conversion=conversion)
        np.testing.assert_allclose(later, eps[20:], rtol=1e-12)
    groups = np.arange(45) % 3
    grouped = its.running_eps(votes, 1e-5, groups=groups)
    for group in range(3):
        mine = groups == group
        np.testing.assert_allclose(grouped[mine], its.running_eps(votes[mine], 1e-5), rtol=1e-12)
    assert its.queries_until(votes, 0.0, 1e-5) == 0
    assert its.queries_until(votes, 1e9, 1e-5) == 45
    assert its.queries_until(votes, float(eps[10]), 1e-5) > 10


def candidates(rdp: np.ndarray, conversion: str) -> np.ndarray:
    a, log_delta = np.array(ORDERS), math.log(1e-5)
    extra = -log_delta / (a - 1)
    return rdp + (extra if conversion == "classic" else np.log((a - 1) / a) - (log_delta + np.log(a)) / (a - 1))


@both
@every_kind
def test_nothing_costs_nothing(more: dict[str, Any], backend: str) -> None:
    its, none = plan(backend, **more), np.empty((0, 7), np.int16)
    assert its.logq(none).shape == its.log_pr_answered(none).shape == (0,)
    assert its.rdp(none).shape == (0, 8)
    assert its.total(none).tolist() == [0.0] * 8
    assert its.total(none, groups=np.empty(0, int)).shape == (0, 8)
    assert its.running_eps(none, 0.1).shape == (0,)
    assert its.queries_until(none, 1.0, 0.1) == 0
    assert its.eps(none, 0.1)[0].shape == (0,)


@both
@every_kind
def test_costs_stay_below_what_no_votes_can_exceed(more: dict[str, Any], backend: str) -> None:
    its = plan(backend, **more)
    rdp = its.rdp(mixed(80))
    assert np.all(rdp >= 0)
    if its.clip:
        assert np.all(rdp <= its.data_independent * (1 + 1e-12))


@both
@pytest.mark.parametrize("kind", [np.int16, np.float64])
@pytest.mark.parametrize("value", [-1, 101, 32767, math.nan, math.inf])
def test_a_row_that_cannot_be_votes_is_named(value: float, kind: type, backend: str) -> None:
    if kind is np.int16 and not math.isfinite(value):
        return
    votes, its = mixed(30).astype(kind), plan(backend)
    votes[17, 3] = votes[22, 0] = value
    total = its.accumulator().add(mixed(5))
    before = total.total()
    for method in (
        its.logq, its.log_pr_answered, its.rdp, its.total, total.add,
        lambda v: its.eps(v, 0.1), lambda v: its.running_eps(v, 0.1), lambda v: its.queries_until(v, 1, 0.1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"votes\[17\] = \[.*\] holds a negative, NaN or infinite count, or one "):
            method(votes)
    assert np.array_equal(total.total(), before)
    assert total.rows == 5
    loose = plan(backend, check=False)
    assert np.flatnonzero(np.isnan(loose.logq(votes))).tolist() == [17, 22]
    assert np.flatnonzero(np.isnan(loose.rdp(votes)).all(axis=1)).tolist() == [17, 22]
    assert np.isnan(loose.total(votes)).all()
    assert np.isnan(loose.running_eps(votes, 0.1)[17:]).all()


GOOD: dict[str, Any] = {"num_voters": 10, "num_classes": 3, "sigma": 2.0}


@both
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sigma": 0}, "sigma=0 must lie between"),
        ({"sigma": math.nan}, "sigma=nan must lie"),
        ({"sigma": math.inf}, "sigma=inf must lie"),
        ({"sigma": -1}, "sigma=-1 must lie"),
        ({"threshold": 5, "sigma1": 0}, "sigma1=0 must lie"),
        ({"threshold": 5}, "threshold=5.0 and sigma1=None: give both or neither"),
        ({"sigma1": 5.0}, "threshold=None and sigma1=5.0: give both or neither"),
        ({"threshold": math.nan, "sigma1": 1.0}, "threshold=nan must lie between"),
        ({"orders": [2, 1]}, r"orders\[1\] = 1.0 is not a finite number above 1"),
        ({"orders": [math.nan]}, r"orders\[0\] = nan"),
        ({"orders": [2, math.inf]}, r"orders\[1\] = inf"),
        ({"orders": [2, 3, 2]}, "order 2.0 stands twice"),
        ({"orders": []}, "non-empty list"),
        ({"orders": 2.0}, "non-empty list"),
        ({"num_classes": 1}, "num_classes=1 must lie between 2"),
        ({"num_voters": 0}, "num_voters=0 must lie between 1"),
        ({"mechanism": "gauss"}, "unknown mechanism 'gauss': choose one of gnmax, lnmax"),
        ({"screening": "exact"}, "screening='exact' prices a threshold"),
        ({"screening": "other"}, "unknown screening 'other'"),
    ],
)
def test_plans_that_mean_nothing_are_refused(more: dict[str, Any], message: str, backend: str) -> None:
    with pytest.raises(ValueError, match=message):
        PatePlan(**(GOOD | more), backend=backend)


@both
def test_arguments_that_mean_nothing_are_refused(backend: str) -> None:
    its, votes = PatePlan(**GOOD, backend=backend), [[1, 2, 3], [4, 5, 1]]
    for bad, message in (
        (np.zeros((2, 3), bool), "votes have dtype bool"),
        (np.zeros((2, 3), complex), "votes have dtype complex128"),
        (np.array([[None] * 3]), "votes have dtype object"),
    ):
        with pytest.raises(TypeError, match=message):
            its.rdp(bad)
    for shape in ((2, 4), (2,), (2, 2, 3), (0,)):
        with pytest.raises(ValueError, match=r"votes have shape .*: \[queries, num_classes=3\] is needed"):
            its.total(np.zeros(shape, int))
    for delta in (0, 1, -1, 2, math.nan):
        for call in (its.eps, its.running_eps, lambda v, d: its.rdp_to_eps(its.total(v), d)):
            with pytest.raises(ValueError, match=r"delta=.* must lie between 0 and 1"):
                call(votes, delta)
    with pytest.raises(ValueError, match="unknown conversion 'x': choose one of classic, improved"):
        its.eps(votes, 0.1, conversion="x")
    with pytest.raises(ValueError, match=r"weights\[1\] = nan is negative or not finite"):
        its.total(votes, weights=[1, math.nan])
    with pytest.raises(ValueError, match=r"groups\[0\] = -1 is negative"):
        its.total(votes, groups=[-1, 0])
    with pytest.raises(ValueError, match=r"groups\[1\] = 5 is negative or not below num_groups=2"):
        its.accumulator(2).add(votes, groups=[0, 5])
    with pytest.raises(ValueError, match="give both or neither"):
        its.accumulator().add(votes, groups=[0, 0])
    with pytest.raises(TypeError, match="groups have dtype float64"):
        its.total(votes, groups=[0.0, 1.0])
    with pytest.raises(ValueError, match="every=0 must be at least 1"):
        its.running_eps(votes, 0.1, every=0)
    with pytest.raises(ValueError, match=r"start has shape \(2,\)"):
        its.running_eps(votes, 0.1, start=[0, 0])
    with pytest.raises(ValueError, match="rdp holds a negative or NaN cost"):
        rdp_to_eps([math.nan, 1], [2, 3], 0.1)
    with pytest.raises(ValueError, match="last axis must be the 2 orders"):
        rdp_to_delta([1, 2, 3], [2, 3], 0.1)
    with pytest.raises(ValueError, match="eps=-1 must be a finite number"):
        rdp_to_delta([1, 2], [2, 3], -1)


def test_a_plan_is_frozen_and_names_the_backends_it_has() -> None:
    its = PatePlan(**GOOD, backend="reference")
    with pytest.raises(AttributeError):
        its.sigma = 3.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        its.grid[0] = 5
    assert its.grid.tolist() == default_orders().tolist()
    for backend in ("cuda",):
        with pytest.raises(BackendUnavailable):
            PatePlan(**GOOD, backend=backend)


@FEW
@given(
    st.integers(2, 6).flatmap(lambda c: st.lists(st.integers(0, 300), min_size=c, max_size=c)),
    st.floats(0.5, 200.0),
    st.booleans(),
)
@both
def test_histograms_of_all_sorts_cost_the_same_alone_summed_and_run(
    backend: str, votes: list[int], sigma: float, clip: bool
) -> None:
    its = PatePlan(300, len(votes), sigma, ORDERS, clip=clip, backend=backend)
    truth = PatePlan(300, len(votes), sigma, ORDERS, clip=clip, backend="reference")
    lnq = truth.logq(votes)
    np.testing.assert_allclose(its.logq(votes), lnq, rtol=1e-13)
    rdp = truth.rdp(votes)[0]
    rtol = 4e-15 * (1 - float(lnq[0]))
    np.testing.assert_allclose(its.rdp(votes)[0], rdp, rtol=rtol, atol=1e-290)
    np.testing.assert_allclose(its.total(votes), rdp, rtol=max(1e-12, rtol), atol=1e-250)
    np.testing.assert_allclose(its.running_eps(votes, 1e-6), np.max([np.min(truth.eps(votes, 1e-6)[0]), 0]), rtol=1e-12)
