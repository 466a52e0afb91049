"""The whole chain, group by group: identities -> cost -> ledger -> policy -> puzzles -> tries -> clock -> outcome.

The fused kernel runs it for every policy that can be lowered; policies in Python go through `stages`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from powsim.groups import Group, groups_of, service_of
from powsim.ledger import Service
from powsim.lowering import identities_of, outcome_of, plan_of
from powsim.outcome import Outcome
from powsim.plugin import lowered
from powsim.policy import LoweredPolicy, Policy, lowers
from powsim.scenario import CampaignSpec, Scenario
from powsim.server.rows import GateRow, simulate_gate
from powsim.stages import outcome_by_stages
from powsim_kernels.ledgers import LedgerPlan, LedgerRows, simulate_ledgers

BYTES_PER_IDENTITY = 500
"""Measured: beyond what an empty run takes, 255 bytes an identity by the kernel, 440 by the stages."""

PIECE = 1 << 24
"""Puzzles, or what takes as long, between two reports of progress."""

LANES = 16
"""Identities that the CPU takes side by side: fewer take as long."""

PUZZLES_PER_IDENTITY = 20.0
"""What an identity takes beside its puzzles, in puzzles."""

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
    part: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> Result:
    """Return the outcome of every identity of the scenario.

    part: (k, n) simulates the k-th of n even parts of every group; the parts' outcomes, in order, are the whole's.
    Its groups have the sizes of the part, which may be nobody; a k of n or more gives further identities like these.
    The gate is simulated with the whole alone.
    seed replaces the scenario's. The same scenario and seed give the same numbers with any number of threads.
    Raises ValueError for a policy that returns impossible work, BackendUnavailable for a backend that cannot run.
    """
    chain = Chain.of(scenario, seed, backend, threads)
    groups = parts_of(scenario, part)
    _check_memory(sum(group.accounts * group.replicas for group in groups))
    sizes = [chain.size(group) * group.accounts * group.replicas for group in groups]
    gated = scenario.server is not None and part == (0, 1)
    until = 0.5 if gated else 1.0  # progress: the gate's part is taken to be as long as the rest
    outcomes: list[Outcome] = []
    for number, group in enumerate(groups):

        def report(share: float, name: str = group.name, at: int = number) -> None:
            if progress is not None:
                progress(name, until * (sum(sizes[:at]) + share * sizes[at]) / sum(sizes))

        outcomes.append(chain.outcome(group, report))
    rest = None if progress is None else lambda name, part: progress(name, until + (1 - until) * part)
    host = "cpu" if backend == "cuda" else backend  # the gate has no GPU twin, and the same bits everywhere
    gate = simulate_gate(scenario, seed=chain.seed, backend=host, threads=threads, progress=rest) if gated else ()
    return Result(scenario, chain.seed, chain.service, tuple(groups), tuple(outcomes), gate)


def parts_of(scenario: Scenario, part: tuple[int, int]) -> list[Group]:
    """Return the k-th of n parts of every group."""
    if part[0] < 0 or part[1] < 1:
        raise ValueError(f"part={part}: give (k, n) with k from 0 and n from 1")
    return [group.part(*part) for group in groups_of(scenario)]


@dataclass(frozen=True)
class Chain:
    """A scenario, ready to be simulated group by group."""

    scenario: Scenario
    service: Service
    seed: int
    backend: str
    threads: int | None

    @classmethod
    def of(cls, scenario: Scenario, seed: int | None, backend: str, threads: int | None) -> Chain:
        """Return the chain of a scenario; seed replaces its own. Raises ValueError for one that does not fit."""
        seed = scenario.seed if seed is None else seed
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed={seed} does not fit: give 0 to 2^63-1")
        return cls(scenario, service_of(scenario.service), seed, backend, threads)

    def size(self, group: Group) -> float:
        """Return about how much work an identity of a group is, in puzzles."""
        every = self.scenario.policy_object.queries_per_puzzle or self.service.batch
        spec = group.spec
        queries = spec.queries / group.accounts if isinstance(spec, CampaignSpec) else spec.volume.mean
        return PUZZLES_PER_IDENTITY + queries / every * self.scenario.puzzle.sub_puzzles

    def plan(self, group: Group) -> LedgerPlan | None:
        """Return the kernel's plan of a group, None where the policy cannot be lowered."""
        policy = self.scenario.policy_object
        if not lowers(policy):
            return None
        price = lowered(cast(LoweredPolicy, policy), self.service)
        return plan_of(self.scenario, self.service, price, group, self.seed)

    def outcome(self, group: Group, report: Callable[[float], None] = lambda share: None) -> Outcome:
        """Return the outcome of every identity of a group, in order; report is told the share done."""
        plan = self.plan(group)
        if plan is None:
            policy = cast(Policy, self.scenario.policy_object)
            return outcome_by_stages(
                self.scenario, self.service, policy, group, self.seed, self.backend, self.threads, report
            )
        begin, end = identities_of(group)
        # As many at once as a report may wait for, and as keep all threads busy: they take 64 identities each. Of those
        # with millions of puzzles only so many that an interrupt is heard within seconds.
        size = self.size(group)
        busy = min(64 * (self.threads or os.cpu_count() or 1), max(LANES, int(16 * PIECE / size)))
        step = max(int(PIECE / size), busy)
        parts: list[LedgerRows] = []
        at = begin
        while at < end or not parts:
            stop = min(at + step, end)
            found = simulate_ledgers(
                plan, at, stop, histograms=(), rows=True, backend=self.backend, threads=self.threads
            ).rows
            parts += [] if found is None else [found]
            at = stop
            report((at - begin) / max(end - begin, 1))
        return outcome_of(LedgerRows.joined(parts), self.service)


def _check_memory(identities: int) -> None:
    """Raise ValueError where so many identities will not fit: every one keeps its row of the outcome."""
    import psutil

    needed, free = identities * BYTES_PER_IDENTITY, psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"{identities:,} identities need about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free: "
            "lower identities or replicas"
        )
