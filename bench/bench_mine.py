"""Mining: rates by path and word position beside a loop over hashlib in the same run, batches, and the cold start.

Rates of one core are per second of its own CPU time, so that a busy neighbour does not count.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core_clock import cycles_per_s
from powsim_kernels import mine
from powsim_kernels.sha256 import cpu
from powsim_kernels.sha256.plan import plan

LENGTHS = {12: 44, 13: 45, 9: 32, 5: 16, 1: 0}
"""Word that the nonce ends in -> length of the challenge."""
PER_CYCLE = {
    "cpu:avx512": (2, "of two 512-bit operations per cycle"),
    "cpu:avx2": (3, "of three 256-bit operations per cycle"),
    "cpu:sha-ni": (0.5, "of one sha256rnds2 in two cycles"),
    "cpu:sse2": (3, "of three 128-bit operations per cycle"),
    "cpu:neon": (2, "of two 128-bit operations per cycle"),
}
GOALS = {("cpu:avx512", 12): 32, ("cpu:avx512", 13): 36, ("cpu:avx2", 12): 10}


def operations(path: str, position: int) -> float:
    """Return the operations that one hash takes on a path, as PER_CYCLE counts them."""
    if path == "cpu:sha-ni":
        return (64 - position // 4 * 4) / 2
    shape, steps = cpu.PATHS[path.removeprefix("cpu:")], plan(position)
    if path == "cpu:avx512":
        return steps.cost / shape.lanes
    # Without three-word logic and (x86) without rotations: as counted in the loop that LLVM makes.
    cost = {"add": 1, "S0": 11, "S1": 11, "s0": 9, "s1": 9, "ch": 3, "maj": 3, "word": 0}
    return sum(cost[name] for name, _ in steps.steps) / shape.lanes


def hashlib_mine(challenge: bytes, bits: int, tries: int) -> None:
    """Try nonces as a Python client does."""
    limit, sha256 = 1 << (256 - bits), hashlib.sha256
    for nonce in range(tries):
        if int.from_bytes(sha256(challenge + nonce.to_bytes(8, "big")).digest(), "big") < limit:
            return


def rate(work: Callable[[], Any], hashes: int) -> float:
    """Return hashes per second of CPU time of this process."""
    began = time.process_time()
    work()
    return hashes / (time.process_time() - began)


@pytest.fixture
def rounds(pytestconfig: pytest.Config) -> int:
    """Return how often everything is repeated: 5, or what --benchmark-min-rounds says."""
    return int(pytestconfig.getoption("benchmark_min_rounds"))


def medians(works: dict[str, tuple[Callable[[], Any], int]], rounds: int) -> dict[str, float]:
    """Return the median rate of each, interleaved so that a slow moment meets all of them."""
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, (work, hashes) in works.items():
            rates[name].append(rate(work, hashes))
    return {name: statistics.median(values) for name, values in rates.items()}


@pytest.mark.benchmark(group="mine: one core against a loop over hashlib, same run")
@pytest.mark.parametrize("position", LENGTHS)
@pytest.mark.parametrize("path", cpu.paths())
def test_rate(benchmark: Any, note: Any, rounds: int, path: str, position: int) -> None:
    challenge = b"x" * LENGTHS[position]
    truth = next(n for n in range(2**20) if hashlib.sha256(challenge + n.to_bytes(8, "big")).digest()[0] == 0)
    assert mine(challenge, 8, backend=path, threads=1).nonce.tolist() == [truth]
    hashes = 1 << 22

    def ours() -> None:
        mine(challenge, 64, limit=hashes, backend=path, threads=1)

    cycles_per_s()
    found = medians({"ours": (ours, hashes), "hashlib": (lambda: hashlib_mine(challenge, 64, 50_000), 50_000)}, rounds)
    clock = statistics.median(cycles_per_s() for _ in range(rounds))
    per_cycle, bound = PER_CYCLE[path]
    share = found["ours"] * operations(path, position) / (per_cycle * clock)
    benchmark.extra_info.update(times_hashlib=found["ours"] / found["hashlib"], share_of_bound=share, bound=bound)
    benchmark.extra_info.update(hashes_per_cpu_s=found["ours"], hashlib_per_cpu_s=found["hashlib"], clock_hz=clock)
    benchmark.pedantic(ours, rounds=1)
    goal = GOALS.get((path, position))
    note("hashes/s", hashes, f"at least {goal}x the hashlib loop" if goal else "recorded")


@pytest.mark.benchmark(group="mine: threads")
@pytest.mark.parametrize("threads", sorted({1, 2, len(os.sched_getaffinity(0))}))
def test_threads(benchmark: Any, note: Any, rounds: int, threads: int) -> None:
    hashes = threads << 24
    benchmark.pedantic(lambda: mine(b"x" * 44, 64, limit=hashes, threads=threads), rounds=rounds, warmup_rounds=1)
    note("hashes/s", hashes, "two threads at least 1.9x one")


@pytest.mark.benchmark(group="mine: batches, all threads")
@pytest.mark.parametrize(("bits", "puzzles"), [(0, 10_000), (8, 10_000), (12, 10_000), (16, 500), (20, 30), (24, 2)])
def test_batch(benchmark: Any, note: Any, rounds: int, bits: int, puzzles: int) -> None:
    challenges = [b"batch-%038d" % i for i in range(puzzles)]
    path = cpu.paths()[0]
    result = mine(challenges, bits, backend=path)
    values = [
        hashlib.sha256(c + int(n).to_bytes(8, "big")).digest() for c, n in zip(challenges, result.nonce, strict=True)
    ]
    assert all(int.from_bytes(value, "big") < 2 ** (256 - bits) for value in values)
    tries = int(result.tries.sum())
    walls: dict[str, list[float]] = {"batch": [], "single": []}
    for _ in range(rounds):
        walls["batch"].append(tries / mine(challenges, bits, backend=path).seconds)
        walls["single"].append(2**24 / mine(b"x" * 44, 64, limit=2**24, backend=path).seconds)
    share = statistics.median(np.array(walls["batch"]) / np.array(walls["single"]))
    benchmark.extra_info.update(share_of_single=float(share), hashes=tries)
    benchmark.pedantic(lambda: mine(challenges, bits, backend=path), rounds=1)
    note("puzzles/s", puzzles, "12 bits: 85 % of the hash rate on a single puzzle")


COLD = """
import time, numpy, powsim_kernels
from powsim_kernels.sha256 import cpu
began = time.perf_counter()
powsim_kernels.mine(b"first", 4)
first = time.perf_counter() - began
cpu.twin("cpu").kernel(12)
print(first, time.perf_counter() - began)
"""


@pytest.mark.benchmark(group="mine: seconds from the first call in a fresh process until the kernel is ready")
@pytest.mark.parametrize("cache", ["cold", "kept"])
def test_start(benchmark: Any, note: Any, rounds: int, cache: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XDG_CACHE_HOME": str(tmp_path)}

    def start() -> tuple[float, float]:
        if cache == "cold":
            environment["XDG_CACHE_HOME"] = str(tmp_path / str(time.monotonic_ns()))
        command = [sys.executable, "-c", COLD]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        first, ready = (float(word) for word in done.stdout.split())
        return first, ready

    start()
    runs = np.array([start() for _ in range(rounds)])
    benchmark.extra_info.update(first_hash_s=float(np.median(runs[:, 0])), ready_s=float(np.median(runs[:, 1])))
    benchmark.pedantic(start, rounds=1)
    note("starts/s", 1, "ready in 1 s cold, 0.4 s kept; the first hash in 0.1 s")
