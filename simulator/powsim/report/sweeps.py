"""Sweeps for the terminal: a table per point, differences between points, how far a sweep is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from powsim.intervals import Headline
from powsim.report.terminal import SHOWN, fits, groups_tables, interval
from powsim.summary import DeviceShare, GroupSummary
from powsim.sweeps.estimates import HEADLINES, Estimate
from powsim.sweeps.merge import Difference, GroupResult, Merged, PointResult
from powsim.sweeps.status import Status
from powsim.text import factor, printable, share, small

POINTS_FOOTNOTE = (
    "honest: the population of the highest p95 slowdown, the 95 % interval of its estimate, its users' share above 2x. "
    "Attacks: slowdown and $ of the device and number of accounts by which it is slowed least. --full shows all."
)
FOOTNOTE = (
    "p50, p95, p99: slowdown over the group's identities. Second lines: 95 % intervals of the estimates. Populations: "
    "quantiles by binomial order statistics, to the edges of bins 0.8 % wide at most; above 2x Clopper-Pearson; "
    "sums normal. Campaigns: the median over repetitions, by binomial order statistics; merged.json has their spread."
)


def points_table(merged: Merged, width: int) -> Table:
    """Return one line a point: what was swept, how honest users fare, and what attacks pay.

    Every campaign has a column; where `width` is too little for them, the one that is slowed least stands for all.
    """
    whole = _points_table(merged, apart=True)
    return whole if fits(whole, width) else _points_table(merged, apart=False)


def _points_table(merged: Merged, *, apart: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    points = merged.points
    keys = list(dict.fromkeys(key for point in points for key in point.values))
    campaigns = list(dict.fromkeys(_campaign(g) for p in points for g in p.groups if g.role == "campaign"))
    honest = any(group.role == "honest" for point in points for group in point.groups)
    table.add_column("\npoint", no_wrap=True)
    for key in keys:  # "campaign.copycat.identities" as two lines, without what kind of table it is of
        *head, last = map(printable, key.split(".")[1:] or [key])
        table.add_column(Text(f"{'.'.join(head)}\n{last}"), justify="right", overflow="fold")
    if honest:
        for title in ("\np95", "honest\ninterval", "above\n2x"):
            table.add_column(title, justify="right", no_wrap=True)
    shown = campaigns if apart else campaigns[:1]
    for name in shown:
        title = printable(name if apart else "least slowed")
        table.add_column(Text(f"{title}\nslowdown, $"), justify="right", no_wrap=apart)
    ids = _short_ids([point.id for point in points])
    for short, point in zip(ids, points, strict=True):
        cells: list[Text | str] = [short, *(Text(printable(_value(point.values.get(key)))) for key in keys)]
        cells += _honest(point) if honest else []
        best = [_least_slowed(point, [name] if apart else campaigns, named=not apart) for name in shown]
        table.add_row(*cells, *best)
    return table


def _short_ids(ids: list[str]) -> list[str]:
    """Return the beginnings of ids that tell them apart, as `--against` takes them."""
    length = next(n for n in range(4, 17) if len({one[:n] for one in ids}) == len(ids) or n == 16)
    return [one[:length] for one in ids]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _campaign(group: GroupResult) -> str:
    return group.name.partition("/")[0]


def _honest(point: PointResult) -> list[str]:
    groups = [group.headlines for group in point.groups if group.role == "honest"]
    if not groups:
        return ["", "", ""]
    worst = max(groups, key=lambda one: one["slowdown_p95"].value)
    p95 = worst["slowdown_p95"]
    return [factor(p95.value), interval(_headline(p95), factor), share(worst["share_above_2x"].value)]


def _least_slowed(point: PointResult, names: list[str], *, named: bool) -> str:
    """Return slowdown and dollars of the group of some campaigns that is slowed least, "" where there is none."""
    groups = [group for group in point.groups if group.role == "campaign" and _campaign(group) in names]
    if not groups:
        return ""
    least = min(groups, key=lambda group: group.headlines["slowdown"].value)
    slowed, paid = (least.headlines[name].value for name in ("slowdown", "cost_usd"))
    return f"{_campaign(least) + ' ' if named else ''}{factor(slowed)} ${small(paid)}"


def point_tables(point: PointResult, width: int) -> list[Table]:
    """Return the headlines of a point, as `powsim run` shows them."""
    return groups_tables([_summary(group) for group in point.groups], width)


def _headline(one: Estimate) -> Headline:
    return Headline(one.value, one.low, one.high)


def _summary(group: GroupResult) -> GroupSummary:
    found = group.headlines
    campaign = group.role == "campaign"
    devices = [name for name in group.devices if f"slowdown_p50/{name}" in found]
    return GroupSummary(
        name=group.name,
        role=group.role,
        trace="",
        devices=group.devices,
        identities=group.identities,
        replicas=group.simulated if campaign else 1,
        queries=round(group.counts["queries"] / group.simulated * (1 if campaign else group.identities)),
        accuracy_pct=None,
        by_device=tuple(
            DeviceShare(
                name,
                group.counts[f"identities/{name}"],
                *(_headline(found[f"{what}/{name}"]) for what in ("slowdown_p50", "slowdown_p95", "share_above_2x")),
            )
            for name in devices
        ),
        **{name: _headline(found[name]) for name in HEADLINES},
    )


def differences_table(found: list[Difference], merged: Merged) -> Table:
    """Return a row per point, group and headline that `powsim run` shows, where the points differ at all."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        title=f"Differences from {found[0].against}, 95 % {found[0].kind}" if found else "No other point",
        title_justify="left",
    )
    for title in ("point", "group", "headline"):
        table.add_column(title, overflow="fold")
    for title in ("difference", "interval", "unpaired"):
        table.add_column(title, justify="right", no_wrap=True)
    titles = {point.id: point.title for point in merged.points}
    shown = dict(SHOWN.values())
    for one in found:
        if one.headline in shown and (one.value or one.low != one.high):
            show = _signed(small)
            table.add_row(
                Text(titles.get(one.point) or one.point),
                Text(one.group),
                one.headline,
                show(one.value),
                interval(Headline(one.value, one.low, one.high), show).replace("–", " to "),
                f"±{small(one.unpaired_half_width)}",
            )
    return table


def _signed(show: Callable[[float], str]) -> Callable[[float], str]:
    return lambda value: f"{'-' if value < 0 else '+'}{show(abs(value))}"


def status_lines(found: Status) -> list[str]:
    """Return how far a sweep is, in words."""
    goal = f", until {found.until} (at most {found.max_shards} shards a point)" if found.until else ""
    share = 100 * found.shards_done // max(found.shards, 1)
    points = f"{found.points_done} of {found.points} points whole"
    lines = [f"{found.name}: {found.shards_done} of {found.shards} shards ({share} %), {points}{goal}"]
    if found.state in ("running", "unknown"):
        rate = f"; {found.shards_per_s:.2g} shards/s" if found.shards_per_s else ""
        left = f", about {lasting(found.left_s)} left" if found.left_s is not None else ""
        doubt = "" if found.state == "running" else " (whether it lives cannot be seen from here)"
        return [*lines, f"running as process {found.pid} on {found.host}{doubt}{rate}{left}"]
    return [*lines, "done" if found.state == "done" else "stopped: run the same `powsim sweep` again to go on"]


def lasting(seconds: float) -> str:
    """Return a time as people say it: 12 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {whole % 60:02d} s"
