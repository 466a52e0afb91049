"""What a study says, in sentences made of its own numbers."""

from __future__ import annotations

import math

from powsim.bank.evaluate import MIX
from powsim.bank.verdict import AttackRow, Spread, Verdict
from powsim.report.lab_sheets import BOTH, EXPONENT, MARKED, at, ratio
from powsim.text import factor, number, percent


def about(verdict: Verdict) -> str:
    """Return what was studied, and how."""
    source = verdict.provenance.get("source", "measured now")
    data = "real data" if verdict.real else "SYNTHETIC data"
    seeds = len(verdict.seeds)
    return (
        f"{verdict.task} ({data}, {verdict.classes} classes; strange queries: {verdict.outside}), {source}; "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}, {verdict.teachers} teachers, sigma {verdict.sigma:g}, "
        f"delta {verdict.delta:g}; meter {verdict.settings.meter}, {verdict.settings.queries_per_puzzle} queries a "
        "puzzle"
    )


def health_line(verdict: Verdict) -> str:
    """Return accuracies, agreement, and how far costs separate."""
    found = verdict.health
    said = [
        f"victim {_share(found.victim_accuracy)}, teacher {_share(found.teacher_accuracy)}, "
        f"ensemble {_share(found.ensemble_accuracy)} accurate",
        f"top vote {_share(found.top_share_in)} of the teachers (strange {_share(found.top_share_out)})",
    ]
    if not math.isnan(found.position.median):
        said.append(
            f"mean cost {found.cost_in.median:.3g}, {_share(found.position)} of the way from {found.cost_floor:.3g} to "
            f"{found.cost_ceiling:.3g}"
        )
    if found.outside_attack is not None:
        said.append(
            f"{found.outside_attack} costs {found.out_in_ratio.median:.2f} times an honest query, AUC "
            f"{found.auc.median:.2f}"
        )
    return "; ".join(said)


def lab_findings(verdict: Verdict) -> list[str]:
    """Return the sentences that every report of a study carries."""
    said = []
    if not verdict.real:
        said.append(f"{verdict.task} is synthetic: what follows says nothing about real data.")
    said += [f"{warning[0].upper()}{warning[1:]}." for warning in verdict.health.warnings]
    outside = verdict.health.outside_attack
    row = at(verdict, outside) if outside is not None else None
    if row is not None:
        cumulative, batch = row.prices["cumulative"], row.prices["batch"]
        ceiling = batch.at_ceiling.median >= MARKED
        said.append(
            f"One query of {row.attack} costs {ratio(row.cost_ratio.value)} times the standard user's{_together(row)}. "
            f"The mapping makes that {_range(cumulative.ratio)} in time after {row.queries:,} queries with a running "
            f"total and {_range(batch.ratio)} with batches"
            f"{', where most puzzles cost the ceiling' if ceiling else ''}. {EXPONENT}."
        )
    single = [
        one for one in verdict.granularity if (one.attack, one.mapping, one.queries_per_puzzle) == (outside, "batch", 1)
    ]
    if single and not math.isnan(single[0].price.ratio.median):
        said.append(f"With one puzzle for every single query the same promise buys {_range(single[0].price.ratio)}.")
    most = max(verdict.settings.accounts)
    split = {one.mapping: one.ratio for one in verdict.sybil if (one.attack, one.accounts) == (outside, most)}
    if split and most > 1:
        said.append(
            f"Over {most} accounts {outside} pays {_range(split['cumulative'])} with a running total, "
            f"{_range(split['batch'])} with batches."
        )
    said += _honest(verdict)
    moved = [one for one in verdict.devices if one.mapping == "batch" and one.rate_ratio > 1]
    if moved and not math.isnan(moved[-1].strange.median):
        fast = max(moved, key=lambda one: one.rate_ratio)
        said.append(
            f"Puzzles calibrated on {fast.calibrated_on} and solved by {fast.solved_by}: {outside} pays "
            f"{factor(fast.strange.median)}x."
        )
    if verdict.metering_s_per_query > 0:
        added = verdict.metering_s_per_query / verdict.seconds_per_query
        said.append(f"Metering a query takes {ratio(added)} times as long as answering it; ratios leave that out.")
    return said


def mined_line(verdict: Verdict) -> str:
    """Return how the puzzles that were really solved compare with the law, all together; nothing where none were."""
    rows = verdict.mined
    if not rows:
        return ""
    inside = sum(row.low_tries <= row.tries <= row.high_tries for row in rows)
    tries, expected = sum(row.tries for row in rows), sum(row.expected_tries for row in rows)
    spent, due = sum(row.mined_s for row in rows), sum(row.expected_s for row in rows)
    return (
        f"{sum(row.puzzles for row in rows):,} puzzles solved: {number(tries)} tries, expected {number(expected)} "
        f"({tries / expected - 1:+.1%}); {spent:.2f} s, expected {due:.2f} s ({spent / due - 1:+.1%}); tries of "
        f"{inside} of {len(rows)} attacks lie in their 95 % interval"
    )


def _together(row: AttackRow) -> str:
    """Return what all queries cost when their Renyi costs are added up first, where the meter has such costs."""
    if row.composed_ratio is None or math.isnan(row.composed_ratio.value):
        return ""
    return f" ({ratio(row.composed_ratio.value)} times for all together, Renyi costs added up first)"


def _honest(verdict: Verdict) -> list[str]:
    said = []
    for kind, words in (("cumulative", "a running total"), ("batch", "batches")):
        own = {one.queries: one for one in verdict.honest if (one.users, one.mapping) == (MIX, kind)}
        asked, longest = verdict.settings.horizon_queries, max(own, default=0)
        if asked not in own:
            continue
        later = f", {percent(own[longest].above_promise.median)} at {longest:,}" if longest > asked else ""
        said.append(
            f"With {words}, {percent(own[asked].above_promise.median)} of unseen honest users exceed "
            f"{verdict.settings.promise:g}x at {asked:,} queries{later}."
        )
    asked = verdict.settings.horizon_queries
    found = {(one.users, one.mapping): one for one in verdict.honest if one.queries == asked}
    single = [who for who, kind in found if kind == "batch" and who.startswith("only ")]
    if single:
        who = max(single, key=lambda who: found[who, "batch"].p50.median)
        total, batch = (ratio(found[who, kind].p50.median) for kind in BOTH)
        said.append(
            f"An honest user with {who} pays {total}x with a running total, {batch}x with batches, in the median."
        )
    return said


def _share(found: Spread) -> str:
    return "unknown" if math.isnan(found.median) else percent(found.median)


def _range(found: Spread) -> str:
    low, middle, high = (ratio(value) for value in (found.low, found.median, found.high))
    return f"{middle}x" if low == high else f"{middle}x [{low}–{high}]"
