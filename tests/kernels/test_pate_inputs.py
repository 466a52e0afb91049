"""What callers do with plans and hand to them, beyond plain arrays of votes."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest

from powsim_kernels import PatePlan

both = pytest.mark.parametrize("backend", ["reference", "cpu"])
VOTES = np.array([[40, 10, 0, 0], [30, 10, 10, 0], [50, 0, 0, 0]], np.int16)


def plan(backend: str = "cpu", **more: Any) -> PatePlan:
    return PatePlan(50, 4, **({"sigma": 5.0, "orders": [2.0, 8.0], "backend": backend} | more))


@both
@pytest.mark.parametrize("more", [{}, {"threshold": 30, "sigma1": 10}, {"mechanism": "lnmax"}], ids=str)
def test_a_used_plan_is_copied_and_sent_to_other_processes(backend: str, more: dict[str, Any]) -> None:
    its = plan(backend, **more)
    total = its.total(VOTES)
    its.rdp(VOTES)
    accumulator = its.accumulator().add(VOTES)
    for again in (pickle.loads(pickle.dumps(its)), copy.deepcopy(its)):
        assert np.array_equal(again.total(VOTES), total)
        with pytest.raises(ValueError, match="read-only"):
            again.grid[0] = 3.0
    assert np.array_equal(pickle.loads(pickle.dumps(accumulator)).total(), accumulator.total())


@both
def test_float32_settings_are_those_numbers_to_the_last_digit(backend: str) -> None:
    rough = {"sigma": np.float32(0.1), "threshold": np.float32(30.3), "sigma1": np.float32(0.7)}
    exact = {name: float(value) for name, value in rough.items()}
    assert np.array_equal(plan(backend, **rough).rdp(VOTES), plan(backend, **exact).rdp(VOTES))
    assert np.array_equal(plan(backend, **rough).data_independent, plan(backend, **exact).data_independent)


@both
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sigma": True}, "sigma=True must be a number"),
        ({"sigma": "a"}, "sigma='a' must be a number"),
        ({"sigma": None}, "sigma=None must be a number"),
        ({"sigma": np.array(3.0)}, "sigma=array"),
        ({"threshold": True, "sigma1": 1.0}, "threshold=True must be a number"),
        ({"clip": "no"}, "clip='no' must be True or False"),
        ({"check": 1}, "check=1 must be True or False"),
        ({"orders": "short"}, r"orders='short' is a text: give numbers, such as default_orders\('short'\)"),
    ],
)
def test_settings_of_another_type_are_refused_by_name(backend: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        plan(backend, **more)


@both
def test_what_belongs_to_rows_is_refused_by_row_and_value(backend: str) -> None:
    its = plan(backend)
    masked = np.ma.array(VOTES, mask=VOTES == 10)
    huge = VOTES.astype(np.uint64)
    huge[2, 0] = 2**63
    for call, kind, message in (
        (lambda: its.total(masked), TypeError, r"votes are a masked array.*filled\(0\)"),
        (lambda: its.logq(huge), ValueError, r"votes\[2\] = \[9223372036854775808, 0"),
        (lambda: its.total(huge), ValueError, r"votes\[2\] = \[9223372036854775808, 0"),
        (lambda: its.total(VOTES, weights=[1, 2j, 3]), TypeError, "weights have dtype complex128"),
        (lambda: its.total(VOTES, weights=[1, 1, 1e200]), ValueError, r"weights\[2\] = 1e\+200 .* above 1e\+100"),
        (lambda: its.total(VOTES, weights=[1, -1, 1]), ValueError, r"weights\[1\] = -1.0 is negative"),
        (lambda: its.total(VOTES, groups="abc"), TypeError, "groups have dtype <U3"),
        (lambda: its.total(VOTES, groups=[0, 1, 2**40]), ValueError, r"groups go up to 1099511627776: .* GB; number"),
        (lambda: its.total(VOTES, groups=[0, -1, 1]), ValueError, r"groups\[1\] = -1 is negative or not below num_gr"),
        (lambda: its.running_eps(VOTES, 0.1, groups=[0, -1, 1]), ValueError, r"groups\[1\] = -1 is negative"),
        (lambda: its.running_eps(VOTES, 0.1, start=[1, np.inf]), ValueError, "start holds a cost that is negative"),
        (lambda: its.queries_until(VOTES, np.nan, 0.1), ValueError, "budget=nan must be a number"),
        (lambda: its.eps(VOTES, "x"), TypeError, "delta='x' must be a number"),
    ):
        with pytest.raises(kind, match=message):
            call()


@both
@pytest.mark.parametrize("every", [1, 2, 7, 100, 101])
def test_every_and_the_first_query_over_budget_read_the_same_path(
    backend: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from powsim_kernels.pate import hosted

    monkeypatch.setattr(hosted, "ROWS", 13)
    votes, its = np.tile(VOTES, (34, 1))[:100], plan(backend)
    path = its.running_eps(votes, 1e-5)
    np.testing.assert_allclose(its.running_eps(votes, 1e-5, every=every), path[every - 1 :: every], rtol=1e-13)
    for at in (0, 12, 13, 57, 99):
        assert its.queries_until(votes, float(path[at]) - 1e-9, 1e-5) == at
    assert its.queries_until(votes, float(path[-1]) + 1, 1e-5) == 100


def test_memory_beyond_inputs_and_results_is_bounded_whatever_is_asked() -> None:
    rows = 1_500_000
    votes = np.tile(VOTES.astype(np.uint8), (rows // 3, 1))
    groups, weights = np.arange(rows, dtype=np.int32) % 20, np.full(rows, 0.5, np.float32)
    its = PatePlan(50, 4, 5.0, backend="cpu", threads=1)
    calls = {
        "total": lambda: its.total(votes),
        "groups": lambda: its.total(votes, groups=groups),
        "weights": lambda: its.total(votes, weights=weights),
        "every": lambda: its.running_eps(votes, 1e-5, every=rows),
        "until": lambda: its.queries_until(votes, 1e9, 1e-5),
    }
    for name, call in calls.items():
        call()  # what a plan keeps is made once
        tracemalloc.start()
        call()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 10e6, name
