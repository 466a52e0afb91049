"""The ledgers kernel on one device: the reference's bits, and queries per second beside all of this machine's CPUs."""

from __future__ import annotations

import importlib
import time
from dataclasses import replace
from typing import Any

import numpy as np

from powsim_kernels.backend import why_not
from powsim_kernels.ledgers import Bank, Clock, Curve, Devices, LedgerPlan, LedgerRows, Price, Users, simulate_ledgers
from powsim_kernels.threads import thread_count

MACHINES = Devices(
    np.array([0.5, 0.3, 0.2]),
    np.array([1e5, 1e6, 1e7]),
    np.array([2e5, 1e6, 1e8]),
    np.array([5.0, 10.0, 300.0]),
    np.array([-1.0, -1.0, 2.5]),
    0.15,
)
TRACE = Curve(np.linspace(0.0, 9000.0, 10), np.array([0.0, *(2900.0 * n**1.02 for n in range(1, 10))]), 2.95)
EACH = LedgerPlan(
    20220425,
    Users(100.0, 0.0, 100, 0.0, 0.02, 0.02, 1.5, 3.65),
    TRACE,
    Price(14.0, slope=0.0108, expected_slope=2.9, high=40.0, every=1),
    Clock(0.01, request_every_s=0.5),
    MACHINES,
)
PUBLISHED = replace(
    EACH,
    who=Users(1500.0, 1.0, 9000, 0.0, 0.02, 0.02, 1.5, 3.65),
    price=Price(18.53, False, 0.0114, 2.81, 10.0, True, 16.0, 30.7, True, 1000, False),
)
CASES = {
    "a puzzle for every query": EACH,
    "a puzzle for every query, costs from a bank": replace(EACH, source=Bank(np.linspace(1.5, 3.6, 1 << 12))),
    "requests of 64": replace(PUBLISHED, price=Price(14.0, True, 0.0108, 2.9, high=40.0, every=64)),
    "as published": PUBLISHED,
}
MOST_CHECKED = 8  # identities; the reference takes some milliseconds a puzzle


def ledgers(device: Any, effort: Any) -> dict[str, object]:
    """Return the cases whose rows are not the reference's, and a row of rates for every case."""
    cuda = importlib.import_module("powsim_kernels.check.cuda")
    wrong, rows = [], []
    with cuda.on(device.index):
        for case, plan in CASES.items():
            found, right = (
                simulate_ledgers(plan, 7, 7 + MOST_CHECKED, rows=True, backend=name).rows
                for name in ("cuda", "reference")
            )
            columns = LedgerRows.__dataclass_fields__
            if not all(np.array_equal(getattr(found, column), getattr(right, column)) for column in columns):
                wrong.append(case)
            totals = simulate_ledgers(plan, 0, effort.identities, backend="cuda").totals
            seconds = cuda.seconds_of(
                lambda plan=plan: simulate_ledgers(plan, 0, effort.identities, backend="cuda"),
                effort.repeats,
            )
            counts = {count: totals.count(count) for count in ("identities", "queries", "puzzles")}
            rates = {f"{count}_per_s": number / seconds for count, number in counts.items()}
            cpu = _cpu_queries_per_s(plan, max(effort.identities >> 3, MOST_CHECKED), effort.repeats)
            times = None if cpu is None else rates["queries_per_s"] / cpu
            beside = {"cpu_queries_per_s": cpu, "times_cpu": times}
            rows.append({"name": case, "seconds": seconds, **counts, **rates, **beside})
    return {"wrong": wrong, "rows": rows, "cpu_threads": thread_count(None), "cpu": why_not("cpu") or "numba"}


def _cpu_queries_per_s(plan: LedgerPlan, identities: int, repeats: int) -> float | None:
    """Return the CPU twin's best rate on every CPU of this process; None where it cannot run."""
    if why_not("cpu") is not None:
        return None
    simulate_ledgers(plan, 0, MOST_CHECKED, backend="cpu")  # which compiles
    walls = []
    for _ in range(repeats):
        began = time.perf_counter()
        totals = simulate_ledgers(plan, 0, identities, backend="cpu").totals
        walls.append(time.perf_counter() - began)
    return totals.count("queries") / min(walls)
