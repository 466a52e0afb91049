"""The three sentences say what the numbers say, no more: every clause is checked against a recount."""

from __future__ import annotations

import re
from typing import Any

import pytest

from powsim import findings, load_scenario, simulate, summarise
from powsim.intervals import Headline
from powsim.scenario import shipped
from powsim.summary import DeviceShare, GroupSummary
from powsim.text import dollars, percent, times


def exact(value: float) -> Headline:
    return Headline(value, value, value)


def group(name: str, role: str, slowdown: float = 1.0, **more: Any) -> GroupSummary:
    values: dict[str, Any] = {
        "name": name,
        "role": role,
        "trace": "standard",
        "devices": ("d",),
        "identities": 100,
        "replicas": 1,
        "queries": 1000,
        "accuracy_pct": None,
        **{field: exact(slowdown) for field in ("slowdown", "slowdown_p50", "slowdown_p95", "slowdown_p99")},
        "slowdown_undefended": exact(slowdown),
        **{
            field: exact(0.0)
            for field in ("hashes", "share_above_2x", "hours", "puzzle_hours", "energy_kwh", "cost_usd")
        },
    }
    values.update({k: exact(v) if isinstance(values.get(k), Headline) else v for k, v in more.items()})
    return GroupSummary(**values)


def people(name: str, above: float, devices: dict[str, tuple[int, float]] | None = None, **more: Any) -> GroupSummary:
    by_device = tuple(
        DeviceShare(device, users, exact(1.0), exact(1.0), exact(hit))
        for device, (users, hit) in (devices or {}).items()
    )
    users = sum(d.identities for d in by_device) or 100
    return group(name, "honest", share_above_2x=above, by_device=by_device, identities=users, **more)


def attack(name: str, slowdown: float, usd: float = 0.0, **more: Any) -> GroupSummary:
    accounts = int(name.rpartition("/x")[2])
    return group(name, "campaign", slowdown, cost_usd=usd, **{"identities": accounts, **more})


def test_there_are_three_sentences_and_each_ends_once() -> None:
    for groups in (
        [people("web", 0.01)],
        [attack("a/d/x1", 1.0)],
        [people("web", 0.5, {"phone": (10, 0.5)}), attack("a/d/x1", 1.5, accuracy_pct=90.0)],
    ):
        found = findings(groups)
        assert [s.split(":")[0] for s in found] == ["What holds", "What does not", "For whom"]
        for sentence in found:
            assert sentence.endswith(".")
            assert not sentence.endswith("..")
            assert "nan" not in sentence


def test_a_promise_that_nobody_breaks_and_no_attack_escapes_is_said_to_hold() -> None:
    holds, fails, whom = findings([people("web", 0.01, slowdown_p50=1.4), attack("a/d/x1", 50.0)])
    assert "99 % of web users stay within 2x (median 1.40x)" in holds
    assert "1 of 1 campaigns are slowed down 10x or more, a/d/x1 most (50x)" in holds
    assert fails == "What does not: nothing that was simulated breaks the promise."
    assert whom == "For whom: no device and no campaign stands out."


def test_nothing_that_holds_is_said_as_plainly() -> None:
    holds, fails, _ = findings([people("web", 0.4, slowdown_p95=7.0), attack("a/d/x1", 1.2, 0.25)])
    assert holds == "What holds: no population keeps to 2x and no campaign is slowed down tenfold."
    assert "40 % of web users exceed 2x, one in twenty 7.00x or more" in fails
    assert "1 of 1 campaigns are slowed down less than 2x (a/d/x1 most, 1.20x)" in fails
    assert "$0.25" in fails


@pytest.mark.parametrize(("above", "kept"), [(0.0, True), (0.05, True), (0.0501, False), (1.0, False)])
def test_a_population_is_praised_or_blamed_never_both(above: float, kept: bool) -> None:
    holds, fails, _ = findings([people("web", above)])
    assert ("web users stay" in holds) == kept
    assert ("web users exceed" in fails) != kept


@pytest.mark.parametrize(
    ("slowdown", "held", "spared"),
    [(1.0, False, True), (1.999, False, True), (2.0, False, False), (9.99, False, False), (10.0, True, False)],
)
def test_a_campaign_is_held_up_spared_or_neither(slowdown: float, held: bool, spared: bool) -> None:
    holds, fails, _ = findings([attack("a/d/x1", slowdown)])
    assert ("campaigns are slowed down 10x or more" in holds) == held
    assert ("campaigns are slowed down less than 2x" in fails) == spared


def test_the_worst_the_most_and_the_dearest_are_named() -> None:
    groups = [
        attack("a/d/x1", 30.0),
        attack("b/d/x1", 700.0),
        attack("c/d/x1", 1.5, 0.02),
        attack("e/d/x1", 1.7, 0.01),
        attack("f/d/x1", 1.1, 3.5),
    ]
    holds, fails, _ = findings(groups)
    assert "2 of 5 campaigns are slowed down 10x or more, b/d/x1 most (700x)" in holds
    assert "3 of 5 campaigns are slowed down less than 2x (e/d/x1 most, 1.70x)" in fails
    assert "$3.50 (f/d/x1)" in fails


def test_the_split_that_saves_most_is_named() -> None:
    groups = [
        attack("a/d/x1", 40.0),
        attack("a/d/x4", 20.0),
        attack("a/d/x16", 25.0),
        attack("a/e/x1", 3.0),
        attack("a/e/x4", 2.9),
        attack("b/d/x2", 90.0),
        attack("b/d/x8", 30.0),
    ]
    fails = findings(groups)[1]
    assert "8 accounts instead of 2 take b/d from 90x to 30x" in fails
    assert "a/d from" not in fails


def test_a_split_that_saves_less_than_a_tenth_is_not_told() -> None:
    assert "accounts instead of" not in findings([attack("a/d/x1", 3.0), attack("a/d/x4", 2.8)])[1]
    assert "accounts instead of" not in findings([attack("a/d/x1", 3.0), attack("b/d/x4", 1.0)])[1]


def test_the_devices_that_are_named_and_the_share_of_users_belong_together() -> None:
    """Five devices are hit: three names with the share of five would blame the three for all of it."""
    devices = {f"d{i}": (100, hit) for i, hit in enumerate((0.9, 0.8, 0.7, 0.6, 0.5, 0.01))}
    whom = findings([people("web", 0.585, devices)])[2]
    named = re.findall(r"(d\d) \((\d+) % of them above 2x\)", whom)
    assert [name for name, _ in named][:3] == ["d0", "d1", "d2"]
    [told] = re.findall(r": ([\d.]+) % of all users", whom)
    lost = sum(100 * devices[name][1] for name, _ in named) / 600
    others = "more device" in whom or "other device" in whom or "others" in whom
    assert float(told) == pytest.approx(100 * lost, abs=0.6) or others


def test_the_cheapest_attacker_with_the_best_model_is_named() -> None:
    groups = [
        attack("a/d/x1", 1.5, 0.5, accuracy_pct=91.0),
        attack("b/d/x1", 1.2, 0.004, accuracy_pct=93.0),
        attack("b/e/x1", 1.1, 2.0, accuracy_pct=93.0),
        attack("c/d/x1", 30.0, 0.0, accuracy_pct=99.0),
        attack("own/d/x1", 1.0, 0.0),
    ]
    whom = findings(groups)[2]
    assert "the attacker who does not is b/d/x1" in whom
    assert "93.0 %" in whom
    assert "under a cent" in whom


@pytest.mark.parametrize("above", [0.0004, 0.0000167])
def test_nearly_everybody_is_not_everybody(above: float) -> None:
    assert "100 % of web users" not in findings([people("web", above)])[0]


@pytest.mark.parametrize("name", sorted(shipped()))
def test_the_sentences_of_the_shipped_scenarios_stand_a_recount(name: str) -> None:
    groups = summarise(simulate(load_scenario(name)))
    holds, fails, whom = findings(groups)
    honest = [g for g in groups if g.role == "honest"]
    campaigns = [g for g in groups if g.role == "campaign"]
    for g in honest:
        kept = g.share_above_2x.value <= 0.05
        assert (f"{percent(1 - g.share_above_2x.value)} of {g.name} users stay within 2x" in holds) == kept
        assert (f"{percent(g.share_above_2x.value)} of {g.name} users exceed 2x" in fails) != kept
    strong = [g for g in campaigns if g.slowdown.value >= 10]
    assert (f"{len(strong)} of {len(campaigns)} campaigns are slowed down 10x or more" in holds) == bool(strong)
    free = [g for g in campaigns if g.slowdown.value < 2]
    assert (f"{len(free)} of {len(campaigns)} campaigns are slowed down less than 2x" in fails) == bool(free)
    if free:
        assert dollars(max(g.cost_usd.value for g in free)) in fails
        best = max(g.accuracy_pct or 0 for g in free)
        assert f"a stolen accuracy of {best:.1f} %" in whom
    by_name = {g.name: g for g in groups}
    for many, few, kind, before, after in re.findall(
        r"(\d+) accounts instead of (\d+) take (\S+) from (\S+) to ([\d.,]+x)", fails
    ):
        assert times(by_name[f"{kind}/x{few}"].slowdown.value) == before
        assert times(by_name[f"{kind}/x{many}"].slowdown.value) == after
