"""One server per identity: finish times against a scalar queue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import lindley
from powsim.clock import finish_times

FEW = settings(max_examples=150, deadline=None, derandomize=True)
seconds = st.floats(0, 1e5)


@FEW
@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=30))
def test_finish_times_are_those_of_the_scalar_queue(requests: list[tuple[float, float]]) -> None:
    arrival, duration = sorted(a for a, _ in requests), [d for _, d in requests]
    got = finish_times(np.array([arrival]), np.array([duration]))[0]
    # The unrolled form adds all durations before it subtracts: errors are ulps of the largest sum.
    scale = max(arrival) + sum(duration) + 1.0
    np.testing.assert_allclose(got, lindley(arrival, duration), rtol=0, atol=1e-13 * scale)


def test_a_queue_worked_out_by_hand() -> None:
    # Arrivals at 0, 1, 10, 10 of 3 s each: done at 3, 6 (waited for the first), 13 (idle before), 16.
    got = finish_times(np.array([[0.0, 1.0, 10.0, 10.0]]), np.full((1, 4), 3.0))
    assert got.tolist() == [[3.0, 6.0, 13.0, 16.0]]


def test_callers_who_never_pause_are_busy_from_start_to_end() -> None:
    duration = np.random.default_rng(1).exponential(2.0, (3, 50))
    np.testing.assert_allclose(finish_times(np.zeros((3, 50)), duration), np.cumsum(duration, axis=1), rtol=1e-13)


def test_callers_who_pause_long_never_wait() -> None:
    duration = np.random.default_rng(2).uniform(0, 1, (3, 50))
    arrival = np.broadcast_to(np.arange(50) * 10.0, (3, 50))
    np.testing.assert_allclose(finish_times(arrival, duration), arrival + duration, rtol=1e-12)


def test_identities_do_not_queue_for_each_other() -> None:
    rng = np.random.default_rng(3)
    arrival, duration = np.sort(rng.uniform(0, 50, (6, 9)), axis=1), rng.exponential(4.0, (6, 9))
    whole = finish_times(arrival, duration)
    for row in range(6):
        np.testing.assert_array_equal(finish_times(arrival[[row]], duration[[row]])[0], whole[row])


@pytest.mark.parametrize("columns", [1, 5])
def test_nothing_finishes_before_it_has_arrived_and_been_worked_on(columns: int) -> None:
    rng = np.random.default_rng(4)
    arrival, duration = np.sort(rng.uniform(0, 9, (40, columns)), axis=1), rng.exponential(1.0, (40, columns))
    done = finish_times(arrival, duration)
    assert np.all(done >= arrival + duration - 1e-9)
    assert np.all(np.diff(done, axis=1) >= duration[:, 1:] - 1e-9)


def test_input_is_not_written_to() -> None:
    arrival, duration = np.zeros((1, 3)), np.ones((1, 3))
    finish_times(arrival, duration)
    assert not arrival.any()
    assert np.all(duration == 1)
