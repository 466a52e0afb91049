"""The slow path against the fused kernel: a policy in Python that asks for the same work gives the same results.

Integers are equal. Costs, rates and tries have the same bits on both sides; sums are added in another order, and a
policy's own exp and log may differ from the kernel's in the last places, so floats agree to 1e-12 relative.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from powsim import load_scenario, simulate, stages
from powsim.edge import ScenarioError
from powsim.outcome import Outcome
from powsim.policy import SHIPPED, lowers
from powsim.scenario import Scenario, parse_scenario, shipped

SMALL = {
    "default": ["population.web.identities=1500", "population.api.identities=1000", "campaign.datafree.replicas=2"],
    "published": ["population.web.identities=3000", "population.api.identities=2000", "campaign.datafree.replicas=2"],
    "policies": ["population.honest.identities=3000"],
    "sybil": ["population.honest.identities=2000"],
    "batch-api": ["population.jobs.identities=3000", "campaign.datafree.replicas=3"],
    "web": ["population.web.identities=3000"],
    "gate": ["population.web.identities=1000", "server.replicas=2", "server.seconds=20.0"],
}
OWN = {
    "as-published": "own_policies:OwnAsPublished",
    "calibrated": "own_policies:OwnCalibrated",
    "fixed": "own_policies:OwnFixed",
    "none": "own_policies:OwnNone",
    "banded": "own_policies:OwnBanded",
}
POLICIES = (
    {"name": "as-published"},
    {"name": "as-published", "truncate_bits": False},
    {"name": "as-published", "queries_per_puzzle": 250, "partial_puzzle": True},
    {"name": "calibrated", "tolerance": 0.01, "queries_per_puzzle": 37},
    {"name": "calibrated", "base": 1.002, "partial_puzzle": False},
    {"name": "fixed", "bits": 17.3},
    {"name": "banded", "edges": [20.0, 60.0, 300.0], "bits": [12.0, 16.5, 18.25, 22.0]},
    {"name": "none"},
)
CLOCKS: tuple[dict[str, float], ...] = ({}, {"request_every_s": 2.0}, {"request_every_s": 1.0, "think_s": 1.5})


def compare(made: Scenario, own: Scenario) -> None:
    """Simulate a scenario and the same with a policy in Python, and see that all identities come out the same."""
    assert lowers(made.policy_object)
    assert not lowers(own.policy_object)
    fast, slow = simulate(made), simulate(own)
    assert [group.name for group in fast.groups] == [group.name for group in slow.groups]
    for a, b in zip(fast.outcomes, slow.outcomes, strict=True):
        assert len(a.queries)
        for name in Outcome.__dataclass_fields__:
            one, other = getattr(a, name), getattr(b, name)
            assert one.dtype == other.dtype, name
            if one.dtype.kind == "f":
                np.testing.assert_allclose(other, one, rtol=1e-12, atol=0, err_msg=name)
            else:
                np.testing.assert_array_equal(other, one, err_msg=name)
        for name in ("rate_hz", "cost", "service_s"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def test_every_shipped_scenario_is_tried() -> None:
    assert set(SMALL) == set(shipped())


@pytest.mark.parametrize("name", SMALL)
def test_shipped_scenarios_come_out_the_same_by_a_policy_in_python(name: str) -> None:
    made = load_scenario(name, SMALL[name])
    compare(made, load_scenario(name, [*SMALL[name], f"policy.name={OWN[made.policy['name']]}"]))


def scenario(policy: dict[str, Any], clock: dict[str, float], sub_puzzles: int = 3, parallel: bool = False) -> Scenario:
    return parse_scenario(
        {
            "name": "both",
            "seed": 11,
            "service": {"dataset": "cifar10", "batch": 50},
            "policy": policy,
            "puzzle": {"sub_puzzles": sub_puzzles, "parallel": parallel},
            "population": {
                "people": {
                    "identities": 1500,
                    "queries": {"median": 600.0, "sigma": 1.0, "max": 12_000},
                    "devices": {"galaxy-a34-browser": 0.5, "rtx-4090": 0.3, "python-hashlib": 0.2},
                    "mean_shift": 0.01,
                    "mean_shift_sd": 0.05,
                    "drift_sd": 0.5,
                    **clock,
                },
                "alike": {"identities": 130, "queries": 777, "devices": {"rtx-4090": 1.0}, **clock},
            },
            "campaign": {
                "theft": {
                    "trace": "copycat",
                    "queries": 12_345,
                    "devices": ["rtx-4090"],
                    "identities": [1, 7],
                    "replicas": 70,
                    **clock,
                }
            },
        }
    )


@pytest.mark.parametrize("clock", CLOCKS, ids=str)
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_own_copies_of_shipped_policies_come_out_the_same(policy: dict[str, Any], clock: dict[str, float]) -> None:
    own = {**policy, "name": OWN[policy["name"]]}
    compare(scenario(policy, clock), scenario(own, clock))


@pytest.mark.parametrize("sub_puzzles", [1, 2, 5])
def test_sub_puzzles_side_by_side_come_out_the_same(sub_puzzles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "CELLS", 5000)
    policy = {"name": "calibrated", "tolerance": 0.01}
    own = {**policy, "name": OWN["calibrated"]}
    for clock in CLOCKS:
        compare(scenario(policy, clock, sub_puzzles, True), scenario(own, clock, sub_puzzles, True))


def test_sub_puzzles_side_by_side_take_the_slowest_and_the_energy_and_rent_of_all() -> None:
    policy = {"name": "fixed", "bits": 16.0}
    one, other = (simulate(scenario(policy, {}, 4, parallel)).outcomes[0] for parallel in (False, True))
    np.testing.assert_array_equal(one.hashes, other.hashes)
    np.testing.assert_array_equal(one.energy_j, other.energy_j)
    np.testing.assert_array_equal(one.cost_usd, other.cost_usd)  # one of its devices is rented
    # The greatest of four exponential times is 25/12 of one's mean, and their sum four times it.
    assert float(other.solve_s.sum() / one.solve_s.sum()) == pytest.approx(25 / 48, rel=0.01)


def test_any_part_on_any_threads_is_the_same_for_both() -> None:
    for name in ("calibrated", OWN["calibrated"]):
        made = scenario({"name": name}, {"request_every_s": 1.0})
        whole = simulate(made, threads=1)
        parts = [simulate(made, threads=2, part=(k, 3)) for k in range(3)]
        for number, outcome in enumerate(whole.outcomes):
            joined = parts[0].outcomes[number] + parts[1].outcomes[number] + parts[2].outcomes[number]
            for field in ("identity", "replica", "device", "rate_hz", "queries", "cost", "hashes", "solve_s"):
                np.testing.assert_array_equal(getattr(joined, field), getattr(outcome, field), err_msg=field)
            np.testing.assert_allclose(joined.elapsed_s, outcome.elapsed_s, rtol=1e-12)


def test_the_nearest_of_price_and_lowered_is_what_counts() -> None:
    bare = simulate(scenario({"name": "calibrated"}, {})).outcomes
    dearer = simulate(scenario({"name": "own_policies:Dearer"}, {})).outcomes
    for one, other in zip(bare, dearer, strict=True):
        np.testing.assert_allclose(other.work, 2 * one.work, rtol=1e-12)
    halved = scenario({"name": "own_policies:Halved", "bits": 17.3}, {})
    assert lowers(halved.policy_object)
    for one, other in zip(
        simulate(scenario({"name": "fixed", "bits": 16.3}, {})).outcomes, simulate(halved).outcomes, strict=True
    ):
        np.testing.assert_array_equal(one.hashes, other.hashes)
    assert all(lowers(cls()) for cls in SHIPPED.values())


def test_a_policy_lowered_to_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lowered to a float: powsim_kernels\.ledgers\.Price is needed"):
        simulate(scenario({"name": "own_policies:Wrong"}, {}))


def test_a_policy_needs_one_of_both(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text("class P:\n    queries_per_puzzle = 1\n    partial_puzzle = True\n")
    table = scenario({"name": "none"}, {}).model_dump()
    table["policy"] = {"name": "p.py:P"}
    with pytest.raises(ScenarioError, match="a method price or lowered"):
        parse_scenario(table, folder=tmp_path)


def test_a_policy_in_python_has_a_limit_of_puzzles_that_the_kernel_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "MOST_PUZZLES", 100)
    with pytest.raises(ValueError, match=r"people: one identity would meet \d+ puzzles, more than 100: raise policy\."):
        simulate(scenario({"name": OWN["fixed"]}, {}))
    simulate(scenario({"name": "fixed"}, {}))
