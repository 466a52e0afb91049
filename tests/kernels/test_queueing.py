"""Queues: equal to SimPy to the last bit, to theory within intervals, twins alike, and every row stands alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from oracles import simpy_queue
from powsim_kernels import QueueResult, queue
from powsim_kernels.queueing import GAVE_UP, NO_JOB, REFUSED, SERVED

TWINS = ("reference", "cpu")
both = pytest.mark.parametrize("backend", TWINS)
FEW = settings(max_examples=150, deadline=None, derandomize=True)
LEVEL = 1e-4  # a correct queue is rejected with this chance; seeds are fixed, so that no test flickers
JOBS = 20_000

CASES: dict[str, dict[str, Any]] = {
    "one server": {},
    "three servers": {"servers": 3},
    "a room of four": {"room": 4},
    "no room, two servers": {"servers": 2, "room": 0},
    "time-outs": {"patience": 2.0},
    "time-outs in a room, two servers": {"servers": 2, "room": 6, "patience": 1.5},
    "refused jobs come back": {"room": 2, "retries": 3, "back_off": 0.75},
    "everything": {"servers": 3, "room": 5, "patience": 1.0, "retries": 4, "back_off": 0.3, "growth": 1.7},
}


def load(shape: tuple[int, int], servers: int = 1, rho: float = 0.95, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return arrivals and service times of M/M/k queues with the given load, one job a second."""
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.exponential(1.0, shape), axis=1), rng.exponential(rho * servers, shape)


def assert_same(one: QueueResult, two: QueueResult, rows: Any = slice(None)) -> None:
    for name in one.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name)[rows], err_msg=name)


@both
@pytest.mark.parametrize("case", CASES)
def test_times_equal_simpy_to_the_last_bit_on_20_000_jobs(case: str, backend: str) -> None:
    more = dict(CASES[case])
    arrival, service = load((1, JOBS), more.get("servers", 1))
    if "patience" in more:
        more["patience"] = np.random.default_rng(9).exponential(more["patience"], (1, JOBS))
    got = queue(arrival, service, backend=backend, **more)
    played = dict(more, patience=more["patience"][0].tolist()) if "patience" in more else more
    truth = simpy_queue(arrival[0].tolist(), service[0].tolist(), **played)
    names = ("entered", "start", "finish", "fate", "attempts")
    for name, column in zip(names, zip(*truth, strict=True), strict=True):
        np.testing.assert_array_equal(getattr(got, name)[0], np.array(column), err_msg=name)
    waits = np.array([start - came for came, start, *_ in truth])
    np.testing.assert_array_equal(got.wait[0], waits)
    assert more.get("room") == 0 or np.nanmax(waits) > 1.0  # there was something to wait for
    if "room" in more or "patience" in more:
        assert 0 < (got.fate != SERVED).sum() < JOBS


@FEW
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5), st.integers(0, 2)), max_size=25),
    st.integers(1, 4),
    st.one_of(st.none(), st.integers(0, 3)),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.5, 2.0]),
)
def test_the_twins_agree_where_many_things_happen_at_once(
    jobs: list[tuple[int, int, int, int]], servers: int, room: int | None, pause: int, growth: float
) -> None:
    columns = np.array(jobs, np.int64).reshape(-1, 4)
    more = {
        "servers": servers,
        "room": room,
        "patience": np.where(columns[:, 2] == 5, np.inf, columns[:, 2]),
        "retries": columns[:, 3],
        "back_off": pause / 2,
        "growth": growth,
    }
    arrival = np.cumsum(columns[:, 0])
    one, two = (queue(arrival, columns[:, 1], backend=backend, **more) for backend in TWINS)
    assert_same(one, two)


@pytest.mark.parametrize("shape", [(1, 1), (3, 0), (0, 5), (2, 9), (5, 70_000), (70_001, 1), (11, 1000)], ids=str)
@pytest.mark.parametrize("case", ["one server", "three servers", "everything"])
def test_the_twins_agree_at_sizes_that_cross_blocks(shape: tuple[int, int], case: str) -> None:
    more = CASES[case]
    arrival, service = load(shape, more.get("servers", 1))
    one = queue(arrival, service, backend="reference", **more)
    for threads in (1, 3):
        assert_same(one, queue(arrival, service, backend="cpu", threads=threads, **more))


@both
@pytest.mark.parametrize("case", CASES)
def test_a_part_of_the_replicas_equals_the_same_rows_of_the_whole(case: str, backend: str) -> None:
    more = CASES[case]
    arrival, service = load((10, 300), more.get("servers", 1))
    jobs = np.array([300, 0, 1, 299, 300, 7, 300, 300, 12, 250])
    whole = queue(arrival, service, jobs=jobs, backend=backend, **more)
    for rows in (slice(0, 3), slice(3, 10), [9, 0, 0, 4], [7]):
        assert_same(queue(arrival[rows], service[rows], jobs=jobs[rows], backend=backend, **more), whole, rows)
    other = arrival.copy()
    other[1:] *= 2
    changed = queue(other, service, jobs=jobs, backend=backend, **more)
    assert_same(queue(arrival[:1], service[:1], jobs=jobs[:1], backend=backend, **more), changed, [0])


@both
@pytest.mark.parametrize("case", CASES)
def test_cells_past_a_rows_jobs_are_neither_looked_at_nor_served(case: str, backend: str) -> None:
    more = CASES[case]
    arrival, service = load((4, 50), more.get("servers", 1))
    jobs = np.array([50, 20, 0, 49])
    arrival[1, 20:], service[1, 20:], arrival[2], service[3, 49] = np.nan, -1.0, -np.inf, np.nan
    got = queue(arrival, service, jobs=jobs, backend=backend, **more)
    for row, count in enumerate(jobs):
        short = queue(arrival[row, :count], service[row, :count], backend=backend, **more)
        for name in got.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(got, name)[row, :count], getattr(short, name)[0])
        assert np.all(got.fate[row, count:] == NO_JOB)
        assert np.all(got.attempts[row, count:] == 0)
        for name in ("entered", "start", "finish"):
            assert np.isnan(getattr(got, name)[row, count:]).all(), name


@pytest.mark.parametrize("case", CASES)
def test_every_job_has_one_fate_and_no_instant_holds_more_than_fit(case: str) -> None:
    more = CASES[case]
    servers = more.get("servers", 1)
    arrival, service = load((20, 500), servers, rho=1.3)
    got = queue(arrival, service, **more)
    served = got.fate == SERVED
    assert served.sum() + (got.fate == REFUSED).sum() + (got.fate == GAVE_UP).sum() == arrival.size
    np.testing.assert_array_equal(np.isnan(got.start), ~served)
    np.testing.assert_array_equal(got.finish[served], (got.start + service)[served])
    assert np.all(got.entered >= arrival)
    assert np.all(got.attempts <= 1 + more.get("retries", 0))
    assert np.all((got.attempts == 1 + more.get("retries", 0)) | served)
    for row in range(len(arrival)):
        mine = served[row]
        # In service: up at a start, down at an end; at one instant ends come first.
        times = np.concatenate((got.finish[row, mine], got.start[row, mine]))
        steps = np.repeat([-1, 1], mine.sum())
        order = np.lexsort((steps, times))
        assert steps[order].cumsum().max() <= servers
        if "retries" not in more:
            waits = got.finish[row].copy()
            waits[mine] = got.start[row, mine]
            stays = (waits > arrival[row]) & (got.fate[row] != REFUSED)
            times = np.concatenate((waits[stays], arrival[row, stays]))
            steps = np.repeat([-1, 1], stays.sum())
            order = np.lexsort((steps, times))
            assert steps[order].cumsum().max(initial=0) <= more.get("room", math.inf)
        # First come first served: who came later never started sooner.
        order = np.argsort(got.entered[row, mine], kind="stable")
        assert np.all(np.diff(got.start[row, mine][order]) >= 0)


@both
def test_a_queue_worked_out_by_hand(backend: str) -> None:
    # Of 4 s each: 0 starts at 0; 1 waits to 4; 2 finds the one place taken and comes back at 2.5 + 1 = 3.5 (taken
    # still), then at 3.5 + 2 = 5.5 and waits until 8. Job 3 comes at 9 and gives up at 10, before 12; job 4 at 9.5
    # finds the place taken by it, comes back at 10.5 and waits until 12.
    got = queue(
        [0.0, 1.0, 2.5, 9.0, 9.5],
        4.0,
        room=1,
        patience=[9.0, 9.0, 9.0, 1.0, 9.0],
        retries=[2, 2, 2, 0, 2],
        back_off=1.0,
        backend=backend,
    )
    assert got.fate.tolist() == [[SERVED, SERVED, SERVED, GAVE_UP, SERVED]]
    assert got.attempts.tolist() == [[1, 1, 3, 1, 2]]
    assert got.entered.tolist() == [[0.0, 1.0, 5.5, 9.0, 10.5]]
    np.testing.assert_array_equal(got.start, [[0.0, 4.0, 8.0, np.nan, 12.0]])
    assert got.finish.tolist() == [[4.0, 8.0, 12.0, 10.0, 16.0]]
    np.testing.assert_array_equal(got.wait, [[0.0, 3.0, 2.5, np.nan, 1.5]])


@both
def test_at_one_instant_ends_come_before_arrivals(backend: str) -> None:
    # The server gets free at 2 just as patience ends and a third comes: the second is served, the third waits.
    got = queue([0.0, 1.0, 2.0], 2.0, room=1, patience=[9.0, 1.0, 9.0], backend=backend)
    assert got.start.tolist() == [[0.0, 2.0, 4.0]]
    # A place is free at the very instant at which the one who waited starts.
    assert queue([0.0, 0.0, 2.0], 2.0, room=1, backend=backend).fate.tolist() == [[SERVED, SERVED, SERVED]]
    # First-comers go before those who come back, and these by number.
    got = queue([0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 5.0], room=0, retries=1, backend=backend)
    assert got.fate.tolist() == [[SERVED, REFUSED, REFUSED, SERVED]]


def within(sample: np.ndarray, truth: float, precision: float) -> None:
    """Assert that the mean of independent replicas is `truth` up to Student's interval, and that this is narrow."""
    error = float(sample.std(ddof=1)) / len(sample) ** 0.5
    assert error < precision * truth
    assert abs(float(sample.mean()) - truth) < stats.t.ppf(1 - LEVEL / 2, len(sample) - 1) * error


WARM_UP, REPLICAS, LONG = 2_000, 100, 30_000


@pytest.mark.parametrize("rho", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("law", ["M/M/1", "M/D/1"])
def test_single_servers_wait_as_theory_says(law: str, rho: float) -> None:
    arrival, service = load((REPLICAS, LONG), rho=rho, seed=1)
    exact = rho / (1 / rho - 1)  # Pollaczek and Khinchine: exponential service, mean rho, one arrival a second
    if law == "M/D/1":
        service, exact = np.full(service.shape, rho), exact / 2
    wait = queue(arrival, service).wait[:, WARM_UP:]
    within(wait.mean(axis=1), exact, 0.02)
    within((wait > 0).mean(axis=1), rho, 0.01)  # Poisson arrivals see time averages
    if law == "M/M/1":
        within((wait > 1.5).mean(axis=1), rho * math.exp(-(1 / rho - 1) * 1.5), 0.02)


def erlang_b(servers: int, offered: float) -> float:
    chance = 1.0
    for k in range(1, servers + 1):
        chance = offered * chance / (k + offered * chance)
    return chance


@pytest.mark.parametrize(("servers", "rho"), [(2, 0.8), (8, 0.9), (50, 0.95)])
def test_several_servers_wait_as_erlang_says(servers: int, rho: float) -> None:
    arrival, service = load((REPLICAS, LONG), servers, rho, seed=2)
    lost = erlang_b(servers, servers * rho)
    waits = lost / (1 - rho * (1 - lost))  # Erlang C
    wait = queue(arrival, service, servers=servers).wait[:, WARM_UP:]
    within((wait > 0).mean(axis=1), waits, 0.02)
    within(wait.mean(axis=1), waits * rho / (1 - rho), 0.04)


@pytest.mark.parametrize(("places", "rho"), [(1, 0.7), (5, 0.9), (10, 1.2), (3, 1.0)])
def test_a_finite_room_loses_as_theory_says(places: int, rho: float) -> None:
    arrival, service = load((REPLICAS, LONG), rho=rho, seed=3)
    lost = 1 / (places + 1) if rho == 1 else (1 - rho) * rho**places / (1 - rho ** (places + 1))
    fate = queue(arrival, service, room=places - 1).fate[:, WARM_UP:]
    within((fate == REFUSED).mean(axis=1), lost, 0.02)


def test_without_a_room_losses_are_erlangs_whatever_the_service_law() -> None:
    arrival, service = load((REPLICAS, LONG), 5, 0.8, seed=4)
    for law in (service, np.full(service.shape, 4.0)):
        within((queue(arrival, law, servers=5, room=0).fate[:, WARM_UP:] == REFUSED).mean(axis=1), erlang_b(5, 4), 0.02)


@pytest.mark.parametrize(("rho", "limit"), [(0.8, 2.0), (1.3, 3.0)])
def test_who_waits_a_fixed_time_gives_up_as_often_as_theory_says(rho: float, limit: float) -> None:
    # Barrer 1957, M/M/1 with constant patience.
    arrival, service = load((REPLICAS, LONG), rho=rho, seed=5)
    x = math.exp(-(1 / rho - 1) * limit)
    lost = (1 - rho) * rho * x / (1 - rho**2 * x)
    fate = queue(arrival, service, patience=limit).fate[:, WARM_UP:]
    within((fate == GAVE_UP).mean(axis=1), lost, 0.02)


A, S = [0.0, 1.0], [1.0, 1.0]


@both
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arrival": [0.0, np.nan]}, r"arrival\[0, 1\]=nan: finite seconds"),
        ({"arrival": [[0.0, 1.0], [3.0, 2.0]]}, r"arrival\[1, 1\]=2.0: it is before the one ahead of it: sort"),
        ({"arrival": [0.0, np.inf]}, r"arrival\[0, 1\]=inf: finite seconds"),
        ({"arrival": [[[0.0]]]}, r"arrival has shape \(1, 1, 1\): \[queues, jobs\]"),
        ({"arrival": 1.0}, r"arrival has shape \(\)"),
        ({"service": [1.0, -0.5]}, r"service\[0, 1\]=-0.5: finite seconds, 0 or more"),
        ({"service": np.nan}, r"service\[0, 0\]=nan"),
        ({"service": np.inf}, r"service\[0, 0\]=inf"),
        ({"service": [1.0, 1.0, 1.0]}, r"service has shape \(3,\), which does not broadcast to arrival's \(1, 2\)"),
        ({"servers": 0}, r"servers=0 must be 1 to"),
        ({"room": -1}, r"room=-1 must be 0 to"),
        ({"patience": -1.0}, r"patience\[0, 0\]=-1.0: seconds, 0 or more"),
        ({"patience": [1.0, np.nan]}, r"patience\[0, 1\]=nan"),
        ({"retries": -1}, r"retries runs from -1 to -1: 0 to 1000"),
        ({"retries": 1001}, r"retries runs from 1001"),
        ({"back_off": -1.0}, r"back_off\[0, 0\]=-1.0"),
        ({"growth": np.nan}, r"growth=nan must be"),
        ({"growth": 1e10, "retries": 900}, r"the last of 900 back-offs takes inf s: lower back_off, growth or retries"),
        ({"jobs": [3]}, r"jobs runs from 3 to 3: arrival has room for 2"),
        ({"jobs": [1, 1]}, r"jobs has shape \(2,\): one number for each of the 1 queues"),
        ({"threads": 0}, r"threads=0 must be at least 1"),
    ],
    ids=str,
)
def test_bad_input_is_refused_by_name_place_and_value(backend: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        queue(**({"arrival": A, "service": S, "backend": backend} | arguments))


@pytest.mark.parametrize(
    "more", [{"servers": 1.5}, {"room": 0.5}, {"retries": 0.5}, {"jobs": [1.0]}, {"service": ["a"]}], ids=str
)
def test_what_is_no_number_of_the_kind_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        queue(**({"arrival": A, "service": S} | more))


def test_input_is_not_written_to() -> None:
    arrival, service = load((3, 40))
    before = arrival.copy(), service.copy()
    queue(arrival, service, room=1, patience=1.0, retries=2)
    np.testing.assert_array_equal((arrival, service), before)
