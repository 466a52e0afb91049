"""Three plain sentences about a simulated scenario: what holds, what does not, and for whom."""

from __future__ import annotations

from powsim.summary import PROMISE, DeviceShare, GroupSummary
from powsim.text import at_most, dollars, percent, times

FEW = 0.05  # a promise to a population holds where at most this share of it is above 2x
STRONG = 10.0  # a campaign counts as held up from this slowdown on


def findings(groups: list[GroupSummary]) -> list[str]:
    """Return the three sentences."""
    honest = [g for g in groups if g.role == "honest"]
    campaigns = [g for g in groups if g.role == "campaign"]
    return [
        "What holds: " + _what_holds(honest, campaigns),
        "What does not: " + _what_fails(honest, campaigns),
        "For whom: " + _for_whom(honest, campaigns),
    ]


def _what_holds(honest: list[GroupSummary], campaigns: list[GroupSummary]) -> str:
    parts = [
        f"{percent(1 - g.share_above_2x.value)} of {g.name} users stay within 2x (median {times(g.slowdown_p50.value)})"
        for g in honest
        if g.share_above_2x.value <= FEW
    ]
    held_up = [g for g in campaigns if g.slowdown.value >= STRONG]
    if held_up:
        worst = max(held_up, key=lambda g: g.slowdown.value)
        parts.append(
            f"{len(held_up)} of {len(campaigns)} campaigns are slowed down {STRONG:.0f}x or more, "
            f"{worst.name} most ({times(worst.slowdown.value)})"
        )
    return ("; ".join(parts) or "no population keeps to 2x and no campaign is slowed down tenfold") + "."


def _what_fails(honest: list[GroupSummary], campaigns: list[GroupSummary]) -> str:
    parts = [
        f"{percent(g.share_above_2x.value)} of {g.name} users exceed 2x, "
        f"one in twenty {times(g.slowdown_p95.value)} or more"
        for g in honest
        if g.share_above_2x.value > FEW
    ]
    spared = [g for g in campaigns if g.slowdown.value < PROMISE]
    if spared:
        dearest = max(spared, key=lambda g: g.cost_usd.value)
        most = max(spared, key=lambda g: g.slowdown.value)
        parts.append(
            f"{len(spared)} of {len(campaigns)} campaigns are slowed down less than 2x ({most.name} most, "
            f"{times(most.slowdown.value)}), and their puzzles cost {at_most(dearest.cost_usd.value)} "
            f"({dearest.name})"
        )
    split = _largest_saving(campaigns)
    if split is not None:
        one, many = split
        parts.append(
            f"{many.identities} accounts instead of {one.identities} take {one.name.rpartition('/')[0]} from "
            f"{times(one.slowdown.value)} to {times(many.slowdown.value)}"
        )
    return ("; ".join(parts) or "nothing that was simulated breaks the promise") + "."


def _largest_saving(campaigns: list[GroupSummary]) -> tuple[GroupSummary, GroupSummary] | None:
    """Return the same campaign with fewest accounts and with those that save most, if splitting saves a tenth."""
    best: tuple[float, GroupSummary, GroupSummary] | None = None
    by_kind: dict[str, list[GroupSummary]] = {}
    for g in campaigns:
        by_kind.setdefault(g.name.rpartition("/")[0], []).append(g)
    for kind in by_kind.values():
        one = min(kind, key=lambda g: g.identities)
        many = min(kind, key=lambda g: g.slowdown.value)
        saved = one.slowdown.value / many.slowdown.value
        if saved > 1.1 and (best is None or saved > best[0]):
            best = (saved, one, many)
    return None if best is None else best[1:]


def _for_whom(honest: list[GroupSummary], campaigns: list[GroupSummary]) -> str:
    parts = []
    hit: list[tuple[GroupSummary, DeviceShare]] = [
        (g, d) for g in honest for d in g.by_device if d.share_above_2x.value > FEW
    ]
    hit.sort(key=lambda pair: -pair[1].share_above_2x.value)
    if hit:
        named = ", ".join(f"{d.device} ({percent(d.share_above_2x.value)} of them above 2x)" for _, d in hit[:3])
        if len(hit) > 3:
            named += " and others"
        lost = sum(d.identities * d.share_above_2x.value for _, d in hit)
        everybody = sum(g.identities for g in honest)
        parts.append(f"the honest who pay are on {named}: {percent(lost / everybody)} of all users")
    free = [g for g in campaigns if g.slowdown.value < PROMISE and g.accuracy_pct is not None]
    if free:
        best = max(free, key=lambda g: (g.accuracy_pct or 0.0, -g.identities, -g.cost_usd.value))
        parts.append(
            f"the attacker who does not is {best.name}: a stolen accuracy of {best.accuracy_pct:.1f} % at "
            f"{times(best.slowdown.value)}, its puzzles costing {dollars(best.cost_usd.value)}"
        )
    return ("; ".join(parts) or "no device and no campaign stands out") + "."
