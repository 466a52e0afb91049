"""PATE costs: kernels beside a loop over rows that does what tf-privacy's accountant does, in the same process.

Times are CPU seconds of this process, interleaved, medians; `times_scipy` is the loop's time per row over ours, and
`share_of_bandwidth` the time that NumPy takes to sum the same bytes over ours. autodp (GNMax by rows and orders) and
dp-accounting (only RDP -> eps: it has no data-dependent PATE) are peers where they are installed.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from powsim_kernels import PatePlan, default_orders, rdp_to_eps

EVEN = np.linspace(2, 51, 50)
DELTA = 1e-5


def row_log_q(votes: np.ndarray, sigma: float) -> float:
    """Return ln q by SciPy: the logarithms of the tails, and the logarithm of their sum."""
    winner = int(np.argmax(votes))
    gaps = (votes[winner] - votes)[np.arange(len(votes)) != winner]
    tails = stats.norm.logsf(gaps, scale=math.sqrt(2) * sigma)
    most = tails.max()
    return float(min(most + math.log(np.sum(np.exp(tails - most))), math.log1p(-1 / len(votes))))


def row_rdp(log_q: float, sigma: float, orders: np.ndarray, clip: bool = True) -> np.ndarray:
    """Return the costs of one row as theorem 6 prints them."""
    rdp = orders / sigma**2
    mu2 = sigma * math.sqrt(-log_q)
    mu1 = mu2 + 1
    e1, e2 = mu1 / sigma**2, mu2 / sigma**2
    if mu2 > 1 and -log_q > e2:
        limit = (mu2 - 1) * e2 - mu2 * (math.log1p(1 / (mu1 - 1)) + math.log1p(1 / (mu2 - 1)))
        if log_q <= limit:
            use = orders < mu1
            k = orders[use] - 1
            log1q = math.log1p(-math.exp(log_q))
            log_a = k * (log1q - math.log1p(-math.exp((log_q + e2) * (1 - 1 / mu2))))
            log_b = k * (e1 - log_q / (mu1 - 1))
            found = np.logaddexp(log1q + log_a, log_q + log_b) / k
            rdp[use] = np.minimum(rdp[use], found) if clip else found
    return rdp


def row_costs(plan: PatePlan, votes: np.ndarray) -> np.ndarray:
    """Return the expected cost of one row at every order."""
    rdp = row_rdp(row_log_q(votes, plan.sigma), plan.sigma, plan.grid, plan.clip)
    if plan.confident:
        threshold, sigma1 = plan.gate
        log_p = stats.norm.logsf(threshold - votes.max(), scale=sigma1)
        q = min(math.exp(log_p), -math.expm1(log_p))
        rdp = row_rdp(math.log(q), math.sqrt(2) * sigma1, plan.grid) + math.exp(log_p) * rdp
    return rdp


def loop(plan: PatePlan, votes: np.ndarray, mode: str) -> np.ndarray:
    """Price rows one by one: their costs, their total, or eps after each."""
    rows, spent, eps = [], np.zeros(plan.grid.size), []
    extra = -math.log(DELTA) / (plan.grid - 1)
    for row in votes.astype(float):
        cost = row_costs(plan, row)
        if mode == "rows":
            rows.append(cost)
        else:
            spent += cost
            if mode == "running":
                eps.append(np.min(spent + extra))
    return {"rows": np.array(rows), "total": spent, "running": np.array(eps)}[mode]


def kernel(plan: PatePlan, votes: np.ndarray, mode: str) -> np.ndarray:
    if mode == "running":
        return plan.running_eps(votes, DELTA, conversion="classic")
    return plan.rdp(votes) if mode == "rows" else plan.total(votes)


def realistic(rows: int, teachers: int, classes: int) -> np.ndarray:
    """Return int16 histograms: seven in ten nearly unanimous, the others spread; no order."""
    rng, kinds = np.random.default_rng(1), min(rows, 4096)
    votes = rng.multinomial(teachers, rng.dirichlet(np.full(classes, 0.5), size=kinds))
    sure = rng.random(kinds) < 0.7
    lead = rng.integers(int(0.93 * teachers), teachers + 1, sure.sum())
    votes[sure] = rng.multinomial(1, np.full(classes, 1 / classes), size=sure.sum()) * (teachers - lead)[:, None]
    votes[sure, rng.integers(0, classes, sure.sum())] += lead
    return np.ascontiguousarray(votes[rng.integers(0, kinds, rows)], dtype=np.int16)


def cpu_s(work: Callable[[], Any]) -> float:
    """Return the CPU seconds that `work` takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


@pytest.fixture
def rounds(pytestconfig: pytest.Config) -> int:
    """Return how often everything is repeated: 5, or what --benchmark-min-rounds says."""
    return int(pytestconfig.getoption("benchmark_min_rounds"))


CASES: dict[str, tuple[str, int, int, int, float, np.ndarray, dict[str, Any], str]] = {
    # mode, rows, classes, teachers, sigma, orders, more, goal
    "total C=10 L=50": ("total", 1 << 20, 10, 250, 40.0, EVEN, {}, "at least 2,000x"),
    "total C=100 L=50": ("total", 1 << 18, 100, 250, 40.0, EVEN, {}, "at least 1,000x"),
    "total C=1000 L=50": ("total", 1 << 15, 1000, 250, 40.0, EVEN, {}, "at least 400x"),
    "[N, L] C=10 L=50": ("rows", 1 << 17, 10, 250, 40.0, EVEN, {}, "at least 400x"),
    "total k=300 sigma=28 L=396": ("total", 1 << 20, 10, 300, 28.0, default_orders(), {}, "at least 2,000x"),
    "total k=300 sigma=28 L=396 unclipped": (
        *("total", 1 << 20, 10, 300, 28.0, default_orders()),
        {"clip": False},
        "at least 2,000x",
    ),
    "total k=300 sigma=2 L=396": ("total", 1 << 20, 10, 300, 2.0, default_orders(), {}, "at least 1,000x"),
    "confident total L=50": (
        *("total", 1 << 20, 10, 250, 40.0, EVEN),
        {"threshold": 200, "sigma1": 150},
        "at least 4,000x",
    ),
    "running eps L=396": ("running", 1 << 18, 10, 300, 28.0, default_orders(), {}, "at least 500x"),
    "confident running eps L=396": (
        *("running", 1 << 18, 10, 300, 28.0, default_orders()),
        {"threshold": 200, "sigma1": 40},
        "at least 500x",
    ),
}


@pytest.mark.benchmark(group="PATE: one core against a loop over SciPy rows, same run")
@pytest.mark.parametrize("case", CASES)
def test_pate(benchmark: Any, note: Any, rounds: int, case: str) -> None:
    mode, rows, classes, teachers, sigma, orders, more, goal = CASES[case]
    plan = PatePlan(teachers, classes, sigma, orders, threads=1, backend="cpu", **more)
    votes, few = realistic(rows, teachers, classes), 200
    np.testing.assert_allclose(kernel(plan, votes[:few], mode), loop(plan, votes[:few], mode), rtol=1e-9, atol=1e-290)
    ours, theirs, reads = [], [], []
    for _ in range(rounds):
        ours.append(cpu_s(lambda: kernel(plan, votes, mode)) / rows)
        theirs.append(cpu_s(lambda: loop(plan, votes[:few], mode)) / few)
        reads.append(cpu_s(lambda: votes.reshape(-1).view(np.uint64).sum()) / rows)
    ratio = statistics.median(theirs) / statistics.median(ours)
    if mode == "total":
        benchmark.extra_info.update(share_of_bandwidth=statistics.median(reads) / statistics.median(ours))
    benchmark.extra_info.update(times_scipy=ratio, cpu_ns_per_row=1e9 * statistics.median(ours))
    benchmark.extra_info.update(scipy_us_per_row=1e6 * statistics.median(theirs))
    benchmark.pedantic(kernel, (plan, votes, mode), rounds=1)
    note("histograms/s", rows, goal)


def compare(benchmark: Any, rounds: int, ours: Callable[[], Any], n: int, theirs: Callable[[], Any], few: int) -> None:
    """Record a peer's time per item over ours, each the median of interleaved runs."""
    times = [(cpu_s(ours) / n, cpu_s(theirs) / few) for _ in range(rounds)]
    own, other = (statistics.median(column) for column in zip(*times, strict=True))
    benchmark.extra_info.update(times_peer=other / own, cpu_ns_per_row=1e9 * own)
    benchmark.pedantic(ours, rounds=1)


@pytest.mark.benchmark(group="PATE: one core against autodp's GNMax, C = 10, 50 orders")
def test_autodp(benchmark: Any, note: Any, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = pytest.importorskip("autodp.rdp_bank", reason="autodp is not installed")
    monkeypatch.setattr(np, "asscalar", np.ndarray.item, raising=False)  # autodp uses what NumPy has removed
    plan = PatePlan(250, 10, 40.0, EVEN, threads=1, backend="cpu")
    votes, few = realistic(1 << 17, 250, 10), 20
    # It fails where theorem 6 does not hold at an order: rows that reach them all.
    rows = votes[plan.sigma * np.sqrt(-plan.logq(votes)) > plan.grid.max()][:few].astype(float)

    def peer() -> np.ndarray:  # it takes one order at a time, and ln q from the caller
        known = [row_log_q(row, plan.sigma) for row in rows]
        found = [
            bank.RDP_depend_pate_gaussian({"logq": log_q, "sigma": plan.sigma}, order)
            for log_q in known
            for order in plan.grid.tolist()
        ]
        return np.array(found).reshape(few, -1)

    np.testing.assert_allclose(plan.rdp(rows), peer(), rtol=1e-9)
    compare(benchmark, rounds, lambda: plan.total(votes), len(votes), peer, few)
    note("histograms/s", len(votes), "a peer without a goal: it prices one order at a time")


@pytest.mark.benchmark(group="PATE: one core against dp-accounting, RDP to eps at 396 orders")
def test_dp_accounting(benchmark: Any, note: Any, rounds: int) -> None:
    peer = pytest.importorskip("dp_accounting.rdp.rdp_privacy_accountant", reason="dp-accounting is not installed")
    orders, few = default_orders(), 200
    rdp = np.cumsum(np.full((4096, 1), 1e-4), axis=0) * orders

    def rows() -> list[float]:
        return [peer.compute_epsilon(orders, row, DELTA)[0] for row in rdp[:few]]

    np.testing.assert_allclose(rdp_to_eps(rdp[:few], orders, DELTA)[0], rows(), rtol=1e-12)
    compare(benchmark, rounds, lambda: rdp_to_eps(rdp, orders, DELTA), len(rdp), rows, few)
    note("conversions/s", len(rdp), "a peer without a goal")


@pytest.mark.benchmark(group="PATE: what 396 orders cost beside one, totals of 2,097,152 rows")
@pytest.mark.parametrize("sigma", [28.0])
def test_orders(benchmark: Any, note: Any, rounds: int, sigma: float) -> None:
    votes = realistic(1 << 21, 300, 10)
    one, all_ = (PatePlan(300, 10, sigma, orders, threads=1, backend="cpu") for orders in ([2.0], default_orders()))
    np.testing.assert_allclose(all_.total(votes)[:1], one.total(votes), rtol=1e-12)
    walls = [(cpu_s(lambda: all_.total(votes)), cpu_s(lambda: one.total(votes))) for _ in range(rounds)]
    all_s, one_s = (statistics.median(column) for column in zip(*walls, strict=True))
    benchmark.extra_info.update(times_one_order=all_s / one_s)
    benchmark.pedantic(all_.total, (votes,), rounds=1)
    note("histograms/s", len(votes), "at most 1.3x the time at one order")
