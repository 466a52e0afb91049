"""Tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from powsim.checks import Check
from powsim.devices import Device, source_text
from powsim.intervals import Headline
from powsim.paper import PaperRow
from powsim.report.console import Screen
from powsim.summary import GroupSummary
from powsim.text import factor, number, printable, share, small

WHO = ("identities", "queries", "p50", "p95", "p99", "above 2x")
COST = ("hashes", "hours", "kWh", "$")
ALL = ("identities", "queries", "hashes", "p50", "p95", "p99", "above 2x", "hours", "kWh", "$")
CUTS = ((ALL,), (WHO, COST), (WHO[:4], (*WHO[4:], COST[0]), COST[1:]))
"""The columns in one table, in two, in three."""

Columns = TypeVar("Columns")

SHOWN: dict[str, tuple[str, Callable[[float], str]]] = {
    "hashes": ("hashes", number),
    "p50": ("slowdown_p50", factor),
    "p95": ("slowdown_p95", factor),
    "p99": ("slowdown_p99", factor),
    "above 2x": ("share_above_2x", share),
    "hours": ("hours", small),
    "kWh": ("energy_kwh", small),
    "$": ("cost_usd", small),
}
"""Column title -> headline and how to print it."""


def interval(headline: Headline, show: Callable[[float], str]) -> str:
    """Return "low–high" as printed, or one number where both print alike."""
    low, high = (show(end) if math.isfinite(end) else "?" for end in (headline.low, headline.high))
    return low if low == high else f"{low}–{high}"


def fits(table: RenderableType, width: int) -> bool:
    """Return whether a table is no wider than `width` as a whole."""
    return Screen(width=10_000).measure(table).maximum <= width


def groups_tables(groups: list[GroupSummary], width: int) -> list[Table]:
    """Return the headlines of every group as one table, or as two or three where `width` is too little for one."""
    return fitting(CUTS, lambda columns: _groups_table(groups, columns), width)


def fitting(cuts: Sequence[Sequence[Columns]], table: Callable[[Columns], Table], width: int) -> list[Table]:
    """Return the tables of the first cut whose tables all fit, or those of the last."""
    tables: list[Table] = []
    for cut in cuts:
        tables = [table(columns) for columns in cut]
        if all(fits(one, width) for one in tables):
            break
    return tables


def _groups_table(groups: list[GroupSummary], columns: tuple[str, ...]) -> Table:
    """Return one row per group, its 95 % intervals below, and one row per device of a population."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("group", overflow="fold", max_width=34)
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    plain = {"identities": lambda row: f"{row.identities:,}", "queries": lambda row: number(row.queries)}
    for index, g in enumerate(groups):
        if index and g.role != groups[index - 1].role:
            table.add_section()
        table.add_row(Text(g.name, style="bold"), *(_cell(g, title, plain) for title in columns))
        for device in g.by_device if {"p50", "above 2x"} & set(columns) else ():
            table.add_row(Text(f"  {device.device}", style="dim"), *(_cell(device, t, plain) for t in columns))
    return table


def _cell(row: Any, title: str, plain: dict[str, Callable[[Any], str]]) -> Text:
    """Return a headline over its interval, a plain count, or nothing where the row has no such number."""
    if title in plain:
        return Text(plain[title](row) if hasattr(row, title) else "")
    name, show = SHOWN[title]
    if not hasattr(row, name):
        return Text("")
    headline = getattr(row, name)
    return Text.assemble(show(headline.value), "\n", (interval(headline, show), "dim"))


GROUPS_FOOTNOTE = (
    "p50, p95, p99: slowdown, time with puzzles over time without, over the group's identities. hours: to the last "
    "answer, one identity after another. kWh, $: solving alone. Second lines: 95 % intervals, of the estimate for "
    "populations, of single campaigns (luck and device) for campaigns."
)


def checks_table(checks: list[Check]) -> Table:
    """Return the checks of the published policy."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("check of the published policy")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("expected", no_wrap=True)
    table.add_column("", no_wrap=True)
    for check in checks:
        table.add_row(
            check.text,
            f"{factor(check.value)}x",
            f"{check.relation} {check.limit:g}x",
            Text("yes", style="green") if check.holds else Text("NO", style="bold red"),
        )
    return table


def seconds(value: float) -> str:
    """Return seconds with four digits or more."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def paper_table(rows: list[PaperRow], title: str) -> Table:
    """Return Table 2: published, recomputed, ratio, and by the corrected rules."""
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, title=title, title_justify="left"
    )
    for name in ("dataset", "attack"):
        table.add_column(name, no_wrap=True)
    for name in (
        "queries",
        "without s",
        "published s",
        "recomputed s",
        "ratio",
        "same digits",
        "corrected s",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note", style="dim")
    for row in rows:
        table.add_row(
            row.dataset,
            row.attack,
            number(row.queries),
            seconds(row.time_s),
            row.published_text,
            f"{row.recomputed_s:,.2f}",
            f"{row.ratio:.4f}",
            Text("yes", style="green") if row.reproducible else Text("no", style="red"),
            seconds(row.corrected_s),
            row.why_not or row.note or "",
        )
    return table


def devices_table(devices: list[Device]) -> Table:
    """Return the catalogue, or a part of it."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("device", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("family", no_wrap=True)
    table.add_column("rate, hashes/s", justify="right", no_wrap=True)
    table.add_column("from", no_wrap=True)
    table.add_column("watts", justify="right", no_wrap=True)
    table.add_column("$/h", justify="right", no_wrap=True)
    table.add_column("date", no_wrap=True)
    for device in devices:
        table.add_row(
            device.name,
            device.kind,
            printable(device.family),
            f"{number(device.rate_low_hz)}–{number(device.rate_high_hz)}",
            device.rate_from,
            small(device.watts),
            "" if device.usd_per_h is None else f"{device.usd_per_h:g}",
            printable(device.date),
        )
    return table


def explain_device(device: Device) -> Table:
    """Return everything that is known of one device, with its citation."""
    table = Table(box=None, show_header=False, pad_edge=False, title=device.name, title_justify="left")
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("title", printable(device.title))
    table.add_row("kind", device.kind)
    table.add_row("puzzle family", printable(device.family))
    low, high = number(device.rate_low_hz), number(device.rate_high_hz)
    table.add_row("rate", f"{low} to {high} hashes/s, {device.rate_from}")
    table.add_row("20-bit puzzle", f"{small(2**20 / device.rate_hz)} s on average")
    table.add_row("power", printable(f"{device.watts:g} W while solving, {device.watts_from}"))
    if device.usd_per_h is not None:
        per_2_40 = device.usd_per_h / 3600 * 2**40 / device.rate_hz
        rent = f"${device.usd_per_h:g} an hour ({device.usd_from}); ${per_2_40:.2g} for 2^40 hashes"
        table.add_row("rent", printable(rent))
    table.add_row("source", printable(f"{source_text(device.source)} ({device.date})"))
    if device.note:
        table.add_row("note", printable(device.note))
    return table
