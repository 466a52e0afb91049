"""`powsim run`: progress on stderr, headlines on stdout, results in a folder."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from powsim import results
from powsim.cli import interrupts
from powsim.cli.progress import progress_bar
from powsim.conclusions import findings
from powsim.edge import Mistake, ScenarioError
from powsim.engine import Result, simulate
from powsim.report.console import NARROW, data, words
from powsim.report.gate import GATE_FOOTNOTE, gate_tables
from powsim.report.terminal import GROUPS_FOOTNOTE, checks_table, groups_tables
from powsim.scenario import load_scenario
from powsim.server.rows import gate_findings
from powsim.summary import GroupSummary, summarise
from powsim.text import printable


def run_scenario(
    source: str | None,
    overrides: list[str],
    seed: int | None,
    out: Path | None,
    save: bool,
    as_json: bool,
    backend: str,
    threads: int | None,
) -> None:
    """Load, simulate, write, print. Nothing is written before the scenario and the folder are known to be good."""
    scenario = load_scenario(source, overrides)
    interrupts.check()
    used = scenario.seed if seed is None else seed
    target = out or Path("powsim-results") / f"{scenario.name}-{scenario.id}-s{used}"
    errors = words()
    with results.staged(target) if save else contextlib.nullcontext() as folder:
        begin = time.perf_counter()
        try:
            with progress_bar(errors, "simulating") as report:
                result = simulate(scenario, seed=used, backend=backend, threads=threads, progress=report)
        except ValueError as error:
            raise ScenarioError(source or "scenario 'default'", [Mistake("", str(error))]) from None
        spent = time.perf_counter() - begin
        groups = summarise(result)
        if folder is not None:
            results.write(folder, result, groups, _pages(errors))
        interrupts.check()
    if as_json:
        click.echo(json.dumps(results.document(result, groups), indent=1))
    else:
        _show(data(least=NARROW), result, groups)
    where = f"; results in {target}" if save else ""
    errors.print(Text(f"simulated in {spent:.1f} s{where}", "dim"), soft_wrap=True)


def _pages(errors: Console) -> Callable[[Path, Result, list[GroupSummary]], list[Path]] | None:
    """Return what writes the page and the picture, or None, saying so, where [report] is not installed."""
    if importlib.util.find_spec("plotly") is None or importlib.util.find_spec("matplotlib") is None:
        errors.print(Text("no HTML page: run `pip install 'powsim[report]'` for it", "dim"))
        return None
    from powsim.report.html import write_html
    from powsim.report.picture import write_png

    def pages(folder: Path, result: Result, groups: list[GroupSummary]) -> list[Path]:
        return [
            write_html(folder / "report.html", result, groups),
            write_png(folder / "report.png", result, groups),
        ]

    return pages


def _show(console: Console, result: Result, groups: list[GroupSummary]) -> None:
    scenario = result.scenario
    about = f" {scenario.id}, seed {result.seed}: {scenario.description or scenario.service.name}"
    # Text of the user's own must not steer the terminal.
    console.print(Text.assemble((scenario.name, "bold"), printable(about)))
    for table in groups_tables(groups, console.width):
        console.print(table)
    console.print(GROUPS_FOOTNOTE, style="dim", highlight=False)
    console.print()
    for sentence in findings(groups):
        console.print(Text(sentence))
    if result.gate:
        console.print()
        for table in gate_tables(result.gate, console.width):
            console.print(table)
        console.print(GATE_FOOTNOTE, style="dim", highlight=False)
        console.print()
        for sentence in gate_findings(result.gate):
            console.print(Text(printable(sentence)))
    checks = results.checks_of(result)
    if checks:
        console.print()
        console.print(checks_table(checks))
