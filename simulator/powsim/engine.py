"""The whole chain, group by group: identities -> cost -> ledger -> policy -> puzzles -> tries -> clock -> outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from powsim.clock import finish_times
from powsim.groups import Group, curve_for, groups_of, service_of
from powsim.ledger import Ledger, Service, puzzle_counts
from powsim.meter import CostCurve, cost_bounds, ledger_for, spread_cost
from powsim.outcome import Outcome
from powsim.plugin import price
from powsim.policy import SHIPPED, Policy
from powsim.population import TRIES, Identities
from powsim.puzzle import puzzles_for
from powsim.scenario import PuzzleSpec, Scenario
from powsim.server.rows import GateRow, simulate_gate
from powsim_kernels import geometric

CELLS = 1 << 19
"""Identities x puzzles held at once: 4 MiB per array."""

MOST_PUZZLES = 20_000_000
"""Puzzles of one identity: its row of the ledger is held whole, about 100 bytes a puzzle."""

BYTES_PER_IDENTITY = 500
"""Measured: 2 million identities take 0.75 GB beyond what an empty run takes."""

Progress = Callable[[str, float], None]
"""Called with the group at work and the share of all work done, 0..1."""


@dataclass(frozen=True)
class Result:
    """A simulated scenario."""

    scenario: Scenario
    seed: int
    service: Service
    groups: tuple[Group, ...]
    outcomes: tuple[Outcome, ...]
    gate: tuple[GateRow, ...] = ()  # none where the scenario has no [server]


def simulate(
    scenario: Scenario,
    *,
    seed: int | None = None,
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Return the outcome of every identity of the scenario.

    seed replaces the scenario's. The same scenario and seed give the same numbers with any number of threads.
    Raises ValueError for a policy that returns impossible work, BackendUnavailable for a backend that cannot run.
    """
    seed = scenario.seed if seed is None else seed
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed={seed} does not fit: give 0 to 2^63-1")
    service, policy = service_of(scenario.service), scenario.policy_object
    groups = groups_of(scenario)
    _check_memory(sum(group.accounts * group.replicas for group in groups))
    drawn = [group.draw(seed, backend) for group in groups]
    every = policy.queries_per_puzzle or service.batch
    for group, (_, identities) in zip(groups, drawn, strict=True):
        longest = int(puzzle_counts(identities.queries, every, partial=True).max())
        if longest > MOST_PUZZLES:
            raise ValueError(
                f"{group.name}: one identity would meet {longest:,} puzzles, more than {MOST_PUZZLES:,}: raise "
                "policy.queries_per_puzzle or lower its queries"
            )
    cells = [int(puzzle_counts(identities.queries, every, partial=True).sum()) for _, identities in drawn]
    done, outcomes = 0, []
    until = 1.0 if scenario.server is None else 0.5  # progress: the gate's part is taken to be as long as the rest
    for group, (key, identities), size in zip(groups, drawn, cells, strict=True):

        def report(part: int, name: str = group.name, before: int = done) -> None:
            if progress is not None:
                progress(name, until * (before + part) / sum(cells))

        run = _Run(group, service, policy, scenario.puzzle, curve_for(scenario, group.trace), key, backend, threads)
        outcomes.append(run.outcome(identities, scenario.prices.electricity_usd_per_kwh, report))
        done += size
    rest = None if progress is None else lambda name, part: progress(name, until + (1 - until) * part)
    gate = simulate_gate(scenario, seed=seed, backend=backend, threads=threads, progress=rest)
    return Result(scenario, seed, service, tuple(groups), tuple(outcomes), gate)


@dataclass(frozen=True)
class _Run:
    """One group's way through the stages."""

    group: Group
    service: Service
    policy: Policy
    puzzle: PuzzleSpec
    curve: CostCurve
    key: int
    backend: str
    threads: int | None

    @property
    def every(self) -> int:
        return self.policy.queries_per_puzzle or self.service.batch

    def ledger(self, identities: Identities) -> Ledger:
        """Return the ledgers of some identities, as wide as the longest of them."""
        shift, drift = identities.shift, identities.drift
        if np.any(shift) or np.any(drift):
            bounds = cost_bounds(self.service.dataset)
            cost: Callable[[NDArray[np.int64]], NDArray[np.float64]] = partial(
                spread_cost, self.curve, shift=shift, drift=drift, bounds=bounds
            )
        else:
            cost = self.curve
        return ledger_for(identities.queries, self.every, self.policy.partial_puzzle, cost)

    def work(self, ledger: Ledger) -> NDArray[np.float64]:
        """Return what the policy asks, nothing where no puzzle is due."""
        work = price(self.policy, ledger, self.service)
        if type(self.policy) not in SHIPPED.values() and work.shape[1] > 1:
            # The ledger holds what is still to come as well: a policy of the user's own must not look.
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
        # In order of length, so that little of a chunk is padding.
        order = np.argsort(identities.queries, kind="stable")
        ordered = identities.rows(order)
        if np.any(identities.shift) or np.any(identities.drift):
            first = row = np.arange(len(order))
        else:
            # Costs that cannot differ share one ledger row: a campaign's repetitions are priced once.
            _, first, row = np.unique(ordered.queries, return_index=True, return_inverse=True)
        lengths = puzzle_counts(ordered.queries, self.every, partial=True)
        parts: list[Outcome] = []
        done = 0
        for rows in _chunks(lengths[first]):
            ledger = self.ledger(ordered.rows(first[rows]))
            work = self.work(ledger)
            chance = puzzles_for(work, self.puzzle.family, self.puzzle.sub_puzzles).probability
            begin, end = (int(place) for place in np.searchsorted(row, (rows.start, rows.stop)))
            step = max(1, CELLS // chance.shape[1])
            for start in range(begin, end, step):
                here = np.arange(start, min(start + step, end))
                parts.append(self._solve(ordered.rows(here), ledger, work, chance, row[here] - rows.start, usd_per_kwh))
                done += int(lengths[here].sum())
                report(done)
        back = np.argsort(order)
        names = Outcome.__dataclass_fields__
        return Outcome(*(np.concatenate([getattr(part, name) for part in parts])[back] for name in names))

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
        tries = geometric(
            chance[row],
            key=self.key,
            stream=TRIES,
            identity=identities.identity,
            replica=identities.replica,
            draws=self.puzzle.sub_puzzles,
            backend=self.backend,
            threads=self.threads,
        )
        expected = work.sum(axis=1)[row]
        if float(expected.max()) > 2.0**58:
            raise ValueError("one identity would need more than 2^58 hashes: lower the policy's price or cap it")
        hashes = tries.sum(axis=1, dtype=np.uint64)
        solve_s = hashes / identities.rate_hz
        service_s = np.asarray(identities.queries * self.service.seconds_per_query, dtype=np.float64)
        watts = np.array([device.watts for device in self.group.devices])[identities.device]
        rent = np.array([-1.0 if d.usd_per_h is None else d.usd_per_h for d in self.group.devices])[identities.device]
        energy_j = solve_s * watts
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
            elapsed_s=self._elapsed(identities, ledger, tries, row, service_s + solve_s),
            energy_j=energy_j,
            cost_usd=np.where(rent >= 0, rent * solve_s / 3600, energy_j / 3.6e6 * usd_per_kwh),
        )

    def _elapsed(
        self,
        identities: Identities,
        ledger: Ledger,
        tries: NDArray[np.uint64],
        row: NDArray[np.int64],
        busy_s: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return seconds to the last answer: `busy_s` for callers who never pause, else by the clock."""
        pause = self.group.spec.request_every_s
        if pause == 0:
            return busy_s
        asked, queries = ledger.asked[row], ledger.queries[row]
        arrival = (queries - asked) / self.service.batch * pause
        duration = asked * self.service.seconds_per_query + tries / identities.rate_hz[:, None]
        last = (puzzle_counts(identities.queries, self.every, partial=True) - 1)[:, None]
        return np.asarray(np.take_along_axis(finish_times(arrival, duration), last, axis=1)[:, 0])


def _check_memory(identities: int) -> None:
    """Raise ValueError where so many identities will not fit: every one keeps its row of the outcome."""
    import psutil

    needed, free = identities * BYTES_PER_IDENTITY, psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"{identities:,} identities need about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free: "
            "lower identities or replicas"
        )


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
