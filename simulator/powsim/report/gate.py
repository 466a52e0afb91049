"""The gate's table: for the terminal, and for the page."""

from __future__ import annotations

import html
import math
from collections.abc import Callable

from rich import box
from rich.table import Table
from rich.text import Text

from powsim.report.terminal import fitting, interval
from powsim.server.rows import GateRow, gate_findings
from powsim.text import number, printable, share, small

HONEST: dict[str, tuple[str, Callable[[float], str]]] = {
    "served": ("served", share),
    "p50 s": ("wait_p50_s", small),
    "p95 s": ("wait_p95_s", small),
    "p99 s": ("wait_p99_s", small),
    "busy": ("busy", share),
    "gate busy": ("gate_busy", share),
    "MB": ("memory_mb", small),
}
ATTACK: dict[str, tuple[str, Callable[[float], str]]] = {
    "messages/s": ("attack_hz", number),
    "answered/s": ("attack_served_hz", small),
    "server s/s": ("attack_server_s", small),
    "device s/s": ("attack_device_s", small),
    "$/h": ("attack_usd_per_h", small),
}
"""Column title -> headline and how to print it."""

WAITS = dict(list(HONEST.items())[:4])
CUTS = (
    (HONEST | ATTACK,),
    (HONEST, ATTACK),
    (WAITS, {title: how for title, how in HONEST.items() if title not in WAITS}, ATTACK),
)
"""The columns in one table, in two, in three."""

GATE_FOOTNOTE = (
    "The gate, over independent replicas; second lines: Student's 95 % intervals of the means. served: share of honest "
    "requests answered; p50, p95, p99: seconds that those waited in all; busy: share of the servers' time; MB: "
    "challenges and used solutions remembered at once. Of an attack: messages sent and answered by the model, server "
    "seconds that it takes and seconds of its own device and dollars that it pays."
)


def gate_tables(rows: tuple[GateRow, ...], width: int) -> list[Table]:
    """Return the rows as one table, or as two or three where `width` is too little for one."""
    return fitting(CUTS, lambda columns: _table(rows, columns), width)


def _table(rows: tuple[GateRow, ...], columns: dict[str, tuple[str, Callable[[float], str]]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("gate", overflow="fold", max_width=34)
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = []
        for name, show in columns.values():
            value, span = _cell(row, name, show)
            cells.append(Text.assemble(value, "\n", (span, "dim")))
        first, second = (printable(text) for text in _label(row))
        table.add_row(Text.assemble((first, "bold"), "\n", (second, "dim")), *cells)
    return table


def gate_section(rows: tuple[GateRow, ...]) -> str:
    """Return the page's section, empty where the scenario has no [server]."""
    if not rows:
        return ""
    columns = HONEST | ATTACK
    lines = []
    for row in rows:
        cells = (_cell(row, name, show) for name, show in columns.values())
        shown = "".join(f"<td>{value}<small>{span}</small></td>" for value, span in cells)
        first, second = (html.escape(text) for text in _label(row))
        lines.append(f"<tr><td class='text'><b>{first}</b><small>{second}</small></td>{shown}</tr>")
    head = "".join(f"<th>{title}</th>" for title in ("gate", *columns))
    sentences = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in gate_findings(rows))
    return (
        f"<h2>The gate</h2>{sentences}<div class='scroll'><table><tr>{head}</tr>{''.join(lines)}</table></div>"
        f"<p class='note'>{html.escape(GATE_FOOTNOTE)}</p>"
    )


def _label(row: GateRow) -> tuple[str, str]:
    """Return a row's name, and whether the counter-measure is taken."""
    return row.name, "" if row.taken is None else f"with{'' if row.taken else 'out'} {row.measure}"


def _cell(row: GateRow, name: str, show: Callable[[float], str]) -> tuple[str, str]:
    """Return a headline and its interval, nothing where there is none to show."""
    headline = getattr(row, name)
    if math.isnan(headline.value):
        return "-", ""
    if row.taken is None and name.startswith("attack"):
        return "", ""
    return show(headline.value), interval(headline, show)
