"""What histograms cost under `PatePlan`: published vectors inside their own acceptance rule, on every twin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from nogpu.machine import imagined, install
from oracles import pate_vectors, screening, vectors
from powsim_kernels import OrderGridWarning, PatePlan, default_orders, rdp_to_delta, rdp_to_eps
from powsim_kernels.pate.plan import OFFERED

__all__ = ["imagined", "install"]  # fixtures

pytestmark = pytest.mark.usefixtures("imagined")
both = pytest.mark.parametrize("backend", OFFERED)
CASES = pate_vectors()
case_by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']}-{case['kind']}")
edges = pytest.mark.filterwarnings("ignore::powsim_kernels.pate.conversion.OrderGridWarning")
# The vectors hold 90 digits: beside a tail below 1e-60 their 1 - p has fewer than float64 has.
LOST = -140.0


def plan_of(case: dict[str, Any], backend: str, **more: Any) -> PatePlan:
    teachers = max(case["teachers"], math.ceil(max(case["votes"])))
    sigma = more.pop("sigma", case["sigma"])
    return PatePlan(teachers, len(case["votes"]), sigma, case["orders"], backend=backend, **more)


def confident(case: dict[str, Any], backend: str, **more: Any) -> PatePlan:
    step = case["threshold"]
    return plan_of(case, backend, threshold=step["T"], sigma1=step["sigma1"], **more)


def inside(found: np.ndarray, truth: list[str], *log_q: str, times: float = 1.0) -> None:
    """Costs: 2e-15 (1 + |ln q|) relative; below 1e-290 they may be zero."""
    scale = 1 + max(abs(float(value)) for value in log_q)
    expected = np.array(truth, dtype=np.float64)
    np.testing.assert_allclose(np.ravel(found), expected, rtol=2e-15 * scale * times, atol=1e-290)


@both
@case_by_case
def test_gnmax_is_inside_the_rule(case: dict[str, Any], backend: str) -> None:
    plan, truth = plan_of(case, backend), case["gnmax"]
    np.testing.assert_allclose(plan.logq(case["votes"]), float(truth["log_q"]), rtol=1e-13)
    rdp = plan.rdp(case["votes"])
    assert rdp.shape == (1, len(case["orders"]))
    inside(rdp, truth["rdp"], truth["log_q"])
    apart = np.abs(np.array(truth["rdp"], float) / plan.data_independent - 1) > 1e-12
    dependent = rdp[0] < plan.data_independent
    assert dependent[apart].tolist() == np.array(truth["data_dependent"])[apart].tolist()


@both
@case_by_case
def test_the_threshold_step_is_inside_the_rule(case: dict[str, Any], backend: str) -> None:
    plan, truth, votes = confident(case, backend), case["threshold"], case["votes"]
    answered = float(truth["log_pr_answered"])
    if answered > -1e-60:  # 1 - p, to the first order in the short tail
        answered = -math.exp(float(truth["log_q"]))
        rtol = 1e-15 * -float(truth["log_q"])
        np.testing.assert_allclose(plan.log_pr_answered(votes), answered, rtol=rtol, atol=1e-290)
    else:
        np.testing.assert_allclose(plan.log_pr_answered(votes), answered, rtol=1e-13, atol=1e-290)
    inside(plan.rdp(votes, realised=[False]), truth["rdp"], truth["log_q"])
    inside(plan.rdp(votes), case["confident"]["expected_rdp"], truth["log_q"], case["gnmax"]["log_q"])
    both_steps = np.array(truth["rdp"], float) + np.array(case["gnmax"]["rdp"], float)
    inside(plan.rdp(votes, realised=[True]), both_steps.tolist(), truth["log_q"], case["gnmax"]["log_q"])


@both
@case_by_case
def test_the_screening_bit_is_inside_the_rule(case: dict[str, Any], backend: str) -> None:
    plan, step = confident(case, backend, screening="exact"), case["threshold"]
    found, truth = plan.rdp(case["votes"], realised=[False])[0], case["screening"]["rdp"]
    if float(step["log_q"]) < LOST:
        picked = [0, len(truth) // 2, len(truth) - 1]
        if float(step["log_q"]) < -1500:
            pytest.skip("a tail below 1e-650: every cost of the case is 0 or decided by the largest order")
        more = (max(case["votes"]), step["T"], step["sigma1"])
        inside(found[picked], [screening(*more, case["orders"][at]) for at in picked], step["log_q"])
    else:
        # exp(k ln(p/p')) amplifies the rounding of a logarithm by k: the last order of case 108 takes 1.04 of the rule.
        inside(found, truth, step["log_q"], times=2)


@both
@case_by_case
def test_lnmax_is_inside_the_rule(case: dict[str, Any], backend: str) -> None:
    truth = case["lnmax"]
    plan = plan_of(case, backend, sigma=truth["scale"], mechanism="lnmax")
    np.testing.assert_allclose(plan.logq(case["votes"]), float(truth["log_q"]), rtol=1e-13)
    inside(plan.rdp(case["votes"]), truth["rdp"], truth["log_q"])


@edges
@both
@case_by_case
def test_eps_of_one_and_of_a_thousand_is_inside_the_rule(case: dict[str, Any], backend: str) -> None:
    votes, delta = case["votes"], case["delta"]
    for plan, name in ((plan_of(case, backend), "gnmax"), (confident(case, backend), "confident")):
        for truth in case[name]["eps"]:
            rdp = plan.total(votes, weights=[truth["times"]])
            for conversion in ("classic", "improved"):
                eps, index = rdp_to_eps(rdp, case["orders"], delta, conversion)
                assert float(eps) == pytest.approx(float(truth[conversion]), rel=1e-12, abs=1e-15)
                candidate = truth[f"{conversion}_order_index"]
                again = rdp_to_eps(rdp[[candidate]], [case["orders"][candidate]], delta, conversion)[0]
                assert index == candidate or float(again) == pytest.approx(float(eps), rel=1e-12, abs=1e-15)
                if truth["times"] == 1:
                    single = plan.eps(votes, delta, conversion=conversion)
                    assert float(single[0][0]) == pytest.approx(float(eps), rel=1e-12, abs=1e-15)


@both
@pytest.mark.parametrize("case", vectors()["gnmax_single_query"], ids=lambda case: case["id"])
def test_the_published_accountant_clipped_or_not_comes_out(case: dict[str, Any], backend: str) -> None:
    teachers = math.ceil(max(case["votes"]))
    for clip, eps, rdp in (
        (True, "eps_pate_cost", "rdp_data_dependent"),
        (False, "eps_no_upper_bound", "rdp_no_upper_bound"),
    ):
        plan = PatePlan(teachers, len(case["votes"]), case["sigma"], clip=clip, backend=backend)
        assert float(plan.eps(case["votes"], case["delta"], conversion="classic")[0][0]) == pytest.approx(
            case[eps], rel=1e-12
        )
        at = [int(np.argmin(np.abs(default_orders() - order))) for order in case["rdp_selected_orders"]]
        np.testing.assert_allclose(plan.rdp(case["votes"])[0][at], case[rdp], rtol=1e-12, atol=1e-290)


@both
@pytest.mark.parametrize("case", vectors()["confident_gnmax_single_query"], ids=lambda case: case["id"])
def test_the_published_confident_queries_come_out(case: dict[str, Any], backend: str) -> None:
    plan = PatePlan(
        int(max(case["votes"])),
        len(case["votes"]),
        case["sigma_gnmax"],
        threshold=case["threshold"],
        sigma1=case["sigma_threshold"],
        backend=backend,
    )
    assert float(plan.log_pr_answered(case["votes"])[0]) == pytest.approx(case["log_pr_answered"], rel=1e-12)
    assert float(plan.eps(case["votes"], case["delta"], conversion="classic")[0][0]) == pytest.approx(
        case["eps"], rel=1e-12
    )


@both
@pytest.mark.parametrize("case", vectors()["composition"], ids=lambda case: case["id"])
def test_the_published_streams_run_the_same(case: dict[str, Any], backend: str) -> None:
    for clip, name in ((True, "data_dependent_min"), (False, "no_upper_bound")):
        plan = PatePlan(case["num_teachers"], case["num_classes"], case["sigma"], clip=clip, backend=backend)
        eps = plan.running_eps(case["votes"], case["delta"], conversion="classic", every=8)
        np.testing.assert_allclose(eps, case[f"cumulative_rdp_eps_every_8_{name}"], rtol=1e-12)
    plan = PatePlan(case["num_teachers"], case["num_classes"], case["sigma"], backend=backend)
    eps = plan.running_eps(case["votes"], case["delta"], conversion="classic")
    np.testing.assert_allclose(eps, case["analyze_multiclass_gnmax_dp_eps"], rtol=1e-12)
    example = case["budget_example"]
    until = plan.queries_until(case["votes"], example["budget"], case["delta"], conversion="classic")
    assert eps[until] > example["budget"] >= eps[until - 1]
    assert until in (example["max_num_query"], example["max_num_query"] - 1)


def test_delta_turns_the_improved_conversion_round() -> None:
    orders = [1.5, 2, 4, 8, 16, 32, 64, 128, 256]
    rdp = np.outer([0.001, 0.01, 0.1], orders)
    for delta in (1e-3, 1e-6, 1e-9):
        eps, index = rdp_to_eps(rdp, orders, delta)
        for row in range(3):
            back, at = rdp_to_delta(rdp[row], orders, float(eps[row]))
            assert float(back) == pytest.approx(delta, rel=1e-11)
            assert at == index[row]
    assert float(rdp_to_delta([5.0], [2.0], 0.0)[0]) == 1.0


def test_conversions_by_hand() -> None:
    eps, index = rdp_to_eps([1.0, 1.5, 9.0], [2, 3, 4], math.exp(-2.0), "classic")
    assert (float(eps), int(index)) == (pytest.approx(2.5, rel=1e-15), 1)
    improved, _ = rdp_to_eps([1.0, 1.5, 9.0], [2, 3, 4], math.exp(-2.0))
    assert float(improved) == pytest.approx(1.5 + math.log(2 / 3) + (2 - math.log(3)) / 2, rel=1e-15)
    with pytest.warns(OrderGridWarning, match="best order is 4, at the edge"):
        assert float(rdp_to_eps([9.0, 9.0, 2.0], [2, 3, 4], math.exp(-3.0), "classic")[0]) == pytest.approx(3.0)
    assert float(rdp_to_eps([0.0, 0.0, 0.0], [2, 3, 4], 0.9)[0]) == 0.0


def test_default_orders_are_two_grids() -> None:
    assert default_orders().shape == default_orders("long").shape == (396,)
    assert default_orders("short").shape == (26,)
    assert np.all(np.diff(default_orders("short")) > 0)
    with pytest.raises(ValueError, match="unknown kind of orders 'x': choose long or short"):
        default_orders("x")
