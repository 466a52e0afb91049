"""Jacobian-based augmentation: a few real images, moved along the gradient of the student."""

from __future__ import annotations

import numpy as np
import torch

from powsim.lab.attacks.base import Answers, Student, View
from powsim.lab.attacks.parts import Learner, generator
from powsim.lab.task import Images

SEEDS = 64
STEP = 0.1


class Jacobian(Learner):
    """Seeds from the pool, then x + step * sign(gradient of the student's log-probability of the victim's label).

    The substitute's outputs are probabilities in the paper, and their logarithm has the same signs without underflow;
    the label's logit alone may rise together with all the others.

    Every labelled image is moved once per student, in random order: a reservoir, so that asking n at a time grows the
    set by n rather than twofold. Settings: "seeds" (64), "step" (0.1). The student must have been handed over before
    anything but a seed can be proposed.
    """

    name = "jacobian"
    labels = "hard"
    data = "limited"
    needs_student = True
    source = "Papernot et al. 2017: Practical black-box attacks, algorithm 1 and section 4.2"

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._step = float(view.settings.get("step", STEP))
        seeds = int(view.settings.get("seeds", SEEDS))
        self._seeds = view.pool[view.rng.permutation(len(view.pool))[:seeds]]
        self._x, self._labels = self._seeds[:0], np.empty(0, np.int64)
        self._unmoved = np.empty(0, np.int64)  # rows of _x that this student has not moved yet
        self._student: Student | None = None
        self._generator = generator(view)

    def propose(self, n: int) -> Images:
        """Return seeds while there are some, then moved images."""
        if len(self._seeds):
            seeds, self._seeds = self._seeds[:n], self._seeds[n:]
            return seeds
        if self._student is None:
            return self._x[:0]
        rows, self._unmoved = self._unmoved[:n], self._unmoved[n:]
        x = torch.from_numpy(self._x[rows]).to(self.view.device)
        labels = torch.from_numpy(self._labels[rows]).to(self.view.device)
        moved = x + self._step * self._direction(self._student, x, labels).sign()
        proposed: Images = moved.clamp(0, 1).cpu().numpy()
        return proposed

    def _direction(self, student: Student, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        own = student.logits(x).log_softmax(dim=1).gather(1, labels[:, None]).sum()
        return torch.autograd.grad(own, x)[0]

    def observe(self, x: Images, answers: Answers) -> None:
        """Keep the answers; what was labelled can be moved in its turn."""
        super().observe(x, answers)
        self._unmoved = np.concatenate((self._unmoved, len(self._x) + np.arange(len(x))))
        self._x = np.concatenate((self._x, x))
        self._labels = np.concatenate((self._labels, answers.argmax(axis=1)))

    def student_updated(self, student: Student) -> None:
        """Move by this student from now on, and every labelled image anew."""
        self._student = student
        self._unmoved = self.view.rng.permutation(len(self._x))


class JacobianTR(Jacobian):
    """Moves towards a random other class: down the gradient of the student's loss for it."""

    name = "jacobian-tr"
    source = "Juuti et al. 2019: PRADA, section 4.2, T-RND"

    def _direction(self, student: Student, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        draws = {"generator": self._generator, "device": labels.device}
        shift = torch.randint(1, self.view.classes, labels.shape, **draws)
        x = x.detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(
            student.logits(x), (labels + shift) % self.view.classes, reduction="sum"
        )
        return -torch.autograd.grad(loss, x)[0]
