"""Tables of `powsim bench`: all fit 80 columns, where need be by wrapping names or as two tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from powsim.bench.honest import LOOPS
from powsim.bench.measuring import LONG, SHORT, Spread
from powsim.bench.nearest import Near
from powsim.bench.outcome import BATCH_BITS, Measured, Outcome, near_loop, near_solver
from powsim.devices import Device
from powsim.report.terminal import fits
from powsim.text import number, printable, small

NARROW = 80
FOOTNOTE = (
    "Medians of {repeats} repeats in turns; second lines: least and greatest. one: a puzzle too hard to solve. "
    "batch: many of {bits} bits, preparation included. short, long: challenges of {short} and {long} bytes. "
    "puzzles/s: of the short batch. nJ/hash: {joules}. $: {dollars}."
)


def _table(*columns: str, left: Sequence[int] = (0,)) -> Table:
    """Return an empty table; the columns numbered in `left` hold texts, the others numbers."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for place, column in enumerate(columns):
        names = place in left
        table.add_column(column, justify="left" if names else "right", no_wrap=not names, overflow="fold")
    return table


def _titled(title: str, table: Table) -> Group:
    """Return a table below its title; a table's own title is folded to its width."""
    return Group(Text(title, "bold"), table)


def _cell(spread: Spread | None, show: Callable[[float], str] = number) -> Text:
    """Return a median over its range."""
    if spread is None:
        return Text("-")
    low, high = show(spread.low), show(spread.high)
    return Text.assemble(show(spread.median), "\n", (low if low == high else f"{low}–{high}", "dim"))


RATES: dict[str, Callable[[Measured], Text | str]] = {
    "one, short": lambda m: _cell(m.single_short),
    "one, long": lambda m: _cell(m.single_long),
    "batch, short": lambda m: _cell(m.batch_short),
    "batch, long": lambda m: _cell(m.batch_long),
}
MORE: dict[str, Callable[[Measured], Text | str]] = {
    "puzzles/s": lambda m: _cell(m.puzzles_short),
    "nJ/hash": lambda m: "-" if m.joules_per_hash is None else small(m.joules_per_hash * 1e9),
    "$ per 2^40": lambda m: "-" if m.usd_per_2_40 is None else small(m.usd_per_2_40),
}


def solvers_tables(outcome: Outcome, width: int) -> list[Group]:
    """Return one row per solver, in one table, or in two where `width` is too little for one.

    Hashes per second of one puzzle and of batches; puzzles per second, joules, dollars.
    """
    whole = _titled("Solvers of this machine, hashes/s", _solvers_table(outcome, RATES | MORE))
    if fits(whole, width):
        return [whole]
    rates = _titled("Solvers of this machine, hashes/s", _solvers_table(outcome, RATES))
    return [rates, _titled("Their puzzles, energy and price", _solvers_table(outcome, MORE))]


def _solvers_table(outcome: Outcome, columns: dict[str, Callable[[Measured], Text | str]]) -> Table:
    table = _table("solver", "threads", *columns)
    best = outcome.best
    for m in outcome.measured:
        name = Text(m.solver.backend, "bold" if m is best else "")
        threads = "" if m.solver.threads is None else str(m.solver.threads)
        cells = [show(m) for show in columns.values()]
        if m.wrong is not None:
            cells[0] = Text("WRONG", "bold red")
        elif m.why_not is not None:
            cells[0] = Text("not measured", "yellow")
        table.add_row(name, threads, *cells)
    return table


def footnote(outcome: Outcome) -> str:
    """Return what the columns of the solvers' table mean, and what is missing from it."""
    powered = any(m.joules_per_hash is not None for m in outcome.measured)
    priced = any(m.usd_per_2_40 is not None for m in outcome.measured)
    return FOOTNOTE.format(
        repeats=outcome.repeats,
        bits=BATCH_BITS,
        short=SHORT,
        long=LONG,
        joules="the processor's or card's own counter" if powered else "no energy counter can be read here",
        dollars="at the prices given" if priced else "give --usd-per-hour, or --watts and --usd-per-kwh",
    )


def honest_table(outcome: Outcome) -> Group:
    """Return one row per honest loop: hashes per second, and how much faster the best solver is."""
    best = outcome.best
    faster = f"{best.solver.label}\nis faster by" if best else "faster by"
    table = _table("loop", "version", "hashes/s", faster, left=(0, 1))
    for loop in outcome.honest:
        advantage = outcome.advantage(loop)
        if loop.rate is None:
            table.add_row(LOOPS[loop.name], printable(loop.version or ""), Text("not measured", "yellow"), "-")
            continue
        table.add_row(
            LOOPS[loop.name],
            printable(loop.version or ""),
            _cell(loop.rate),
            "-" if advantage is None else f"{ratio(advantage)}x",
        )
    return _titled("Honest clients: a loop on one core", table)


def ratio(value: float) -> str:
    """Return a ratio with the digits that matter: 0.031, 0.85, 1.35, 19, 3,340."""
    return f"{value:,.0f}" if value >= 9.995 else f"{value:.2f}" if value >= 0.0995 else f"{value:.2g}"


def nearest_table(rows: Sequence[tuple[str, float, Sequence[Near]]]) -> Group:
    """Return measured rates beside the catalogue's nearest entries."""
    table = _table("here", "hashes/s", "nearest entries", "hashes/s", "here over\nentry", left=(0, 2))
    for name, rate, near in rows:
        for place, entry in enumerate(near):
            first = (name, number(rate)) if place == 0 else ("", "")
            table.add_row(*first, entry.name, number(entry.rate_hz), f"{ratio(entry.ratio)}x")
    return _titled("Beside the catalogue", table)


def compared(outcome: Outcome) -> list[tuple[str, float, list[Near]]]:
    """Return what the catalogue is compared with: the best CPU path whole and on one thread, GPUs, loops."""
    chosen: list[Measured | None] = [outcome.best_cpu(whole=True), outcome.best_cpu(whole=False)]
    chosen += [m for m in outcome.measured if m.solver.gpu and m.single_short]
    rows = [(m.solver.label, m.rate_hz, near_solver(m)) for m in dict.fromkeys(chosen) if m is not None]
    rows += [(loop.name, loop.rate.median, near_loop(loop)) for loop in outcome.honest if loop.rate]
    return rows


def solves_table(outcome: Outcome) -> Group:
    """Return puzzles solved per second by bits; computed ones have a ~."""
    bits = sorted({solves.bits for solves in outcome.solves})
    table = _table("solver", *(f"{one}" for one in bits))
    for name in dict.fromkeys(solves.solver for solves in outcome.solves):
        own = {solves.bits: solves for solves in outcome.solves if solves.solver == name}
        table.add_row(name, *(f"{'' if own[b].measured else '~'}{_few(own[b].per_s)}" for b in bits))
    return _titled("Puzzles solved per second, by bits: counted, or ~ computed from the rate", table)


def _few(value: float) -> str:
    """Return a count per second with two or three digits."""
    return number(value) if value >= 1 else f"{value:.2g}"


def imported_table(devices: Sequence[Device]) -> Group:
    """Return devices read from another tool's output."""
    table = _table("entry", "kind", "family", "hashes/s", "watts", "$/h", left=(0, 1, 2))
    for device in devices:
        low, high = number(device.rate_low_hz), number(device.rate_high_hz)
        table.add_row(
            device.name,
            device.kind,
            printable(device.family),
            low if low == high else f"{low}–{high}",
            small(device.watts),
            "-" if device.usd_per_h is None else f"{device.usd_per_h:g}",
        )
    return _titled("Imported", table)
