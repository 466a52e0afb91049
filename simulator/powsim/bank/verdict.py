"""What a study says, as values: the report draws them, `--json` prints them.

Ratios are time with puzzles over time without. A Spread is over seeds: the median and the whole range, never a mean,
since an exponential turns small differences of cost into factors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from powsim.intervals import Headline


@dataclass(frozen=True)
class Spread:
    """A number over seeds; NaN where no seed has it."""

    median: float
    low: float
    high: float
    seeds: int  # that have it

    def through(self, change: Any) -> Spread:
        """Return the spread of a rising function of the number."""
        return Spread(change(self.median), change(self.low), change(self.high), self.seeds)


def spread(values: ArrayLike) -> Spread:
    """Return median and range of the values that are there; NaN is a seed without one."""
    array = np.asarray(values, np.float64)
    known = array[~np.isnan(array)]
    if not len(known):
        return Spread(math.nan, math.nan, math.nan, 0)
    return Spread(float(np.median(known)), float(known.min()), float(known.max()), len(known))


@dataclass(frozen=True)
class Settings:
    """What is asked of a bank."""

    meter: str = "gnmax"
    sigma: float | None = None  # None: the bank's own
    delta: float | None = None
    queries_per_puzzle: int = 32
    floor: float = 0.25  # least puzzle time, in undefended times of its queries
    ceiling: float = 400.0  # greatest
    promise: float = 2.0
    quantile: float = 0.95  # of calibrating users keep the promise
    horizon_queries: int = 1024
    users: int = 1000  # simulated for each purpose and seed
    counts: tuple[int, ...] = (256, 1024, 2048)
    per_puzzle: tuple[int, ...] = (1, 8, 32, 64, 128)
    accounts: tuple[int, ...] = (1, 4, 16)
    targets: tuple[float, ...] = (0.8, 0.9, 0.95)
    laundered: float = 0.25  # share of strange queries among the cheapest ordinary ones
    devices: tuple[str, ...] = ("galaxy-a34-browser", "python-hashlib", "rtx-4090", "8x-h100-sxm")
    seed: int = 1


@dataclass(frozen=True)
class Health:
    """Whether the defence can see anything on this task."""

    victim_accuracy: Spread
    teacher_accuracy: Spread
    ensemble_accuracy: Spread
    top_share_in: Spread  # of the teachers, for the class that most voted for; honest users' half
    top_share_out: Spread
    cost_in: Spread  # mean per query
    cost_out: Spread
    cost_floor: float  # unanimous votes
    cost_ceiling: float  # a tie of all
    position: Spread  # of cost_in between floor and ceiling, 0..1
    out_in_ratio: Spread
    auc: Spread  # of one query's cost, strange against honest
    outside_attack: str | None  # which recording is strange
    separates: bool
    saturated: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Calibration:
    """What calibration chose."""

    mapping: str
    queries_per_puzzle: int
    expected_cost: Spread
    cost_to_double: Spread  # ln 2 / ln b: that much more cost doubles a puzzle


@dataclass(frozen=True)
class Price:
    """What an attack pays under one mapping, in expectation and on the device calibrated on."""

    ratio: Spread
    at_ceiling: Spread  # share of its puzzles that cost the ceiling


@dataclass(frozen=True)
class AttackRow:
    """One attack after so many queries."""

    attack: str
    queries: int
    cost_ratio: Headline  # of mean costs per query to the standard user's: mean over seeds, Student's 95 %
    composed_ratio: Headline | None  # of the eps of all queries, Renyi costs added up first
    auc: Spread  # of one query's cost against the standard user's
    accuracy: Spread  # of the stolen model, at the last checkpoint so far
    fidelity: Spread
    prices: dict[str, Price]  # by mapping


@dataclass(frozen=True)
class Curve:
    """Accuracy of one attack's stolen model against time."""

    attack: str
    queries: tuple[int, ...]  # checkpoints that every seed has
    accuracy: tuple[Spread, ...]
    fidelity: tuple[Spread, ...]
    undefended_s: tuple[float, ...]
    time_s: dict[str, tuple[Spread, ...]]  # by mapping


@dataclass(frozen=True)
class RatioLine:
    """Time ratio of one attack against its queries, under one mapping."""

    attack: str
    mapping: str
    queries: tuple[int, ...]
    ratio: tuple[Spread, ...]


@dataclass(frozen=True)
class HonestRow:
    """Users whom calibration did not see."""

    users: str
    mapping: str
    queries: int
    p50: Spread
    p95: Spread
    above_promise: Spread  # share of them


@dataclass(frozen=True)
class HonestCurve:
    """How the ratio of such users is distributed at the horizon, all seeds together."""

    users: str
    mapping: str
    ratio: tuple[float, ...]  # rising
    share_above: tuple[float, ...]  # falling


@dataclass(frozen=True)
class GranularityRow:
    """One attack at the horizon with another number of queries per puzzle, calibrated anew."""

    attack: str
    mapping: str
    queries_per_puzzle: int
    price: Price


@dataclass(frozen=True)
class SybilRow:
    """One attack's campaign split over accounts that are asked in turn."""

    attack: str
    mapping: str
    queries: int
    accounts: int
    ratio: Spread


@dataclass(frozen=True)
class LaunderingRow:
    """Strange queries hidden among the cheapest ordinary ones that the attacker owns."""

    mapping: str
    queries: int
    strange_share: float
    ratio: Spread
    ratio_per_strange: Spread  # time over the undefended time of the strange queries alone


@dataclass(frozen=True)
class DeviceRow:
    """The same puzzles, calibrated on one device and solved on another."""

    calibrated_on: str
    solved_by: str
    rate_ratio: float  # solver's hash rate over the calibrating device's
    mapping: str
    honest_p50: Spread
    strange: Spread  # ratio of the out-of-distribution attack


@dataclass(frozen=True)
class TargetRow:
    """Time until a stolen model has an accuracy, in undefended times that the standard user takes to it."""

    target: float
    attack: str
    undefended: Spread
    by_mapping: dict[str, Spread]  # `seeds` says how many reach it at all


@dataclass(frozen=True)
class Mined:
    """Puzzles of one attack that were really solved."""

    attack: str
    mapping: str
    puzzles: int
    expected_tries: float
    tries: int
    low_tries: float  # in which 95 % of the sums of so many geometric numbers fall
    high_tries: float
    expected_s: float  # at the rate measured
    mined_s: float


@dataclass(frozen=True)
class Verdict:
    """Everything that a study says."""

    task: str
    real: bool
    outside: str
    classes: int
    teachers: int
    sigma: float
    delta: float
    seeds: tuple[int, ...]
    seconds_per_query: float
    metering_s_per_query: float
    provenance: dict[str, str]
    settings: Settings
    health: Health
    calibrations: tuple[Calibration, ...]
    attacks: tuple[AttackRow, ...]
    curves: tuple[Curve, ...]
    lines: tuple[RatioLine, ...]
    honest: tuple[HonestRow, ...]
    honest_curves: tuple[HonestCurve, ...]
    granularity: tuple[GranularityRow, ...]
    sybil: tuple[SybilRow, ...]
    laundering: tuple[LaunderingRow, ...]
    devices: tuple[DeviceRow, ...]
    targets: tuple[TargetRow, ...]
    mined: tuple[Mined, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what is not known is None."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
