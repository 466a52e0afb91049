"""The values in a bank: votes, not costs, so that sigma, delta and the accounting stay free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Pool:
    """Honest queries that nobody has asked yet: half to calibrate on, half to be the users."""

    votes: NDArray[np.uint16]  # [M, C] of the teachers; rows sum to T
    knn: NDArray[np.uint16]  # [M, C] of the k nearest private points
    entropy: NDArray[np.float32]  # [M] of the victim's softmax, by ln C, in 0..1
    gap: NDArray[np.float32]  # [M] 1 - (p1 - p2) of the victim's softmax
    classes: NDArray[np.uint16]  # [M] true class
    original: NDArray[np.int32]  # [M] which image it was made from: bootstrap over these, not over rows
    user: NDArray[np.bool_]  # [M] True: of the users' half, False: of the half that calibrates


@dataclass(frozen=True)
class Recording:
    """One attack with one seed: its queries' votes in the order they were asked, and what it stole by when."""

    attack: str
    votes: NDArray[np.uint16]  # [Q, C]
    knn: NDArray[np.uint16]  # [Q, C]
    entropy: NDArray[np.float32]  # [Q]
    gap: NDArray[np.float32]  # [Q]
    checkpoints: NDArray[np.int64]  # [K] queries at which a student was trained
    accuracy: NDArray[np.float64]  # [K] on the test set, in 0..1
    fidelity: NDArray[np.float64]  # [K] agreement with the victim on the test set, in 0..1


@dataclass(frozen=True)
class Run:
    """One seed: its own split, victim, teachers and attacks."""

    seed: int
    victim_accuracy: float
    teacher_accuracy: float  # mean over teachers
    ensemble_accuracy: float  # of the plurality
    pool: Pool
    recordings: tuple[Recording, ...]  # one per attack, the same attacks in every run


@dataclass(frozen=True)
class Bank:
    """A study: one task, some seeds, the same attacks with each."""

    task: str
    real: bool  # False: made-up data, and every report says so
    outside: str  # what the out-of-distribution queries are made of
    classes: int
    teachers: int
    sigma: float  # of GNMax
    delta: float
    neighbours: int
    knn_sigma: float
    seconds_per_query: float  # measured: victim's answer, one query
    metering_s_per_query: float  # measured: votes and cost, one query
    runs: tuple[Run, ...]
    provenance: dict[str, str]  # versions, date, machine, hash of the task, "precomputed" or "measured now"
