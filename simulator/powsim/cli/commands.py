"""The subcommands. Each loads what it needs when it runs, so that --help stays quick."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from powsim import __version__
from powsim.cli import sweep_commands
from powsim.cli.lab import lab
from powsim.text import printable, shown
from powsim_kernels import BACKENDS

BACKEND = click.option(
    "--backend",
    type=click.Choice(["auto", *BACKENDS]),
    default="auto",
    show_default=True,
    help="Where kernels run; auto takes the fastest that can.",
)


class Amount(click.FloatRange):
    """A number in a range that is neither infinite nor not a number, which a range alone lets through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Commands(click.Group):
    """The commands, for which a reader that leaves (`| head`) is a good end: click itself would exit with 1."""

    def make_context(self, *arguments: Any, **named: Any) -> click.Context:
        """Return the context; help is printed here."""
        with _good_end():
            return super().make_context(*arguments, **named)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _good_end():
            return super().invoke(ctx)


@contextlib.contextmanager
def _good_end() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise click.exceptions.Exit(0) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="powsim")
def cli() -> None:
    """Simulate who pays what when an ML API charges each query a proof-of-work puzzle priced by what it leaks."""


@cli.command()
@click.argument("scenario", required=False)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the scenario: policy.name=fixed")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Replace the scenario's seed.")
@click.option("--out", type=click.Path(path_type=Path), help="Results folder [powsim-results/NAME-ID-sSEED].")
@click.option("--no-save", is_flag=True, help="Write no results.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@BACKEND
@click.option("--threads", type=click.IntRange(1, 4096), help="Threads [all CPUs]; results do not depend on it.")
def run(
    scenario: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    out: Path | None,
    no_save: bool,
    as_json: bool,
    backend: str,
    threads: int | None,
) -> None:
    """Simulate SCENARIO: a TOML file, or a shipped one (`powsim init --list`); the default one if left out."""
    from powsim.cli.running import run_scenario

    if out is not None and no_save:
        raise click.UsageError("--out and --no-save exclude each other.")
    run_scenario(scenario, list(overrides), seed, out, not no_save, as_json, backend, threads)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print Table 2 as a list of objects.")
def paper(as_json: bool) -> None:
    """Recompute the published study: every PoW time of the paper's Table 2, as released and corrected."""
    from powsim import paper as study

    if as_json:
        click.echo(json.dumps([row.as_dict() for row in study.table2()], indent=1))
        return
    from powsim.checks import published_checks
    from powsim.report.console import data
    from powsim.report.terminal import checks_table, paper_table

    console = data()
    console.print(paper_table(study.table2(), "Table 2 of Dziedzic et al., ICLR 2022: time with puzzles"))
    console.print(
        "recomputed: released rules on the released traces, one price in seconds per row, no hash computed.\n"
        "corrected: a puzzle per request of 64, only for cost above expectation, exact log2 bits, queries counted "
        "right.\n",
        style="dim",
    )
    console.print(paper_table(study.caption_claims(), "The caption: 'EntropyRev and WorstCase give the same'"))
    console.print()
    console.print(checks_table(published_checks()))


@cli.command()
@click.argument("names", nargs=-1)
@click.option("--kind", help="Only this kind, e.g. phone or gpu-node.")
@click.option("--family", help="Only this puzzle family.")
@click.option("--search", help="Only devices whose name, title or note has this text.")
@click.option(
    "--file", "own", type=click.Path(path_type=Path), help="The devices of this TOML file, not the catalogue."
)
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def devices(
    names: tuple[str, ...], kind: str | None, family: str | None, search: str | None, own: Path | None, as_json: bool
) -> None:
    """List the devices that can solve puzzles, or explain the ones NAMEd: rates, watts, dollars and their sources."""
    from dataclasses import asdict

    from powsim.devices import KINDS, catalogue, closest, source_text

    known = catalogue()
    if own is not None:
        from powsim.own_devices import load_devices

        known = load_devices(own)
    for name in names:
        if name not in known:
            near = closest(name, known)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"unknown device {shown(name)}.{hint}")
    if kind is not None and kind not in KINDS:
        raise click.UsageError(f"unknown kind {shown(kind)}: choose one of {', '.join(KINDS)}.")
    families = sorted({device.family for device in known.values()})
    if family is not None and family not in families:
        raise click.UsageError(f"unknown family {shown(family)}: choose one of {printable(', '.join(families))}.")
    text = (search or "").lower()
    chosen = [
        device
        for device in known.values()
        if (not names or device.name in names)
        and kind in (None, device.kind)
        and family in (None, device.family)
        and text in f"{device.name} {device.title} {device.note}".lower()
    ]
    if as_json:
        found = [{**asdict(device), "citation": source_text(device.source)} for device in chosen]
        click.echo(json.dumps(found, indent=1))
        return
    from powsim.report.console import data
    from powsim.report.terminal import devices_table, explain_device

    if not chosen:
        click.echo("no device matches", err=True)
        return
    console = data()
    if names:
        for device in chosen:
            console.print(explain_device(device))
            console.print()
    else:
        console.print(devices_table(chosen))
        console.print(f"{len(chosen)} devices; `powsim devices NAME` explains one", style="dim")


@cli.command()
@click.argument("name", default="my-scenario")
@click.option("--from", "template", help="Shipped scenario to start from [default].")
@click.option("--list", "listing", is_flag=True, help="List the shipped scenarios.")
def init(name: str, template: str | None, listing: bool) -> None:
    """Write NAME.toml, a commented scenario to start from. A shipped NAME is copied as it is."""
    from powsim.scenario import shipped

    scenarios = shipped()
    if listing:
        for key, text in scenarios.items():
            comment = next(line for line in text.splitlines() if line.startswith("description"))
            click.echo(f"{key:12} {comment.partition('=')[2].strip().strip(chr(34))}")
        return
    target = Path(name if name.endswith(".toml") else f"{name}.toml")
    if not target.stem.strip("."):
        raise click.UsageError(f"{shown(name)} is no name for a scenario.")
    source = template or (target.stem if target.stem in scenarios else "default")
    if source not in scenarios:
        raise click.UsageError(f"unknown scenario {shown(source)}: choose one of {', '.join(scenarios)}.")
    try:
        with target.open("x", encoding="utf-8") as file:
            try:
                file.write(scenarios[source])
                file.flush()
            except OSError:
                target.unlink()
                raise
    except FileExistsError:
        raise click.UsageError(f"{printable(str(target))} exists: choose another NAME or remove it.") from None
    except OSError as error:
        raise click.UsageError(f"cannot write {printable(str(target))}: {error.strerror}.") from None
    click.echo(f"wrote {target}, from '{source}'; run it with: powsim run {target}", err=True)


@cli.command()
@click.argument("challenge")
@click.option("--bits", type=click.FloatRange(0, 64), required=True, help="Difficulty, log2 of the expected hashes.")
@click.option("--hex", "as_hex", is_flag=True, help="CHALLENGE is hexadecimal bytes, not text.")
@click.option("--verify", "nonce", type=click.IntRange(0, 2**64 - 1), help="Check this nonce instead of mining.")
@click.option("--start", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help="First nonce to try.")
@click.option("--limit", type=click.IntRange(1, 2**64), help="Most nonces to try.")
@click.option("--backend", default="auto", show_default=True, help="auto, reference, cpu or e.g. cpu:avx2.")
@click.option("--threads", type=click.IntRange(1, 4096), help="Threads [all CPUs].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def mine(
    challenge: str,
    bits: float,
    as_hex: bool,
    nonce: int | None,
    start: int,
    limit: int | None,
    backend: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Solve a puzzle for real: the lowest nonce X with SHA-256(CHALLENGE || X) below 2^(256-bits); or check one.

    X is 8 bytes, big-endian. Exit code 1: the nonce is wrong, or none was found within --limit.
    """
    from powsim.cli.mining import mine_one, verify_one

    try:
        message = bytes.fromhex(challenge) if as_hex else challenge.encode()
    except UnicodeEncodeError:
        raise click.UsageError("CHALLENGE is not text: give its bytes with --hex.") from None
    except ValueError:
        raise click.UsageError(f"{shown(challenge)} is not hexadecimal.") from None
    try:
        if nonce is not None:
            code = verify_one(message, nonce, bits, backend, as_json)
        else:
            code = mine_one(message, bits, start, limit, backend, threads, as_json)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    raise click.exceptions.Exit(code)


@cli.command()
@click.option("--seconds", type=Amount(0.05, 600), help="Time per measurement, repeats together [0.5].")
@click.option("--quick", is_flag=True, help="A fifth of the time, three repeats: a first look.")
@click.option("--threads", type=click.IntRange(1, 4096), help="What 'all threads' means [all CPUs].")
@click.option("--watts", type=Amount(0, 1e9, min_open=True), help="What the machine (--import: a device) draws.")
@click.option("--usd-per-kwh", type=Amount(0, 1e3), help="Price of electricity; needs watts or a counter.")
@click.option("--usd-per-hour", type=Amount(0, 1e6), help="Rent of the machine (--import: of a device).")
@click.option("--import", "source", type=click.Path(path_type=Path), help="Read hashcat's benchmark output instead.")
@click.option(
    "--save", "target", type=click.Path(path_type=Path), help="Write devices for `powsim run` to this TOML file."
)
@click.option("--name", help="What the devices' names begin with [the processor's model].")
@click.option("--force", is_flag=True, help="Let --save replace a file, or the one that it links to.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def bench(
    seconds: float | None,
    quick: bool,
    threads: int | None,
    watts: float | None,
    usd_per_kwh: float | None,
    usd_per_hour: float | None,
    source: Path | None,
    target: Path | None,
    name: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Measure this machine's solvers and an honest client's loops, beside the catalogue's nearest devices.

    Every solver is checked against hashlib before it is timed. Exit code 1: one gave a wrong answer; 2: none can run.
    """
    import re

    from powsim.bench.outcome import Prices
    from powsim.bench.run import Plan
    from powsim.cli import benching
    from powsim.edge import NAME

    if name is not None and not re.fullmatch(NAME, name):
        raise click.UsageError(
            f"--name {shown(name)}: small letters, digits, '-', '_' and '.' are taken, a letter or digit first."
        )
    if force and target is None:
        raise click.UsageError("--force is about the file of --save: give --save too.")
    prices = Prices(usd_per_hour, watts, usd_per_kwh)
    if source is not None:
        if quick or seconds is not None or threads is not None:
            raise click.UsageError("--import measures nothing: leave --seconds, --quick and --threads out.")
        benching.import_hashcat(source, as_json, target, name, force, prices)
        return
    if quick and seconds is not None:
        raise click.UsageError("--quick and --seconds exclude each other.")
    plan = Plan(seconds=0.12, repeats=3) if quick else Plan() if seconds is None else Plan(seconds=seconds)
    plan = replace(plan, threads=threads, prices=prices)
    raise click.exceptions.Exit(benching.measure(plan, as_json, target, name, force))


@cli.command()
@click.argument("votes", type=click.Path(path_type=Path))
@click.option("--teachers", type=click.IntRange(1, 2**53), required=True, help="How many vote: T, or k of private-kNN.")
@click.option("--sigma", type=Amount(0, min_open=True), required=True, help="Noise per class, in votes.")
@click.option("--delta", type=Amount(0, 1, min_open=True, max_open=True), default=1e-5, help="Of (eps, delta) [1e-5].")
@click.option("--threshold", type=Amount(0), help="Confident GNMax: votes that the winner must reach; with --sigma1.")
@click.option("--sigma1", type=Amount(0, min_open=True), help="Noise of the threshold, in votes.")
@click.option(
    "--screening", type=click.Choice(["theorem6", "exact"]), default="theorem6", help="Price of the threshold."
)
@click.option(
    "--mechanism", type=click.Choice(["gnmax", "lnmax"]), default="gnmax", help="Gaussian [default] or Laplace noise."
)
@click.option("--no-clip", is_flag=True, help="As published for private-kNN: no min with the data-independent cost.")
@click.option("--orders", default="long", show_default=True, help="Renyi orders: long (396), short (26), or 2,4,8.5.")
@click.option(
    "--conversion", type=click.Choice(["improved", "classic"]), default="improved", help="From RDP to eps [improved]."
)
@click.option("--key", help="Array or column(s) with the votes: votes, class_*, or a,b,c [votes, else the only ones].")
@click.option("--identity", help="Array or column that says whose query each row is: adds totals of each.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Costs of the queries: .parquet, .npz, .csv [VOTES.costs.*]."
)
@click.option("--no-save", is_flag=True, help="Write no costs of the queries.")
@click.option("--force", is_flag=True, help="Let --out replace a file, or the one that it links to.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@BACKEND
@click.option("--threads", type=click.IntRange(1, 4096), help="Threads [all CPUs]; results do not depend on it.")
def cost(
    votes: Path,
    delta: float,
    orders: str,
    conversion: str,
    key: str | None,
    identity: str | None,
    out: Path | None,
    no_save: bool,
    force: bool,
    as_json: bool,
    no_clip: bool,
    teachers: int,
    **plan: Any,
) -> None:
    """Price the histograms of teacher votes in VOTES (.npy, .npz, .parquet, of any size) by PATE's analysis.

    Prints a summary and writes what each query costs, alone and with those before it. Costs are private, as votes are.
    """
    from powsim.cli.costing import cost_file, grid

    if no_save and (out is not None or force):
        raise click.UsageError("--no-save excludes --out and --force.")
    try:
        settings = {**plan, "orders": grid(orders), "clip": not no_clip, "num_voters": teachers}
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    cost_file(votes, settings, delta, conversion, key, identity, out, not no_save, force, as_json)


for command in (lab, sweep_commands.sweep, sweep_commands.status, sweep_commands.merge):
    cli.add_command(command)
