"""The main job: shipped scenarios, whole, with summaries."""

from __future__ import annotations

from typing import Any

import pytest

from powsim import findings, load_scenario, simulate, summarise


@pytest.mark.benchmark(group="scenario, two threads")
@pytest.mark.parametrize("name", ["default", "web", "sybil"])
def test_scenario(benchmark: Any, note: Any, name: str) -> None:
    scenario = load_scenario(name)
    once = simulate(scenario, threads=1)
    # Threads change nothing: equality first, then time.
    twice = simulate(scenario, threads=2)
    assert all((a.hashes == b.hashes).all() for a, b in zip(once.outcomes, twice.outcomes, strict=True))
    benchmark(lambda: findings(summarise(simulate(scenario, threads=2))))
    puzzles = sum(int(outcome.puzzles.sum()) for outcome in once.outcomes)
    note("puzzles/s", puzzles, "default scenario, 100,000 users, under 10 s on two cores")
