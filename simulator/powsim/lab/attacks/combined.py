"""Combinators: honest-looking queries between those of another attack."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim.lab.attacks.base import Answers, Attack, Student, View
from powsim.lab.attacks.outside import CopyCat
from powsim.lab.attacks.parts import Learner
from powsim.lab.attacks.standard import Standard
from powsim.lab.attacks.worstcase import WorstCase
from powsim.lab.task import Images


class InOut(Learner):
    """Batches of `other` alternate with batches of `inside`, which are `in_share` of all; the student learns from both.

    A subclass may name other attacks: labels and needs follow them.
    """

    other: type[Attack] = CopyCat
    inside: type[Attack] = Standard
    in_share: float = 0.5
    batch: int = 32

    name = "inout"
    labels = "hard"
    data = "mixed"
    source = "Dziedzic et al. 2022, appendix B.4: InOut"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.labels = cls.other.labels
        cls.needs_student = cls.other.needs_student or cls.inside.needs_student
        cls.needs_oracle = cls.other.needs_oracle or cls.inside.needs_oracle

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._parts = (self.inside(view), self.other(view))
        self._held = [np.empty((0, *view.shape), np.float32) for _ in range(2)]  # proposed by a part, not yet asked
        self._at = 0
        self._last: NDArray[np.bool_] = np.empty(0, np.bool_)

    def strange(self, begin: int, n: int) -> NDArray[np.bool_]:
        """Return which of the queries begin..begin+n-1 are the other attack's."""
        block = np.arange(begin, begin + n) // self.batch
        share = 1.0 - self.in_share
        whose: NDArray[np.bool_] = np.floor((block + 1) * share + 1e-9) > np.floor(block * share + 1e-9)
        return whose

    def propose(self, n: int) -> Images:
        """Return the next queries of both, up to the first that one of them cannot supply yet."""
        whose = self.strange(self._at, n)
        for part in (0, 1):
            missing = int(np.sum(whose == part)) - len(self._held[part])
            if missing > 0:
                self._held[part] = np.concatenate((self._held[part], self._parts[part].propose(missing)))
            counted = np.cumsum(whose == part)
            whose = whose[: int(np.searchsorted(counted, len(self._held[part]), side="right"))]
        x = np.empty((len(whose), *self.view.shape), np.float32)
        for part in (0, 1):
            count = int(np.sum(whose == part))
            x[whose == part], self._held[part] = self._held[part][:count], self._held[part][count:]
        self._at, self._last = self._at + len(x), whose
        return x

    def observe(self, x: Images, answers: Answers) -> None:
        """Keep the answers and pass on to each part its own."""
        super().observe(x, answers)
        for part in (0, 1):
            mine = self._last == part
            if mine.any():
                self._parts[part].observe(x[mine], answers[mine])

    def student_updated(self, student: Student) -> None:
        """Pass the student on."""
        for part in self._parts:
            part.student_updated(student)


class InOut75(InOut):
    """Three batches of four are in-distribution."""

    name = "inout-75"
    in_share = 0.75


class Laundering(InOut):
    """Every fourth query is an out-of-distribution image; those around it are the cheapest in-distribution ones."""

    inside = WorstCase
    in_share = 0.75
    batch = 1

    name = "laundering"
    source = "powsim: out-of-distribution queries hidden among cheap ones"
