"""What only the compiled twin does: many classes, runs, deep tails, moments, pruned orders, threads, little memory."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from histograms import mixed
from powsim_kernels import PatePlan, default_orders
from powsim_kernels.pate import cpu, hosted, vector
from powsim_kernels.pate.conversion import surcharge


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 31, 32, 33, 36, 40, 100, 1000])
@pytest.mark.parametrize("sigma", [2.0, 30.0])
def test_every_number_of_classes_reads_as_the_specification(classes: int, sigma: float) -> None:
    votes = mixed(24, 120, classes)
    votes[0], votes[1] = 0, 1
    votes[2, :] = 0
    votes[2, -1] = 120
    truth = PatePlan(120, classes, sigma, [2], backend="reference").logq(votes)
    its = PatePlan(120, classes, sigma, [2], backend="cpu")
    found = its.logq(votes)
    np.testing.assert_allclose(found, truth, rtol=1e-13)
    for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64):
        assert np.array_equal(its.logq(votes.astype(dtype)), found), dtype
    # Rows that do not begin on a whole word are read another way, to the same bits.
    shifted = np.zeros(votes.size + 1, np.uint8)[1:].reshape(votes.shape)
    shifted[:] = votes
    assert np.array_equal(its.logq(shifted), found)
    for value in (-1, 121):
        for column in (0, classes - 1):
            bad = votes.astype(np.int16)
            bad[7, column] = value
            with pytest.raises(ValueError, match=r"votes\[7\] = "):
                its.logq(bad)


def test_soft_counts_read_as_the_specification() -> None:
    votes = mixed(60, 120, 5) * 0.99 + 0.003
    for mechanism in ("gnmax", "lnmax"):
        for sigma in (0.5, 2.0, 30.0):
            plans = [PatePlan(121, 5, sigma, [2], mechanism=mechanism, backend=name) for name in ("cpu", "reference")]
            np.testing.assert_allclose(plans[0].logq(votes), plans[1].logq(votes), rtol=1e-13)


@pytest.mark.parametrize(("teachers", "sigma"), [(250, 40.0), (300, 2.0), (5000, 1.0), (100, 150.0), (50, 0.5)])
@pytest.mark.parametrize("clip", [True, False])
def test_moments_add_up_to_the_rows(teachers: int, sigma: float, clip: bool) -> None:
    votes, grid = mixed(600, teachers, 6), default_orders()[::9]
    its = PatePlan(teachers, 6, sigma, grid, clip=clip, backend="cpu")
    rdp = its.rdp(votes)
    exact = np.array([math.fsum(column) for column in rdp.T])
    np.testing.assert_allclose(its.total(votes), exact, rtol=2e-13, atol=1e-280)
    if its.clip:
        cells = cpu.tools(its).cells
        lnq = its.logq(votes)
        for row in range(0, 600, 25):  # a single row has nothing to hide behind
            less = -float(lnq[row])
            rtol = 1e-12 if less < cells.most else 0
            np.testing.assert_allclose(its.total(votes[row]), rdp[row], rtol=max(rtol, 3e-15 * less), atol=1e-280)


@pytest.mark.parametrize("sigma", [0.7, 2.0, 9.0, 40.0, 300.0])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("step", [0.001, 0.5, 3.0, 40.0])
def test_runs_of_even_orders_are_inside_the_rule(sigma: float, clip: bool, step: float) -> None:
    votes = mixed(300, 200, 4)
    grid = np.append(1.0 + step * np.arange(1, 28), 5000.0)
    its, truth = (PatePlan(200, 4, sigma, grid, clip=clip, backend=name) for name in ("cpu", "reference"))
    picked = np.arange(0, 300, 7)
    found, rows = its.rdp(votes)[picked], truth.rdp(votes[picked])
    scale = 2e-15 * (1 - truth.logq(votes[picked]))[:, None]
    assert np.all(np.abs(found - rows) <= scale * rows + 1e-290)


def test_more_groups_than_moments_are_worth_cost_the_same() -> None:
    votes = mixed(900, 250, 6)
    its = PatePlan(250, 6, 20.0, default_orders("short"), threshold=150, sigma1=40, backend="cpu")
    groups = np.arange(900) % 400
    assert "moments" not in cpu.empty(its, 400)
    found = its.total(votes, groups=groups)
    np.testing.assert_allclose(found.sum(axis=0), its.total(votes), rtol=1e-12)
    np.testing.assert_allclose(found[7], its.total(votes[groups == 7]), rtol=1e-13)


@pytest.mark.parametrize(("sigma", "clip"), [(28.0, True), (10.0, False), (2.0, True), (100.0, True)])
def test_pruned_orders_leave_every_running_eps_as_it_was(sigma: float, clip: bool) -> None:
    votes = mixed(5000, 300, 10)
    its = PatePlan(300, 10, sigma, clip=clip, backend="cpu")
    extra = surcharge(its.grid, 1e-6, "classic")
    spent = np.cumsum(its.rdp(votes), axis=0)
    eps = its.running_eps(votes, 1e-6, conversion="classic")
    np.testing.assert_allclose(eps, (spent + extra).min(axis=1), rtol=1e-12)
    later = its.running_eps(votes[3000:], 1e-6, start=spent[2999], conversion="classic")
    np.testing.assert_allclose(later, eps[3000:], rtol=1e-12)
    assert float(eps[-1]) == pytest.approx(float(np.min(its.total(votes) + extra)), rel=1e-12)


@pytest.mark.parametrize(
    "more", [{}, {"threshold": 150, "sigma1": 40}, {"mechanism": "lnmax"}], ids=["gnmax", "confident", "lnmax"]
)
def test_threads_and_pieces_change_nothing(more: dict[str, Any]) -> None:
    votes = mixed(60_000, 250, 10).astype(np.int16)
    plans = [PatePlan(250, 10, 20.0, [2, 8, 30], threads=threads, backend="cpu", **more) for threads in (1, 2, 3)]
    total, rdp = plans[0].total(votes), plans[0].rdp(votes)
    for its in plans[1:]:
        np.testing.assert_allclose(its.total(votes), total, rtol=1e-13)
        assert np.array_equal(its.rdp(votes), rdp)
    np.testing.assert_allclose(plans[1].total(np.asfortranarray(votes)), total, rtol=1e-13)
    bad = votes.copy()
    bad[59_999, 3] = bad[31_234, 0] = -5
    with pytest.raises(ValueError, match=r"votes\[31234\] = \[-5, "):
        plans[2].total(bad)


def test_totals_take_little_memory_whatever_the_rows() -> None:
    votes = mixed(300_000, 250, 10).astype(np.int16)
    its = PatePlan(250, 10, 20.0, threads=1, backend="cpu")
    its.total(votes[:10])
    tracemalloc.start()
    its.total(votes)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10e6


@pytest.mark.parametrize(("teachers", "sigma"), [(250, 40.0), (300, 2.0), (50, 0.5), (20, 0.3), (5000, 300.0)])
@pytest.mark.parametrize("clip", [True, False])
def test_costs_by_polynomials_and_without_are_inside_the_rule(teachers: int, sigma: float, clip: bool) -> None:
    votes = mixed(60, teachers, 6)
    grid = 1.0 + np.geomspace(1e-4, 3e3, 70)
    its, truth = (PatePlan(teachers, 6, sigma, grid, clip=clip, backend=name) for name in ("cpu", "reference"))
    assert cpu.tools(its).curves.worth == (sigma >= 40.0)  # else the cells are too many to keep
    found, rows = its.rdp(votes), truth.rdp(votes)
    scale = 2e-15 * (1 - truth.logq(votes))[:, None]
    assert np.all(np.abs(found - rows) <= scale * rows + 1e-290)


@pytest.mark.parametrize("orders", [40, 396])
@pytest.mark.parametrize(
    "more", [{}, {"threshold": 150, "sigma1": 40}, {"clip": False}, {"mechanism": "lnmax"}], ids=str
)
def test_a_row_costs_the_same_to_the_last_bit_in_any_company(orders: int, more: dict[str, Any]) -> None:
    votes = mixed(300, 250, 10).astype(np.int16)
    plans = [PatePlan(250, 10, 20.0, default_orders()[:orders], backend="cpu", threads=n, **more) for n in (1, 2)]
    assert cpu.tools(plans[0]).curves.worth == (orders == 40)
    many = np.repeat(votes, 150, axis=0)[np.random.default_rng(3).permutation(45_000)]
    rows, where = np.unique(many, axis=0, return_inverse=True)
    for own in (lambda plan, some: plan.rdp(some), lambda plan, some: plan.eps(some, 1e-6)[0]):
        alone = np.concatenate([own(plans[0], rows[i : i + 1]) for i in range(len(rows))])
        assert np.array_equal(own(plans[1], many), alone[where])


def test_rows_beyond_the_cells_and_rows_that_cannot_be_votes_are_priced_alone() -> None:
    votes = np.array([[400, 0], [399, 1], [220, 180], [200, 200], [9, -1]], np.int16)
    its = PatePlan(400, 2, 1.0, [2, 8, 200], backend="cpu", check=False)
    alone, many = its.rdp(votes), its.rdp(np.repeat(votes, 300, axis=0)).reshape(5, 300, 3)
    assert np.isnan(alone[4]).all()
    assert np.isnan(many[4]).all()
    assert not np.isnan(many[:4]).any()
    np.testing.assert_allclose(many[:4, 7], alone[:4], rtol=1e-12, atol=1e-290)


@pytest.mark.parametrize("clip", [True, False])
def test_pruned_orders_leave_running_eps_under_a_threshold_as_it_was(clip: bool) -> None:
    votes = mixed(5000, 300, 10)
    its = PatePlan(300, 10, 12.0, threshold=180, sigma1=60, clip=clip, backend="cpu")
    extra = surcharge(its.grid, 1e-6, "classic")
    spent = np.cumsum(its.rdp(votes), axis=0)
    eps = its.running_eps(votes, 1e-6, conversion="classic")
    np.testing.assert_allclose(eps, (spent + extra).min(axis=1), rtol=1e-12)
    # Counts that the table of the threshold does not hold end the pruning, and nothing else.
    soft = votes.astype(np.float64)
    soft[4000:] *= 0.999
    spent = np.cumsum(its.rdp(soft), axis=0)
    for rows in (64, 5000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hosted, "ROWS", rows)
            eps = its.running_eps(soft, 1e-6, conversion="classic")
        np.testing.assert_allclose(eps, (spent + extra).min(axis=1), rtol=1e-12)


def test_running_eps_does_not_depend_on_the_pieces_read(monkeypatch: pytest.MonkeyPatch) -> None:
    votes, groups = mixed(3000, 300, 10), np.arange(3000) % 7
    its = PatePlan(300, 10, 28.0, backend="cpu")
    whole, grouped = its.running_eps(votes, 1e-6), its.running_eps(votes, 1e-6, groups=groups)
    monkeypatch.setattr(hosted, "ROWS", 77)
    np.testing.assert_allclose(its.running_eps(votes, 1e-6), whole, rtol=1e-12)
    np.testing.assert_allclose(its.running_eps(votes, 1e-6, groups=groups), grouped, rtol=1e-12)
    np.testing.assert_allclose(grouped[groups == 3], its.running_eps(votes[groups == 3], 1e-6), rtol=1e-12)
    bad = votes.copy()
    bad[2345, 3] = -1
    with pytest.raises(ValueError, match=r"votes\[2345\] = "):
        its.running_eps(bad, 1e-6)


@pytest.mark.parametrize("scale", [0.001, 0.5, 3.0, 40.0])
def test_laplace_costs_equal_the_specification(scale: float) -> None:
    votes = mixed(120, 200, 4)
    grid = 1.0 + np.geomspace(1e-4, 1e4, 40)
    its, truth = (PatePlan(200, 4, scale, grid, mechanism="lnmax", backend=name) for name in ("cpu", "reference"))
    limit = 2e-15 * (1 - truth.logq(votes))[:, None]
    rows = truth.rdp(votes)
    assert np.all(np.abs(its.rdp(votes) - rows) <= limit * rows + 1e-290)


@pytest.mark.parametrize("work", ["rdp", "running_eps", "groups", "eps"])
def test_no_result_takes_much_more_memory_than_itself(work: str) -> None:
    votes = mixed(40_000, 250, 10).astype(np.int16)
    votes = np.concatenate([votes] * 10)
    its = PatePlan(250, 10, 20.0, np.arange(2.0, 12.0), threads=1, backend="cpu")
    out, groups = np.empty((len(votes), 10)), np.arange(len(votes)) % 50
    calls = {
        "rdp": lambda rows: its.rdp(rows, out=out[: len(rows)]),
        "running_eps": lambda rows: its.running_eps(rows, 1e-5),
        "groups": lambda rows: its.total(rows, groups=groups[: len(rows)]),
        "eps": lambda rows: its.eps(rows, 1e-5),
    }
    calls[work](votes[:2000])
    tracemalloc.start()
    found = calls[work](votes)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    own = {"rdp": 0, "groups": 0}.get(work, 16 * len(votes) if work == "eps" else found.nbytes)
    assert most - own < 10e6


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("exp", np.concatenate((np.linspace(-707, 708, 4001), np.geomspace(1e-300, 1, 99)))),
        ("expm1", np.concatenate((np.linspace(-50, 700, 4001), np.linspace(-1, 1, 2001), np.geomspace(1e-300, 1, 99)))),
        ("log", np.concatenate((np.geomspace(1e-300, 1e300, 4001), np.linspace(0.6, 1.5, 2000)))),
        ("log1p", np.concatenate((np.geomspace(1e-300, 1e300, 4001), np.linspace(0, 3, 2001)))),
    ],
)
def test_vector_functions_are_within_two_ulp(name: str, values: np.ndarray) -> None:
    function = getattr(vector, name)
    for value in values.tolist():
        truth = getattr(mp, name)(mpf(value))
        assert abs(function(value) - truth) <= 4 * 2.0**-53 * abs(truth), value
    if name in ("exp", "expm1"):
        assert function(-800.0) == (0.0 if name == "exp" else -1.0)
