"""Totals of a scenario's groups without keeping its identities: memory grows with neither identities nor queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from powsim.engine import Chain, parts_of
from powsim.groups import Group
from powsim.lowering import identities_of
from powsim.scenario import Scenario
from powsim.totals import LEDGER_HISTOGRAMS, GroupTotals, totals_of, totals_of_ledgers
from powsim_kernels.ledgers import simulate_ledgers

ROWS = 1 << 18
"""Identities whose rows are held at once, where rows are needed; a repetition of a campaign is never cut."""


def simulate_totals(
    scenario: Scenario,
    *,
    seed: int | None = None,
    backend: str = "auto",
    threads: int | None = None,
    part: tuple[int, int] = (0, 1),
) -> dict[str, GroupTotals]:
    """Return the totals of every group, or of the k-th of n even parts of each, by name, in the scenario's order.

    Populations are counted by the kernel, 10^8 identities as well as ten. Campaigns have repetitions, whose rows are
    summed some at a time, and so have populations under a policy in Python. The same bits with any number of threads.
    Raises ValueError and BackendUnavailable as `powsim.simulate` does.
    """
    chain = Chain.of(scenario, seed, backend, threads)
    return {group.name: _totals(chain, group) for group in parts_of(scenario, part)}


def _totals(chain: Chain, group: Group) -> GroupTotals:
    plan = None if group.role == "campaign" else chain.plan(group)
    if plan is not None:
        begin, end = identities_of(group)
        found = simulate_ledgers(
            plan, begin, end, histograms=LEDGER_HISTOGRAMS, backend=chain.backend, threads=chain.threads
        ).totals
        return totals_of_ledgers(group, found, chain.service)
    pieces = (totals_of(piece, chain.outcome(piece)) for piece in _pieces(group))
    totals = next(pieces)
    for more in pieces:
        totals = totals + more
    return totals


def _pieces(group: Group) -> Iterator[Group]:
    """Yield a group in parts of about ROWS identities, at least one."""
    if group.role == "campaign":
        size, step = group.replicas, max(1, ROWS // group.accounts)
    else:
        size, step = group.accounts, ROWS
    for at in range(0, max(size, 1), step):
        count = min(step, size - at)
        if group.role == "campaign":
            yield replace(group, first=group.first + at, replicas=count)
        else:
            yield replace(group, first=group.first + at, accounts=count)
