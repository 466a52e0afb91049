"""A bank as a source of costs for the engine: what its queries cost, by trace, and what its attacks stole by when."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from powsim.bank.costs import all_costs, cost_range
from powsim.bank.files import read_bank, shipped_bank
from powsim.bank.health import plain_name
from powsim.bank.records import Bank
from powsim.meter import CostCurve
from powsim_kernels import ledgers

STANDARD = "standard"
"""The trace of honest users: single queries of the users' halves of the pools, in no order."""

BLOCK = 64
"""Queries that are drawn together from a recording: what follows what is kept, and so is the position."""

HORIZON = 10_000.0
"""Where the curve of honest users is cut, which is straight."""

KEPT = 4  # banks that a process keeps priced


@dataclass(frozen=True, eq=False)
class PricedBank:
    """A bank with the cost of every query by one meter, its settings as recorded."""

    bank: Bank
    sha256: str  # of its file
    honest: NDArray[np.float64]  # [N] of the users' halves, all runs together
    attacks: dict[str, NDArray[np.float64]]  # attack -> [S, Q] a row per run, cut to the shortest
    mean_cost: float  # per query of the calibrating halves: what an operator may expect
    bounds: tuple[float, float]  # what the meter can give a query

    @property
    def traces(self) -> tuple[str, ...]:
        """Return the names of what can be asked."""
        return (STANDARD, *(name for name in self.attacks if name != STANDARD))

    def source(self, trace: str) -> ledgers.Bank:
        """Return the costs of a trace as the kernel draws them."""
        if trace == STANDARD:
            return ledgers.Bank(self.honest)
        runs, queries = self.attacks[trace].shape
        return ledgers.Bank(self.attacks[trace].ravel(), recordings=runs, block=min(BLOCK, queries))

    def curve(self, trace: str) -> CostCurve:
        """Return the mean summed cost of a trace's queries."""
        if trace == STANDARD:
            return CostCurve(np.array([0.0, HORIZON]), np.array([0.0, HORIZON * float(self.honest.mean())]))
        sums = np.cumsum(self.attacks[trace].mean(axis=0))
        return CostCurve(np.arange(len(sums) + 1.0), np.append(0.0, sums))

    def series(self, trace: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the queries at which students were trained in every run, and their mean accuracy in percent."""
        found = [one for run in self.bank.runs for one in run.recordings if _is(one.attack, trace)]
        if not found:
            return np.empty(0), np.empty(0)
        at = functools.reduce(np.intersect1d, [one.checkpoints for one in found])
        rows = [one.accuracy[np.searchsorted(one.checkpoints, at)] for one in found]
        return at.astype(np.float64), 100.0 * np.mean(rows, axis=0)

    def accuracy_pct(self, trace: str, queries: int) -> float | None:
        """Return the mean accuracy of a model stolen with so many queries, None where none was trained around there."""
        at, accuracy = self.series(trace)
        if not len(at) or not at[0] <= queries <= at[-1]:
            return None
        return float(np.interp(queries, at, accuracy))


def _is(attack: str, trace: str) -> bool:
    """Return whether a recording is a trace's; several ways to ask standard queries may have been recorded."""
    return plain_name(attack).startswith(STANDARD) if trace == STANDARD else attack == trace


def priced(bank: Bank, sha256: str = "", meter: str = "gnmax") -> PricedBank:
    """Return a bank with its costs; meter: one of `costs.METERS`. Raises ValueError for another."""
    costs = all_costs(bank, meter)
    attacks: dict[str, NDArray[np.float64]] = {}
    for attack in costs[0].recordings:
        rows = [one.recordings[attack] for one in costs]
        shortest = min(map(len, rows))
        if shortest:
            attacks[attack] = np.stack([row[:shortest] for row in rows])
    halves = [
        np.concatenate([one.pool[run.pool.user == user] for run, one in zip(bank.runs, costs, strict=True)])
        for user in (True, False)
    ]
    return PricedBank(bank, sha256, halves[0], attacks, float(halves[1].mean()), cost_range(bank, meter))


def read_priced(path: Path, meter: str = "gnmax") -> PricedBank:
    """Return the bank in a file, priced; a file that has not changed is not read again. Raises BankError."""
    try:
        about = path.stat()
        return _kept(path.resolve(), about.st_size, about.st_mtime_ns, meter)
    except OSError:
        return priced(read_bank(path), "", meter)  # which says what is wrong


@functools.lru_cache(maxsize=KEPT)
def _kept(path: Path, size: int, changed_ns: int, meter: str) -> PricedBank:
    return priced(read_bank(path), hashlib.sha256(path.read_bytes()).hexdigest(), meter)


@functools.lru_cache(maxsize=KEPT)
def shipped_priced(name: str, meter: str = "gnmax") -> PricedBank:
    """Return a shipped bank, priced. Raises BankError."""
    bank = shipped_bank(name)
    content = (resources.files("powsim.bank") / f"{name}.npz").read_bytes()
    return priced(bank, hashlib.sha256(content).hexdigest(), meter)
