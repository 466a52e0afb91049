"""A study as one PNG: stolen accuracy against time first, with and without puzzles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from powsim.bank.verdict import Verdict
from powsim.report.lab_sentences import health_line
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
from powsim.report.lab_sheets import BOTH, EXPONENT, titled
from powsim.report.palette import colour

PALE = "#c9c9c9"
RED = "#B00020"
OTHERS = "other attacks"


def write_lab_png(path: Path, verdict: Verdict) -> Path:
    """Write the picture and return its path; the user's own settings of matplotlib do not enter it."""
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        return _write(path, verdict)


def _write(path: Path, verdict: Verdict) -> Path:
    figure = Figure(figsize=(16, 13), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    rows: Any = figure.subfigures(2, 1, height_ratios=[1.05, 2])
    above = rows[0].subplots(1, 2, sharey=True)
    below = rows[1].subplots(2, 3)
    healthy = verdict.health.separates and not verdict.health.saturated
    title = titled(verdict, f"{verdict.task}: stolen accuracy against time, medians over {len(verdict.seeds)} seeds")
    figure.suptitle(title, fontsize=15, color="black" if verdict.real else RED)
    for panel, kind in zip(above, BOTH, strict=True):
        _accuracy(panel, verdict, kind)
    above[0].set_ylabel("accuracy of the stolen model, %")
    keys = sorted(zip(*above[1].get_legend_handles_labels(), strict=True), key=lambda pair: pair[1] == OTHERS)
    rows[0].legend(*zip(*keys, strict=True) if keys else ([], []), loc="outside right upper", fontsize=9)
    warned = f"\n{'; '.join(verdict.health.warnings)}" if verdict.health.warnings else ""
    rows[0].supxlabel(f"{_wrapped(health_line(verdict))}{warned}", fontsize=9, color="black" if healthy else RED)
    for panel, kind in zip(below[0], BOTH, strict=False):
        _many(panel, verdict, ratio_lines(verdict, kind), "queries", f"Time ratio: {PANELS[kind]}")
        _ticks(panel, [4**power for power in range(3, 12)])
    _many(below[0, 2], verdict, granularity_lines(verdict, "batch"), "queries per puzzle", "Time ratio: batch mean")
    _ticks(below[0, 2], verdict.settings.per_puzzle)
    for panel, kind in zip(below[1], BOTH, strict=False):
        _honest(panel, verdict, kind)
    _accounts(below[1, 2], verdict)
    rows[1].supxlabel(f"{EXPONENT}. Expectations on the device calibrated on; bands: range over seeds.", fontsize=9)
    # No date and no version inside, so that the same verdict gives the same file.
    figure.savefig(path, metadata={"Software": None})
    return path


def _wrapped(text: str) -> str:
    """Return a line of several parts as two lines."""
    parts = text.split("; ")
    half = (len(parts) + 1) // 2
    return "; ".join(parts[:half]) + (";\n" + "; ".join(parts[half:]) if parts[half:] else "")


def _colours(verdict: Verdict) -> dict[str, str]:
    return {attack: colour(index) for index, attack in enumerate(emphasised(verdict))}


def _accuracy(panel: Any, verdict: Verdict, kind: str) -> None:
    """Draw dotted lines without puzzles and solid ones with them; the rest of the attacks stay pale."""
    colours, pale = _colours(verdict), False
    for lines, style in ((accuracy_lines(verdict, None), ":"), (accuracy_lines(verdict, kind), "-")):
        for line in lines:
            own = colours.get(line.name)
            label = line.name if own and style == "-" else None
            if not own and style == "-" and not pale:
                label, pale = OTHERS, True
            weight, order = (1.8, 3) if own else (0.9, 1)
            mark = "o" if style == "-" else None
            panel.plot(
                line.x, line.y, style, color=own or PALE, lw=weight, marker=mark, ms=3, label=label, zorder=order
            )
    panel.set(xscale="log", xlabel="seconds of one account, on the device calibrated on", ylim=(0, 101))
    panel.set_title(titled(verdict, f"{PANELS[kind]}\ndotted: without puzzles, solid: with puzzles"), fontsize=10)
    panel.minorticks_off()
    panel.grid(alpha=0.25)
    if not panel.lines:
        panel.text(0.5, 0.5, "no student was trained", ha="center", transform=panel.transAxes)


def _many(panel: Any, verdict: Verdict, lines: list[Line], x: str, title: str) -> None:
    colours = _colours(verdict)
    for line in lines:
        own = colours.get(line.name)
        panel.plot(line.x, line.y, color=own or PALE, lw=1.8 if own else 0.9, zorder=3 if own else 1)
        if own:
            panel.fill_between(line.x, line.low, line.high, color=own, alpha=0.12, lw=0)
    panel.axhline(verdict.settings.promise, color="#999", linestyle="--", linewidth=1)
    panel.axhline(1 + verdict.settings.ceiling, color=RED, linestyle=":", linewidth=1)
    panel.set(xscale="log", yscale="log", xlabel=x, ylabel="time ratio")
    panel.set_title(titled(verdict, f"{title}\ndashed: promise, dotted red: ceiling"), fontsize=10)


def _ticks(panel: Any, places: Sequence[int]) -> None:
    """Name these places within the x axis; the minor ticks of a logarithmic one take most of the time of drawing."""
    low, high = panel.get_xlim()
    inside = [place for place in places if low <= place <= high]
    panel.set_xticks(inside, [f"{place:,}" for place in inside])
    panel.minorticks_off()


def _honest(panel: Any, verdict: Verdict, kind: str) -> None:
    for index, line in enumerate(honest_lines(verdict, kind)):
        panel.plot(line.x, line.y, color=colour(index), lw=1.6, label=line.name)
    panel.axvline(verdict.settings.promise, color="#999", linestyle="--", linewidth=1)
    panel.set(xscale="log", yscale="log", ylim=(0.1, 110), xlabel="time ratio", ylabel="unseen users above, %")
    _ticks(panel, [1, 2, 10, 100, 400])
    count = f"{verdict.settings.horizon_queries:,} queries"
    panel.set_title(titled(verdict, f"Honest users, {count}\n{PANELS[kind]}"), fontsize=10)
    if panel.lines[:-1]:
        panel.legend(fontsize=8, framealpha=0.6)


def _accounts(panel: Any, verdict: Verdict) -> None:
    for index, line in enumerate(account_lines(verdict)):
        panel.plot(line.x, line.y, color=colour(7 + index), marker="o", lw=1.8, label=PANELS[line.name])
        panel.fill_between(line.x, line.low, line.high, color=colour(7 + index), alpha=0.15, lw=0)
    panel.set(xscale="log", yscale="log", xlabel="accounts asked in turn", ylabel="time ratio, all work added up")
    _ticks(panel, verdict.settings.accounts)
    panel.set_title(titled(verdict, f"{verdict.health.outside_attack or 'Strange queries'} over accounts"), fontsize=10)
    if panel.lines:
        panel.legend(fontsize=8)
