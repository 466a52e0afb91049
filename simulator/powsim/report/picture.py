"""The four figures as one PNG, for documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from powsim.engine import Result
from powsim.report.palette import colour
from powsim.report.series import (
    PAPER_SOLVER,
    accuracy_curves,
    campaigns,
    cost_lines,
    curve_devices,
    slowdown_curves,
    traces_of,
)
from powsim.summary import GroupSummary

MOST_CAMPAIGNS = 16  # more names than this cannot be read in one panel


def write_png(path: Path, result: Result, groups: list[GroupSummary]) -> Path:
    """Write the picture and return its path; the user's own settings of matplotlib do not enter it."""
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        return _write(path, result, groups)


def _write(path: Path, result: Result, groups: list[GroupSummary]) -> Path:
    figure = Figure(figsize=(13, 9), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    _accuracy(panels[0, 0], result)
    _cost(panels[0, 1], result)
    _slowdown(panels[1, 0], result)
    _dollars(panels[1, 1], groups)
    # No date and no version inside, so that the same result gives the same file.
    figure.savefig(path, metadata={"Software": None})
    return path


def _accuracy(panel: Any, result: Result) -> None:
    styles = {None: ":", PAPER_SOLVER: "-"}
    traces = traces_of(result.scenario)
    for curve in accuracy_curves(result):
        label = curve.trace if curve.device is None else None
        style = styles.get(curve.device, "--")
        panel.plot(
            curve.time_s,
            curve.accuracy_pct,
            style,
            color=colour(traces.index(curve.trace)),
            label=label,
            lw=1.2,
        )
    if not panel.lines:
        panel.text(0.5, 0.5, "no published trace", ha="center", transform=panel.transAxes)
        return
    fast = [d.name for d in curve_devices(result.scenario)][1:]
    key = "dotted: no puzzles, solid: paper's solver" + (f", dashed: {fast[0]}" if fast else "")
    panel.set(xscale="log", xlabel="seconds, without pauses", ylabel="accuracy of the stolen model, %")
    panel.set_title(f"Stolen accuracy against time\n{key}", fontsize=10)
    _legend_beside(panel)


def _short(name: str) -> str:
    """Return a name that leaves room for the figure."""
    return name if len(name) <= 40 else f"{name[:39]}…"


def _legend_beside(panel: Any) -> None:
    """Put the legend where it hides no curve."""
    panel.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _cost(panel: Any, result: Result) -> None:
    traces = traces_of(result.scenario)
    for line in cost_lines(result):
        panel.plot(line.queries, line.excess, color=colour(traces.index(line.trace)), label=line.trace)
    panel.set(xlabel="queries of one identity", ylabel="privacy cost above expectation")
    panel.set_title("What queries leak beyond a standard user's", fontsize=10)
    if panel.lines:
        panel.legend(fontsize=8)


def _slowdown(panel: Any, result: Result) -> None:
    curves = slowdown_curves(result)
    for index, curve in enumerate(curves):
        style = "-" if index < 9 else "--"
        label = _short(f"{curve.population}: {curve.device}")
        panel.plot(curve.slowdown, 100 * curve.share_above, style, color=colour(index), label=label)
    panel.axvline(2.0, color="#999", linestyle="--", linewidth=1)
    panel.set(xscale="log", yscale="log", ylim=(0.01, 110), ylabel="users above, %")
    panel.set_xlabel("slowdown (dashed: the promised 2x)")
    panel.set_title("Honest users, by device", fontsize=10)
    if curves:
        _legend_beside(panel)


def _dollars(panel: Any, groups: list[GroupSummary]) -> None:
    paid = [g for g in campaigns(groups) if g.cost_usd.value > 0]
    shown = paid[-MOST_CAMPAIGNS:]
    left_out = f", {len(shown)} dearest of {len(paid)}" if len(paid) > len(shown) else ""
    panel.set_title(f"Dollars that a campaign pays for its puzzles{left_out}", fontsize=10)
    if not shown:
        panel.text(0.5, 0.5, "no campaign meets a puzzle", ha="center")
        return
    values = [g.cost_usd.value for g in shown]
    below = [g.cost_usd.value - g.cost_usd.low for g in shown]
    above = [g.cost_usd.high - g.cost_usd.value for g in shown]
    rows = range(len(shown))
    panel.errorbar(values, rows, xerr=[below, above], fmt="o", color=colour(0), markersize=4)
    panel.set_yticks(rows, [_short(g.name) for g in shown], fontsize=7)
    panel.set(xscale="log", xlabel="dollars, 95 % of single campaigns")
