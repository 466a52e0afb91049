"""The API under attack, as a study runs it: the victim answers, teachers and neighbours vote on what was asked."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim.bank.costs import CONVERSION, distinct
from powsim.bank.records import Pool
from powsim.lab.neighbours import fit_neighbours
from powsim.lab.task import Images, Task
from powsim.lab.teachers import fit_teachers
from powsim.lab.victim import Victim, fit_victim
from powsim_kernels import PatePlan

BATCH = 32  # queries of a puzzle, and of the requests that are timed
REPEATS = 15


@dataclass(frozen=True)
class Metered:
    """What meters see of queries, in their order."""

    votes: NDArray[np.uint16]  # [n, C] of the teachers
    knn: NDArray[np.uint16]  # [n, C] of the nearest private points
    logits: NDArray[np.float32]  # [n, C] of the victim

    def rows(self, some: slice | NDArray[np.int64]) -> Metered:
        """Return some of the queries."""
        return Metered(self.votes[some], self.knn[some], self.logits[some])

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Return the victim's softmax, float32 [n, C]."""
        return softmax(self.logits)

    @property
    def entropy(self) -> NDArray[np.float32]:
        """Return the entropy of the victim's softmax by ln C, in 0..1: [n]."""
        p = self.probabilities.astype(np.float64)
        total = -(p * np.log(np.maximum(p, np.finfo(np.float64).tiny))).sum(axis=1)
        shares: NDArray[np.float32] = np.clip(total / np.log(p.shape[1]), 0, 1).astype(np.float32)
        return shares

    @property
    def gap(self) -> NDArray[np.float32]:
        """Return 1 - (p1 - p2) of the victim's softmax, in 0..1: [n]."""
        two = np.partition(self.probabilities, -2, axis=1)[:, -2:]
        found: NDArray[np.float32] = 1 - (two[:, 1] - two[:, 0])
        return found


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax of each row."""
    shares: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def joined(parts: Sequence[Metered]) -> Metered:
    """Return queries one after the other."""
    return Metered(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Metered)))


@dataclass(frozen=True, eq=False)
class Service:
    """One seed's victim and meters, and what they said about the pool, whose images most attacks ask."""

    task: Task
    victim: Victim
    teachers: Any
    neighbours: Any
    images: Images  # of calibration, then of users
    pool: Metered
    rows: dict[bytes, int]  # of the pool, by what an image is

    def answers(self, x: Images) -> NDArray[np.float32]:
        """Return the victim's logits, float32 [n, C]; those of the pool are known already."""
        row = self._rows(x)
        out = self.pool.logits[row]
        if (row < 0).any():
            out[row < 0] = self.victim.logits(x[row < 0])
        return out

    def metered(self, x: Images, logits: NDArray[np.float32]) -> Metered:
        """Return the votes on queries that were answered."""
        row = self._rows(x)
        seen, new = self.pool.rows(row), row < 0
        if new.any():
            seen.votes[new] = self.teachers.votes(x[new])
            seen.knn[new] = self.neighbours.of_logits(logits[new])
        return Metered(seen.votes, seen.knn, logits)

    def _rows(self, x: Images) -> NDArray[np.int64]:
        """Return which of the pool each image is, -1 for none."""
        return np.array([self.rows.get(_digest(image), -1) for image in x], np.int64)

    def costs(self, x: Images) -> NDArray[np.float64]:
        """Return what each query costs alone, eps at the task's delta: the oracle of attacks that declare one."""
        return eps_of(self.task, self.metered(x, self.answers(x)).votes)

    def recorded_pool(self) -> Pool:
        """Return the pool as banks keep it."""
        task, seen = self.task, self.pool
        user = np.arange(len(self.images)) >= len(task.calibration.x)
        both = [task.calibration, task.users]
        return Pool(
            seen.votes,
            seen.knn,
            seen.entropy,
            seen.gap,
            np.concatenate([split.y for split in both]).astype(np.uint16),
            np.concatenate([split.original for split in both]).astype(np.int32),
            user,
        )

    def seconds_per_query(self) -> tuple[float, float]:
        """Return the time of an answer and of metering it, per query, in requests of 32: medians of 15."""
        x = self.images[:BATCH]
        logits = self.victim.logits(x)
        answered = _median_s(lambda: self.victim.logits(x))
        metered = _median_s(lambda: (self.teachers.votes(x), self.neighbours.of_logits(logits)))
        return answered / len(x), metered / len(x)


def plan_of(task: Task, backend: str = "reference") -> PatePlan:
    """Return the meter of the teachers' votes."""
    return PatePlan(task.teachers, task.classes, task.sigma_share * task.teachers, backend=backend)


def eps_of(task: Task, votes: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Return what each row of the teachers' votes costs alone, eps at the task's delta: [n]."""
    some, of_row = distinct(votes)
    eps: NDArray[np.float64] = plan_of(task).eps(some, task.delta, conversion=CONVERSION)[0][of_row]
    return eps


def open_service(task: Task, seed: int, device: str) -> Service:
    """Return the fitted service of a seed, which has seen the whole pool."""
    victim = fit_victim(task, seed, device)
    teachers, neighbours = fit_teachers(task, seed, device=device), fit_neighbours(task, victim)
    images = np.concatenate([task.calibration.x, task.users.x])
    logits = victim.logits(images)
    pool = Metered(teachers.votes(images), neighbours.of_logits(logits), logits)
    rows = {_digest(image): row for row, image in enumerate(images)}
    return Service(task, victim, teachers, neighbours, images, pool, rows)


def _digest(image: Images) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _median_s(work: Callable[[], object]) -> float:
    spent = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent)
