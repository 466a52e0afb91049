"""`--until "p95_slowdown ±2%"`: more shards of a point until an interval is narrow enough, or a bound is reached.

How many shards a point gets follows from its totals alone, so a sweep that is killed and resumed ends with the same.
Stopping by an interval makes it a little too narrow on average. No point has fewer shards than its sweep file says.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from powsim.groups import Group
from powsim.sweeps.estimates import HEADLINES, OF_USERS, Estimate, estimates
from powsim.sweeps.shard import Totals
from powsim.text import shown
from powsim.totals import RESOLUTION

FASTEST = 4  # shards grow at most so many times between two looks
FORM = re.compile(r"\s*([a-z0-9_]+)\s*(?:@\s*(\S+))?\s*(?:±|\+-|\+/-)\s*([0-9.eE+-]+)\s*(%?)\s*")


@dataclass(frozen=True)
class Until:
    """When a point is known well enough."""

    text: str
    headline: str
    group: str | None  # None: every group that has the headline
    tolerance: float
    relative: bool  # of the value, or absolute

    def missing(self, group: str, found: dict[str, Estimate]) -> float:
        """Return the interval's half width over what is tolerated: 1 or less is good enough."""
        if self.group not in (None, group) or self.headline not in found:
            return 0.0
        estimate = found[self.headline]
        allowed = self.tolerance * (abs(estimate.value) if self.relative else 1.0)
        if estimate.half_width <= allowed:
            return 0.0
        return estimate.half_width / allowed if allowed > 0 else math.inf


def parse_until(text: str) -> Until:
    """Return what "HEADLINE[@GROUP] ±N%" means; +- stands for ±, no % for an absolute width. Raises ValueError."""
    match = FORM.fullmatch(text)
    try:
        tolerance = float(match[3]) if match else math.nan
    except ValueError:
        tolerance = math.nan
    if match is None or not 0 < tolerance < math.inf:
        raise ValueError(f'{shown(text)} is no goal: write for example "p95_slowdown ±2%" or "share_above_2x +-0.01"')
    name, relative = match[1], match[4] == "%"
    quantile = re.fullmatch(r"(p\d\d)_(slowdown)", name)
    name = f"{quantile[2]}_{quantile[1]}" if quantile else name
    if name not in (*HEADLINES, *OF_USERS):
        raise ValueError(f"unknown headline {shown(match[1])}: choose one of {', '.join((*HEADLINES, *OF_USERS))}")
    tolerance = tolerance / 100 if relative else tolerance
    if relative and tolerance < 2 * RESOLUTION:
        raise ValueError(
            f"±{tolerance:.2%} is finer than the histograms, whose bins are {2 * RESOLUTION:.2%} wide: allow at least "
            f"±{2 * RESOLUTION:.2%}"
        )
    return Until(text, name, match[2], tolerance, relative)


def check_groups(until: Until, groups: list[Group]) -> None:
    """Raise ValueError where no group has the headline."""
    of_users = until.headline in OF_USERS
    fitting = [group.name for group in groups if group.role != "campaign" or not of_users]
    if not fitting or until.group not in (None, *fitting):
        raise ValueError(f"no group of the sweep has {shown(until.text)}: it has {', '.join(fitting)[:200] or 'none'}")


def enough(until: Until | None, groups: list[Group], totals: Totals, shards: int, most: int) -> int:
    """Return how many shards a point needs, as far as its first `shards` tell: `shards` itself ends it."""
    if until is None or shards >= most:
        return shards
    factor = missing(until, groups, totals)
    if factor <= 0:
        return shards
    # Widths shrink with the root of the sample; a tenth more, since the width itself is uncertain.
    more = min(1.1 * factor * factor, FASTEST)
    return min(most, max(shards + 1, math.ceil(shards * more)))


def missing(until: Until, groups: list[Group], totals: Totals) -> float:
    """Return the widest half width over what is tolerated, of all groups; 0 where all are narrow enough."""
    return max(until.missing(group.name, estimates(group, totals[group.name])) for group in groups)


class Prefix:
    """A point's first shards merged in their order, and how many it needs as far as they tell."""

    def __init__(self, until: Until | None, groups: list[Group], first: int, most: int) -> None:
        self.until, self.groups, self.most = until, groups, most
        self.totals: Totals = {}
        self.have, self.need = 0, first

    def add(self, totals: Totals) -> None:
        """Merge the next shard."""
        self.totals = {name: self.totals[name] + one for name, one in totals.items()} if self.have else totals
        self.have += 1
        if self.have == self.need:
            self.need = enough(self.until, self.groups, self.totals, self.have, self.most)

    @property
    def reached(self) -> bool:
        """Return whether the goal is reached, for want of one: always."""
        return self.until is None or missing(self.until, self.groups, self.totals) <= 0
