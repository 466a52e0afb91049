"""What several attacks share: memory of the answers, the pool in an order, out-of-distribution images none twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from powsim.lab.attacks.base import Answers, Student, View
from powsim.lab.task import Images

CHUNK = 2048  # images that a student answers at once
DRAWS = 8  # in vain, after which a source counts as used up
LEAST_DRAW = 64


class Learner:
    """Its student is fitted on exactly what it asked, and no query depends on a student."""

    needs_student = False
    needs_oracle = False

    def __init__(self, view: View) -> None:
        self.view = view
        self._asked: list[Images] = []
        self._answers: list[Answers] = []

    def observe(self, x: Images, answers: Answers) -> None:
        """Keep the answers."""
        self._asked.append(x)
        self._answers.append(answers)

    def training_set(self) -> tuple[Images, Answers]:
        """Return all queries and their answers, in order."""
        none = np.empty((0, *self.view.shape), np.float32), np.empty((0, self.view.classes), np.float32)
        return np.concatenate((none[0], *self._asked)), np.concatenate((none[1], *self._answers))

    def student_updated(self, student: Student) -> None:
        """Change nothing."""

    def own_student(self) -> Student | None:
        """Return None: the driver fits one."""
        return None


class FromPool(Learner):
    """Asks the images that the attacker owns, each once: at random, or as a subclass orders those left."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._left = view.rng.permutation(len(view.pool))

    def propose(self, n: int) -> Images:
        """Return the next n of those left."""
        rows, self._left = self._left[:n], self._left[n:]
        return self.view.pool[rows]


class Ranked(FromPool):
    """Puts those left into the order of a score, highest first, whenever the student has changed."""

    needs_student = True

    def scores(self, student: Student, x: Images) -> torch.Tensor:
        """Return a score [n] of each image."""
        raise NotImplementedError

    def student_updated(self, student: Student) -> None:
        """Rank those left by this student; equal ones keep their order."""
        scores = self.scores(student, self.view.pool[self._left]).cpu().numpy()
        self._left = self._left[np.argsort(-scores, kind="stable")]


class Fresh:
    """Images of a source that may repeat itself, none given out twice."""

    def __init__(self, source: Callable[[int, np.random.Generator], Images], rng: np.random.Generator) -> None:
        self._source, self._rng = source, rng
        self._known: set[bytes] = set()
        self._new: list[NDArray[np.float32]] = []  # drawn and not given out yet

    def take(self, n: int) -> Images:
        """Return n images not seen before; fewer where the source keeps returning known ones."""
        vain = 0
        while len(self._new) < n and vain < DRAWS:
            before = len(self._new)
            for image in self._source(max(LEAST_DRAW, n - before), self._rng):
                key = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
                if key not in self._known:
                    self._known.add(key)
                    self._new.append(image)
            vain = 0 if len(self._new) > before else vain + 1
        given, self._new = self._new[:n], self._new[n:]
        return np.stack(given) if given else self._source(0, self._rng)


@dataclass(frozen=True, eq=False)
class NetStudent:
    """A student that an attack trained by itself."""

    net: nn.Module

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return [n, C]."""
        out: torch.Tensor = self.net(x)
        return out


def generator(view: View, device: str | None = None) -> torch.Generator:
    """Return torch's random numbers on a device, by default the view's, seeded by the view's."""
    return torch.Generator(device or view.device).manual_seed(int(view.rng.integers(2**62)))


def logits_of(student: Student, x: Images, device: str) -> torch.Tensor:
    """Return the student's logits [n, C] on the device, without gradients."""
    with torch.no_grad():
        return torch.cat([student.logits(part.to(device)) for part in torch.from_numpy(x).split(CHUNK)])
