"""What attackers do about a price: more accounts, hidden queries, faster devices; and what their target then takes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from powsim.bank.mapping import MAPPINGS, sybil_ratio
from powsim.bank.verdict import DeviceRow, LaunderingRow, Settings, Spread, SybilRow, TargetRow, spread
from powsim.devices import catalogue

if TYPE_CHECKING:
    from powsim.bank.evaluate import Seed

Floats = NDArray[np.float64]


def sybil_rows(seeds: list[Seed], attack: str, asked: Settings) -> list[SybilRow]:
    """Return what the longest campaign judged pays over 1, 4, 16, ... accounts."""
    reached = min(len(seed.costs.recordings[attack]) for seed in seeds)
    queries = min(reached, max(asked.counts))
    rows = []
    for kind in MAPPINGS:
        for accounts in asked.accounts:
            ratios = [
                sybil_ratio(
                    seed.mappings[kind, asked.queries_per_puzzle], seed.costs.recordings[attack][:queries], accounts
                )
                for seed in seeds
            ]
            rows.append(SybilRow(attack, kind, queries, accounts, spread(ratios)))
    return rows


def laundered(strange: Floats, own: Floats, queries: int, share: float) -> Floats:
    """Return costs [queries] of strange queries spread evenly among the cheapest of one's own.

    Each is used once where the cheaper half is enough; else that half is gone through again and again.
    """
    places = np.diff(np.floor(np.arange(queries + 1) * share + 1e-9)).astype(bool)
    mixed = np.empty(queries)
    mixed[places] = strange[: places.sum()]
    wanted = queries - int(places.sum())
    mixed[~places] = np.resize(np.sort(own)[: min(wanted, -(-len(own) // 2))], wanted)
    return mixed


def laundering_rows(seeds: list[Seed], outside: str | None, asked: Settings) -> tuple[LaunderingRow, ...]:
    """Return what hidden strange queries pay, for all of them and for each that is of use."""
    queries, share = asked.horizon_queries, asked.laundered
    if outside is None or any(len(seed.costs.recordings[outside]) < queries * share for seed in seeds):
        return ()
    rows = []
    for kind in MAPPINGS:
        ratios = []
        for seed in seeds:
            own = seed.costs.pool[seed.run.pool.user]
            costs = laundered(seed.costs.recordings[outside], own, queries, share)
            ratios.append(seed.mappings[kind, asked.queries_per_puzzle].ratios(costs)[-1])
        found = spread(ratios)
        rows.append(LaunderingRow(kind, queries, share, found, found.through(lambda ratio: ratio / share)))
    return tuple(rows)


def device_rows(seeds: list[Seed], outside: str | None, asked: Settings) -> tuple[DeviceRow, ...]:
    """Return ratios where puzzles calibrated on the first device are solved on every one, and on the last the first."""
    known = catalogue()
    for name in asked.devices:
        if name not in known:
            raise ValueError(f"unknown device {name!r}: see `powsim devices`")
    pairs = [(asked.devices[0], other) for other in asked.devices]
    if len(asked.devices) > 1:
        pairs.append((asked.devices[-1], asked.devices[0]))
    queries, rows = asked.horizon_queries, []
    for kind in ("cumulative", "batch"):
        made = [seed.mappings[kind, asked.queries_per_puzzle] for seed in seeds]
        mixed = [next(who for name, who in seed.users.items() if name.startswith("class mix")) for seed in seeds]
        users = [mapping.ratios(costs[:, :queries])[:, -1] for mapping, costs in zip(made, mixed, strict=True)]
        honest = spread([float(np.median(own)) for own in users])
        strange = spread([_whole_ratio(seed, outside, kind, queries, asked) for seed in seeds])
        for calibrated, solver in pairs:
            rate = known[solver].rate_hz / known[calibrated].rate_hz

            def moved(ratio: float, rate: float = rate) -> float:
                return 1.0 + (ratio - 1.0) / rate

            rows.append(DeviceRow(calibrated, solver, rate, kind, honest.through(moved), strange.through(moved)))
    return tuple(rows)


def _whole_ratio(seed: Seed, attack: str | None, kind: str, queries: int, asked: Settings) -> float:
    """Return the ratio after the first queries, NaN where they fill no puzzle."""
    if attack is None:
        return math.nan
    ratios = seed.mappings[kind, asked.queries_per_puzzle].ratios(seed.costs.recordings[attack][:queries])
    return float(ratios[-1]) if len(ratios) else math.nan


def target_rows(seeds: list[Seed], attacks: list[str], standard: str | None, asked: Settings) -> tuple[TargetRow, ...]:
    """Return how long every attack takes to each accuracy, in undefended times of the standard user to the same.

    The first checkpoint at or above the target counts, nothing is put between checkpoints. NaN where the attack, or
    the standard user, does not get there.
    """
    rows = []
    for target in asked.targets:
        unit = [_queries_to(seed, standard, target) for seed in seeds]
        for attack in attacks:
            reached = [_queries_to(seed, attack, target) for seed in seeds]
            by_mapping: dict[str, Spread] = {}
            for kind in MAPPINGS:
                found = []
                for seed, queries, own in zip(seeds, reached, unit, strict=True):
                    there = not math.isnan(queries)
                    ratio = _whole_ratio(seed, attack, kind, int(queries), asked) if there else math.nan
                    found.append(ratio * queries / own)
                by_mapping[kind] = spread(found)
            rows.append(TargetRow(target, attack, spread(np.array(reached) / np.array(unit)), by_mapping))
    return tuple(rows)


def _queries_to(seed: Seed, attack: str | None, target: float) -> float:
    """Return the queries at the first checkpoint that reaches the accuracy, NaN where none does."""
    if attack is None:
        return math.nan
    recording = seed.recording(attack)
    there = np.flatnonzero((recording.accuracy >= target) & (recording.checkpoints > 0))
    return float(recording.checkpoints[there[0]]) if len(there) else math.nan
