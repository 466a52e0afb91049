"""`powsim bench`: progress on stderr, tables or one object on stdout, entries in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from powsim.bench import hashcat, imported, saving
from powsim.bench.outcome import Outcome, Prices, document
from powsim.bench.run import Plan, run
from powsim.cli import interrupts
from powsim.cli.progress import progress_bar
from powsim.devices import Device
from powsim.report import bench as report
from powsim.report.console import data, words
from powsim.results import OutputError
from powsim.target import check
from powsim.text import number, printable
from powsim_kernels import BackendUnavailable

WRONG = 1
BUSY = 1.25  # greatest over least rate of a solver from which on the numbers say more about the machine's load


def measure(plan: Plan, as_json: bool, target: Path | None, name: str | None, force: bool) -> int:
    """Measure this machine, save it where asked, print it; return the exit code, 1 where a solver is wrong.

    Raises BackendUnavailable where no solver can be measured; OutputError, once all is printed, where saving failed.
    """
    if target is not None:
        check(target, force)
    errors = words()
    with progress_bar(errors, "measuring") as progress:

        def step(what: str, share: float) -> None:
            interrupts.check()
            progress(what, share)

        outcome = run(plan, step)
    interrupts.check()
    if all(m.single_short is None and m.wrong is None for m in outcome.measured):
        reasons = [f"\n  {m.solver.label}: {printable(m.why_not or 'no rate')}" for m in outcome.measured]
        raise BackendUnavailable(f"no solver of this machine can be measured{':' if reasons else ''}{''.join(reasons)}")
    unsaved = None
    if target is not None:  # before anything is printed: the reader of a pipe may leave
        base = name or outcome.machine.name
        about = f"Measured by `powsim bench` on {outcome.date}: {outcome.machine.cpu}"
        unsaved = _save(errors, target, saving.entries(outcome, base, plan.prices), about, force)
    if as_json:
        click.echo(json.dumps(document(outcome), indent=1))
    else:
        _show(data(report.NARROW), outcome)
    unrest = max((m.single_short.unrest for m in outcome.measured if m.single_short), default=1.0)
    if unrest > BUSY:
        text = f"rates of one solver differ by {unrest:.1f}x: the machine is busy; repeat when it is not, or longer"
        errors.print(Text(text, "yellow"), soft_wrap=True)
    wrong = [m for m in outcome.measured if m.wrong is not None]
    for m in wrong:
        errors.print(Text(f"{m.solver.label}: {printable(m.wrong or '')}", "red"), soft_wrap=True)
    absent = [(m.solver.label, m.why_not) for m in outcome.measured]
    for label, why_not in absent + [(loop.name, loop.why_not) for loop in outcome.honest]:
        if why_not is not None:
            errors.print(Text(f"{label} not measured: {printable(why_not)}", "yellow"), soft_wrap=True)
    if unsaved is not None:
        raise unsaved
    return WRONG if wrong else 0


def import_hashcat(
    source: Path, as_json: bool, target: Path | None, name: str | None, force: bool, prices: Prices
) -> None:
    """Read hashcat's output, save it where asked, print it beside the catalogue."""
    if target is not None:
        check(target, force)
    benchmark = hashcat.read(source)
    devices = imported.entries(benchmark, source, name, prices.watts, prices.usd_per_hour)
    errors, unsaved = words(), None
    if target is not None:
        tool = f"hashcat {benchmark.version}" if benchmark.version else "hashcat"
        unsaved = _save(errors, target, devices, f"From a benchmark of {tool} by `powsim bench --import`", force)
    for warning in benchmark.warnings:
        errors.print(Text(printable(warning), "yellow"), soft_wrap=True)
    if as_json:
        listed = [{**asdict(d), "nearest": [asdict(near) for near in imported.near(d)]} for d in devices]
        click.echo(json.dumps({"hashcat": benchmark.version, "file": str(source), "devices": listed}, indent=1))
    else:
        console = data(report.NARROW)
        console.print(report.imported_table(devices))
        for note in dict.fromkeys(device.note for device in devices):
            names = ", ".join(device.name for device in devices if device.note == note)
            console.print(Text(printable(f"{names}: {note}"), "dim"))
        beside = [(d.name, d.rate_hz, found) for d in devices if (found := imported.near(d))]
        if beside:
            console.print()
            console.print(report.nearest_table(beside))
    if unsaved is not None:
        raise unsaved


def _show(console: Console, outcome: Outcome) -> None:
    here = outcome.machine
    threads = "1 thread" if here.threads == 1 else f"{here.threads} threads"
    about = f": {threads}; {here.system}; {here.versions}"
    console.print(Text.assemble((printable(here.cpu), "bold"), printable(about)))
    for index, model in enumerate(here.gpus):
        console.print(Text(printable(f"cuda:{index}: {model}")))
    console.print()
    for table in report.solvers_tables(outcome, console.width):
        console.print(table)
        console.print()
    console.print(Text(report.footnote(outcome), "dim"))
    console.print()
    if outcome.solves:
        console.print(report.solves_table(outcome))
        console.print()
    console.print(report.honest_table(outcome))
    console.print()
    console.print(report.nearest_table(report.compared(outcome)))
    console.print()
    console.print(Text(conclusion(outcome)))


def conclusion(outcome: Outcome) -> str:
    """Return the finding in a sentence: what an attacker with this machine is ahead of an honest client by."""
    best = outcome.best
    if best is None:
        return "No solver of this machine could be measured."
    ahead = [
        f"{report.ratio(advantage)}x the {loop.name} loop"
        for loop in outcome.honest
        if (advantage := outcome.advantage(loop)) is not None
    ]
    rate = f"{best.solver.label}, tries {number(best.rate_hz)} hashes/s"
    return f"The best solver here, {rate}{': ' if ahead else ''}{', '.join(ahead)}."


def _save(errors: Console, target: Path, devices: Sequence[Device], comment: str, force: bool) -> OutputError | None:
    """Write the devices and say how to use them, or return why not: what was measured is printed all the same."""
    try:
        saving.save(target, devices, comment, force)
    except OutputError as error:
        return error
    names = [device.name for device in devices]
    errors.print(Text(printable(f"wrote {target}: {', '.join(names)}")), soft_wrap=True)
    first = next((device.name for device in devices if device.family == "sha256-hashcash"), None)
    if first is not None:
        files, own = json.dumps([str(target)]), json.dumps([first])
        use = f"powsim run --set 'device_files={files}' --set 'campaign.copycat.devices={own}'"
        errors.print(Text(f"use it with: {use}", "dim"), soft_wrap=True)
    return None
