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
from powsim.report.terminal import wide
from powsim.text import number

WRONG = 1
BUSY = 1.25  # greatest over least rate of a solver from which on the numbers say more about the machine's load


def measure(plan: Plan, as_json: bool, target: Path | None, name: str | None, force: bool) -> int:
    """Measure this machine, print it, save it where asked; return the exit code, 1 where a solver is wrong."""
    if target is not None:
        saving.check_target(target, force)
    errors = Console(stderr=True)
    with progress_bar(errors, "measuring") as progress:

        def step(what: str, share: float) -> None:
            interrupts.check()
            progress(what, share)

        outcome = run(plan, step)
    interrupts.check()
    if as_json:
        click.echo(json.dumps(document(outcome), indent=1))
    else:
        _show(wide(Console()), outcome)
    unrest = max((m.single_short.unrest for m in outcome.measured if m.single_short), default=1.0)
    if unrest > BUSY:
        text = f"rates of one solver differ by {unrest:.1f}x: the machine is busy; repeat when it is not, or longer"
        errors.print(Text(text, "yellow"), soft_wrap=True)
    wrong = [m for m in outcome.measured if m.wrong is not None]
    for m in wrong:
        errors.print(Text(f"{m.solver.label}: {m.wrong}", "red"), soft_wrap=True)
    for loop in outcome.honest:
        if loop.why_not is not None:
            errors.print(Text(f"{loop.name} not measured: {loop.why_not}", "yellow"), soft_wrap=True)
    if target is not None:
        base = name or outcome.machine.name
        about = f"Measured by `powsim bench` on {outcome.date}: {outcome.machine.cpu}"
        _save(errors, target, saving.entries(outcome, base, plan.prices), about, force)
    return WRONG if wrong else 0


def import_hashcat(
    source: Path, as_json: bool, target: Path | None, name: str | None, force: bool, prices: Prices
) -> None:
    """Read hashcat's output, print it beside the catalogue, save it where asked."""
    if target is not None:
        saving.check_target(target, force)
    benchmark = hashcat.read(source)
    devices = imported.entries(benchmark, source, name, prices.watts, prices.usd_per_hour)
    errors = Console(stderr=True)
    for warning in benchmark.warnings:
        errors.print(Text(warning, "yellow"), soft_wrap=True)
    if as_json:
        listed = [{**asdict(d), "nearest": [asdict(near) for near in imported.near(d)]} for d in devices]
        click.echo(json.dumps({"hashcat": benchmark.version, "file": str(source), "devices": listed}, indent=1))
    else:
        console = wide(Console())
        console.print(report.imported_table(devices))
        for note in dict.fromkeys(device.note for device in devices):
            names = ", ".join(device.name for device in devices if device.note == note)
            console.print(Text(f"{names}: {note}", "dim"))
        beside = [(d.name, d.rate_hz, found) for d in devices if (found := imported.near(d))]
        if beside:
            console.print()
            console.print(report.nearest_table(beside))
    if target is not None:
        tool = f"hashcat {benchmark.version}" if benchmark.version else "hashcat"
        _save(errors, target, devices, f"From a benchmark of {tool} by `powsim bench --import`", force)


def _show(console: Console, outcome: Outcome) -> None:
    here = outcome.machine
    threads = "1 thread" if here.threads == 1 else f"{here.threads} threads"
    about = f": {threads}; {here.system}; {here.versions}"
    console.print(Text.assemble(("".join(c for c in here.cpu if c.isprintable()), "bold"), about))
    for index, model in enumerate(here.gpus):
        console.print(Text(f"cuda:{index}: {model}"))
    console.print()
    console.print(report.solvers_table(outcome))
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


def _save(errors: Console, target: Path, devices: Sequence[Device], comment: str, force: bool) -> None:
    saving.save(target, devices, comment, force)
    first = next((device.name for device in devices if device.family == "sha256-hashcash"), None)
    errors.print(Text(f"wrote {target}: {', '.join(device.name for device in devices)}"), soft_wrap=True)
    if first is not None:
        files, devices_text = json.dumps([str(target)]), json.dumps([first])
        use = f"powsim run --set 'device_files={files}' --set 'campaign.copycat.devices={devices_text}'"
        errors.print(Text(f"use it with: {use}", "dim"), soft_wrap=True)
