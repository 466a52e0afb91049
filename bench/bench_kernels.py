"""Kernels against the plain way to do the same, each pair equal before it is timed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import special

from powsim_kernels import default_orders, geometric, vote_cost


def scipy_vote_cost(votes: np.ndarray, sigma: float, delta: float) -> np.ndarray:
    """Return eps per row: the published formulas, one row at a time with NumPy over orders, as accountants do."""
    orders, out = default_orders(), np.empty(len(votes))
    for i, row in enumerate(votes):
        winner = int(np.argmax(row))
        gaps = np.delete(row[winner] - row, winner) / (math.sqrt(2) * sigma)
        log_q = min(float(special.logsumexp(special.log_ndtr(-gaps))), math.log1p(-1 / len(row)))
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
                rdp[use] = np.minimum(rdp[use], np.logaddexp(log1q + log_a, log_q + log_b) / k)
        out[i] = np.min(rdp + math.log(1 / delta) / (orders - 1))
    return out


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
