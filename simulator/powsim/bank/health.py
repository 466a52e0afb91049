"""Whether a task lets the defence see anything: measured, never assumed."""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from powsim.bank.costs import RunCosts, cost_range
from powsim.bank.records import Bank, Recording, Run
from powsim.bank.verdict import Health, Settings, spread

LEAST_AUC, LEAST_RATIO = 0.7, 1.2
MOST_POSITION = 0.7
OUTSIDE = ("copycat", "knockoff", "knockoffrandom", "knockoffadaptive", "noise", "random", "randomnoise")
"""Attacks whose queries are out-of-distribution, the first that was recorded speaks for them."""


def plain_name(attack: str) -> str:
    """Return an attack's name without what people write differently: "Worst-Case" is worstcase."""
    return re.sub("[^a-z0-9]", "", attack.lower())


def outside_attack(bank: Bank) -> str | None:
    """Return the attack whose queries stand for strange data, None where none was recorded."""
    names = {plain_name(one.attack): one.attack for one in bank.runs[0].recordings if len(one.votes)}
    return next((names[name] for name in OUTSIDE if name in names), None)


def standard_attack(bank: Bank) -> str | None:
    """Return the standard user's recording, None where there is none."""
    names = (one.attack for one in bank.runs[0].recordings if len(one.votes))
    return next((name for name in names if plain_name(name).startswith("standard")), None)


def auc(high: NDArray[np.float64], low: NDArray[np.float64]) -> float:
    """Return P(a > b) + P(a = b) / 2 for a of `high` and b of `low`; NaN where one is empty."""
    if not len(high) or not len(low):
        return math.nan
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    return float(below.sum(dtype=np.float64) / (2.0 * len(high) * len(low)))


def top_share(votes: NDArray[np.uint16]) -> float:
    """Return the mean share of the teachers that votes for the class with most votes; NaN of no queries."""
    return float((votes.max(axis=1) / votes.sum(axis=1)).mean()) if len(votes) else math.nan


def health(bank: Bank, priced: list[RunCosts], settings: Settings) -> Health:
    """Return the health of a study, and what to say where it is bad."""
    outside = outside_attack(bank)
    low, high = cost_range(bank, settings.meter, settings.sigma, settings.delta)
    inside = [costs.pool[run.pool.user] for run, costs in zip(bank.runs, priced, strict=True)]
    strange = [costs.recordings[outside] if outside else np.zeros(0) for costs in priced]
    means_in = [float(costs.mean()) for costs in inside]
    means_out = [float(costs.mean()) if len(costs) else math.nan for costs in strange]
    position = spread([(mean - low) / (high - low) if high > low else math.nan for mean in means_in])
    ratio = spread([out / own if own > 0 else math.nan for out, own in zip(means_out, means_in, strict=True)])
    area = spread([auc(*pair) for pair in zip(strange, inside, strict=True)])
    separates = area.median >= LEAST_AUC and ratio.median >= LEAST_RATIO  # NaN: nothing was seen
    saturated = position.median > MOST_POSITION
    return Health(
        victim_accuracy=spread([run.victim_accuracy for run in bank.runs]),
        teacher_accuracy=spread([run.teacher_accuracy for run in bank.runs]),
        ensemble_accuracy=spread([run.ensemble_accuracy for run in bank.runs]),
        top_share_in=spread([top_share(run.pool.votes[run.pool.user]) for run in bank.runs]),
        top_share_out=spread([_strange_top_share(run, outside) for run in bank.runs]),
        cost_in=spread(means_in),
        cost_out=spread(means_out),
        cost_floor=low,
        cost_ceiling=high,
        position=position,
        out_in_ratio=ratio,
        auc=area,
        outside_attack=outside,
        separates=separates,
        saturated=saturated,
        warnings=_warnings(outside, area.median, ratio.median, separates, position.median),
    )


def _strange_top_share(run: Run, outside: str | None) -> float:
    found: list[Recording] = [one for one in run.recordings if one.attack == outside]
    return top_share(found[0].votes) if found else math.nan


def _warnings(outside: str | None, area: float, ratio: float, separates: bool, position: float) -> tuple[str, ...]:
    said = []
    if outside is None:
        said.append("no out-of-distribution attack was recorded, so separation cannot be told: record copycat or noise")
    elif not separates:
        said.append(
            f"no separation on this task: AUC {area:.2f} (at least {LEAST_AUC} is needed), strange queries cost "
            f"{ratio:.2f} times honest ones (at least {LEAST_RATIO})"
        )
    if position > MOST_POSITION:
        said.append(
            f"honest queries cost {100 * position:.0f} % of the way from floor to ceiling (at most "
            f"{100 * MOST_POSITION:.0f} % is sound): fewer teachers, more private data, or a smaller sigma"
        )
    return tuple(said)
