"""Scenarios whose costs are drawn from a bank: both ways through the engine, the operator's values, mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banks import made_bank
from powsim import simulate, stages, summarise
from powsim.bank.costs import METERS, cost_range, costs
from powsim.bank.files import write_bank
from powsim.edge import ScenarioError
from powsim.groups import service_of
from powsim.outcome import Outcome
from powsim.scenario import Scenario, parse_scenario
from powsim.sweeps.streaming import simulate_totals
from powsim.totals import totals_of
from powsim_kernels import philox

BANK = made_bank(seeds=2, queries=512, originals=40, copies=5)
OWN = {"calibrated": "own_policies:OwnCalibrated", "as-published": "own_policies:OwnAsPublished"}
COST = 6  # the stream of costs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("banks")
    write_bank(made / "my.npz", BANK)
    return made


def table(policy: str = "calibrated", **spread: float) -> dict[str, Any]:
    return {
        "name": "banked",
        "seed": 3,
        "service": {"bank": "my.npz", "batch": 32},
        "policy": {"name": policy, "queries_per_puzzle": 50, "partial_puzzle": True, "base": 1.05},
        "puzzle": {"sub_puzzles": 2},
        "population": {
            "people": {
                "identities": 400,
                "queries": {"median": 150.0, "sigma": 1.2, "max": 2500},
                "devices": {"galaxy-a34-browser": 0.5, "rtx-4090": 0.5},
                **spread,
            }
        },
        "campaign": {
            name: {"trace": name, "queries": 1500, "devices": ["rtx-4090"], "identities": [1, 7], "replicas": 20}
            for name in ("copycat", "worst-case")
        },
    }


def scenario(folder: Path, policy: str = "calibrated", **spread: float) -> Scenario:
    return parse_scenario(table(policy, **spread), folder=folder)


SPREADS: tuple[dict[str, float], ...] = ({}, {"mean_shift": 0.1, "mean_shift_sd": 0.3, "drift_sd": 3.0})


@pytest.mark.parametrize("spread", SPREADS, ids=str)
@pytest.mark.parametrize("policy", OWN)
@pytest.mark.parametrize("cells", [3000, 1 << 19])
def test_a_policy_in_python_gets_the_same_results(
    policy: str, spread: dict[str, float], cells: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "CELLS", cells)
    fast, slow = (simulate(scenario(folder, name, **spread)).outcomes for name in (policy, OWN[policy]))
    for a, b in zip(fast, slow, strict=True):
        for name in Outcome.__dataclass_fields__:
            one, other = getattr(a, name), getattr(b, name)
            if one.dtype.kind != "f" or name in ("cost", "rate_hz"):
                np.testing.assert_array_equal(one, other, err_msg=name)
            else:
                np.testing.assert_allclose(one, other, rtol=1e-12, err_msg=name)


def test_what_is_drawn_is_what_was_recorded(folder: Path) -> None:
    """Honest costs come query by query from the users' halves, attacks' in blocks of 64 from one run at its place."""
    result = simulate(scenario(folder))
    users = np.concatenate([costs(BANK, run.pool)[run.pool.user] for run in BANK.runs])
    attack = [costs(BANK, run.recordings[1]) for run in BANK.runs]
    assert BANK.runs[0].recordings[1].attack == "copycat"
    for number in (0, 1, 2):
        group, outcome = result.groups[number], result.outcomes[number]
        key, _ = group.draw(result.seed)
        for row in range(0, len(outcome.queries), 13):
            who, replica, queries = (int(getattr(outcome, name)[row]) for name in ("identity", "replica", "queries"))
            total = 0.0
            for query in range(queries):
                block, place = (query, 0) if number == 0 else (query // 64, query)
                while place >= 512:
                    place -= 256  # the last half again
                counter = np.array([[block // 4, COST, who, replica]], np.uint32)
                word = int(philox(counter, key, backend="reference")[0, block % 4])
                total += users[word * len(users) >> 32] if number == 0 else attack[word * 2 >> 32][place]
            assert float(outcome.cost[row]) == pytest.approx(total, rel=1e-12)
        if number == 1:
            assert len(set(outcome.cost.tolist())) > 15  # repetitions differ


def test_the_operator_expects_the_calibrating_half_and_takes_the_measured_times(folder: Path) -> None:
    service = service_of(scenario(folder).service)
    mean = np.concatenate([costs(BANK, run.pool)[~run.pool.user] for run in BANK.runs]).mean()
    assert (service.expected_slope, service.mean_cost) == (pytest.approx(mean), pytest.approx(mean))
    assert service.expected_intercept == 0.0
    assert (service.dataset, service.batch) == ("made-up", 32)
    assert service.inference_s == pytest.approx(32 * BANK.seconds_per_query)
    assert service.metering_s == pytest.approx(32 * BANK.metering_s_per_query)
    own = table()
    own["service"] |= {"inference_s": 0.5, "metering_s": 0.0}
    service = service_of(parse_scenario(own, folder=folder).service)
    assert (service.inference_s, service.metering_s) == (0.5, 0.0)


@pytest.mark.parametrize("meter", METERS)
def test_every_meter_prices_the_recorded_queries(meter: str, folder: Path) -> None:
    given = table()
    given["service"]["meter"] = meter
    made = parse_scenario(given, folder=folder)
    bank = made.service.priced_bank
    assert bank is not None
    own = np.stack(
        [costs(BANK, next(one for one in run.recordings if one.attack == "copycat"), meter) for run in BANK.runs]
    )
    np.testing.assert_allclose(bank.attacks["copycat"], own, rtol=1e-12)
    halves = np.concatenate([costs(BANK, run.pool, meter)[~run.pool.user] for run in BANK.runs])
    assert service_of(made.service).mean_cost == pytest.approx(halves.mean())
    outcome = simulate(made).outcomes[1]  # a campaign, whose recordings are drawn as they are
    low, high = cost_range(BANK, meter)
    assert np.all(outcome.cost >= low * outcome.queries * (1 - 1e-12))
    assert np.all(outcome.cost <= high * outcome.queries * (1 + 1e-12))
    assert parse_scenario(given, folder=folder).id != scenario(folder).id


def test_costs_stay_within_what_the_meter_can_give(folder: Path) -> None:
    low, high = cost_range(BANK)
    outcome = simulate(scenario(folder, mean_shift_sd=9.0)).outcomes[0]
    assert np.all(outcome.cost >= low * outcome.queries * (1 - 1e-12))
    assert np.all(outcome.cost <= high * outcome.queries * (1 + 1e-12))
    assert np.any(np.isclose(outcome.cost, low * outcome.queries, rtol=1e-9))
    assert np.any(np.isclose(outcome.cost, high * outcome.queries, rtol=1e-9))


def test_accuracy_is_that_of_the_recordings_at_so_many_queries(folder: Path) -> None:
    for queries in (64, 100, 512, 513, 63):
        made = table()
        for campaign in made["campaign"].values():
            campaign["queries"] = queries
        found = summarise(simulate(parse_scenario(made, folder=folder)))[1]
        students = [run.recordings[1] for run in BANK.runs]
        expected = np.mean([np.interp(queries, one.checkpoints, 100 * one.accuracy) for one in students])
        assert found.accuracy_pct == (None if queries in (513, 63) else pytest.approx(float(expected)))


def test_a_sweeps_totals_are_those_of_the_rows(folder: Path) -> None:
    for policy in ("calibrated", OWN["calibrated"]):
        made = scenario(folder, policy)
        result, found = simulate(made), simulate_totals(made)
        for group, outcome in zip(result.groups, result.outcomes, strict=True):
            assert found[group.name].counts == totals_of(group, outcome).counts


def test_a_scenario_runs_and_is_reported_from_the_command_line(
    done: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "s.toml").write_text(
        """
name = "banked"
[service]
bank = "my.npz"
[policy]
name = "calibrated"
[population.people]
identities = 300
queries = 200
[population.people.devices]
galaxy-a34-browser = 1.0
[campaign.theft]
trace = "copycat"
queries = 500
devices = ["rtx-4090"]
replicas = 5
"""
    )
    code, out, _ = done("run", "s.toml", "--out", "o")
    assert code == 0
    assert "theft/rtx-4090/x1" in out
    (page,) = Path("o").glob("*.html")
    assert "copycat" in page.read_text(encoding="utf-8")
    code, _, err = done("run", "s.toml", "--no-save", "--set", "campaign.theft.trace=theft")
    assert code == 2
    assert "campaign.theft.trace: no attack 'theft' was recorded in the bank: choose one of standard, copycat," in err


def test_another_bank_is_another_scenario(folder: Path, tmp_path: Path) -> None:
    one = scenario(folder)
    write_bank(tmp_path / "my.npz", BANK)
    assert scenario(tmp_path).id == one.id
    write_bank(tmp_path / "my.npz", replace(BANK, sigma=2.0))
    other = scenario(tmp_path)
    assert other.id != one.id
    assert float(simulate(other).outcomes[0].cost.sum()) != float(simulate(one).outcomes[0].cost.sum())


@pytest.mark.parametrize(
    ("service", "path", "text"),
    [
        ({"bank": "none.npz"}, "service.bank", "cannot read 'none.npz'"),
        ({"bank": "broken.npz"}, "service.bank", "is no bank"),
        ({"bank": "my.npz", "dataset": "mnist"}, "service", "exclude each other"),
        ({}, "service.dataset", "is missing"),
        ({"dataset": "cifar"}, "service.dataset", "unknown dataset 'cifar': choose one of mnist, svhn, cifar10"),
        ({"bank": "my.npz", "meter": "pate"}, "service.meter", "unknown meter 'pate': choose one of gnmax, pknn"),
        ({"dataset": "svhn", "meter": "gap"}, "service", "needs recorded votes, and svhn is published sums"),
    ],
    ids=str,
)
def test_a_service_that_cannot_be_is_told(
    service: dict[str, str], path: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    Path("broken.npz").write_bytes(b"nothing")
    with pytest.raises(ScenarioError) as caught:
        parse_scenario({**table(), "service": service})
    assert caught.value.mistakes[0].path == path
    assert text in caught.value.mistakes[0].text


def test_a_policy_in_python_has_a_limit_of_drawn_costs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "MOST_PUZZLES", 60)
    with pytest.raises(ValueError, match=r"people: one identity would draw 2,500 costs, more than 60 for a policy in"):
        simulate(scenario(folder, OWN["calibrated"]))
