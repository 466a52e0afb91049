"""One self-contained HTML page: headlines, four figures, the table, the scenario. Works without a network."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from powsim import __version__
from powsim.conclusions import findings
from powsim.engine import Result
from powsim.report.gate import gate_section
from powsim.report.palette import colour
from powsim.report.series import (
    PAPER_SOLVER,
    accuracy_curves,
    campaigns,
    cost_lines,
    slowdown_curves,
    traces_of,
)
from powsim.report.terminal import ALL, GROUPS_FOOTNOTE, SHOWN, interval
from powsim.results import checks_of
from powsim.summary import GroupSummary
from powsim.text import factor, number, share

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .3rem; }
.sub { color: #555; margin-top: .2rem; } .note { color: #555; font-size: .9rem; }
.findings { border-left: 4px solid #D55E00; padding-left: 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; width: 100%; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } td small { display: block; color: #777; }
tr.device td { color: #666; } td.text { text-align: left; white-space: normal; }
.scroll { overflow-x: auto; } pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: .8rem; }
"""


def write_html(path: Path, result: Result, groups: list[GroupSummary]) -> Path:
    """Write the page and return its path. The same result gives the same bytes."""
    figures = [
        ("Accuracy of the stolen model against time", _accuracy(result), ACCURACY_NOTE),
        ("What queries leak beyond a standard user's", _cost(result), COST_NOTE),
        ("Slowdown of honest users, by device", _slowdown(result), SLOWDOWN_NOTE),
        ("Dollars that a campaign pays for its puzzles", _dollars(groups), DOLLARS_NOTE),
    ]
    body = [_head(result), *(f"<p>{html.escape(s)}</p>" for s in findings(groups)), "</div>", _checks(result)]
    for index, (title, figure, note) in enumerate(figures):
        if figure is not None:
            drawn = figure.to_html(include_plotlyjs=False, full_html=False, div_id=f"figure-{index}")
            body.append(f"<h2>{title}</h2>{drawn}<p class='note'>{html.escape(note)}</p>")
    body += [_table(groups), gate_section(result.gate), _scenario(result)]
    path.write_text(whole_page(result.scenario.name, body), encoding="utf-8")
    return path


def whole_page(title: str, body: list[str]) -> str:
    """Return a page that needs nothing from elsewhere; body: its parts, escaped already."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>powsim: {html.escape(title)}</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>{''.join(body)}</body></html>\n"
    )


ACCURACY_NOTE = (
    "Published accuracies; time in expectation, for one account. Dotted: without puzzles. Solid: with puzzles on the "
    "Python solver that the paper assumes. Dashed: with puzzles on the fastest device that a campaign of this scenario "
    "has. Where dashed covers dotted, the defence does not hold that attacker up."
)
COST_NOTE = (
    "Sum of single-query PATE costs as published, less the mean cost of a standard user. This difference is all "
    "that the policy can price: it doubles the published price every 93 units."
)
SLOWDOWN_NOTE = "Share of a device's users whose slowdown exceeds the value; the dashed line is the promised 2x."
DOLLARS_NOTE = (
    "Rent of rented devices, energy of owned ones, for solving alone. Bars: 95 % of single campaigns. Campaigns that "
    "meet no puzzle are left out."
)


def layout(figure: go.Figure, x: str, y: str, height: int = 440, **more: Any) -> go.Figure:
    """Return the figure with its axes named and the style that all share."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 70, "r": 20, "t": 20, "b": 60},
        xaxis_title=x,
        yaxis_title=y,
        legend={"font": {"size": 11}},
        **more,
    )
    return figure


def _accuracy(result: Result) -> go.Figure | None:
    figure = go.Figure()
    traces = traces_of(result.scenario)
    curves = accuracy_curves(result)
    for curve in curves:
        dash = "dot" if curve.device is None else "solid" if curve.device == PAPER_SOLVER else "dash"
        figure.add_scatter(
            x=curve.time_s,
            y=curve.accuracy_pct,
            name=f"{curve.trace}, {curve.device or 'no puzzles'}",
            line={"color": colour(traces.index(curve.trace)), "dash": dash, "width": 2},
            mode="lines",
        )
    return layout(figure, "seconds, without pauses", "accuracy, %", 520, xaxis_type="log") if curves else None


def _cost(result: Result) -> go.Figure | None:
    figure = go.Figure()
    traces = traces_of(result.scenario)
    lines = cost_lines(result)
    for line in lines:
        figure.add_scatter(
            x=line.queries,
            y=line.excess,
            name=line.trace,
            mode="lines",
            line={"color": colour(traces.index(line.trace)), "width": 2},
        )
    return layout(figure, "queries of one identity", "privacy cost above expectation") if lines else None


def _slowdown(result: Result) -> go.Figure | None:
    figure = go.Figure()
    curves = slowdown_curves(result)
    for index, curve in enumerate(curves):
        figure.add_scatter(
            x=curve.slowdown,
            y=100 * curve.share_above,
            name=f"{curve.population}: {curve.device}",
            mode="lines",
            line={"color": colour(index), "width": 2, "dash": "solid" if index < 9 else "dash"},
        )
    figure.add_vline(x=2.0, line_dash="dash", line_color="#999")
    return (
        layout(figure, "slowdown", "users above, %", xaxis_type="log", yaxis_type="log", yaxis_range=[-2, 2])
        if curves
        else None
    )


def _dollars(groups: list[GroupSummary]) -> go.Figure | None:
    paid = [g for g in campaigns(groups) if g.cost_usd.value > 0]
    if not paid:
        return None
    figure = go.Figure()
    figure.add_scatter(
        x=[g.cost_usd.value for g in paid],
        y=[g.name for g in paid],
        mode="markers",
        marker={"size": 9, "color": colour(0)},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [g.cost_usd.high - g.cost_usd.value for g in paid],
            "arrayminus": [g.cost_usd.value - g.cost_usd.low for g in paid],
        },
    )
    figure.add_vline(x=1.0, line_dash="dash", line_color="#999", annotation_text="$1")
    return layout(figure, "dollars", "", 120 + 22 * len(paid), xaxis_type="log", yaxis_automargin=True)


def _head(result: Result) -> str:
    scenario = result.scenario
    return (
        f"<h1>Who pays what: {html.escape(scenario.name)}</h1>"
        f"<p class='sub'>{html.escape(scenario.description)}<br>scenario {scenario.id}, seed {result.seed}, "
        f"policy {html.escape(str(scenario.policy['name']))}, powsim {__version__}</p><div class='findings'>"
    )


def _checks(result: Result) -> str:
    rows = "".join(
        f"<tr><td class='text'>{html.escape(c.text)}</td><td>{factor(c.value)}x</td>"
        f"<td>{html.escape(c.relation)} {c.limit:g}x</td><td>{'yes' if c.holds else 'NO'}</td></tr>"
        for c in checks_of(result)
    )
    return rows and (
        "<h2>Checks of the published policy</h2><table><tr><th>check</th><th>value</th><th>expected</th><th></th></tr>"
        f"{rows}</table>"
    )


def _table(groups: list[GroupSummary]) -> str:
    rows = []
    for g in groups:
        cells = [(getattr(g, name), show) for name, show in SHOWN.values()]
        shown = "".join(f"<td>{show(h.value)}<small>{interval(h, show)}</small></td>" for h, show in cells)
        rows.append(
            f"<tr><td><b>{html.escape(g.name)}</b></td><td>{g.identities:,}</td><td>{number(g.queries)}</td>{shown}</tr>"
        )
        rows += [
            f"<tr class='device'><td>&nbsp; {html.escape(d.device)}</td><td>{d.identities:,}</td><td></td><td></td>"
            f"<td>{factor(d.slowdown_p50.value)}</td><td>{factor(d.slowdown_p95.value)}</td><td></td>"
            f"<td>{share(d.share_above_2x.value)}</td><td></td><td></td><td></td></tr>"
            for d in g.by_device
        ]
    head = "".join(f"<th>{title}</th>" for title in ("group", *ALL))
    return (
        f"<h2>All groups</h2><div class='scroll'><table><tr>{head}</tr>{''.join(rows)}</table></div>"
        f"<p class='note'>{html.escape(GROUPS_FOOTNOTE)}</p>"
    )


def _scenario(result: Result) -> str:
    text = json.dumps(json.loads(result.scenario.text), indent=1)
    return f"<details><summary>The scenario, defaults filled in</summary><pre>{html.escape(text)}</pre></details>"
