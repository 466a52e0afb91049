"""What makes a bank's values right, whoever made them: a lab study, a file, or a user's own program."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from powsim.bank.records import Bank, Pool, Recording, Run
from powsim.text import shown

SLACK = 1e-6  # how far a float32 share may stand outside 0..1


class BankError(ValueError):
    """A bank that cannot be used; the text says where, why, and what to do."""


def check_bank(bank: Bank) -> Bank:
    """Return the bank, or raise BankError naming the first value that cannot be."""
    if not bank.runs:
        raise BankError("the bank holds no run: record at least one seed")
    for name, least in (("classes", 2), ("teachers", 1), ("neighbours", 1)):
        if getattr(bank, name) < least:
            raise BankError(f"{name} = {getattr(bank, name)}: at least {least} is needed")
    for name in ("sigma", "knn_sigma", "seconds_per_query"):
        if not 0 < getattr(bank, name) < np.inf:
            raise BankError(f"{name} = {getattr(bank, name)}: a positive number is needed")
    if not 0 <= bank.metering_s_per_query < np.inf:
        raise BankError(f"metering_s_per_query = {bank.metering_s_per_query}: a number of seconds is needed")
    if not 0 < bank.delta < 1:
        raise BankError(f"delta = {bank.delta}: it must lie between 0 and 1, both excluded")
    seeds = [run.seed for run in bank.runs]
    if len(set(seeds)) < len(seeds):
        raise BankError(f"seeds {shown(seeds)}: each seed may stand once")
    names = [recording.attack for recording in bank.runs[0].recordings]
    for run in bank.runs:
        if [recording.attack for recording in run.recordings] != names:
            raise BankError(f"seed {run.seed} has other attacks than seed {seeds[0]}: record the same with every seed")
        check_run(run, bank.classes, bank.teachers, bank.neighbours)
    return bank


def check_run(run: Run, classes: int, teachers: int, neighbours: int) -> Run:
    """Return one seed's values, or raise BankError naming the first that cannot be."""
    where = f"seed {run.seed}"
    for name in ("victim_accuracy", "teacher_accuracy", "ensemble_accuracy"):
        if not 0 <= getattr(run, name) <= 1:
            raise BankError(f"{where}: {name} = {getattr(run, name)} is no share between 0 and 1")
    names = [recording.attack for recording in run.recordings]
    if len(set(names)) < len(names):
        raise BankError(f"{where}: attacks {shown(names)}: each may stand once")
    _queries(run.pool, f"{where}, pool", classes, teachers, neighbours)
    _pool(run.pool, f"{where}, pool", classes)
    for recording in run.recordings:
        _queries(recording, f"{where}, {recording.attack}", classes, teachers, neighbours)
        _students(recording, f"{where}, {recording.attack}")
    return run


def _queries(queries: Pool | Recording, where: str, classes: int, teachers: int, neighbours: int) -> None:
    rows = len(queries.votes)
    for name, sums in (("votes", teachers), ("knn", neighbours)):
        counts: NDArray[np.uint16] = getattr(queries, name)
        if counts.shape != (rows, classes):
            raise BankError(f"{where}: {name} have shape {counts.shape}: ({rows}, {classes}) is needed")
        wrong = counts.sum(axis=1, dtype=np.int64) != sums
        if wrong.any():
            row = int(np.argmax(wrong))
            total = int(counts[row].sum(dtype=np.int64))
            raise BankError(f"{where}: row {row} of {name} adds up to {total}, not to {sums}: record it again")
    for name in ("entropy", "gap"):
        _shares(getattr(queries, name), rows, f"{where}: {name}")


def _pool(pool: Pool, where: str, classes: int) -> None:
    rows = len(pool.votes)
    for name in ("classes", "original", "user"):
        if getattr(pool, name).shape != (rows,):
            raise BankError(f"{where}: {name} have shape {getattr(pool, name).shape}: ({rows},) is needed")
    if rows and int(pool.classes.max()) >= classes:
        raise BankError(f"{where}: class {pool.classes.max()}: there are only {classes}, counted from 0")
    halves = pool.original[pool.user], pool.original[~pool.user]
    if not all(len(half) for half in halves):
        raise BankError(
            f"{where}: {len(halves[1])} queries calibrate and {len(halves[0])} are the users': both need some"
        )
    both = np.intersect1d(*halves)
    if len(both):
        raise BankError(f"{where}: original {both[0]} stands in both halves: split by originals, not by rows")


def _students(recording: Recording, where: str) -> None:
    at = recording.checkpoints
    if at.ndim != 1 or (len(at) and (at[0] < 0 or at[-1] > len(recording.votes) or (np.diff(at) <= 0).any())):
        raise BankError(
            f"{where}: checkpoints must rise and lie within the {len(recording.votes)} queries: {shown(at)}"
        )
    for name in ("accuracy", "fidelity"):
        _shares(getattr(recording, name), len(at), f"{where}: {name}")


def _shares(values: NDArray[np.float32] | NDArray[np.float64], rows: int, where: str) -> None:
    if values.shape != (rows,):
        raise BankError(f"{where} has shape {values.shape}: ({rows},) is needed")
    good = (values >= -SLACK) & (values <= 1 + SLACK)  # NaN compares false
    if not good.all():
        row = int(np.argmin(good))
        raise BankError(f"{where}[{row}] = {values[row]} is no share between 0 and 1")
