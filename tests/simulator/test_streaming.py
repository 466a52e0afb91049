"""Totals without rows against totals of rows: the same counts and histograms, in bounded memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from powsim.engine import simulate
from powsim.groups import groups_of
from powsim.scenario import Scenario, parse_scenario
from powsim.sweeps import streaming
from powsim.sweeps.estimates import HEADLINES, OF_USERS, estimates
from powsim.sweeps.streaming import simulate_totals
from powsim.totals import GroupTotals, Histogram, totals_of
from powsim_kernels.ledgers.totals import CELLS, edge


def scenario(policy: str = "calibrated", **clock: object) -> Scenario:
    return parse_scenario(
        {
            "name": "small",
            "seed": 7,
            "service": {"dataset": "cifar10"},
            "policy": {"name": policy},
            "puzzle": {"sub_puzzles": 2},
            "population": {
                "people": {
                    "identities": 700,
                    "queries": {"median": 300.0, "sigma": 1.0, "max": 2000},
                    "devices": {"galaxy-a34-browser": 0.5, "rtx-4090": 0.45, "python-hashlib": 0.05},
                    "mean_shift_sd": 0.05,
                    "drift_sd": 0.5,
                    **clock,
                }
            },
            "campaign": {
                "theft": {"trace": "copycat", "queries": 1001, "devices": ["rtx-4090"], "identities": 3, "replicas": 25}
            },
        }
    )


def same(a: GroupTotals, b: GroupTotals) -> None:
    assert a.counts == b.counts
    assert a.sums == pytest.approx(b.sums, rel=1e-12, abs=0)
    assert set(a.histograms) == set(b.histograms)
    for name, one in a.histograms.items():
        other = b.histograms[name]
        np.testing.assert_array_equal(one.bins, other.bins)
        np.testing.assert_array_equal(one.counts, other.counts)
        assert (one.least, one.most) == (other.least, other.most)


@pytest.mark.parametrize("clock", [{}, {"request_every_s": 3.0, "think_s": 0.5}], ids=str)
@pytest.mark.parametrize("policy", ["calibrated", "own_policies:OwnCalibrated", "none", "as-published", "load"])
def test_they_are_the_totals_of_the_rows(policy: str, clock: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    made = scenario(policy, **clock)
    result, found = simulate(made), simulate_totals(made)
    for group, outcome in zip(result.groups, result.outcomes, strict=True):
        same(found[group.name], totals_of(group, outcome))
    monkeypatch.setattr(streaming, "ROWS", 40)  # more than one piece
    for name, one in simulate_totals(made, threads=1).items():
        same(one, found[name])


@pytest.mark.parametrize("parts", [2, 3, 150])  # 150: most of the campaign's are empty
def test_any_split_on_any_threads_gives_the_same(parts: int) -> None:
    made, joined = scenario(), dict[str, GroupTotals]()
    for k in range(parts):
        for name, one in simulate_totals(made, part=(k, parts), threads=1 + k % 2).items():
            joined[name] = joined.get(name, GroupTotals()) + one
    for name, one in simulate_totals(made).items():
        same(joined[name], one)


def test_threads_do_not_change_a_bit() -> None:
    one, two = (simulate_totals(scenario(), threads=threads) for threads in (1, 2))
    for name in one:
        assert one[name].sums == two[name].sums


def test_every_headline_can_be_had() -> None:
    made = scenario("own_policies:OwnFixed")
    for group in groups_of(made):
        found = estimates(group, simulate_totals(made)[group.name])
        assert set(found) >= {*HEADLINES, *(OF_USERS if group.role == "honest" else ())}


def test_a_kernels_cells_are_the_bins_of_the_values_that_fell_into_them() -> None:
    values = np.concatenate(
        ([0.0, -0.0, 2.0**-64, 1e-30, 1.0, 1.0, np.nextafter(2.0, 0), np.nextafter(2.0**64, 0)], [3.3e9] * 7)
    )
    mine, true = Histogram.as_in_ledgers(values), Histogram.of(np.where(values < 2.0**-64, 0.0, values))
    np.testing.assert_array_equal(mine.bins, true.bins)
    np.testing.assert_array_equal(mine.counts, true.counts)
    assert (mine.least, mine.most) == (0.0, 2.0**64)
    cells = np.zeros(CELLS, np.int64)
    cells[[9000, 9100]] = 1, 2
    found = Histogram.of_cells(cells)
    assert (found.least, found.most, found.total) == (edge(9000), edge(9101), 3)
    assert found.edges(0) == (edge(9000), edge(9001))
    assert Histogram.of_cells(np.zeros(CELLS, np.int64)).total == 0
    cells[-1] = 1
    with pytest.raises(ValueError, match=r"1 values are 2\^64 or more"):
        Histogram.of_cells(cells)


def test_memory_does_not_grow_with_identities() -> None:
    """Two million rows would take 240 MB in the kernel alone."""
    code = """
import resource, powsim
from powsim.sweeps.streaming import simulate_totals
def run(identities):
    changes = [f"population.{name}.identities={identities}" for name in ("web", "api")]
    made = powsim.load_scenario("published", [*changes, "policy.name=fixed", "policy.queries_per_puzzle=1000"])
    simulate_totals(made.model_copy(update={"campaign": {}}), threads=1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
few = run(300_000)
print(run(1_000_000) - few)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60_000
