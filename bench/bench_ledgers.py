"""Ledgers: one core beside SimPy, vectorised NumPy and the authors' replay, in the same process.

Times are CPU seconds of this process, interleaved, medians; `times_X` is X's time per query over ours. The scenario has
a puzzle, a price, a draw and a step of the queue for every query: the most work a query can be. NumPy works twice: on
chunks that fit the second-level cache (`times_numpy`), and on whole arrays (`times_numpy_whole`).

Ten million identities and more run where rounds are not cut to one. A hundred million of a hundred queries take some
minutes on two cores:

    POWSIM_BENCH_IDENTITIES=100_000_000 pytest bench/bench_ledgers.py --benchmark-enable -k identities
"""

from __future__ import annotations

import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from powsim_kernels.ledgers import Clock, Curve, Devices, LedgerPlan, LedgerTotals, Price, Users, simulate_ledgers

MACHINES = Devices([0.5, 0.3, 0.2], [1e5, 1e6, 1e7], [2e5, 1e6, 1e8], [5.0, 10.0, 300.0], [-1.0, -1.0, 2.5], 0.15)
TRACE = Curve(np.arange(10) * 1000.0, 2.9 * np.arange(10.0) ** 1.02 * 1000, 2.95)
QUERIES, PAUSE_S = 100, 0.5
WHO = Users(QUERIES, 0.0, QUERIES, 0.0, 0.02, 0.02, 1.5, 3.65)
PRICE = Price(14.0, slope=0.0108, expected_slope=2.9, high=40.0, every=1)
PUBLISHED = Price(18.53, False, 0.0114, 2.81, 10.0, True, 16.0, 30.7, True, 1000, False)
BUSY = LedgerPlan(20220425, WHO, TRACE, PRICE, Clock(0.01), MACHINES)
PACED = LedgerPlan(20220425, WHO, TRACE, PRICE, Clock(0.01, request_every_s=PAUSE_S), MACHINES)
POPULATION = LedgerPlan(
    20220425, Users(1500.0, 1.0, 9000, 0.0, 0.02, 0.02, 1.5, 3.65), TRACE, PUBLISHED, Clock(0.01, 64), MACHINES
)


def kernel(plan: LedgerPlan, identities: int, threads: int = 1) -> LedgerTotals:
    return simulate_ledgers(plan, 0, identities, backend="cpu", threads=threads).totals


def numpy_hashes(plan: LedgerPlan, identities: int, rows: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return summed hashes and elapsed seconds of BUSY or PACED, `rows` identities at a time."""
    n, edges = np.arange(1.0, QUERIES + 1), np.cumsum(MACHINES.share)
    base, pause = np.interp(n, TRACE.queries, TRACE.cost), plan.clock.request_every_s
    hashes = elapsed = 0.0
    moments, cells = np.zeros((3, 4)), np.zeros(1000, np.int64)
    for begin in range(0, identities, rows):
        many = min(rows, identities - begin)
        shift, drift = 0.02 * rng.standard_normal(many), 0.02 * rng.standard_normal(many)
        device = np.searchsorted(edges, rng.random(many))
        low, high = MACHINES.low_hz[device], MACHINES.high_hz[device]
        rate = low * (high / low) ** rng.random(many)
        cost = base * (1.0 + shift[:, None] + drift[:, None] * (n / 1e4))
        np.clip(cost, 1.5 * n, 3.65 * n, out=cost)
        np.maximum.accumulate(cost, axis=1, out=cost)
        cost -= 2.9 * n
        np.maximum(cost, 0.0, out=cost)
        cost *= PRICE.slope
        cost += PRICE.base_bits
        np.minimum(cost, PRICE.high, out=cost)
        np.exp2(cost, out=cost)
        work = cost.sum(axis=1)
        np.divide(-1.0, cost, out=cost)
        np.log1p(cost, out=cost)
        tries = rng.random((many, QUERIES))
        np.subtract(1.0, tries, out=tries)
        np.log(tries, out=tries)
        tries /= cost
        np.floor(tries, out=tries)
        tries += 1.0
        total = tries.sum(axis=1)
        solve = total / rate
        if pause:
            duration = tries / rate[:, None] + 0.01
            worked = np.cumsum(duration, axis=1)
            late = np.maximum.accumulate((n - 1.0) * pause - (worked - duration), axis=1)
            done = worked[:, -1] + late[:, -1]
        else:
            done = QUERIES * 0.01 + solve
        hashes, elapsed = hashes + float(total.sum()), elapsed + float(done.sum())
        cells += np.histogram(solve / (QUERIES * 0.01), bins=CELLS)[0]
        for k, value in enumerate((work, solve, done, solve * solve)):
            moments[:, k] += np.bincount(device, value, minlength=3)
    return hashes, elapsed


CELLS = np.geomspace(1e-9, 1e9, 1001)


def simpy_hashes(identities: int, source: random.Random, lean: bool = False) -> tuple[float, float]:
    """Return summed hashes and elapsed seconds of PACED: every query a process that asks for its caller's resource.

    That is how SimPy's own examples queue. lean: a process per caller, which waits by itself, two events a query.
    """
    import simpy

    found = []
    curve, costs = TRACE.queries.tolist(), TRACE.cost.tolist()

    def durations() -> Iterator[tuple[int, float]]:
        shift, drift = source.gauss(0.0, 0.02), source.gauss(0.0, 0.02)
        device = source.choices((0, 1, 2), (0.5, 0.3, 0.2))[0]
        low, high = float(MACHINES.low_hz[device]), float(MACHINES.high_hz[device])
        rate, row, spent = low * (high / low) ** source.random(), 0, 0.0
        for query in range(1, QUERIES + 1):
            while query >= curve[row + 1]:
                row += 1
            base = costs[row] + (costs[row + 1] - costs[row]) / (curve[row + 1] - curve[row]) * (query - curve[row])
            cost = base * (1.0 + shift + drift * query / 1e4)
            spent = max(spent, min(max(cost, 1.5 * query), 3.65 * query))
            bits = min(PRICE.base_bits + PRICE.slope * max(spent - 2.9 * query, 0.0), PRICE.high)
            tries = math.floor(math.log(1.0 - source.random()) / math.log1p(-(2.0**-bits))) + 1
            yield tries, 0.01 + tries / rate

    def caller(environment: Any) -> Any:
        hashes = 0
        for query, (tries, seconds) in enumerate(durations()):
            early = query * PAUSE_S - environment.now
            if early > 0:
                yield environment.timeout(early)
            yield environment.timeout(seconds)
            hashes += tries
        found.append((hashes, environment.now))

    def request(environment: Any, server: Any, query: int, seconds: float, hashes: int) -> Any:
        yield environment.timeout(query * PAUSE_S)
        with server.request() as turn:
            yield turn
            yield environment.timeout(seconds)
        if query == QUERIES - 1:
            found.append((hashes, environment.now))

    for _ in range(identities):
        environment = simpy.Environment()
        if lean:
            environment.process(caller(environment))
        else:
            server, hashes = simpy.Resource(environment), 0
            for query, (tries, seconds) in enumerate(durations()):
                hashes += tries
                environment.process(request(environment, server, query, seconds, hashes))
        environment.run()
    return float(sum(hashes for hashes, _ in found)), sum(done for _, done in found)


def replay_hashes(identities: int, rng: np.random.Generator) -> tuple[float, int]:
    """Return summed hashes and queries of POPULATION, priced a block of 1,000 queries at a time as the authors do."""
    total, queries = 0.0, 0
    for _ in range(identities):
        asked = int(np.clip(np.rint(1500.0 * np.exp(rng.standard_normal())), 1, 9000))
        shift, drift = 0.02 * rng.standard_normal(), 0.02 * rng.standard_normal()
        queries += asked
        for n in range(1000, asked + 1, 1000):
            cost = np.interp(n, TRACE.queries, TRACE.cost) * (1.0 + shift + drift * n / 1e4)
            cost = min(max(cost, 1.5 * n), 3.65 * n)
            bits = 18.53 + 0.0114 * abs(cost - (2.81 * n + 10.0))
            bits = int(min(max(bits, 16.0), 30.7))
            total += rng.geometric(2.0**-bits)
    return total, queries


def cpu_s(work: Callable[[], Any]) -> float:
    """Return the CPU seconds that `work` takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


@pytest.fixture
def rounds(pytestconfig: pytest.Config) -> int:
    """Return how often everything is repeated: 5, or what --benchmark-min-rounds says."""
    return int(pytestconfig.getoption("benchmark_min_rounds"))


def medians(rounds: int, **ways: tuple[Callable[[], Any], int]) -> dict[str, float]:
    """Return CPU seconds per item of each way, called in turn."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (work, items) in ways.items():
            taken[name].append(cpu_s(work) / items)
    return {name: statistics.median(times) for name, times in taken.items()}


def close(one: float, other: float, relative_sd: float) -> None:
    """Assert that two independent estimates agree within five of their joint standard deviations."""
    assert abs(one / other - 1.0) < 5.0 * relative_sd, (one, other, relative_sd)


def spread(totals: LedgerTotals, name: str, identities: int) -> float:
    """Return the relative deviation of a mean over so many identities, next to one over all of ours."""
    ours = totals.count("identities")
    return totals.std(name) / (totals.total(name) / ours) * math.sqrt(1.0 / identities + 1.0 / ours)


@pytest.mark.benchmark(group="ledgers: a puzzle for every query, one core, same run")
@pytest.mark.parametrize("pace", ["paced", "busy"])
def test_every_query(benchmark: Any, note: Any, rounds: int, pace: str) -> None:
    plan, identities, few, rng = PACED if pace == "paced" else BUSY, 40_000, 60, np.random.default_rng(1)
    source = random.Random(1)
    totals = kernel(plan, identities)
    hashes, elapsed = numpy_hashes(plan, identities, 600, rng)
    close(hashes, totals.total("hashes"), spread(totals, "hashes", identities))
    close(elapsed, totals.total("elapsed_s"), spread(totals, "elapsed_s", identities))
    ways = {
        "ours": (lambda: kernel(plan, identities), identities * QUERIES),
        "numpy": (lambda: numpy_hashes(plan, identities, 600, rng), identities * QUERIES),
        "whole": (lambda: numpy_hashes(plan, identities, identities, rng), identities * QUERIES),
    }
    if pace == "paced":
        pytest.importorskip("simpy", reason="simpy is not installed: pip install -e '.[test]'")
        many = 10 * few
        for lean in (True, False):
            hashes, elapsed = simpy_hashes(many, source, lean)
            close(hashes / many, totals.total("hashes") / identities, spread(totals, "hashes", many))
            close(elapsed / many, totals.total("elapsed_s") / identities, spread(totals, "elapsed_s", many))
        ways["simpy"] = (lambda: simpy_hashes(few, source), few * QUERIES)
        ways["lean"] = (lambda: simpy_hashes(few, source, lean=True), few * QUERIES)
    took = medians(rounds, **ways)
    benchmark.extra_info.update(
        cpu_ns_per_query=1e9 * took["ours"],
        times_numpy=took["numpy"] / took["ours"],
        times_numpy_whole=took["whole"] / took["ours"],
    )
    if "simpy" in took:
        benchmark.extra_info.update(times_simpy=took["simpy"] / took["ours"])
        benchmark.extra_info.update(times_simpy_lean=took["lean"] / took["ours"])
    benchmark.pedantic(kernel, (plan, identities), rounds=1)
    note("queries/s", identities * QUERIES, "at least 1,000x SimPy, 8x NumPy")


@pytest.mark.benchmark(group="ledgers: a population as published, beside the authors' loop")
def test_as_published(benchmark: Any, note: Any, rounds: int) -> None:
    identities, few, rng = 100_000, 1000, np.random.default_rng(2)
    totals = kernel(POPULATION, identities)
    hashes, _ = replay_hashes(10 * few, rng)
    close(hashes / (10 * few), totals.total("hashes") / identities, spread(totals, "hashes", 10 * few))
    took = medians(
        rounds,
        ours=(lambda: kernel(POPULATION, identities), identities),
        replay=(lambda: replay_hashes(few, rng), few),
    )
    benchmark.extra_info.update(times_replay=took["replay"] / took["ours"], cpu_ns_per_identity=1e9 * took["ours"])
    benchmark.pedantic(kernel, (POPULATION, identities), rounds=1)
    note("queries/s", totals.count("queries"), "no goal was set")


def asking(queries: int) -> LedgerPlan:
    """Return BUSY with another number of queries for every caller."""
    return replace(BUSY, who=replace(WHO, median=float(queries), maximum=queries))


SIZES = [(1_000, 100), (10_000, 100), (100_000, 100), (1_000_000, 100), (10_000_000, 100), (100_000_000, 1)]
ASKED_SIZE = os.environ.get("POWSIM_BENCH_IDENTITIES")
MOST_IN_PASSING = 1_000_000
"""Identities of the largest run where every benchmark runs once, to see that it works."""


@pytest.mark.benchmark(group="ledgers: identities")
@pytest.mark.parametrize(("identities", "queries"), [(int(ASKED_SIZE), QUERIES)] if ASKED_SIZE else SIZES)
def test_identities(benchmark: Any, note: Any, rounds: int, identities: int, queries: int) -> None:
    if identities > MOST_IN_PASSING and (benchmark.disabled or rounds == 1):
        pytest.skip(f"{identities:,} identities take minutes: run with --benchmark-enable and two rounds or more")
    plan = asking(queries)
    kernel(plan, 64)
    began = time.process_time()
    benchmark.pedantic(kernel, (plan, identities, 2), rounds=1)
    took = (time.process_time() - began) / identities
    benchmark.extra_info.update(cpu_ns_per_query=1e9 * took / queries, cpu_ns_per_identity=1e9 * took)
    note("queries/s", identities * queries, "the same time per query at every size from 10,000 on, two threads")


@pytest.mark.benchmark(group="ledgers: queries per identity")
@pytest.mark.parametrize("queries", [1, 10, 100, 1_000, 10_000, 100_000])
def test_queries(benchmark: Any, note: Any, rounds: int, queries: int) -> None:
    plan, identities = asking(queries), max(4_000_000 // queries, 64) if queries > 1 else 400_000
    kernel(plan, 64)
    took = medians(rounds, ours=(lambda: kernel(plan, identities), identities * queries))["ours"]
    benchmark.extra_info.update(cpu_ns_per_query=1e9 * took)
    benchmark.pedantic(kernel, (plan, identities), rounds=1)
    note(
        "queries/s",
        identities * queries,
        "the same time per query from 1,000 on; an identity costs some 12 queries",
    )


class Process:
    """A process of its own that simulates BUSY whenever it is told to."""

    def __init__(self) -> None:
        code = (
            "import sys, bench_ledgers as b; b.kernel(b.BUSY, 64); print(flush=True)\n"
            "for line in sys.stdin: b.kernel(b.BUSY, int(line)); print(flush=True)"
        )
        here = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # pytest finds this file, a new process does not
        pipe = subprocess.PIPE
        self.child = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True, env=here)
        self.wait()

    def begin(self, identities: int) -> None:
        assert self.child.stdin is not None
        print(identities, file=self.child.stdin, flush=True)

    def wait(self) -> None:
        assert self.child.stdout is not None
        assert self.child.stdout.readline()

    def end(self) -> None:
        self.child.communicate()


def in_processes(processes: Sequence[Process], identities: int) -> None:
    """Share identities among processes, and wait for all."""
    for process in processes:
        process.begin(identities // len(processes))
    for process in processes:
        process.wait()


@pytest.mark.benchmark(group="ledgers: two threads")
def test_two_threads(benchmark: Any, note: Any, rounds: int) -> None:
    """Two processes share nothing but the machine: what they fall short of 2x by is not the kernel's."""
    identities = 400_000
    processes = [Process(), Process()]
    ways: dict[str, Callable[[], Any]] = {
        "one": lambda: kernel(BUSY, identities),
        "threads": lambda: kernel(BUSY, identities, 2),
        "one_process": lambda: in_processes(processes[:1], identities),
        "processes": lambda: in_processes(processes, identities),
    }
    walls: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            began = time.perf_counter()
            work()
            walls[name].append(time.perf_counter() - began)
    for process in processes:
        process.end()
    took = {name: statistics.median(times) for name, times in walls.items()}
    threads, apart = took["one"] / took["threads"], took["one_process"] / took["processes"]
    benchmark.extra_info.update(two_threads=threads, two_processes=apart, share_of_processes=threads / apart)
    benchmark.pedantic(kernel, (BUSY, identities, 2), rounds=1)
    note("queries/s", identities * QUERIES, "at least 1.9x one thread, by the wall, on two idle cores")


@pytest.mark.benchmark(group="ledgers: memory")
def test_memory(benchmark: Any, note: Any) -> None:
    """A process of its own simulates 1,000,000 identities of 100 queries; its peak, imports included."""
    code = (
        "import resource, bench_ledgers as b; b.kernel(b.BUSY, 1_000_000, 2); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    here = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # pytest finds this file, a new process does not
    more = {"capture_output": True, "check": True, "text": True, "env": here}
    done = benchmark.pedantic(subprocess.run, ([sys.executable, "-c", code],), more, rounds=1)
    if done is None:
        return
    peak = int(done.stdout) * 1024
    benchmark.extra_info.update(peak_mb=peak / 1e6)
    note("queries/s", 1_000_000 * QUERIES, "under 1 GB on two cores")
    assert peak < 1e9
