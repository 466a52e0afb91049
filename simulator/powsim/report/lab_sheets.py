"""A study's tables and sentences as plain texts: terminal and page show the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from powsim.bank.health import plain_name
from powsim.bank.mapping import MAPPINGS
from powsim.bank.verdict import AttackRow, Price, Spread, Verdict
from powsim.intervals import Headline
from powsim.text import factor, number, share, small

NEVER_STOPPED = ("standard", "mixmatch", "jacobian", "worstcase")
MARK = "▲"
MARKED = 0.5  # of an attack's puzzles at the ceiling: from here on the ratio tells the ceiling, not the attack
NONE = "–"
BOTH = ("cumulative", "batch")
HEADS = {"cumulative": "cumul."}
EXPONENT = "100x comes from the exponent and ceiling chosen at calibration, not from PATE alone"


@dataclass(frozen=True)
class Cell:
    """A value and, below it, how far it may be off."""

    text: str
    below: str = ""


@dataclass(frozen=True)
class Sheet:
    """One table."""

    title: str
    columns: tuple[str, ...]  # the first `names` are names, the others numbers
    rows: tuple[tuple[Cell, ...], ...]
    note: str
    names: int = 1
    brief: bool = False  # whether it is shown where only the most important is


def ratio(value: float) -> str:
    """Return a ratio with three digits, or a dash."""
    if math.isnan(value):
        return NONE
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else factor(value)


def titled(verdict: Verdict, title: str) -> str:
    """Return a title that says where the data is made up."""
    return title if verdict.real else f"{title} (synthetic data)"


def ranged(found: Spread, show: Callable[[float], str] = ratio) -> Cell:
    """Return a median over its range."""
    if math.isnan(found.median):
        return Cell(NONE)
    low, high = show(found.low), show(found.high)
    return Cell(show(found.median), low if low == high else f"{low}–{high}")


def priced(found: Price) -> Cell:
    """Return a time ratio over its range, marked where it tells the ceiling."""
    cell = ranged(found.ratio)
    return Cell(f"{cell.text}{MARK}", cell.below) if found.at_ceiling.median >= MARKED else cell


def interval(found: Headline | None) -> Cell:
    """Return a mean over its interval."""
    if found is None or math.isnan(found.value):
        return Cell(NONE)
    half = found.high - found.value
    return Cell(ratio(found.value), f"±{ratio(half)}" if math.isfinite(half) else "±?")


def head(kind: str) -> str:
    """Return a mapping's name as a column holds it."""
    return HEADS.get(kind, kind)


def at(verdict: Verdict, attack: str, queries: int | None = None) -> AttackRow | None:
    """Return an attack's row at the horizon, or the last one before it; None of an attack that asked nothing."""
    limit = verdict.settings.horizon_queries if queries is None else queries
    own = [row for row in verdict.attacks if row.attack == attack]
    within = [row for row in own if row.queries <= limit] or own[:1]
    return within[-1] if within else None


def attacks_of(verdict: Verdict) -> list[str]:
    """Return the attacks in the order recorded."""
    return [curve.attack for curve in verdict.curves]


def attacks_sheet(verdict: Verdict) -> Sheet:
    """Return every attack at the horizon."""
    rows, asked = [], verdict.settings.horizon_queries
    for attack in attacks_of(verdict):
        if (row := at(verdict, attack)) is not None:
            name = Cell(attack, "" if row.queries == asked else f"{row.queries:,} queries")
            prices = (priced(row.prices[kind]) for kind in MAPPINGS)
            rows.append((name, ranged(row.accuracy), interval(row.cost_ratio), ranged(row.auc), *prices))
    return Sheet(
        titled(verdict, f"Attacks after {asked:,} queries"),
        ("attack", "accuracy", "cost", "AUC", *map(head, MAPPINGS)),
        tuple(rows),
        "accuracy: of the stolen model on the test set. cost: per query, over the standard user's, mean and 95 % "
        "interval over seeds. AUC: of one query's cost against the standard user's. The others: time with puzzles over "
        f"time without, median and range over {len(verdict.seeds)} seeds, in expectation. {MARK}: at least half of the "
        f"puzzles cost the ceiling ({verdict.settings.ceiling:g} times the undefended time), so the ratio tells the "
        "ceiling.",
        brief=True,
    )


def counts_sheet(verdict: Verdict) -> Sheet:
    """Return time ratios against the number of queries."""
    counts = sorted({row.queries for row in verdict.attacks if row.queries in verdict.settings.counts})
    rows = []
    for attack in attacks_of(verdict):
        own = {row.queries: row for row in verdict.attacks if row.attack == attack}
        cells = [priced(own[n].prices[kind]) if n in own else Cell(NONE) for kind in BOTH for n in counts]
        rows.append((Cell(attack), *cells))
    return Sheet(
        titled(verdict, "Time ratio against the number of queries"),
        ("attack", *(f"{head(kind)} {n:,}" for kind in BOTH for n in counts)),
        tuple(rows),
        "A running total grows with every query, and its exponent with it; a batch's mean does not.",
    )


def models_sheet(verdict: Verdict) -> Sheet:
    """Return accuracy and fidelity of what was stolen by when."""
    counts = sorted({row.queries for row in verdict.attacks if row.queries in verdict.settings.counts})
    rows = []
    for attack in attacks_of(verdict):
        own = {row.queries: row for row in verdict.attacks if row.attack == attack}
        accuracy = [ranged(own[n].accuracy) if n in own else Cell(NONE) for n in counts]
        fidelity = [ranged(own[n].fidelity) if n in own else Cell(NONE) for n in counts]
        rows.append((Cell(attack), *accuracy, *fidelity))
    return Sheet(
        titled(verdict, "Stolen models"),
        ("attack", *(f"{what} {n:,}" for what in ("accuracy", "fidelity") for n in counts)),
        tuple(rows),
        "At the last checkpoint within so many queries. fidelity: agreement with the victim on the test set.",
    )


def not_stopped_sheet(verdict: Verdict) -> Sheet:
    """Return the fixed group of those whom the defence does not stop, or says that they were not recorded."""
    known = {plain_name(attack): attack for attack in attacks_of(verdict)}
    rows: list[tuple[Cell, ...]] = []
    for name in NEVER_STOPPED:
        row = at(verdict, known[name]) if name in known else None
        shown = known.get(name, name)
        if row is None:
            rows.append((Cell(shown, "not recorded"), *[Cell(NONE)] * 4))
            continue
        rows.append((Cell(shown), ranged(row.accuracy), *(priced(row.prices[kind]) for kind in MAPPINGS)))
    outside, most = verdict.health.outside_attack, max(verdict.settings.accounts)
    sybil = {row.mapping: row for row in verdict.sybil if (row.attack, row.accounts) == (outside, most)}
    if sybil and outside is not None:
        whole = at(verdict, outside, sybil[MAPPINGS[0]].queries)
        accuracy = ranged(whole.accuracy) if whole else Cell(NONE)
        cells = (ranged(sybil[kind].ratio) for kind in MAPPINGS)
        rows.append((Cell(f"{outside}, {most} accounts"), accuracy, *cells))
    washed = {row.mapping: row for row in verdict.laundering}
    if washed:
        laundered = Cell(f"{outside}, laundered", f"{share(verdict.settings.laundered)} of the queries")
        rows.append((laundered, Cell(NONE), *(ranged(washed[kind].ratio) for kind in MAPPINGS)))
        useful = (ranged(washed[kind].ratio_per_strange) for kind in MAPPINGS)
        rows.append((Cell("for each strange one"), Cell(NONE), *useful))
    return Sheet(
        titled(verdict, "Not stopped"),
        ("who", "accuracy", *map(head, MAPPINGS)),
        tuple(rows),
        "Always shown, whatever the figures. Accounts are asked in turn. Laundered: strange queries hidden among the "
        "cheapest of one's own ordinary ones; for each strange one, over the undefended time of those alone. cumul. "
        "also charges who costs less than expected, one-sided does not.",
        brief=True,
    )


def honest_sheet(verdict: Verdict) -> Sheet:
    """Return honest users that calibration did not see: as calibrated, and skewed ones."""
    asked = verdict.settings.horizon_queries
    found = {(row.users, row.mapping, row.queries): row for row in verdict.honest}
    counts = sorted(n for n in verdict.settings.counts if n in (asked, max(verdict.settings.counts)))
    everyone = list(dict.fromkeys(row.users for row in verdict.honest))
    single = [who for who in everyone if who.startswith("only ")]
    rows: list[tuple[Cell, ...]] = []
    for queries in counts:

        def dearness(who: str, queries: int = queries) -> float:
            return found[who, "batch", queries].p95.median

        ends = (min(single, key=dearness), max(single, key=dearness)) if single else ()
        for who in dict.fromkeys((*(who for who in everyone if who not in single), *ends)):
            own = [found[who, kind, queries] for kind in BOTH]
            cells = [(ranged(row.p50), ranged(row.p95), ranged(row.above_promise, share)) for row in own]
            rows.append((Cell(who, "" if queries == asked else f"{queries:,} queries"), *cells[0], *cells[1]))
    return Sheet(
        titled(verdict, f"Honest users of the other half, after {asked:,} queries"),
        ("users", *(f"{head(kind)} {what}" for kind in BOTH for what in ("p50", "p95", "above"))),
        tuple(rows),
        f"Time ratios; above: share of users above {verdict.settings.promise:g}x. Calibrated so that "
        f"{100 * verdict.settings.quantile:g} % of users with a random class mix keep it at {asked:,} queries. Users "
        "are drawn over originals, of which there are few: tails beyond them are unknown. Of users with one class "
        "alone, the cheapest and the dearest class.",
    )


def granularity_sheet(verdict: Verdict, kind: str) -> Sheet:
    """Return how time ratios depend on the number of queries per puzzle."""
    sizes = verdict.settings.per_puzzle
    found = {(row.attack, row.queries_per_puzzle): row.price for row in verdict.granularity if row.mapping == kind}
    rows = [(Cell(attack), *(priced(found[attack, n]) for n in sizes)) for attack in attacks_of(verdict)]
    return Sheet(
        titled(verdict, f"Time ratio against queries per puzzle, {kind} mapping"),
        ("attack", *(f"{n} a puzzle" for n in sizes)),
        tuple(rows),
        f"At {verdict.settings.horizon_queries:,} queries, calibrated anew for each size. One query tells little; "
        "the mean of a batch tells much.",
    )


def accounts_sheet(verdict: Verdict) -> Sheet:
    """Return what splitting over accounts does to every attack that pays."""
    sizes = verdict.settings.accounts
    found = {(row.attack, row.mapping, row.accounts): row.ratio for row in verdict.sybil}
    rows = [
        (Cell(attack), *(ranged(found[attack, kind, n]) for kind in BOTH for n in sizes))
        for attack in attacks_of(verdict)
    ]
    return Sheet(
        titled(verdict, "Accounts"),
        ("attack", *(f"{head(kind)} {n}" for kind in BOTH for n in sizes)),
        tuple(rows),
        "Time ratio of the whole campaign over so many accounts that are asked in turn; all work is added up.",
    )


def devices_sheet(verdict: Verdict) -> Sheet:
    """Return the same puzzles on other devices."""
    found = {(row.calibrated_on, row.solved_by, row.mapping): row for row in verdict.devices}
    rows = []
    for calibrated, solver in dict.fromkeys((row.calibrated_on, row.solved_by) for row in verdict.devices):
        own = [found[calibrated, solver, kind] for kind in BOTH]
        cells = [Cell(_exact(value.median)) for row in own for value in (row.honest_p50, row.strange)]
        rows.append((Cell(calibrated), Cell(solver), Cell(small(own[0].rate_ratio)), *cells))
    strange = verdict.health.outside_attack or "strange"
    return Sheet(
        titled(verdict, "Devices"),
        (
            "calibrated on",
            "solved by",
            "rate",
            *(f"{head(kind)} {who}" for kind in BOTH for who in ("honest", strange)),
        ),
        tuple(rows),
        "rate: hash rate of the solver over that of the device calibrated on, from the shipped catalogue. The others: "
        f"time ratios at {verdict.settings.horizon_queries:,} queries, of the median user with a random class mix and "
        f"of {strange}, medians over seeds.",
        names=2,
    )


def _exact(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.4f}" if value < 1.1 else number(value)


def targets_sheet(verdict: Verdict) -> Sheet:
    """Return times to an accuracy; who reaches none is named below."""
    targets, seeds = verdict.settings.targets, len(verdict.seeds)
    found = {(row.target, row.attack): row for row in verdict.targets}
    rows, never = [], []
    for attack in attacks_of(verdict):
        own = [found[target, attack] for target in targets]
        if not any(row.undefended.seeds for row in own):
            never.append(attack)
            continue
        cells = []
        for value in (value for row in own for value in (row.undefended, *(row.by_mapping[kind] for kind in BOTH))):
            few = 0 < value.seeds < seeds
            cell = ranged(value)
            cells.append(Cell(cell.text, f"{value.seeds} of {seeds}" if few else cell.below))
        rows.append((Cell(attack), *cells))
    least = min(targets, default=0.0)
    return Sheet(
        titled(verdict, "Time to an accuracy"),
        ("attack", *(f"{kind} {target:g}" for target in targets for kind in ("free", *map(head, BOTH)))),
        tuple(rows),
        "In undefended times that the standard user takes to the same accuracy; free: without puzzles; a dash: no seed "
        "gets there; 3 of 5: that many seeds do. Not flattering: who needs few queries pays few puzzles."
        + (f" Never at {least:g}: {', '.join(never)}." if never else ""),
    )


def mined_sheet(verdict: Verdict) -> Sheet:
    """Return puzzles that were really solved beside what was expected of them."""
    rows = [
        (
            Cell(row.attack, row.mapping),
            Cell(number(row.puzzles)),
            Cell(number(row.expected_tries)),
            Cell(number(row.tries), f"{number(row.low_tries)}–{number(row.high_tries)}"),
            Cell(small(row.expected_s)),
            Cell(small(row.mined_s)),
            Cell("yes" if row.low_tries <= row.tries <= row.high_tries else "no"),
        )
        for row in verdict.mined
    ]
    return Sheet(
        titled(verdict, "Mined beside expected"),
        ("attack", "puzzles", "expected tries", "tries", "expected s", "mined s", "inside"),
        tuple(rows),
        "Puzzles solved for real on this machine, one thread. Below tries: in which 95 % of such sums fall; one row in "
        "twenty is outside by luck. Expected seconds: of the expected tries, at rates measured before and after; those "
        "of a few milliseconds tell what else the machine did.",
    )


def sheets(verdict: Verdict) -> list[Sheet]:
    """Return every table that has rows, in the order shown."""
    every = [
        *(not_stopped_sheet(verdict), attacks_sheet(verdict), counts_sheet(verdict), models_sheet(verdict)),
        *(targets_sheet(verdict), honest_sheet(verdict)),
        *(granularity_sheet(verdict, kind) for kind in ("batch", "cumulative")),
        *(accounts_sheet(verdict), devices_sheet(verdict), mined_sheet(verdict)),
    ]
    return [sheet for sheet in every if sheet.rows]
