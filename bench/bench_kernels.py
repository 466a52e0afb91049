"""Kernels against the plain way to do the same, each pair equal before it is timed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bench_pate import row_log_q, row_rdp
from powsim_kernels import default_orders, geometric, vote_cost


def scipy_vote_cost(votes: np.ndarray, sigma: float, delta: float) -> np.ndarray:
    """Return eps per row: the published formulas, one row at a time with NumPy over orders, as accountants do."""
    orders = default_orders()
    extra = math.log(1 / delta) / (orders - 1)
    return np.array([np.min(row_rdp(row_log_q(row, sigma), sigma, orders) + extra) for row in votes.astype(float)])


@pytest.mark.benchmark(group="vote cost, 2,000 histograms of 10 classes, 396 orders, one thread")
@pytest.mark.parametrize("solver", ["scipy rows", "cpu"])
def test_vote_cost(benchmark: Any, note: Any, solver: str) -> None:
    rng = np.random.default_rng(1)
    votes = rng.multinomial(250, rng.dirichlet(np.full(10, 0.3), size=2000))
    arguments = {"sigma": 10.0, "delta": 1e-5}
    np.testing.assert_allclose(vote_cost(votes, **arguments).eps, scipy_vote_cost(votes, **arguments), rtol=1e-11)
    if solver == "cpu":
        benchmark(vote_cost, votes, threads=1, **arguments)
    else:
        benchmark(scipy_vote_cost, votes, **arguments)
    note("histograms/s", len(votes), "at least 10x the row loop; 500x is its own issue")


@pytest.mark.benchmark(group="geometric draws, 1,000 x 1,000 at 20 bits, one thread")
@pytest.mark.parametrize("solver", ["numpy generator", "cpu"])
def test_geometric(benchmark: Any, note: Any, solver: str) -> None:
    chance, who = np.full((1000, 1000), 2.0**-20), np.arange(1000)
    rng = np.random.default_rng(1)
    ours = geometric(chance, key=1, stream=0, identity=who, threads=1)
    # Not the same numbers, but the same law: means within four standard errors.
    assert abs(ours.mean() - rng.geometric(chance).mean()) < 4 * 2**20 * math.sqrt(2) / 1000
    if solver == "cpu":
        benchmark(geometric, chance, key=1, stream=0, identity=who, threads=1)
    else:
        benchmark(rng.geometric, chance)
    note("draws/s", chance.size, "addressed draws within 2x of NumPy's stream")
