"""From identities to headlines, each with a 95 % interval.

For a population a headline is an estimate about its users, and the interval says how far the sample may be off. For a
campaign every repetition is one attack: the headline is the median over repetitions, the interval where the
central 95 % of them fall, the uncertainty of the device's rate included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim import intervals, study
from powsim.engine import Result
from powsim.groups import Group
from powsim.intervals import Headline
from powsim.outcome import Outcome
from powsim.scenario import ServiceSpec

PROMISE = 2.0
"""The slowdown that the paper promises honest users to stay below."""


@dataclass(frozen=True)
class DeviceShare:
    """A population's users on one device."""

    device: str
    identities: int
    slowdown_p50: Headline
    slowdown_p95: Headline
    share_above_2x: Headline


@dataclass(frozen=True)
class GroupSummary:
    """Headlines of one group. Campaign figures are for one campaign, population figures for the whole population."""

    name: str
    role: str
    trace: str
    devices: tuple[str, ...]
    identities: int
    replicas: int
    queries: int
    accuracy_pct: float | None  # of the stolen model after so many queries, as published or recorded in the bank
    hashes: Headline
    slowdown: Headline  # time with puzzles over time without, summed over the group
    slowdown_p50: Headline
    slowdown_p95: Headline
    slowdown_p99: Headline
    slowdown_undefended: Headline  # as `slowdown`, over bare inference without metering
    share_above_2x: Headline
    hours: Headline
    puzzle_hours: Headline
    energy_kwh: Headline
    cost_usd: Headline
    by_device: tuple[DeviceShare, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, headlines as {value, low, high}."""
        return {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}


def _plain(value: Any) -> Any:
    if isinstance(value, Headline):
        return value.as_dict()
    if isinstance(value, DeviceShare):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def summarise(result: Result) -> list[GroupSummary]:
    """Return the headlines of every group, in order."""
    return [
        _population(group, outcome) if group.role == "honest" else _campaign(result, group, outcome)
        for group, outcome in zip(result.groups, result.outcomes, strict=True)
    ]


def _accuracy(service: ServiceSpec, trace: str, queries: int) -> float | None:
    """Return what a model stolen so was published, or recorded, to reach."""
    if trace.endswith(".csv"):
        return None
    bank = service.priced_bank
    return study.accuracy_pct(service.name, trace, queries) if bank is None else bank.accuracy_pct(trace, queries)


def _population(group: Group, outcome: Outcome) -> GroupSummary:
    slow = outcome.slowdown
    users = len(slow)
    return GroupSummary(
        name=group.name,
        role=group.role,
        trace=group.trace,
        devices=tuple(device.name for device in group.devices),
        identities=users,
        replicas=1,
        queries=int(outcome.queries.sum()),
        accuracy_pct=None,
        hashes=intervals.total(outcome.hashes.astype(np.float64)),
        slowdown=intervals.ratio(outcome.service_s + outcome.solve_s, outcome.service_s).at_least(1.0),
        slowdown_p50=intervals.quantile(slow, 0.50).at_least(1.0),
        slowdown_p95=intervals.quantile(slow, 0.95).at_least(1.0),
        slowdown_p99=intervals.quantile(slow, 0.99).at_least(1.0),
        slowdown_undefended=intervals.ratio(outcome.service_s + outcome.solve_s, outcome.inference_s).at_least(1.0),
        share_above_2x=intervals.share(int((slow > PROMISE).sum()), users),
        hours=intervals.total(outcome.elapsed_s / 3600),
        puzzle_hours=intervals.total(outcome.solve_s / 3600),
        energy_kwh=intervals.total(outcome.energy_j / 3.6e6),
        cost_usd=intervals.total(outcome.cost_usd),
        by_device=tuple(
            DeviceShare(
                device.name,
                int(mine.sum()),
                intervals.quantile(slow[mine], 0.50).at_least(1.0),
                intervals.quantile(slow[mine], 0.95).at_least(1.0),
                intervals.share(int((slow[mine] > PROMISE).sum()), int(mine.sum())),
            )
            for index, device in enumerate(group.devices)
            if (mine := outcome.device == index).any()
        ),
    )


def _campaign(result: Result, group: Group, outcome: Outcome) -> GroupSummary:
    shape = (group.replicas, group.accounts)

    def per_campaign(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(values.reshape(shape).sum(axis=1, dtype=np.float64))

    slow = outcome.slowdown.reshape(shape)
    busy, service = per_campaign(outcome.service_s + outcome.solve_s), per_campaign(outcome.service_s)
    queries = int(outcome.queries[: group.accounts].sum())
    return GroupSummary(
        name=group.name,
        role=group.role,
        trace=group.trace,
        devices=(group.devices[0].name,),
        identities=group.accounts,
        replicas=group.replicas,
        queries=queries,
        accuracy_pct=_accuracy(result.scenario.service, group.trace, queries),
        hashes=intervals.replicas(per_campaign(outcome.hashes)),
        slowdown=intervals.replicas(busy / service),
        slowdown_p50=intervals.replicas(np.quantile(slow, 0.50, axis=1)),
        slowdown_p95=intervals.replicas(np.quantile(slow, 0.95, axis=1)),
        slowdown_p99=intervals.replicas(np.quantile(slow, 0.99, axis=1)),
        slowdown_undefended=intervals.replicas(busy / per_campaign(outcome.inference_s)),
        share_above_2x=intervals.replicas((slow > PROMISE).mean(axis=1)),
        hours=intervals.replicas(per_campaign(outcome.elapsed_s) / 3600),
        puzzle_hours=intervals.replicas(per_campaign(outcome.solve_s) / 3600),
        energy_kwh=intervals.replicas(per_campaign(outcome.energy_j) / 3.6e6),
        cost_usd=intervals.replicas(per_campaign(outcome.cost_usd)),
    )
