"""What `powsim sweep`, `status` and `merge` do: progress and words on stderr, tables on stdout."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from powsim.cli import interrupts
from powsim.cli.progress import progress_bar
from powsim.report.console import data, words
from powsim.report.sweeps import (
    FOOTNOTE,
    POINTS_FOOTNOTE,
    differences_table,
    lasting,
    point_tables,
    points_table,
    status_lines,
)
from powsim.sweeps.merge import Merged, differences, merge
from powsim.sweeps.run import Progress, sweep
from powsim.sweeps.shard import ShardError
from powsim.sweeps.spec import load_sweep, shipped_sweeps
from powsim.sweeps.status import status
from powsim.text import printable

EVERY_S = 10.0  # between two lines of progress where stderr is no terminal


def show_shipped() -> None:
    """Print the shipped sweeps, a line each."""
    for name in shipped_sweeps():
        click.echo(f"{name:12} {load_sweep(name).description}")


def show_file(source: str) -> None:
    """Print a sweep file, as it stands."""
    click.echo(load_sweep(source).text, nl=False)


def run(
    source: str,
    out: Path | None,
    workers: int,
    dask: str | None,
    backend: str,
    threads: int | None,
    until: str | None,
    max_shards: int | None,
    as_json: bool,
    full: bool,
) -> None:
    """Sweep and print. An interrupt says how to go on."""
    plan, errors = load_sweep(source), words()
    folder = out or Path("powsim-sweeps") / plan.name
    interrupts.check()
    if dask is not None:
        logging.disable(logging.ERROR)  # a lost cluster is told in our words, without distributed's tracebacks
    begin = time.perf_counter()
    last: list[Progress] = []
    try:
        with _reporter(errors, last) as report:
            merged = sweep(
                source,
                folder,
                workers=workers,
                dask=dask,
                backend=backend,
                threads=threads,
                until=until,
                max_shards=max_shards,
                progress=report,
                tell=_teller(errors),
            )
    except BrokenExecutor as error:
        raise click.ClickException(f"{error}; what is whole is kept: run the same command to go on") from None
    except KeyboardInterrupt:
        if last:
            done, shards = last[-1].shards_done, last[-1].shards
            _say(errors, f"{done} of {shards} shards are whole in {folder}; the same command goes on from there")
        raise
    _print(merged, as_json, full)
    spent = lasting(time.perf_counter() - begin)
    _say(errors, f"{sum(point.shards for point in merged.points)} shards in {spent}; merged in {folder}")
    if wide := [point for point in merged.points if not point.goal_reached]:
        _say(errors, f"{len(wide)} of {len(merged.points)} points did not reach {until} in {wide[0].shards} shards")


def show_status(folder: Path, as_json: bool) -> None:
    """Print how far a sweep is."""
    found = status(folder)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=1))
        return
    for line in status_lines(found):
        click.echo(printable(line))


def show_merged(folder: Path, against: str | None, as_json: bool, full: bool) -> int:
    """Merge and print; return the exit code."""
    errors = words()
    merged = merge(folder, tell=_teller(errors))
    try:
        found = None if against is None else differences(folder, against)
    except ValueError as error:  # ShardError is one
        what = "" if isinstance(error, ShardError) else "--against: "
        raise click.UsageError(f"{what}{error}") from None
    if as_json and found is not None:
        click.echo(json.dumps({"differences": [one.as_dict() for one in found]}, indent=1))
    elif found is not None:
        data().print(differences_table(found, merged))
    else:
        _print(merged, as_json, full)
    if merged.missing:
        _say(errors, f"{len(merged.missing)} points are not whole and were left out: `powsim sweep` completes them")
    return 1 if merged.missing else 0


def _print(merged: Merged, as_json: bool, full: bool) -> None:
    if as_json:
        click.echo(json.dumps(merged.as_dict(), indent=1))
        return
    narrow = data(least=0)
    narrow.print(points_table(merged, narrow.width))
    narrow.print()
    narrow.print(POINTS_FOOTNOTE, style="dim", highlight=False)
    if not full:
        return
    console = data()
    console.print()
    for number, point in enumerate(merged.points, 1):
        about = f"{number}/{len(merged.points)} {point.id} "
        console.print(Text.assemble((about, "dim"), (printable(point.title or point.scenario), "bold")))
        for table in point_tables(point, console.width):
            console.print(table)
        console.print()
    console.print(FOOTNOTE, style="dim", highlight=False)


def _say(errors: Console, text: str) -> None:
    errors.print(Text(printable(text), "dim"), soft_wrap=True)


def _teller(errors: Console) -> Callable[[str], None]:
    return lambda text: errors.print(Text(printable(text)), soft_wrap=True)


@contextlib.contextmanager
def _reporter(errors: Console, last: list[Progress]) -> Iterator[Callable[[Progress], None]]:
    """Yield what shows progress: a bar on a terminal, a line now and then elsewhere. `last` gets the latest."""
    said = time.monotonic()
    with progress_bar(errors, "sweeping") as bar:

        def report(now: Progress) -> None:
            nonlocal said
            last[:] = [now]
            text = f"{now.shards_done} of {now.shards} shards, {now.shards_per_s:.2g}/s"
            if errors.is_terminal:
                bar(text, now.shards_done / now.shards)
            elif time.monotonic() - said > EVERY_S:
                said = time.monotonic()
                _say(errors, text + ("" if now.left_s is None else f", {lasting(now.left_s)} left"))

        yield report
