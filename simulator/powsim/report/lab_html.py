"""A study as one self-contained page: health, headlines, figures, every table. Works without a network."""

from __future__ import annotations

import html
import json
from pathlib import Path

import plotly.graph_objects as go

from powsim import __version__
from powsim.bank.verdict import Verdict
from powsim.report.html import layout, whole_page
from powsim.report.lab_sentences import about, health_line, lab_findings
from powsim.report.lab_series import (
    PANELS,
    Line,
    account_lines,
    accuracy_lines,
    emphasised,
    granularity_lines,
    honest_lines,
    ratio_lines,
)
from powsim.report.lab_sheets import BOTH, Sheet, attacks_of, sheets, titled
from powsim.report.palette import colour

RED = "color:#B00020;font-weight:bold"
SECONDS = "seconds of one account, on the device calibrated on"


def write_lab_html(path: Path, verdict: Verdict) -> Path:
    """Write the page and return its path. The same verdict gives the same bytes."""
    drawn = [
        *((f"Stolen accuracy against time: {PANELS[kind]}", _accuracy(verdict, kind), ACCURACY) for kind in BOTH),
        *((f"Time ratio against queries: {PANELS[kind]}", _queries(verdict, kind), RATIO) for kind in BOTH),
        ("Time ratio against queries per puzzle: batch mean", _sizes(verdict), SIZES),
        *((f"Honest users of the other half: {PANELS[kind]}", _honest(verdict, kind), HONEST) for kind in BOTH),
        (f"{verdict.health.outside_attack or 'strange queries'} over accounts", _accounts(verdict), ACCOUNTS),
    ]
    body = [_head(verdict)]
    for index, (title, figure, note) in enumerate(drawn):
        if figure is None:
            continue
        shown = figure.to_html(include_plotlyjs=False, full_html=False, div_id=f"figure-{index}")
        heading = html.escape(titled(verdict, title))
        body.append(f"<h2>{heading}</h2>{shown}<p class='note'>{html.escape(note)}</p>")
    body += [_table(sheet) for sheet in sheets(verdict)]
    provenance = html.escape(json.dumps(verdict.provenance, indent=1, sort_keys=True))
    body.append(f"<details><summary>Where the data comes from</summary><pre>{provenance}</pre></details>")
    path.write_text(whole_page(titled(verdict, verdict.task), body), encoding="utf-8")
    return path


ACCURACY = (
    "Dotted: without puzzles; solid: with them; medians over seeds, time in expectation. Where solid covers dotted, "
    "the defence does not hold that attacker up."
)
RATIO = (
    "Bars: range over seeds. Dashed: the promise to honest users; dotted red: the ceiling. A line there tells the "
    "ceiling."
)
SIZES = "Calibrated anew for each size, so that honest users keep the same promise."
HONEST = (
    "Share of users whom calibration did not see and whose time ratio exceeds the value, all seeds together; of users "
    "with one class alone, the dearest class. Few originals stand behind the tails."
)
ACCOUNTS = "The same queries over so many accounts, asked in turn; the work of all is added up. Bars: range over seeds."


def _head(verdict: Verdict) -> str:
    health = verdict.health
    style = "" if health.separates and not health.saturated else f" style='{RED}'"
    warned = {warning.lower() for warning in health.warnings}
    said = []
    for sentence in lab_findings(verdict):
        bad = f" style='{RED}'" if sentence.rstrip(".").lower() in warned or "synthetic" in sentence else ""
        said.append(f"<p{bad}>{html.escape(sentence)}</p>")
    return (
        f"<h1>{html.escape(titled(verdict, f'What a thief pays: {verdict.task}'))}</h1>"
        f"<p class='sub'>{html.escape(about(verdict))}, powsim {__version__}</p>"
        f"<p{style}><b>Health:</b> {html.escape(health_line(verdict))}</p><div class='findings'>{''.join(said)}</div>"
    )


def _look(verdict: Verdict) -> dict[str, tuple[str, str]]:
    """Return every attack's colour and dash; those in the foreground are solid."""
    first = emphasised(verdict)
    others = [attack for attack in attacks_of(verdict) if attack not in first]
    look = {attack: (colour(index), "solid") for index, attack in enumerate(first)}
    return look | {attack: (colour(index), "dash") for index, attack in enumerate(others)}


def _accuracy(verdict: Verdict, kind: str) -> go.Figure | None:
    figure, look = go.Figure(), _look(verdict)
    solid = accuracy_lines(verdict, kind)
    for lines, free in ((accuracy_lines(verdict, None), True), (solid, False)):
        for line in lines:
            tint, dash = look[line.name]
            figure.add_scatter(
                x=line.x,
                y=line.y,
                name=line.name,
                legendgroup=line.name,
                showlegend=not free,
                mode="lines" if free else "lines+markers",
                line={"color": tint, "dash": "dot" if free else dash, "width": 1.5 if free else 2},
                opacity=0.8 if free else 1,
            )
    return layout(figure, SECONDS, "accuracy, %", 520, xaxis_type="log") if solid else None


def _ranges(figure: go.Figure, lines: list[Line], look: dict[str, tuple[str, str]]) -> None:
    for line in lines:
        tint, dash = look[line.name]
        bars = {
            "type": "data",
            "symmetric": False,
            "array": [high - value for high, value in zip(line.high, line.y, strict=True)],
            "arrayminus": [value - low for low, value in zip(line.low, line.y, strict=True)],
            "thickness": 1,
            "width": 0,
        }
        figure.add_scatter(
            x=line.x,
            y=line.y,
            name=line.name,
            mode="lines+markers",
            marker={"size": 4},
            line={"color": tint, "dash": dash, "width": 2},
            error_y=bars,
        )


def _limits(figure: go.Figure, verdict: Verdict) -> None:
    figure.add_hline(y=verdict.settings.promise, line_dash="dash", line_color="#999")
    figure.add_hline(y=1 + verdict.settings.ceiling, line_dash="dot", line_color="#B00020")


def _queries(verdict: Verdict, kind: str) -> go.Figure | None:
    return _many(verdict, ratio_lines(verdict, kind), "queries")


def _sizes(verdict: Verdict) -> go.Figure | None:
    return _many(verdict, granularity_lines(verdict, "batch"), "queries per puzzle")


def _many(verdict: Verdict, lines: list[Line], x: str) -> go.Figure | None:
    if not lines:
        return None
    figure = go.Figure()
    _ranges(figure, lines, _look(verdict))
    _limits(figure, verdict)
    shown = layout(figure, x, "time ratio", xaxis_type="log", yaxis_type="log")
    shown.update_yaxes(dtick=1)
    return shown


def _honest(verdict: Verdict, kind: str) -> go.Figure | None:
    figure = go.Figure()
    lines = honest_lines(verdict, kind)
    for index, line in enumerate(lines):
        figure.add_scatter(x=line.x, y=line.y, name=line.name, mode="lines", line={"color": colour(index), "width": 2})
    figure.add_vline(x=verdict.settings.promise, line_dash="dash", line_color="#999")
    x, y = f"time ratio after {verdict.settings.horizon_queries:,} queries", "users above, %"
    shown = layout(figure, x, y, xaxis_type="log", yaxis_type="log", yaxis_range=[-1, 2.05])
    return shown if lines else None


def _accounts(verdict: Verdict) -> go.Figure | None:
    lines = account_lines(verdict)
    if not lines:
        return None
    figure = go.Figure()
    _ranges(figure, lines, {kind: (colour(7 + index), "solid") for index, kind in enumerate(BOTH)})
    shown = layout(figure, "accounts", "time ratio, all work added up", xaxis_type="log", yaxis_type="log")
    shown.update_xaxes(tickvals=verdict.settings.accounts)
    return shown


def _table(sheet: Sheet) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in sheet.columns)
    rows = []
    for row in sheet.rows:
        cells = []
        for index, cell in enumerate(row):
            below = f"<small>{html.escape(cell.below)}</small>" if cell.below else ""
            kind = " class='text'" if index < sheet.names else ""
            cells.append(f"<td{kind}>{html.escape(cell.text)}{below}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f"<h2>{html.escape(sheet.title)}</h2><div class='scroll'><table><tr>{head}</tr>{''.join(rows)}</table></div>"
        f"<p class='note'>{html.escape(sheet.note)}</p>"
    )
