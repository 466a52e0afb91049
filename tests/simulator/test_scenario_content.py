"""What a scenario is: its id, its order, absurd values that are numbers, and those that ship."""

from __future__ import annotations

import hashlib
import math
import tomllib
from pathlib import Path

import numpy as np
import pytest

from powsim import load_scenario, parse_scenario, simulate, summarise
from powsim.intervals import Headline
from powsim.scenario import shipped
from scenarios import SMALL, mistakes, table


def test_the_id_is_the_hash_of_the_text_and_ignores_the_seed_alone() -> None:
    base = parse_scenario(table())
    assert base.id == hashlib.sha256(base.text.encode()).hexdigest()[:16]
    assert parse_scenario(table(), overrides=["seed=99"]).id == base.id
    changes = [
        "name=other",
        "description=other",
        "service.dataset=svhn",
        "service.batch=65",
        "service.inference_s=1.0",
        "policy.max_bits=29.0",
        "policy.target_slowdown=3.0",
        "puzzle.sub_puzzles=2",
        "prices.electricity_usd_per_kwh=0.21",
        "devices.own.watts=4.0",
        "population.web.identities=13",
        "population.web.queries.sigma=0.6",
        "population.web.mean_shift_sd=0.03",
        "population.web.devices={own=1.0}",
        "campaign.theft.queries=1001",
        "campaign.theft.identities=[1,5]",
        'campaign.theft.devices=["h100-sxm"]',
        "campaign.theft.replicas=6",
    ]
    ids = [parse_scenario(table(), overrides=[change]).id for change in changes]
    assert len({base.id, *ids}) == len(changes) + 1


def test_the_id_follows_the_content_of_the_files_that_are_named(tmp_path: Path) -> None:
    policy = "class P:\n    queries_per_puzzle = 0\n    partial_puzzle = True\n    def price(self, ledger, service):\n"
    ids = set()
    for trace, body in (("1,1\n2,2\n", "0"), ("1,1\n2,3\n", "0"), ("1,1\n2,2\n", "1")):
        for folder in (tmp_path / f"{trace[-2]}{body}a", tmp_path / f"{trace[-2]}{body}b"):
            folder.mkdir()
            (folder / "t.csv").write_text("queries,cost\n" + trace)
            (folder / "p.py").write_text(f"{policy}        return {body} * ledger.cost\n")
        found = [
            parse_scenario(
                table(),
                folder=tmp_path / f"{trace[-2]}{body}{which}",
                overrides=["campaign.theft.trace=t.csv", "policy={name='p.py:P'}"],
            ).id
            for which in "ab"
        ]
        assert found[0] == found[1]
        ids.add(found[0])
    assert len(ids) == 3


@pytest.mark.parametrize("value", [16**6000, -(16**6000)], ids=["huge", "hugely negative"])
@pytest.mark.parametrize("leaf", ["seed", "population.web.queries", "population.web.devices.own", "policy.max_bits"])
def test_an_integer_too_long_to_print_is_refused_like_any_other(value: int, leaf: str) -> None:
    raw = table()
    *parents, last = leaf.split(".")
    inner = raw
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    [(path, text)] = mistakes(raw)
    assert path == leaf
    assert len(text) < 500


def test_one_id_and_one_seed_mean_one_result_whatever_the_order_in_the_file() -> None:
    raw, turned = table(), table()
    devices = turned["population"]["web"]["devices"]
    turned["population"]["web"]["devices"] = dict(reversed(devices.items()))
    one, other = parse_scenario(raw), parse_scenario(turned)
    if one.id == other.id:
        a, b = simulate(one).outcomes[0], simulate(other).outcomes[0]
        np.testing.assert_array_equal(a.rate_hz, b.rate_hz)
        np.testing.assert_array_equal(a.hashes, b.hashes)


def test_the_order_of_the_groups_in_the_file_changes_the_id_or_nothing() -> None:
    raw, turned = table(), table()
    for one in (raw, turned):
        one["population"]["api"] = {**one["population"]["web"], "identities": 3}
    turned["population"] = dict(reversed(turned["population"].items()))
    a, b = parse_scenario(raw), parse_scenario(turned)
    if a.id == b.id:
        assert [g.name for g in simulate(a).groups] == [g.name for g in simulate(b).groups]


ABSURD = [
    ["service.inference_s=1e-320", "service.metering_s=0"],
    ["service.inference_s=5e-324", "service.metering_s=0", "policy={name='none'}"],
    ["service.inference_s=1e6", "service.metering_s=1e6"],
    ["devices.own.rate_low_hz=1e-320", "devices.own.rate_high_hz=1e-320"],
    ["devices.own.rate_low_hz=1e-320", "devices.own.rate_high_hz=1e18"],
    ["devices.own.rate_low_hz=1e-150", "devices.own.rate_high_hz=1e-150", "population.web.devices={own=1.0}"],
    ["devices.own.rate_low_hz=1e18", "devices.own.rate_high_hz=1e18"],
    ["devices.own.watts=1e9", "devices.own.usd_per_h=1e9"],
    ["population.web.queries={median=1e-300,sigma=10}"],
    ["population.web.queries={median=1e9,sigma=10,max=1000}"],
    ["population.web.mean_shift=-0.999", "population.web.mean_shift_sd=10", "population.web.drift_sd=10"],
    ["population.web.request_every_s=1e6"],
    ["policy={name='as-published',solver_hz=1e-300,truncate_bits=false}"],
    ["policy.reference_hz=1e300"],
    ["policy.reference_hz=5e-324"],
    ["policy={name='fixed',bits=0.0}"],
    ["policy={name='fixed',bits=50.0}"],
    ["puzzle.sub_puzzles=1024"],
    ["service.batch=1000000"],
    ["service.batch=1"],
]


@pytest.mark.parametrize("overrides", ABSURD, ids=[" ".join(o)[:70] for o in ABSURD])
def test_absurd_values_are_refused_or_give_finite_numbers(overrides: list[str]) -> None:
    try:
        result = simulate(parse_scenario(table(), overrides=["campaign.theft.devices=['own']", *overrides]))
    except ValueError:
        return
    for outcome in result.outcomes:
        for field in outcome.__dataclass_fields__:
            assert np.isfinite(getattr(outcome, field)).all(), field
    for group in summarise(result):
        for field in group.__dataclass_fields__:
            headline = getattr(group, field)
            if isinstance(headline, Headline):
                assert math.isfinite(headline.value), (group.name, field)
                assert headline.low <= headline.value <= headline.high, (group.name, field)


def test_at_least_five_scenarios_ship_with_comments_and_a_description() -> None:
    texts = shipped()
    assert len(texts) >= 5
    assert "default" in texts
    for name, text in texts.items():
        raw = tomllib.loads(text)
        assert raw["name"] == name
        assert raw["description"]
        assert text.startswith("# ")


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_shipped_scenario_runs_and_gives_ordered_finite_headlines(name: str) -> None:
    scenario = load_scenario(name)
    groups = summarise(simulate(scenario))
    cells = sum(len(c.devices) * len(c.splits) for c in scenario.campaign.values())
    assert len(groups) == len(scenario.population) + cells
    for group in groups:
        for field in group.__dataclass_fields__:
            headline = getattr(group, field)
            if isinstance(headline, Headline):
                assert headline.low <= headline.value <= headline.high, (group.name, field)
                assert np.isfinite([headline.low, headline.value, headline.high]).all(), (group.name, field)


def test_none_is_the_default_scenario_and_a_file_of_that_name_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_scenario().id == load_scenario("default").id
    (tmp_path / "default").write_text(SMALL)
    assert load_scenario("default").name == "small"
    assert load_scenario().name == "default"
