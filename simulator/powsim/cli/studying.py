"""What `powsim lab` does: progress and words on stderr, tables or one object on stdout, files in a folder."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from powsim.bank.evaluate import evaluate, prepared
from powsim.bank.files import write_bank
from powsim.bank.records import Bank
from powsim.bank.verdict import Settings, Verdict
from powsim.cli import interrupts
from powsim.cli.progress import progress_bar
from powsim.lab.mining import Mining, mine_study
from powsim.lab.study import DATAFREE, Progress, Study, record
from powsim.report.console import data, words
from powsim.report.lab import lab_report
from powsim.report.sweeps import lasting
from powsim.results import OutputError
from powsim.sweeps.store import Store, write_whole
from powsim.text import printable

EVERY_S = 20.0  # between two lines of progress where stderr is no terminal
BANK = "bank.npz"


def run(study: Study, folder: Path, workers: int, mining_s: float, as_json: bool, full: bool) -> None:
    """Record, evaluate, mine, write, print. An interrupt says how to go on."""
    errors, begin = words(), time.perf_counter()
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: choose another --out")
    interrupts.check()
    with _held(folder):
        try:
            with _reporter(errors) as report:
                bank = record(study, folder, workers=workers, progress=report, tell=lambda text: _say(errors, text))
            recorded = time.perf_counter()
            write_bank(folder / BANK, bank)
            _tell_of_less(errors, study, bank)
            verdict, mining = _judged(errors, study, bank, mining_s)
        except BrokenExecutor as error:
            raise click.ClickException(
                f"a worker process was killed ({error}); seeds that are done are kept in {folder}: run the same "
                "command to go on, with --workers 1 if memory is short"
            ) from None
        except KeyboardInterrupt:
            _say(errors, f"seeds that are done are kept in {folder}: the same command goes on from there")
            raise
        except ValueError as error:
            raise click.UsageError(printable(str(error))) from None
        text = json.dumps(document(verdict, mining), indent=1)
        write_whole(folder / "verdict.json", (text + "\n").encode())
        _pages(errors, folder, verdict)
    interrupts.check()
    if as_json:
        click.echo(text)
    else:
        _show(data(least=0), verdict, mining, full)
    took = f"{lasting(recorded - begin)} to attack, {lasting(mining.seconds)} to mine"
    _say(errors, f"{lasting(time.perf_counter() - begin)} in all ({took}); bank, page and picture in {folder}")


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder as a sweep does; folders made for it are gone again where nothing was written into them."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with Store(folder).lock():
            yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # it holds something
                path.rmdir()


def _judged(errors: Console, study: Study, bank: Bank, mining_s: float) -> tuple[Verdict, Mining]:
    """Return what the bank says, its puzzles mined."""
    settings = Settings()
    with progress_bar(errors, "mining") as bar:
        bar("evaluating", 0.0)
        seeds = prepared(bank, settings)
        bar("mining", 0.1)
        mining = mine_study(
            seeds,
            study.id,
            settings.queries_per_puzzle,
            budget_s=mining_s,
            report=lambda share: bar("mining", 0.1 + 0.8 * share),
        )
        interrupts.check()
        bar("evaluating", 0.9)
        return evaluate(bank, settings, mining.rows, seeds), mining


def _tell_of_less(errors: Console, study: Study, bank: Bank) -> None:
    """Say which attacks asked fewer queries than they may, because they had no more."""
    asked = {one.attack: len(one.votes) for one in bank.runs[0].recordings}
    less = {name: n for name, n in asked.items() if n < (study.datafree_queries if name == DATAFREE else study.queries)}
    if less:
        told = ", ".join(f"{name} {n:,}" for name, n in less.items())
        _say(errors, f"asked fewer than {study.queries:,} queries, as their images ran out: {told}")


def document(verdict: Verdict, mining: Mining) -> dict[str, object]:
    """Return what --json prints: the verdict, and how its puzzles were mined."""
    how = {
        **asdict(mining.rate),
        "baseline_s": mining.baseline_s,
        "scale": mining.scale,
        "seconds": mining.seconds,
    }
    return {**verdict.as_dict(), "mining": how}


def _show(console: Console, verdict: Verdict, mining: Mining, full: bool) -> None:
    for part in lab_report(verdict, console.width, brief=not full):
        console.print(part)
    if not full:
        return
    rate = mining.rate
    console.print(
        f"\nmined at {rate.hashes_per_s / 1e6:.3g} MH/s ({rate.backend}), measured by the same loop just before, and "
        f"{rate.seconds_per_puzzle * 1e6:.3g} µs per puzzle. Puzzle times are those of an undefended request of "
        f"{mining.baseline_s * 1e3:g} ms, times {mining.scale:.3g}, so that all puzzles together take seconds.",
        style="dim",
        highlight=False,
    )


def _pages(errors: Console, folder: Path, verdict: Verdict) -> None:
    if importlib.util.find_spec("plotly") is None or importlib.util.find_spec("matplotlib") is None:
        _say(errors, "no HTML page: run `pip install 'powsim[lab,report]'` for it")
        return
    from powsim.report.lab_html import write_lab_html
    from powsim.report.lab_picture import write_lab_png

    write_lab_html(folder / "report.html", verdict)
    write_lab_png(folder / "report.png", verdict)


def _say(errors: Console, text: str) -> None:
    errors.print(Text(printable(text), "dim"), soft_wrap=True)


@contextlib.contextmanager
def _reporter(errors: Console) -> Iterator[Callable[[Progress], None]]:
    """Yield what shows progress: a bar on a terminal, a line now and then elsewhere."""
    said, last = time.monotonic(), ""
    with progress_bar(errors, "attacking") as bar:

        def report(now: Progress) -> None:
            nonlocal said, last
            interrupts.check()
            text = f"{now.seeds_done} of {now.seeds} seeds"
            if errors.is_terminal:
                bar(text, now.share)
                return
            text += f", {now.share:.0%}"
            if time.monotonic() - said > EVERY_S and text != last:
                said, last = time.monotonic(), text
                _say(errors, text + ("" if now.left_s is None else f", {lasting(now.left_s)} left"))

        yield report
