"""What the figures show, as arrays: page and picture draw the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from powsim import study
from powsim.devices import Device
from powsim.engine import Chain, Result
from powsim.groups import Group
from powsim.meter import ledger_for
from powsim.plugin import price
from powsim.policy import Policy, offers
from powsim.scenario import CampaignSpec, Scenario
from powsim.sources import curve_for
from powsim.summary import GroupSummary

PAPER_SOLVER = "paper-python-solver"
LEAST_QUERIES = 1000.0  # accuracy curves start where every published series has been trained at least once
COST_QUERIES = 10_000.0
ACCOUNTS = 16  # for the mean of what cannot be reckoned


@dataclass(frozen=True)
class AccuracyCurve:
    """Accuracy of the stolen model against time, in expectation, for one account."""

    trace: str
    device: str | None  # None: without puzzles
    time_s: NDArray[np.float64]
    accuracy_pct: NDArray[np.float64]


@dataclass(frozen=True)
class CostLine:
    """Summed privacy cost against queries, less what a standard user is expected to cost."""

    trace: str
    queries: NDArray[np.float64]
    excess: NDArray[np.float64]


@dataclass(frozen=True)
class SlowdownCurve:
    """Share of a device's honest users whose slowdown exceeds x."""

    population: str
    device: str
    slowdown: NDArray[np.float64]  # rising
    share_above: NDArray[np.float64]  # falling


def traces_of(scenario: Scenario) -> list[str]:
    """Return the published traces that the scenario uses, populations first, each once."""
    used = [spec.trace for spec in (*scenario.population.values(), *scenario.campaign.values())]
    return [trace for trace in dict.fromkeys(used) if not trace.endswith(".csv")]


def curve_devices(scenario: Scenario) -> list[Device]:
    """Return the paper's own solver, and the fastest device that a campaign uses."""
    names = {name for spec in scenario.campaign.values() for name in spec.devices}
    fastest = sorted((scenario.device(name) for name in names), key=lambda device: -device.rate_hz)[:1]
    return [scenario.device(PAPER_SOLVER), *(d for d in fastest if d.name != PAPER_SOLVER)]


def accuracy_curves(result: Result) -> list[AccuracyCurve]:
    """Return, per trace with its own accuracies, time without puzzles and with them on two devices."""
    scenario = result.scenario
    priced = "price" in offers(scenario.policy_object)
    curves = []
    for name in traces_of(scenario):
        queries, accuracy = _series(scenario, name)
        if not len(queries):
            continue
        plain = queries * result.service.seconds_per_query
        curves.append(AccuracyCurve(name, None, plain, accuracy))
        for device in curve_devices(scenario):
            try:
                hashes = _expected(result, name, queries) if priced else _simulated(result, name, queries, device)
            except ValueError:
                break  # the trace is longer than anything the scenario asks: a policy need not know it
            curves.append(AccuracyCurve(name, device.name, plain + hashes / device.rate_hz, accuracy))
    return curves


def _expected(result: Result, trace: str, queries: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the work of the puzzles that are due up to so many queries, [R]."""
    policy, service = cast(Policy, result.scenario.policy_object), result.service
    every = policy.queries_per_puzzle or service.batch
    curve = curve_for(result.scenario, trace)
    ledger = ledger_for(np.array([int(queries[-1])]), every, policy.partial_puzzle, curve)
    work = np.cumsum(np.where(ledger.due, price(policy, ledger, service), 0.0))
    return np.append(0.0, work)[np.searchsorted(ledger.queries[0], queries, side="right")]


def _simulated(result: Result, trace: str, queries: NDArray[np.float64], device: Device) -> NDArray[np.float64]:
    """Return the mean work of some accounts that ask so many queries, [R]: a price by the clock depends on luck."""
    chain = Chain.of(result.scenario, result.seed, "cpu", None)
    every = result.scenario.policy_object.queries_per_puzzle or result.service.batch

    def work(count: int) -> float:
        spec = CampaignSpec.model_construct(trace=trace, queries=count, devices=[device.name], replicas=ACCOUNTS)
        group = Group(f"curve/{trace}", "campaign", trace, (device,), spec, accounts=1, replicas=ACCOUNTS)
        return float(chain.outcome(group).work.mean())

    due = (int(count) // every * every for count in queries)
    return np.array([work(count) if count else 0.0 for count in due])


def _series(scenario: Scenario, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return queries and accuracies of a trace, nothing where it has none of its own."""
    bank = scenario.service.priced_bank
    if bank is not None:
        queries, accuracy = bank.series(name)
        return queries[queries > 0], accuracy[queries > 0]
    if name in study.published.SAME_QUERIES:
        return np.empty(0), np.empty(0)
    series = study.trace(scenario.service.name, name)
    rows = series.queries >= LEAST_QUERIES
    return series.queries[rows], series.accuracy_pct[rows]


def cost_lines(result: Result) -> list[CostLine]:
    """Return the excess cost of every trace over its first queries: as many as the shortest has, 10,000 at most."""
    scenario = result.scenario
    paper = scenario.service.priced_bank is None
    names = [name for name in traces_of(scenario) if not (paper and name in study.published.SAME_QUERIES)]
    curves = {name: curve_for(scenario, name) for name in names}
    shortest = min((float(curve.queries[-1]) for curve in curves.values()), default=0.0)
    queries = np.linspace(0.0, min(shortest, COST_QUERIES), 200)
    expected = result.service.mean_cost * queries
    return [CostLine(name, queries, curve(queries) - expected) for name, curve in curves.items()]


def slowdown_curves(result: Result) -> list[SlowdownCurve]:
    """Return how the slowdown of honest users is distributed, per population and device, at 200 quantiles."""
    curves = []
    grid = np.append(1.0 - np.logspace(0, -3, 150), np.linspace(0, 1, 51))
    for group, outcome in zip(result.groups, result.outcomes, strict=True):
        if group.role != "honest":
            continue
        for index, device in enumerate(group.devices):
            mine = outcome.device == index
            if mine.any():
                at = np.unique(np.clip(grid, 0, 1 - 0.5 / mine.sum()))
                curves.append(SlowdownCurve(group.name, device.name, np.quantile(outcome.slowdown[mine], at), 1 - at))
    return curves


def campaigns(groups: list[GroupSummary]) -> list[GroupSummary]:
    """Return the campaigns, dearest last, as bar charts draw them from below."""
    return sorted((g for g in groups if g.role == "campaign"), key=lambda g: g.cost_usd.value)
