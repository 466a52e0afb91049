"""`powsim cost`: progress on stderr, a summary or one object on stdout, costs of the queries in a file."""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from powsim.cli import interrupts
from powsim.cli.progress import progress_bar
from powsim.cost_files import NOTICE, WRITERS
from powsim.costs import CostSummary, Sink, price
from powsim.report.console import data, words
from powsim.report.costs import costs_table, dearest_table, identities_table
from powsim.results import OutputError
from powsim.target import check, staged
from powsim.text import printable, shown
from powsim.votes import Votes, VotesError, open_votes
from powsim_kernels import PatePlan, default_orders

SHOWN_IDENTITIES = 10


def grid(text: str) -> list[float]:
    """Return the orders that --orders names. Raises ValueError."""
    if text in ("long", "short"):
        return [float(order) for order in default_orders(text)]
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--orders {shown(text)}: long, short, or numbers above 1 with commas between") from None


def cost_file(
    path: Path,
    settings: dict[str, Any],
    delta: float,
    conversion: str,
    key: str | None,
    identity: str | None,
    out: Path | None,
    save: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Price a file, write the costs of its queries where asked, print the summary.

    Raises VotesError, OutputError and BackendUnavailable, and click.UsageError for settings that cannot be.
    """
    source = open_votes(path, key, identity)
    target = _target(path, out, force) if save else None
    try:
        plan = PatePlan(num_classes=source.classes, **settings)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    errors = words()
    begin = time.perf_counter()
    with contextlib.ExitStack() as stack:
        sink: Sink | None = None
        if target is not None:
            temporary = stack.enter_context(staged(target, force, "--out"))
            sink = stack.enter_context(WRITERS[target.suffix.lower()](temporary, source.rows))
        with progress_bar(errors, "pricing") as progress:

            def step(share: float) -> None:
                interrupts.check()
                progress("pricing", share)

            try:
                summary = price(
                    source, plan, delta, conversion=conversion, identities=identity is not None, sink=sink, step=step
                )
            except VotesError as error:
                about = "" if str(path) in str(error) else f"{shown(str(path), 300)}, "
                raise VotesError(f"{about}{error}") from None
            except ValueError as error:  # e.g. identities that are no text
                raise VotesError(f"{shown(str(path), 300)}: {shown(str(error), 300)}") from error
        interrupts.check()
    spent = time.perf_counter() - begin
    if as_json:
        click.echo(json.dumps(document(path, source, plan, delta, conversion, summary, target), indent=1))
    else:
        _show(path, source, plan, delta, conversion, summary)
    _warn(errors, summary, plan)
    where = "" if target is None else f"; costs of the queries in {target}"
    errors.print(Text(printable(f"priced in {spent:.1f} s{where}"), "dim"), soft_wrap=True)


def _target(path: Path, out: Path | None, force: bool) -> Path:
    """Return where the costs of the queries go, once it is known that they can."""
    if out is None:
        suffix = path.suffix.lower() if path.suffix.lower() in WRITERS else ".npz"
        out = path.with_name(f"{path.stem}.costs{suffix}")
    if out.suffix.lower() not in WRITERS:
        raise OutputError(f"{shown(str(out), 300)}: --out ends in one of {', '.join(WRITERS)}")
    same = False
    with contextlib.suppress(OSError, ValueError):  # one of them is not there
        same = out.samefile(path)
    if same:
        raise OutputError(f"{shown(str(out), 300)} holds the votes themselves: choose another --out")
    check(out, force, "--out")
    return out


def document(
    path: Path,
    source: Votes,
    plan: PatePlan,
    delta: float,
    conversion: str,
    summary: CostSummary,
    target: Path | None,
) -> dict[str, Any]:
    """Return what --json prints."""
    of_plan = ("num_voters", "num_classes", "sigma", "threshold", "sigma1", "screening", "mechanism", "clip", "backend")
    values = asdict(summary)
    values["quantiles"] = {f"{level:g}": eps for level, eps in summary.quantiles.items()}
    identities = values.pop("identities")
    return {
        "file": str(path),
        "votes": source.about,
        "plan": {**{name: getattr(plan, name) for name in of_plan}, "orders": len(plan.grid)},
        "delta": delta,
        "conversion": conversion,
        **values,
        **({} if identities is None else {"identities": identities}),
        "costs": None if target is None else str(target),
        "warning": NOTICE,
    }


def _show(path: Path, source: Votes, plan: PatePlan, delta: float, conversion: str, summary: CostSummary) -> None:
    console = data()
    console.print(Text.assemble((printable(str(path)), "bold"), printable(f": {source.about}")))
    kind = {"gnmax": "Confident GNMax" if plan.confident else "GNMax", "lnmax": "LNMax"}[plan.mechanism]
    gate = f", threshold {plan.threshold:g} with sigma1 {plan.sigma1:g}" if plan.threshold is not None else ""
    clip = "" if plan.clip else ", not clipped"
    console.print(
        Text(
            f"{kind}, {plan.num_voters:,} teachers, {plan.num_classes:,} classes, sigma {plan.sigma:g}{gate}{clip}; "
            f"delta {delta:g}, {conversion} conversion, {len(plan.grid)} orders"
        )
    )
    console.print()
    console.print(costs_table(summary, delta))
    console.print()
    console.print(dearest_table(summary.dearest))
    if summary.identities is not None:
        console.print()
        console.print(identities_table(summary.identities[:SHOWN_IDENTITIES], len(summary.identities)))
    console.print()
    console.print(Text(f"Private: {NOTICE}.", "yellow"))


def _warn(errors: Any, summary: CostSummary, plan: PatePlan) -> None:
    if summary.at_edge:
        cure = "larger" if summary.order > plan.grid.min() else "smaller"
        cure += " ones (short starts at 1.25)" if cure == "smaller" and summary.order > 1.25 else " ones"
        text = f"the best order, {summary.order:g}, is at the edge of --orders: with {cure} eps may be smaller"
        errors.print(Text(text, "yellow"), soft_wrap=True)
    if summary.other_sums:
        text = f"{summary.other_sums:,} of {summary.rows:,} rows do not add up to --teachers {plan.num_voters}"
        errors.print(Text(f"{text}: is that number right?", "yellow"), soft_wrap=True)
    if not math.isfinite(summary.composed_eps):
        errors.print(Text("no order gives a finite eps", "yellow"), soft_wrap=True)
