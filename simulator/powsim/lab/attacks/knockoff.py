"""Adaptive Knockoff: a gradient bandit chooses which kind of out-of-distribution image to ask next."""

from __future__ import annotations

from collections import deque
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from powsim.lab.attacks.base import Answers, Student, View
from powsim.lab.attacks.parts import Fresh, Learner, logits_of
from powsim.lab.task import Images

TINY = 1e-12


class KnockoffAdaptive(Learner):
    """Arms are drawn by softmax(preference); an arm's preference follows its reward against the mean so far.

    Reward of a query: the mean of the victim's margin (certainty), how far its answer exceeds the mean answer
    (diversity) and the cross-entropy from victim to student (loss), each rescaled to 0..1 by its range so far. The
    paper trains the student a step after each query; here it is the one of the last checkpoint, uniform before that.
    """

    name = "knockoff-adaptive"
    labels = "soft"
    data = "out"
    needs_student = True
    source = "Orekondy et al. 2019: Knockoff Nets, adaptive, section 4.1.2"

    def __init__(self, view: View) -> None:
        super().__init__(view)
        if view.outside_arms is None or view.arms < 1:
            raise ValueError(f"attack '{self.name}' needs a task with outside_arms: use 'knockoff' on this one")
        self._sources = [Fresh(partial(view.outside_arms, arm), view.rng) for arm in range(view.arms)]
        self._preference = np.zeros(view.arms)
        self._drawn = np.zeros(view.arms, np.int64)  # N(arm): 1/N is the step size
        self._waiting: deque[int] = deque()  # arms of the queries that are not answered yet
        self._low, self._high = np.full(3, np.inf), np.full(3, -np.inf)
        self._answer_sum, self._reward_sum, self._answered = np.zeros(view.classes), 0.0, 0
        self._student: Student | None = None

    def policy(self) -> NDArray[np.float64]:
        """Return the probability of each arm."""
        weights = np.exp(self._preference - self._preference.max())
        chances: NDArray[np.float64] = weights / weights.sum()
        return chances

    def propose(self, n: int) -> Images:
        """Return an image for each of n arms drawn; arms without new images give none."""
        arms = self.view.rng.choice(self.view.arms, size=n, p=self.policy())
        images = {}
        for arm, count in zip(*np.unique(arms, return_counts=True), strict=True):
            images[arm] = deque(self._sources[arm].take(int(count)))
        kept = []
        for arm in arms:
            if images[arm]:
                kept.append(images[arm].popleft())
                self._waiting.append(int(arm))
        return np.stack(kept) if kept else np.empty((0, *self.view.shape), np.float32)

    def observe(self, x: Images, answers: Answers) -> None:
        """Keep the answers and move the preferences, query by query."""
        super().observe(x, answers)
        victim = answers.astype(np.float64)
        second, first = np.partition(victim, -2, axis=1)[:, -2:].T
        losses = -(victim * self._log_probabilities(x)).sum(axis=1)
        for answer, margin, loss in zip(victim, first - second, losses, strict=True):
            mean = self._answer_sum / max(1, self._answered)
            self._reward(self._waiting.popleft(), np.array([margin, np.maximum(0, answer - mean).sum(), loss]))
            self._answer_sum += answer

    def _reward(self, arm: int, terms: NDArray[np.float64]) -> None:
        self._low, self._high = np.minimum(self._low, terms), np.maximum(self._high, terms)
        reward = float(((terms - self._low) / np.maximum(self._high - self._low, TINY)).mean())
        self._answered += 1
        self._drawn[arm] += 1
        self._reward_sum += reward
        step = (reward - self._reward_sum / self._answered) / self._drawn[arm]
        chances = self.policy()
        self._preference -= step * chances
        self._preference[arm] += step

    def _log_probabilities(self, x: Images) -> NDArray[np.float64]:
        if self._student is None:
            return np.full((len(x), self.view.classes), -np.log(self.view.classes))
        logits = logits_of(self._student, x, self.view.device)
        found: NDArray[np.float64] = torch.log_softmax(logits, dim=1).cpu().numpy().astype(np.float64)
        return found

    def student_updated(self, student: Student) -> None:
        """Measure losses against this student from now on."""
        self._student = student
