"""What the figures of a study show, as arrays: page and picture draw the same numbers."""

from __future__ import annotations

from dataclasses import dataclass

from powsim.bank.evaluate import EVEN, MIX, TWO
from powsim.bank.health import plain_name
from powsim.bank.verdict import Spread, Verdict
from powsim.report.lab_sheets import BOTH, NEVER_STOPPED, attacks_of

MOST = 9  # attacks that get a colour of their own in a picture
OFTEN = ("jacobiantr", "gap", "knockoff", "datafree")  # what people look for next

PANELS = {"cumulative": "running total, the authors' shape", "batch": "batch mean, no account kept"}


@dataclass(frozen=True)
class Line:
    """One line of a figure, with its range over seeds where it has one."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


def emphasised(verdict: Verdict) -> list[str]:
    """Return the attacks to show in colour: those never stopped, the strange one, then others as recorded."""
    known = {plain_name(attack): attack for attack in attacks_of(verdict)}
    first, next_ = ([known[name] for name in names if name in known] for names in (NEVER_STOPPED, OFTEN))
    outside = [verdict.health.outside_attack] if verdict.health.outside_attack else []
    return list(dict.fromkeys([*first, *outside, *next_, *attacks_of(verdict)]))[:MOST]


def accuracy_lines(verdict: Verdict, kind: str | None) -> list[Line]:
    """Return accuracy against seconds: without puzzles (kind None) or under a mapping, medians over seeds."""
    lines = []
    for curve in verdict.curves:
        if not curve.queries:
            continue
        seconds = curve.undefended_s if kind is None else tuple(one.median for one in curve.time_s[kind])
        known = [index for index, value in enumerate(seconds) if value == value]  # NaN: no whole puzzle yet
        accuracy = curve.accuracy
        lines.append(
            Line(
                curve.attack,
                tuple(seconds[index] for index in known),
                tuple(100 * accuracy[index].median for index in known),
                tuple(100 * accuracy[index].low for index in known),
                tuple(100 * accuracy[index].high for index in known),
            )
        )
    return [line for line in lines if line.x]


def ratio_lines(verdict: Verdict, kind: str) -> list[Line]:
    """Return time ratio against queries under a mapping."""
    return [
        Line(one.attack, tuple(map(float, one.queries)), *_spreads(one.ratio))
        for one in verdict.lines
        if one.mapping == kind and one.queries
    ]


def honest_lines(verdict: Verdict, kind: str) -> list[Line]:
    """Return the share of users above a ratio: as calibrated, the other kinds, and the dearest single class."""
    found = {one.users: one for one in verdict.honest_curves if one.mapping == kind}
    single = [who for who in found if who.startswith("only ")]
    shown = [who for who in (MIX, EVEN, TWO) if who in found]
    if single:
        middle = len(found[single[0]].ratio) // 2
        shown.append(max(single, key=lambda who: found[who].ratio[middle]))
    return [Line(who, found[who].ratio, tuple(100 * share for share in found[who].share_above)) for who in shown]


def granularity_lines(verdict: Verdict, kind: str) -> list[Line]:
    """Return time ratio against queries per puzzle."""
    lines = []
    for attack in attacks_of(verdict):
        own = [one for one in verdict.granularity if (one.attack, one.mapping) == (attack, kind)]
        own = [one for one in own if one.price.ratio.seeds]
        if own:
            sizes = tuple(float(one.queries_per_puzzle) for one in own)
            lines.append(Line(attack, sizes, *_spreads(tuple(one.price.ratio for one in own))))
    return lines


def account_lines(verdict: Verdict) -> list[Line]:
    """Return time ratio of the strange attack's campaign against accounts, a line for each mapping."""
    outside, lines = verdict.health.outside_attack, []
    for kind in BOTH:
        own = [one for one in verdict.sybil if (one.attack, one.mapping) == (outside, kind) and one.ratio.seeds]
        if own:
            sizes = tuple(float(one.accounts) for one in own)
            lines.append(Line(kind, sizes, *_spreads(tuple(one.ratio for one in own))))
    return lines


def _spreads(found: tuple[Spread, ...]) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    return tuple(one.median for one in found), tuple(one.low for one in found), tuple(one.high for one in found)
