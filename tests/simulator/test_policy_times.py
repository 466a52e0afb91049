"""Banded, load and decay against a plain walk, puzzle by puzzle; what their [policy] tables may say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from oracles import uniform_at
from powsim import simulate
from powsim.edge import ScenarioError
from powsim.engine import Result
from powsim.groups import service_of
from powsim.meter import cost_bounds, published_curve
from powsim.policy import Banded, Decay, Load
from powsim.population import TRIES
from powsim.scenario import Scenario, parse_scenario

START = 7  # the stream of starting times

CALIBRATED = {"target_slowdown": 1.5, "reference_hz": 2e6, "base": 1.01, "tolerance": 0.005, "max_bits": 29.0}
POLICIES: dict[str, dict[str, Any]] = {
    "banded": {"name": "banded", "edges": [30.0, 200], "bits": [9, 13.5, 17.25], "tolerance": 0.01},
    "load": {"name": "load", "multipliers": [1, 0, 2.5, 8.0], "step_s": 90.0, **CALIBRATED},
    "load, fixed": {"name": "load", "multipliers": [0.5, 3.0], "step_s": 200.0, "bits": 14.25, "max_bits": 15.5},
    "decay": {"name": "decay", "decay_s": 120.0, **CALIBRATED},
}


def scenario(policy: dict[str, Any], clock: dict[str, float] | None = None) -> Scenario:
    clock = {"request_every_s": 4.0, "think_s": 1.0, "starts_within_s": 500.0} if clock is None else clock
    return parse_scenario(
        {
            "name": "times",
            "seed": 5,
            "service": {"dataset": "cifar10"},
            "policy": policy,
            "puzzle": {"sub_puzzles": 2},
            "population": {
                "people": {
                    "identities": 24,
                    "queries": {"median": 2000.0, "sigma": 0.8, "max": 6000},
                    "devices": {"python-hashlib": 0.5, "laptop-native": 0.5},
                    "mean_shift_sd": 0.04,
                    "drift_sd": 0.2,
                    **clock,
                }
            },
            "campaign": {
                "theft": {"trace": "copycat", "queries": 5000, "devices": ["rtx-4090"], "identities": 2, "replicas": 3}
                | clock
            },
        }
    )


def asked_for(policy: Any, result: Result, excess: float, asked: int, time_s: float) -> float:
    """Return the work by the policies' docstrings."""
    if isinstance(policy, Banded):
        return 2.0 ** policy.bits[sum(excess >= edge for edge in policy.edges)]
    if isinstance(policy, Load) and policy.bits is not None:
        work = 2.0**policy.bits
    else:
        honest = (policy.target_slowdown - 1) * result.service.seconds_per_query * asked * policy.reference_hz
        work = honest * policy.base ** max(excess, 0.0)
    if isinstance(policy, Load):
        work *= policy.multipliers[int(time_s // policy.step_s) % len(policy.multipliers)]
    return float(min(work, 2.0**policy.max_bits))


def walk(result: Result, group: int, row: int) -> dict[str, float]:
    """Return what becomes of one identity, puzzle by puzzle, with its clock."""
    spec, outcome = result.groups[group], result.outcomes[group]
    who, replica, queries = (int(getattr(outcome, name)[row]) for name in ("identity", "replica", "queries"))
    key, identities = spec.draw(result.seed)
    shift, drift, rate = (float(getattr(identities, name)[row]) for name in ("shift", "drift", "rate_hz"))
    curve, (least, most) = published_curve("cifar10", spec.trace), cost_bounds("cifar10")
    service, policy = service_of(result.scenario.service), result.scenario.policy_object
    start = spec.spec.starts_within_s * uniform_at(key, START, who, replica, 0)
    n, number, cost, hashes, work_sum, finish, puzzles = 0, 0, 0.0, 0, 0.0, 0.0, 0
    kept_cost = kept_queries = issued = 0.0
    while n < queries:
        asked = min(service.batch, queries - n)
        arrival = n / service.batch * spec.spec.request_every_s
        begins = max(arrival, finish + spec.spec.think_s if number else 0.0)
        n += asked
        here = float(curve(np.array([n]))[0])
        if spec.role == "honest":
            here = min(max(here * (1 + shift + drift * n / 10_000), least * n), most * n)
        here = max(here, cost)
        if isinstance(policy, Decay):
            forget = math.exp(-(begins - issued) / policy.decay_s)
            kept_cost, kept_queries = kept_cost * forget + here - cost, kept_queries * forget + asked
            issued = begins
        else:
            kept_cost, kept_queries = here, float(n)
        cost = here
        tolerance = getattr(policy, "tolerance", 0.0)
        excess = kept_cost - (1 + tolerance) * service.mean_cost * kept_queries
        work = asked_for(policy, result, excess, asked, start + begins)
        tries = 0
        for draw in (2 * number, 2 * number + 1) if work else ():
            chance = round(2**64 / max(work / 2, 1.0)) / 2**64
            u = uniform_at(key, TRIES, who, replica, draw)
            tries += math.floor(math.log(u) / math.log1p(-chance)) + 1
        hashes, work_sum, puzzles = hashes + tries, work_sum + work, puzzles + (work > 0)
        finish = begins + asked * service.seconds_per_query + tries / rate
        number += 1
    return {"hashes": hashes, "puzzles": puzzles, "work": work_sum, "cost": cost, "elapsed_s": finish}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_every_identity_equals_a_walk_with_a_clock(policy: dict[str, Any]) -> None:
    result = simulate(scenario(policy))
    asked = set()
    for group in (0, 1):
        outcome = result.outcomes[group]
        for row in range(len(outcome.queries)):
            truth = walk(result, group, row)
            for name in ("hashes", "puzzles"):
                assert int(getattr(outcome, name)[row]) == truth.pop(name), name
            for name, value in truth.items():
                assert float(getattr(outcome, name)[row]) == pytest.approx(value, rel=1e-10), name
            asked.add(round(float(outcome.work[row] / max(outcome.puzzles[row], 1)), 3))
    assert len(asked) > 10  # the price did depend on whom and when


def test_who_pauses_is_forgiven() -> None:
    def work(policy: str, pause: float) -> float:
        table = {"name": policy, **CALIBRATED} | ({"decay_s": 600.0} if policy == "decay" else {})
        clock = {"request_every_s": pause}
        return float(simulate(scenario(table, clock)).outcomes[1].work.sum())

    assert work("calibrated", 0.0) == work("calibrated", 600.0)
    assert work("decay", 600.0) < work("decay", 60.0) < work("decay", 0.0) < work("calibrated", 0.0)


def test_a_load_without_a_change_is_what_it_multiplies() -> None:
    for own, plain in (
        ({"name": "load", "multipliers": [1.0, 1.0], **CALIBRATED}, {"name": "calibrated", **CALIBRATED}),
        ({"name": "load", "multipliers": [1, 1], "bits": 15.0}, {"name": "fixed", "bits": 15.0}),
    ):
        for a, b in zip(simulate(scenario(own)).outcomes, simulate(scenario(plain)).outcomes, strict=True):
            np.testing.assert_array_equal(a.hashes, b.hashes)
            np.testing.assert_array_equal(a.elapsed_s, b.elapsed_s)


def test_thinking_and_starting_later_let_the_clock_run_and_change_no_price() -> None:
    policy = {"name": "fixed", "bits": 10.0}
    busy = simulate(scenario(policy, {})).outcomes[0]
    slow = simulate(scenario(policy, {"think_s": 2.0, "starts_within_s": 1000.0})).outcomes[0]
    np.testing.assert_array_equal(busy.hashes, slow.hashes)
    pauses = -(-busy.queries // 64) - 1
    np.testing.assert_allclose(slow.elapsed_s, busy.elapsed_s + 2.0 * pauses, rtol=1e-12)


@pytest.mark.parametrize("name", ["fixed", "own_policies:OwnFixed"])
@pytest.mark.parametrize("every", [16, 64, 256])
def test_callers_think_between_requests_however_many_puzzles_they_are(name: str, every: int) -> None:
    policy = {"name": name, "bits": 10.0, "queries_per_puzzle": every}
    busy = simulate(scenario(policy, {})).outcomes[0]
    slow = simulate(scenario(policy, {"think_s": 2.0})).outcomes[0]
    pauses = (-(-busy.queries // every) - 1) * every / 64
    np.testing.assert_allclose(slow.elapsed_s, busy.elapsed_s + 2.0 * pauses, rtol=1e-12)


WRONG = (
    ({"name": "banded", "edges": [1.0], "bits": [1.0]}, "policy.bits", "2 items"),
    ({"name": "banded", "edges": [1.0, 2.0], "bits": [1.0, 2.0]}, "policy", "part 3 bands, and there are 2 bits"),
    ({"name": "banded", "edges": [2.0, 1.0], "bits": [1.0, 2.0, 3.0]}, "policy", "must rise: sort them"),
    ({"name": "banded", "edges": [0.0, 1.0], "bits": [1.0, 2.0, 3.0]}, "policy.edges.0", "greater than 0"),
    ({"name": "banded", "edges": [1.0], "bits": [1.0, 59.0]}, "policy.bits.1", "less than or equal to 58"),
    ({"name": "banded", "edges": list(range(1, 18)), "bits": [1.0] * 17}, "policy.edges", "at most 16"),
    ({"name": "load", "multipliers": [2.0]}, "policy.multipliers", "at least 2"),
    ({"name": "load", "multipliers": [1.0, -1.0]}, "policy.multipliers.1", "greater than or equal to 0"),
    ({"name": "load", "step_s": 0.0}, "policy.step_s", "greater than 0"),
    ({"name": "load", "bits": 20.0, "base": 1.01}, "policy", "leave out base, or bits"),
    ({"name": "load", "bits": 45.0}, "policy", "exceeds max_bits = 40.0: raise max_bits"),
    ({"name": "load", "multiplier": [1.0, 2.0]}, "policy.multiplier", "did you mean multipliers?"),
    ({"name": "decay", "decay_s": 0.0}, "policy.decay_s", "greater than 0"),
    ({"name": "decay", "decays_s": 1.0}, "policy.decays_s", "did you mean decay_s?"),
)


@pytest.mark.parametrize(("policy", "path", "text"), WRONG, ids=str)
def test_a_wrong_table_is_told_where_and_why(policy: dict[str, Any], path: str, text: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        scenario(policy)
    assert [(m.path, text in m.text) for m in caught.value.mistakes] == [(path, True)], str(caught.value)


def test_the_keys_that_came_later_change_no_id_where_they_are_not_used() -> None:
    table = scenario({"name": "fixed"}, {}).model_dump()
    for group in (table["population"]["people"], table["campaign"]["theft"]):
        del group["think_s"], group["starts_within_s"]
    del table["puzzle"]["parallel"]
    bare, ids = parse_scenario(table), set()
    assert bare.id == scenario({"name": "fixed"}, {}).id
    assert not any(word in bare.text for word in ("think_s", "starts_within_s", "parallel"))
    for key in ("think_s", "starts_within_s"):
        ids.add(scenario({"name": "fixed"}, {key: 1.0}).id)
    table["puzzle"]["parallel"] = True
    ids.add(parse_scenario(table).id)
    assert len({bare.id, *ids}) == 4
