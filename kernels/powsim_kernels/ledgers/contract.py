"""Checks and dispatch for whole identities: queries, ledger, price, puzzles, clock and totals in one pass."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import NamedTuple

from powsim_kernels.choice import choose
from powsim_kernels.geometric.contract import MAX_BITS
from powsim_kernels.ledgers.layout import BLOCK, SUMS, pack
from powsim_kernels.ledgers.plan import LedgerPlan
from powsim_kernels.ledgers.totals import LedgerRows, LedgerTotals, Part, sums_of, totals_of, with_part
from powsim_kernels.philox.contract import check_number
from powsim_kernels.threads import thread_count

OFFERED = ("reference", "cpu", "cuda")
CHUNK, GPU_CHUNK = 1 << 18, 1 << 21


class Ledgers(NamedTuple):
    """The totals of a run, and its rows where they were asked for."""

    totals: LedgerTotals
    rows: LedgerRows | None


def simulate_ledgers(
    plan: LedgerPlan,
    begin: int,
    end: int,
    *,
    histograms: Sequence[str] = ("overhead",),
    rows: bool = False,
    chunk: int | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> Ledgers:
    """Return totals, and with `rows` one row each, of identities begin..end of a group.

    Every number is drawn by address, so identity i is the same in whatever range, chunk or thread it is simulated, and
    its integers, and its floats, have the same bits on every backend. histograms: names from SUMS. chunk: identities
    held at once [2^18, on GPUs 2^21]; memory does not grow with queries, nor, without rows, with identities.
    Raises ValueError for a range or a plan that does not fit, and for work beyond 2^58 hashes.
    """
    begin, end = check_number("begin", begin, 63), check_number("end", end, 63)
    _check_range(plan, begin, end)
    unknown = [name for name in histograms if name not in SUMS]
    if unknown or len(set(histograms)) != len(histograms):
        raise ValueError(f"histograms={list(histograms)} do not fit: name each of {', '.join(SUMS)} at most once")
    name = choose(backend, OFFERED, "ledgers")
    if chunk is None:
        chunk = GPU_CHUNK if name == "cuda" else CHUNK
    step = -(-check_number("chunk", chunk, 40) // BLOCK) * BLOCK
    if not step:
        raise ValueError("chunk=0 must be at least 1")
    twin = importlib.import_module(f"powsim_kernels.ledgers.{name}")
    packed, kept = pack(plan), [SUMS.index(name) for name in histograms]
    totals = totals_of(histograms, len(plan.devices.share))
    found: list[LedgerRows | None] = []
    while begin < end or not found:
        stop = min(end, (begin // step + 1) * step)
        part: Part = twin.run(packed, begin, stop, kept, rows, thread_count(threads), sums_of(totals))
        if not part.heaviest <= 2.0**MAX_BITS:
            raise ValueError(
                f"one identity would need {part.heaviest:.3g} hashes, more than 2^{MAX_BITS} can be sampled: lower the "
                f"price, or cap it (2^{MAX_BITS} hashes at most, all puzzles together)"
            )
        totals, begin = with_part(totals, part), stop
        found = [*found, part.rows] if rows else [None]
    return Ledgers(totals, LedgerRows.joined([part for part in found if part is not None]) if rows else None)


def _check_range(plan: LedgerPlan, begin: int, end: int) -> None:
    """Raise ValueError for identities that no counter addresses."""
    most = 2**32 if plan.campaign is None else 2**32 * plan.campaign.accounts
    if not begin <= end <= most:
        raise ValueError(f"identities {begin} to {end} do not fit: begin must not exceed end, nor end {most}")
