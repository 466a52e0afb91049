"""The slow path, for policies in Python: ledgers as arrays through the stages, with the numbers of the fused kernel.

Identities, costs and tries are drawn and rounded as `simulate_ledgers` does. A policy that asks for the same work as a
lowered one gives the same integers; floats are added in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from powsim.clock import finish_times
from powsim.groups import Group
from powsim.ledger import Ledger, Service, puzzle_counts
from powsim.meter import CostCurve, ledger_for, spread_cost
from powsim.outcome import Outcome, nobody
from powsim.plugin import price
from powsim.policy import Policy
from powsim.population import TRIES, Identities
from powsim.puzzle import puzzles_for
from powsim.scenario import PuzzleSpec, Scenario
from powsim.sources import bounds_for, drawn_costs, source_for
from powsim_kernels import geometric
from powsim_kernels.ledgers import Bank

CELLS = 1 << 19
"""Identities x puzzles held at once: 4 MiB per array."""

MOST_PUZZLES = 20_000_000
"""Puzzles of one identity: its row of the ledger is held whole, about 100 bytes a puzzle. With a bank, its queries."""


def outcome_by_stages(
    scenario: Scenario,
    service: Service,
    policy: Policy,
    group: Group,
    seed: int,
    backend: str,
    threads: int | None,
    report: Callable[[float], None],
) -> Outcome:
    """Return the outcome of every identity of a group, in order; report is told the share done.

    Raises ValueError for a policy that returns impossible work, and for an identity with too many puzzles.
    """
    key, identities = group.draw(seed, backend)
    source, bounds = source_for(scenario, group.trace), bounds_for(scenario)
    run = _Run(group, service, policy, scenario.puzzle, source, bounds, key, backend, threads)
    counts = puzzle_counts(identities.queries, run.every, partial=True)
    longest = int(counts.max(initial=0))
    if longest > MOST_PUZZLES:
        raise ValueError(
            f"{group.name}: one identity would meet {longest:,} puzzles, more than {MOST_PUZZLES:,}: raise "
            "policy.queries_per_puzzle or lower its queries"
        )
    if isinstance(source, Bank) and int(identities.queries.max(initial=0)) > MOST_PUZZLES:
        raise ValueError(
            f"{group.name}: one identity would draw {identities.queries.max():,} costs, more than {MOST_PUZZLES:,} for "
            "a policy in Python: lower its queries, or give the policy a method lowered"
        )
    cells = max(int(counts.sum()), 1)
    return run.outcome(identities, scenario.prices.electricity_usd_per_kwh, lambda done: report(done / cells))


@dataclass(frozen=True)
class _Run:
    """One group's way through the stages."""

    group: Group
    service: Service
    policy: Policy
    puzzle: PuzzleSpec
    source: CostCurve | Bank
    bounds: tuple[float, float]
    key: int
    backend: str
    threads: int | None

    @property
    def every(self) -> int:
        return self.policy.queries_per_puzzle or self.service.batch

    def ledger(self, identities: Identities) -> Ledger:
        """Return the ledgers of some identities, as wide as the longest of them."""
        spread = _spread(identities)
        if isinstance(self.source, Bank):
            cost: Callable[[NDArray[np.int64]], NDArray[np.float64]] = partial(
                drawn_costs,
                self.source,
                identities,
                key=self.key,
                bounds=self.bounds if spread else None,
                backend=self.backend,
            )
        elif spread:
            shift, drift = identities.shift, identities.drift
            cost = partial(spread_cost, self.source, shift=shift, drift=drift, bounds=self.bounds)
        else:
            cost = self.source
        return ledger_for(identities.queries, self.every, self.policy.partial_puzzle, cost)

    def work(self, ledger: Ledger) -> NDArray[np.float64]:
        """Return what the policy asks, nothing where no puzzle is due."""
        work = price(self.policy, ledger, self.service)
        if work.shape[1] > 1:
            # The ledger holds what is still to come as well: the policy must not look.
            half = work.shape[1] // 2
            past = Ledger(*(getattr(ledger, name)[:, :half] for name in Ledger.__dataclass_fields__))
            again = price(self.policy, past, self.service)
            if not np.allclose(again, work[:, :half], rtol=1e-9, atol=0, equal_nan=True):  # not a matter of rounding
                raise ValueError(
                    "the policy's work for the same past differs between two calls: it looks ahead, is random, or "
                    "keeps state"
                )
        return np.where(ledger.due, work, 0.0)

    def outcome(self, identities: Identities, usd_per_kwh: float, report: Callable[[int], None]) -> Outcome:
        """Return the outcome of every identity, in order."""
        if not len(identities.queries):
            return nobody()
        # In order of length, so that little of a chunk is padding.
        order = np.argsort(identities.queries, kind="stable")
        ordered = identities.rows(order)
        banked = isinstance(self.source, Bank)
        if banked or _spread(identities):
            first = row = np.arange(len(order))
        else:
            # Costs that cannot differ share one ledger row: a campaign's repetitions are priced once.
            _, first, row = np.unique(ordered.queries, return_index=True, return_inverse=True)
        lengths = puzzle_counts(ordered.queries, self.every, partial=True)
        parts: list[Outcome] = []
        done = 0
        for rows in _chunks(ordered.queries[first] if banked else lengths[first]):
            ledger = self.ledger(ordered.rows(first[rows]))
            work = self.work(ledger)
            chance = puzzles_for(work, self.puzzle.family, self.puzzle.sub_puzzles).probability
            begin, end = (int(place) for place in np.searchsorted(row, (rows.start, rows.stop)))
            step = max(1, CELLS // (chance.shape[1] * (self.puzzle.sub_puzzles if self.puzzle.parallel else 1)))
            for start in range(begin, end, step):
                here = np.arange(start, min(start + step, end))
                parts.append(self._solve(ordered.rows(here), ledger, work, chance, row[here] - rows.start, usd_per_kwh))
                done += int(lengths[here].sum())
                report(done)
        back = np.argsort(order)
        names = Outcome.__dataclass_fields__
        return Outcome(*(np.concatenate([getattr(part, name) for part in parts])[back] for name in names))

    def _tries(
        self, identities: Identities, chance: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return the hashes of each puzzle, and those of them that take time."""
        pieces = self.puzzle.sub_puzzles
        apart = self.puzzle.parallel and pieces > 1  # sub-puzzles as columns: the same draws, one by one
        tries = geometric(
            np.repeat(chance, pieces, axis=1) if apart else chance,
            key=self.key,
            stream=TRIES,
            identity=identities.identity,
            replica=identities.replica,
            draws=1 if apart else pieces,
            backend=self.backend,
            threads=self.threads,
        )
        if not apart:
            return tries, tries
        cut = tries.reshape(*chance.shape, pieces)
        return cut.sum(axis=2, dtype=np.uint64), cut.max(axis=2)

    def _solve(
        self,
        identities: Identities,
        ledger: Ledger,
        work: NDArray[np.float64],
        chance: NDArray[np.float64],
        row: NDArray[np.int64],
        usd_per_kwh: float,
    ) -> Outcome:
        """Return the outcome of identities whose ledgers are the given rows."""
        tries, steps = self._tries(identities, chance[row])
        expected = work.sum(axis=1)[row]
        if float(expected.max()) > 2.0**58:
            raise ValueError("one identity would need more than 2^58 hashes: lower the policy's price or cap it")
        hashes = tries.sum(axis=1, dtype=np.uint64)
        solve_s = steps.sum(axis=1, dtype=np.uint64) / identities.rate_hz
        service_s = np.asarray(identities.queries * self.service.seconds_per_query, dtype=np.float64)
        watts = np.array([device.watts for device in self.group.devices])[identities.device]
        rent = np.array([-1.0 if d.usd_per_h is None else d.usd_per_h for d in self.group.devices])[identities.device]
        devices_s = hashes / identities.rate_hz  # of all that solve side by side
        energy_j = devices_s * watts
        return Outcome(
            identity=identities.identity,
            replica=identities.replica,
            device=identities.device,
            rate_hz=identities.rate_hz,
            queries=identities.queries,
            cost=ledger.cost[row, -1],
            puzzles=(work > 0).sum(axis=1)[row],
            work=expected,
            hashes=hashes,
            inference_s=np.asarray(
                identities.queries * (self.service.inference_s / self.service.batch), dtype=np.float64
            ),
            service_s=service_s,
            solve_s=solve_s,
            elapsed_s=self._elapsed(identities, ledger, steps, row, service_s + solve_s),
            energy_j=energy_j,
            cost_usd=np.where(rent >= 0, rent * devices_s / 3600, energy_j / 3.6e6 * usd_per_kwh),
        )

    def _elapsed(
        self,
        identities: Identities,
        ledger: Ledger,
        steps: NDArray[np.uint64],
        row: NDArray[np.int64],
        busy_s: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return seconds to the last answer: `busy_s` for callers who never pause, else by the clock."""
        pause, think = self.group.spec.request_every_s, self.group.spec.think_s * (self.every / self.service.batch)
        if pause == 0 and think == 0:
            return busy_s
        asked, queries = ledger.asked[row], ledger.queries[row]
        arrival = (queries - asked) / self.service.batch * pause
        # A caller who thinks is as one who is busy for longer, but for the last time.
        duration = asked * self.service.seconds_per_query + steps / identities.rate_hz[:, None] + think
        last = (puzzle_counts(identities.queries, self.every, partial=True) - 1)[:, None]
        return np.asarray(np.take_along_axis(finish_times(arrival, duration), last, axis=1)[:, 0] - think)


def _spread(identities: Identities) -> bool:
    """Return whether anybody's costs differ from the source's."""
    return bool(np.any(identities.shift) or np.any(identities.drift))


def _chunks(columns: NDArray[np.int64]) -> list[slice]:
    """Return slices over rows of the given (rising) lengths so that each holds about CELLS cells, padding included."""
    chunks, begin = [], 0
    while begin < len(columns):
        # Lengths rise, so the last row of a chunk sets its width.
        ahead = columns[begin : begin + CELLS]
        wide = np.arange(1, len(ahead) + 1) * np.maximum(ahead, 1)
        end = begin + max(1, int(np.searchsorted(wide, CELLS, side="right")))
        chunks.append(slice(begin, end))
        begin = end
    return chunks
