"""Every mapping, ceiling, device and split of accounts, evaluated on a bank after the fact: nothing is trained again.

Answers do not depend on puzzles, so one recording serves all of them. Honest users are simulated on the half of the
pool that calibration never saw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powsim import intervals
from powsim.bank.costs import RunCosts, all_costs
from powsim.bank.health import auc, health, outside_attack, standard_attack
from powsim.bank.mapping import MAPPINGS, Mapping, at_ceiling, calibrate
from powsim.bank.records import Bank, Recording, Run
from powsim.bank.scenarios import device_rows, laundering_rows, sybil_rows, target_rows
from powsim.bank.users import Half
from powsim.bank.verdict import (
    AttackRow,
    Calibration,
    Curve,
    GranularityRow,
    HonestCurve,
    HonestRow,
    Mined,
    Price,
    RatioLine,
    Settings,
    Verdict,
    spread,
)

Floats = NDArray[np.float64]
MIX, EVEN, TWO, ONLY = "class mix as calibrated", "every class alike", "two classes", "only class {}"


@dataclass(frozen=True)
class Seed:
    """One run with its costs, its calibrations and its honest users."""

    run: Run
    costs: RunCosts
    standard: Floats  # costs that others are compared with
    mappings: dict[tuple[str, int], Mapping]  # (kind, queries per puzzle)
    users: dict[str, Floats]  # who -> costs [U, Q]

    def recording(self, attack: str) -> Recording:
        """Return the recording of an attack."""
        return next(one for one in self.run.recordings if one.attack == attack)


def prepared(bank: Bank, settings: Settings | None = None) -> list[Seed]:
    """Return each run with its costs, calibrations and honest users. Raises ValueError for settings that cannot be."""
    asked = _checked(settings or Settings())
    priced = all_costs(bank, asked.meter, asked.sigma, asked.delta)
    standard = standard_attack(bank)
    return [_seed(run, costs, standard, asked) for run, costs in zip(bank.runs, priced, strict=True)]


def evaluate(
    bank: Bank, settings: Settings | None = None, mined: Iterable[Mined] = (), seeds: list[Seed] | None = None
) -> Verdict:
    """Return everything that the bank says under the settings; the same bank and settings give the same verdict.

    mined: puzzles that were really solved, shown beside. seeds: the bank `prepared` under the same settings, where it
    was needed before. Raises ValueError for settings that cannot be.
    """
    asked = _checked(settings or Settings())
    seeds = prepared(bank, asked) if seeds is None else seeds
    priced = [seed.costs for seed in seeds]
    standard = standard_attack(bank)
    attacks = [one.attack for one in bank.runs[0].recordings]
    outside = outside_attack(bank)
    honest, honest_curves = _honest(seeds, asked)
    return Verdict(
        task=bank.task,
        real=bank.real,
        outside=bank.outside,
        classes=bank.classes,
        teachers=bank.teachers,
        sigma=bank.sigma if asked.sigma is None else asked.sigma,
        delta=bank.delta if asked.delta is None else asked.delta,
        seeds=tuple(run.seed for run in bank.runs),
        seconds_per_query=bank.seconds_per_query,
        metering_s_per_query=bank.metering_s_per_query,
        provenance=bank.provenance,
        settings=asked,
        health=health(bank, priced, asked),
        calibrations=tuple(_calibration(seeds, key) for key in seeds[0].mappings),
        attacks=tuple(row for attack in attacks for row in _rows(seeds, attack, standard, asked)),
        curves=tuple(_curve(seeds, attack, bank.seconds_per_query, asked) for attack in attacks),
        lines=tuple(_line(seeds, attack, kind, asked) for attack in attacks for kind in MAPPINGS),
        honest=honest,
        honest_curves=honest_curves,
        granularity=tuple(_granularity(seeds, attacks, asked)),
        sybil=tuple(row for attack in attacks for row in sybil_rows(seeds, attack, asked)),
        laundering=laundering_rows(seeds, outside, asked),
        devices=device_rows(seeds, outside, asked),
        targets=target_rows(seeds, attacks, standard, asked),
        mined=tuple(mined),
    )


def _checked(asked: Settings) -> Settings:
    if asked.users < 20:
        raise ValueError(f"users = {asked.users}: at least 20 are needed for a 95 % quantile")
    if max(*asked.per_puzzle, asked.queries_per_puzzle) > asked.horizon_queries:
        raise ValueError(f"horizon_queries = {asked.horizon_queries}: it must hold at least one puzzle of every size")
    if min(*asked.per_puzzle, asked.queries_per_puzzle, *asked.counts, *asked.accounts) < 1:
        raise ValueError("queries per puzzle, counts and accounts: whole numbers from 1 up are needed")
    if not 0 < asked.laundered < 1:
        raise ValueError(f"laundered = {asked.laundered}: a share between 0 and 1, both excluded, is needed")
    return asked


def _seed(run: Run, costs: RunCosts, standard: str | None, asked: Settings) -> Seed:
    calibrating, others = Half(run.pool, False), Half(run.pool, True)
    rng = np.random.default_rng([asked.seed, run.seed & 0xFFFFFFFF, 0])
    seen = costs.pool[calibrating.draw(calibrating.mixes(asked.users, rng), asked.horizon_queries, rng)]
    expected = float(costs.pool[~run.pool.user].mean())
    kept = {"promise": asked.promise, "quantile": asked.quantile, "floor": asked.floor, "ceiling": asked.ceiling}
    sizes = dict.fromkeys((asked.queries_per_puzzle, *asked.per_puzzle))
    keys = [(kind, n) for n in sizes for kind in MAPPINGS if n == asked.queries_per_puzzle or kind != "one-sided"]
    mappings = {(kind, n): calibrate(kind, seen, n, expected, **kept) for kind, n in keys}
    users = {who: costs.pool[rows] for who, rows in _users(others, asked, run.seed).items()}
    own = costs.recordings[standard] if standard else costs.pool[run.pool.user]
    return Seed(run, costs, own, mappings, users)


def _users(half: Half, asked: Settings, seed: int) -> dict[str, NDArray[np.intp]]:
    """Return rows of the pool [U, longest count] for honest users of every kind."""
    rng = np.random.default_rng([asked.seed, seed & 0xFFFFFFFF, 1])
    kinds, some, few, longest = len(half.classes), asked.users // 4, asked.users // 20, max(asked.counts)
    mixes = {EVEN: half.only(some, *range(kinds)), MIX: half.mixes(asked.users, rng)}
    if kinds > 2:
        pairs = [half.only(1, *rng.choice(kinds, 2, replace=False)) for _ in range(some)]
        mixes[TWO] = np.concatenate(pairs)
    if kinds > 1:
        mixes |= {ONLY.format(name): half.only(few, index) for index, name in enumerate(half.classes)}
    return {who: half.draw(mix, longest, rng) for who, mix in mixes.items()}


def _calibration(seeds: list[Seed], key: tuple[str, int]) -> Calibration:
    made = [seed.mappings[key] for seed in seeds]
    doubling = [math.log(2) / one.log_base if one.log_base > 0 else math.nan for one in made]
    return Calibration(*key, spread([one.expected for one in made]), spread(doubling))


def counts_of(seeds: list[Seed], attack: str, asked: Settings) -> list[int]:
    """Return the query counts at which an attack is judged: those asked for that it reached, and all that it asked."""
    reached = min(len(seed.costs.recordings[attack]) for seed in seeds)
    return sorted({count for count in (*asked.counts, reached) if 0 < count <= reached})


def price(seeds: list[Seed], attack: str, key: tuple[str, int], queries: int) -> Price:
    """Return what the first queries of an attack pay; NaN where they do not fill a puzzle."""
    ratios, shares = [], []
    for seed in seeds:
        mapping = seed.mappings[key]
        times = mapping.times(seed.costs.recordings[attack][:queries])
        ratios.append(1.0 + float(times.mean()) if times.size else math.nan)
        shares.append(at_ceiling(mapping, times))
    return Price(spread(ratios), spread(shares))


def _rows(seeds: list[Seed], attack: str, standard: str | None, asked: Settings) -> list[AttackRow]:
    rows = []
    for queries in counts_of(seeds, attack, asked):
        own = [seed.costs.recordings[attack][:queries] for seed in seeds]
        reference = [seed.standard[:queries] for seed in seeds]
        pairs = list(zip(own, reference, strict=True))
        ratios = np.array([costs.mean() / other.mean() if other.any() else math.nan for costs, other in pairs])
        together = np.array([_composed(seed, attack, standard, queries) for seed in seeds])
        students = [_student(seed.recording(attack), queries) for seed in seeds]
        rows.append(
            AttackRow(
                attack,
                queries,
                intervals.mean(ratios),
                None if np.isnan(together).all() else intervals.mean(together),
                spread([auc(*pair) for pair in pairs]),
                spread([accuracy for accuracy, _ in students]),
                spread([fidelity for _, fidelity in students]),
                {kind: price(seeds, attack, (kind, asked.queries_per_puzzle), queries) for kind in MAPPINGS},
            )
        )
    return rows


def _composed(seed: Seed, attack: str, standard: str | None, queries: int) -> float:
    """Return the eps of all queries together over the standard user's for as many, NaN where it asked fewer."""
    if standard is None or len(seed.standard) < queries:
        return math.nan
    return seed.costs.composed(attack, queries) / seed.costs.composed(standard, queries)


def _student(recording: Recording, queries: int) -> tuple[float, float]:
    """Return accuracy and fidelity at the last checkpoint that lies within so many queries."""
    at = int(np.searchsorted(recording.checkpoints, queries, side="right")) - 1
    return (float(recording.accuracy[at]), float(recording.fidelity[at])) if at >= 0 else (math.nan, math.nan)


def _curve(seeds: list[Seed], attack: str, seconds_per_query: float, asked: Settings) -> Curve:
    recordings = [seed.recording(attack) for seed in seeds]
    shared = sorted(set.intersection(*(set(one.checkpoints.tolist()) for one in recordings)) - {0})
    at = [np.searchsorted(one.checkpoints, shared) for one in recordings]
    accuracy = [one.accuracy[own] for one, own in zip(recordings, at, strict=True)]
    fidelity = [one.fidelity[own] for one, own in zip(recordings, at, strict=True)]
    time = {
        kind: tuple(
            price(seeds, attack, (kind, asked.queries_per_puzzle), queries).ratio.through(
                lambda ratio, queries=queries: ratio * queries * seconds_per_query
            )
            for queries in shared
        )
        for kind in MAPPINGS
    }
    return Curve(
        attack,
        tuple(shared),
        tuple(map(spread, zip(*accuracy, strict=True))),
        tuple(map(spread, zip(*fidelity, strict=True))),
        tuple(queries * seconds_per_query for queries in shared),
        time,
    )


def _line(seeds: list[Seed], attack: str, kind: str, asked: Settings) -> RatioLine:
    """Return the ratio at about 40 counts, spread evenly over powers of ten."""
    n = asked.queries_per_puzzle
    reached = min(len(seed.costs.recordings[attack]) for seed in seeds) // n
    puzzles = np.unique(np.geomspace(1, reached, 40).round().astype(int)) if reached else np.zeros(0, int)
    ratios = [seed.mappings[kind, n].ratios(seed.costs.recordings[attack][: reached * n]) for seed in seeds]
    found = tuple(spread([own[number - 1] for own in ratios]) for number in puzzles)
    return RatioLine(attack, kind, tuple((puzzles * n).tolist()), found)


def _granularity(seeds: list[Seed], attacks: list[str], asked: Settings) -> Iterable[GranularityRow]:
    for attack in attacks:
        reached = min(len(seed.costs.recordings[attack]) for seed in seeds)
        for kind in ("cumulative", "batch"):
            for n in asked.per_puzzle:
                found = price(seeds, attack, (kind, n), min(asked.horizon_queries, reached))
                yield GranularityRow(attack, kind, n, found)


def _honest(seeds: list[Seed], asked: Settings) -> tuple[tuple[HonestRow, ...], tuple[HonestCurve, ...]]:
    rows, curves = [], []
    grid = np.append(np.linspace(0, 0.9, 19), 1 - np.geomspace(0.09, 0.001, 20))
    shared = [who for who in seeds[0].users if all(who in seed.users for seed in seeds)]
    for who in shared:
        for kind in MAPPINGS:
            key = (kind, asked.queries_per_puzzle)
            made = [seed.mappings[key].ratios(seed.users[who]) for seed in seeds]
            for queries in asked.counts:
                at = queries // asked.queries_per_puzzle - 1
                found = [ratios[:, at] for ratios in made] if at >= 0 else [np.full(1, math.nan)] * len(seeds)
                low, high = (spread([float(np.quantile(own, level)) for own in found]) for level in (0.5, 0.95))
                above = spread([float((own > asked.promise).mean()) for own in found])
                rows.append(HonestRow(who, kind, queries, low, high, above))
            at = asked.horizon_queries // asked.queries_per_puzzle - 1
            whole = np.concatenate([ratios[:, min(at, ratios.shape[1] - 1)] for ratios in made])
            values = np.quantile(whole, grid)
            curves.append(HonestCurve(who, kind, tuple(values.tolist()), tuple((1 - grid).tolist())))
    return tuple(rows), tuple(curves)
