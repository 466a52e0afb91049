"""What every benchmark records, so that two result files can be compared."""

from __future__ import annotations

import platform
from typing import Any

import numba
import numpy as np
import pytest

import powsim


@pytest.fixture
def note(benchmark: Any) -> Any:
    """Return a function that stores the rate of the benchmark just run: items per second and seconds per item."""

    def store(unit: str, items: int, goal: str) -> None:
        benchmark.extra_info.update(
            unit=unit,
            items=items,
            goal=goal,
            powsim=powsim.__version__,
            python=platform.python_version(),
            numpy=np.__version__,
            numba=numba.__version__,
        )
        if benchmark.stats is not None:  # None where benchmarks are switched off
            seconds = benchmark.stats.stats.median
            benchmark.extra_info.update(rate=items / seconds, seconds_per_item=seconds / items)

    return store


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what the benchmarks measured beside their own time: ratios to peers, shares of limits."""
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    lines = []
    for bench in getattr(session, "benchmarks", []):
        shown = {
            key: f"{value:.3g}" for key, value in bench.extra_info.items() if isinstance(value, float) and key in SHOWN
        }
        if shown:
            lines.append(f"{bench.name:36} " + "  ".join(f"{key} {value}" for key, value in shown.items()))
    if lines:
        terminalreporter.section("measured in the same run")
        for line in lines:
            terminalreporter.write_line(line)


SHOWN = (
    "times_hashlib",
    "share_of_bound",
    "share_of_single",
    "first_hash_s",
    "ready_s",
    "rate",
    "times_scipy",
    "times_peer",
    "share_of_bandwidth",
    "cpu_ns_per_row",
    "times_simpy",
    "cpu_ns_per_job",
    "times_one_order",
    "times_simpy",
    "times_simpy_lean",
    "times_numpy",
    "times_numpy_whole",
    "times_replay",
    "two_threads",
    "two_processes",
    "share_of_processes",
    "cpu_ns_per_query",
    "cpu_ns_per_identity",
    "peak_mb",
)
"""What the terminal shows of each benchmark's extra_info; the JSON file has everything."""
