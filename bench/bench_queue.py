"""Queues against SimPy, in the same process and on the same jobs, equality first."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import pytest

from oracles import simpy_queue
from powsim import load_scenario, simulate_gate
from powsim_kernels import queue

PLAYED = 20_000  # jobs that SimPy plays
CASES: dict[str, dict[str, Any]] = {
    "one-server": {},
    "8-servers": {"servers": 8},
    "room-of-10": {"room": 10},
    "room-time-outs-retries": {"servers": 4, "room": 20, "patience": 3.0, "retries": 2},
}


def load(shape: tuple[int, int], servers: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return np.cumsum(rng.exponential(1.0, shape), axis=1), rng.exponential(0.9 * servers, shape)


@pytest.mark.benchmark(group="queue, one thread")
@pytest.mark.parametrize("replicas", [1, 64])
@pytest.mark.parametrize("case", CASES)
def test_queue(benchmark: Any, note: Any, case: str, replicas: int) -> None:
    more = CASES[case]
    servers = more.get("servers", 1)
    arrival, service = load((1, PLAYED), servers)
    given = dict(more, patience=[more["patience"]] * PLAYED) if "patience" in more else more
    begin = time.process_time()
    played = simpy_queue(arrival[0].tolist(), service[0].tolist(), **given)
    simpy_s = (time.process_time() - begin) / PLAYED
    once = queue(arrival, service, **more)
    np.testing.assert_array_equal(once.start[0], [start for _, start, *_ in played])
    np.testing.assert_array_equal(once.finish[0], [end for _, _, end, *_ in played])

    arrival, service = load((replicas, 1_280_000 // replicas), servers)
    queue(arrival, service, threads=1, **more)
    spent = []
    for _ in range(7):
        begin = time.process_time()
        queue(arrival, service, threads=1, **more)
        spent.append(time.process_time() - begin)
    each = statistics.median(spent) / arrival.size
    benchmark.pedantic(queue, (arrival, service), {"threads": 1, **more}, rounds=5)
    note("jobs/s", arrival.size, "one server: 100 million jobs/s, 1,000x SimPy")
    benchmark.extra_info.update(times_simpy=simpy_s / each, cpu_ns_per_job=each * 1e9, simpy_us_per_job=simpy_s * 1e6)


@pytest.mark.benchmark(group="the gate, two threads")
def test_gate(benchmark: Any, note: Any) -> None:
    scenario = load_scenario("gate")
    assert scenario.server is not None
    rows = simulate_gate(scenario, threads=1)
    assert rows == simulate_gate(scenario, threads=2)
    benchmark.pedantic(simulate_gate, (scenario,), {"threads": 2}, rounds=3)
    sent = sum(row.attack_hz.value for row in rows) * scenario.server.seconds * scenario.server.replicas
    note("messages of attacks/s", int(sent), "the shipped scenario under ten seconds")
