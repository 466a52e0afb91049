"""The ledgers kernel against the engine of today: every group of every shipped scenario, every shipped policy.

Both draw the same numbers from the same addresses, but compute log, exp and the quantile by other means, a few units in
the last place apart. So floats agree to 1e-11, and integers are the same but where such a unit happens to decide a
rounding. Of all identities one in 10,000 may ask a query more or less, and then differs throughout. A draw of n tries
differs, by one, with a chance of about n * 2^-50: hashes apart are counted, and compared with that.
"""

from __future__ import annotations

import numpy as np
import pytest

from lowered import plan_of
from powsim import load_scenario, simulate
from powsim.scenario import shipped
from powsim_kernels.ledgers import simulate_ledgers

SMALL = {
    "default": ["population.web.identities=3000", "population.api.identities=2000", "campaign.datafree.replicas=2"],
    "policies": ["population.honest.identities=3000"],
    "sybil": ["population.honest.identities=2000"],
    "batch-api": ["population.jobs.identities=3000", "campaign.datafree.replicas=3"],
    "web": ["population.web.identities=3000"],
    "gate": ["population.web.identities=1000", "server.replicas=2", "server.seconds=20.0"],
}
POLICIES = (
    *("policy.name=as-published", "policy.name=fixed", "policy.name=none", "policy.name=calibrated"),
    *("policy.truncate_bits=false", "policy.partial_puzzle=true", "policy.queries_per_puzzle=250"),
)


def compare(name: str, overrides: list[str]) -> None:
    scenario = load_scenario(name, overrides)
    result = simulate(scenario)
    apart = differ = everybody = hashes = 0
    for group, old in zip(result.groups, result.outcomes, strict=True):
        count = group.accounts * group.replicas
        new = simulate_ledgers(plan_of(scenario, group, result.seed), 0, count, rows=True, backend="cpu").rows
        assert new is not None
        for field in ("identity", "replica", "device"):
            np.testing.assert_array_equal(getattr(new, field), getattr(old, field))
        same = (new.queries == old.queries) & (new.puzzles == old.puzzles)
        exact = new.hashes == old.hashes
        everybody, differ, apart = everybody + count, differ + int((~same).sum()), apart + int((same & ~exact).sum())
        hashes += sum(old.hashes.tolist())
        off = new.hashes[same].astype(np.int64) - old.hashes[same].astype(np.int64)
        assert np.all(np.abs(off) <= 1 + old.puzzles[same] / 10)
        for field in ("rate_hz", "cost", "work", "service_s"):
            np.testing.assert_allclose(getattr(new, field)[same], getattr(old, field)[same], rtol=1e-11, err_msg=field)
        for field in ("solve_s", "elapsed_s", "energy_j", "cost_usd"):
            a, b = getattr(new, field)[same & exact], getattr(old, field)[same & exact]
            np.testing.assert_allclose(a, b, rtol=1e-11, err_msg=field)
        np.testing.assert_allclose(1 + new.overhead[same], old.slowdown[same], rtol=1e-8)
    assert differ <= everybody / 10_000
    assert apart <= everybody / 10_000 + hashes * 2.0**-50


def test_every_shipped_scenario_is_tried() -> None:
    assert set(SMALL) == set(shipped())


@pytest.mark.parametrize("name", SMALL)
def test_shipped_scenarios_come_out_as_today(name: str) -> None:
    compare(name, SMALL[name])


@pytest.mark.parametrize("policy", POLICIES)
def test_shipped_policies_come_out_as_today(policy: str) -> None:
    base = ["population.honest.identities=1500", "campaign.copycat.replicas=5", "campaign.mixmatch.replicas=5"]
    more = [policy] if policy.startswith("policy.name") else ["policy.name=as-published", policy]
    compare("policies", [*base, *more, "puzzle.sub_puzzles=3"])
