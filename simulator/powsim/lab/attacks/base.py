"""What an attack is: a strategy that proposes queries and learns from the answers. It never sees private data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from powsim.lab.task import Images

Answers = NDArray[np.float32]
"""[n, C]: the victim's probabilities, or one-hot rows where an attack declares `labels = "hard"`."""


class Student(Protocol):
    """The stolen model as its attacker holds it."""

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return [n, C] for x [n, channels, height, width], float32; differentiable in x."""


@dataclass(frozen=True)
class View:
    """What an attacker owns and knows."""

    shape: tuple[int, int, int]
    classes: int
    pool: Images  # in-distribution images without labels, for the attacks that say they have some
    outside: Callable[[int, np.random.Generator], Images]
    outside_arms: Callable[[int, int, np.random.Generator], Images] | None
    arms: int
    rng: np.random.Generator
    oracle: Callable[[Images], NDArray[np.float64]] | None = None  # exact cost of queries; only for `needs_oracle`
    settings: dict[str, float] = field(default_factory=dict)
    device: str = "cpu"  # torch's name of where students are, and where attacks compute


class Attack(Protocol):
    """One attack. Attributes are class attributes, so that a study can be planned before any is made."""

    name: str
    labels: str  # "hard" | "soft": what the victim must return
    data: str  # "in" | "out" | "limited" | "synthetic" | "mixed": where its queries come from
    needs_student: bool  # whether proposals depend on a trained student
    needs_oracle: bool
    source: str  # the paper it follows

    def __init__(self, view: View) -> None: ...

    def propose(self, n: int) -> Images:
        """Return the next queries, at most n. Fewer are not the end: an attack may need answers, or a student, first.

        None at all: its data is used up, or it waits for `student_updated`. Every proposal is answered before the next.
        """

    def observe(self, x: Images, answers: Answers) -> None:
        """Take the victim's answers to the queries just proposed, in order."""

    def training_set(self) -> tuple[Images, Answers]:
        """Return what the student is fitted on: inputs [m, ...] and target distributions [m, C]."""

    def student_updated(self, student: Student) -> None:
        """Take the student as it is after a fit: attacks that need one re-rank or move here."""

    def own_student(self) -> Student | None:
        """Return the student that the attack trained by itself; None: fit one on `training_set()`."""
