"""Headlines from merged totals, each with a 95 % interval of the estimate, whose kind is named.

A population's figures are for as many users as its scenario has, however many were simulated. A campaign's are the
median over its repetitions; where single repetitions fall stands beside it as the spread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from powsim import intervals
from powsim.groups import Group
from powsim.totals import GroupTotals, Histogram

ORDER = "binomial order statistics"
EXACT = "Clopper-Pearson"
NORMAL = "normal"
DELTA = "delta method"
MEDIAN = "binomial order statistics of the median over repetitions"

HEADLINES = (
    "hashes",
    "slowdown",
    "slowdown_p50",
    "slowdown_p95",
    "slowdown_p99",
    "slowdown_undefended",
    "share_above_2x",
    "hours",
    "puzzle_hours",
    "energy_kwh",
    "cost_usd",
)
"""What every group has; the names are those of `powsim run`."""

OF_USERS = ("user_hours_p50", "user_hours_p95", "user_cost_usd_p50", "user_cost_usd_p95")
"""What only a population has, besides: quantiles over its users."""


@dataclass(frozen=True)
class Estimate:
    """A number, the 95 % interval of its estimate, and the interval's kind; an end that nothing bounds is infinite."""

    value: float
    low: float
    high: float
    kind: str
    spread_low: float = math.nan  # where the central 95 % of a campaign's repetitions fall
    spread_high: float = math.nan

    @property
    def half_width(self) -> float:
        """Return half the interval's width."""
        return (self.high - self.low) / 2

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; an end without a bound and a spread that there is not are None."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {k: v if isinstance(v, str) or math.isfinite(v) else None for k, v in values.items()}


def estimates(group: Group, totals: GroupTotals) -> dict[str, Estimate]:
    """Return the headlines of a group; the devices of a population as "headline/device".

    group: as the scenario has it, whole.
    """
    return _campaign(totals) if group.role == "campaign" else _population(group, totals)


def _campaign(totals: GroupTotals) -> dict[str, Estimate]:
    def one(name: str) -> Estimate:
        add = 1.0 if f"{name}-1" in totals.histograms else 0.0
        histogram = totals.histograms[f"{name}-1" if add else name]
        middle = _quantile(histogram, 0.5, add, MEDIAN)
        ends = [add + histogram.quantile(q) for q in (intervals.TAIL, 1 - intervals.TAIL)]
        return Estimate(middle.value, middle.low, middle.high, MEDIAN, *ends)

    return {name: one(name) for name in HEADLINES}


def _population(group: Group, totals: GroupTotals) -> dict[str, Estimate]:
    users, counts, sums, histograms = totals.counts["identities"], totals.counts, totals.sums, totals.histograms
    scale = group.accounts / users

    def total(name: str, unit: float) -> Estimate:
        """Return the sum over all users, with the normal interval of the sum of independent users."""
        whole = float(counts[name]) if name in counts else sums[name]
        deviation = math.sqrt(max(sums[f"{name}^2"] / users - (whole / users) ** 2, 0.0))
        half = intervals.NORMAL * deviation * math.sqrt(users) * scale if users > 1 else math.inf
        value = whole * scale
        return Estimate(value / unit, max(value - half, 0.0) / unit, (value + half) / unit, NORMAL)

    def ratio(below: str, above: dict[str, float], add: float) -> Estimate:
        """Return add + a ratio of sums, with the delta-method interval from the products of its terms."""
        r = sum(times * sums[name] for name, times in above.items()) / sums[below]
        terms = {**above, below: above.get(below, 0.0) - r}
        squares = sum(a * b * _product(sums, one, two) for one, a in terms.items() for two, b in terms.items())
        half = intervals.NORMAL * math.sqrt(max(squares, 0.0)) / sums[below] if users > 1 else math.inf
        return Estimate(add + r, max(add + r - half, 1.0), add + r + half, DELTA)

    def share(hits: int, n: int) -> Estimate:
        found = intervals.share(hits, n)
        return Estimate(found.value, found.low, found.high, EXACT)

    excess = histograms["slowdown-1"]
    found = {
        "hashes": total("hashes", 1.0),
        # Less 1, where the digits are: service time is over 10,000 times the puzzles' on fast devices.
        "slowdown": ratio("service_s", {"solve_s": 1.0}, 1.0),
        "slowdown_p50": _quantile(excess, 0.50, 1.0, ORDER),
        "slowdown_p95": _quantile(excess, 0.95, 1.0, ORDER),
        "slowdown_p99": _quantile(excess, 0.99, 1.0, ORDER),
        "slowdown_undefended": ratio("inference_s", {"solve_s": 1.0, "service_s": 1.0}, 0.0),
        "share_above_2x": share(counts["above"], users),
        "hours": total("elapsed_s", 3600),
        "puzzle_hours": total("solve_s", 3600),
        "energy_kwh": total("energy_j", 3.6e6),
        "cost_usd": total("cost_usd", 1.0),
        "user_hours_p50": _quantile(histograms["elapsed_s"], 0.50, 0.0, ORDER, 3600),
        "user_hours_p95": _quantile(histograms["elapsed_s"], 0.95, 0.0, ORDER, 3600),
        "user_cost_usd_p50": _quantile(histograms["cost_usd"], 0.50, 0.0, ORDER),
        "user_cost_usd_p95": _quantile(histograms["cost_usd"], 0.95, 0.0, ORDER),
    }
    for device in (device.name for device in group.devices):
        if counts[f"identities/{device}"]:
            mine = histograms[f"slowdown-1/{device}"]
            found[f"slowdown_p50/{device}"] = _quantile(mine, 0.50, 1.0, ORDER)
            found[f"slowdown_p95/{device}"] = _quantile(mine, 0.95, 1.0, ORDER)
            found[f"share_above_2x/{device}"] = share(counts[f"above/{device}"], counts[f"identities/{device}"])
    return found


def _product(sums: dict[str, float], one: str, two: str) -> float:
    return sums[f"{one}*{two}"] if f"{one}*{two}" in sums else sums[f"{two}*{one}"]


def _quantile(histogram: Histogram, q: float, add: float, kind: str, unit: float = 1.0) -> Estimate:
    """Return a quantile; its interval reaches to the outer edges of the bins of the order statistics that bound it."""
    low, high = intervals.ranks(histogram.total, q)
    below = histogram.edges(low)[0] if low >= 0 else 0.0
    above = histogram.edges(high)[1] if high < histogram.total else math.inf
    value = histogram.quantile(q)
    return Estimate(add + value / unit, add + min(below, value) / unit, add + max(above, value) / unit, kind)
