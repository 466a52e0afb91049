"""Jacobian-based augmentation: a few real images, moved along the gradient of a substitute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from powsim.lab.adam import Adam, rate_at
from powsim.lab.attacks.base import Answers, Student, View
from powsim.lab.attacks.parts import Learner, generator
from powsim.lab.features import WIDTH, features
from powsim.lab.nets import small_mlp
from powsim.lab.task import Images

SEEDS = 64
STEP = 0.1
STEPS, BATCH, RATE = 100, 32, 1e-2  # of the substitute


@dataclass(frozen=True, eq=False)
class Substitute:
    """A hidden layer on oriented-gradient features, through which its gradient reaches the pixels."""

    net: nn.Module

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return [n, C]."""
        out: torch.Tensor = self.net(features(x, str(x.device)))
        return out


class Jacobian(Learner):
    """Seeds from the pool, then x + step * sign(gradient of the substitute's log-probability of the victim's label).

    The substitute's outputs are probabilities in the paper, and their logarithm has the same signs without underflow;
    the label's logit alone may rise together with all the others. Its architecture is the attacker's choice (section
    4.2): `Substitute`, trained anew on all labels whenever the driver hands over its student, which only says when.
    On digits16 images that it moved cost 0.74 of a user's, those that the driver's network on pixels moved 0.87 (seeds
    10 to 14). The stolen model that is measured is the driver's, on the same labels.

    Every labelled image is moved once per substitute, in random order: a reservoir, so that asking n at a time grows
    the set by n rather than twofold. Settings: "seeds" (64), "step" (0.1). A student must have been handed over before
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
        self._unmoved = np.empty(0, np.int64)  # rows of _x that this substitute has not moved yet
        self.substitute: Student | None = None
        self._generator, self._host = generator(view), generator(view, "cpu")

    def propose(self, n: int) -> Images:
        """Return seeds while there are some, then moved images."""
        if len(self._seeds):
            seeds, self._seeds = self._seeds[:n], self._seeds[n:]
            return seeds
        if self.substitute is None:
            return self._x[:0]
        rows, self._unmoved = self._unmoved[:n], self._unmoved[n:]
        x = torch.from_numpy(self._x[rows]).to(self.view.device)
        labels = torch.from_numpy(self._labels[rows]).to(self.view.device)
        moved = x + self._step * self._direction(self.substitute, x, labels).sign()
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
        """Train a substitute on the labels so far; move by it from now on, and every labelled image anew."""
        if len(self._x):
            self.substitute = self._trained()
        self._unmoved = self.view.rng.permutation(len(self._x))

    def _trained(self) -> Substitute:
        x = features(self._x, self.view.device)
        labels = torch.from_numpy(self._labels).to(self.view.device)
        net = small_mlp(WIDTH, self.view.classes, self._host).to(self.view.device)
        optimiser = Adam(net.parameters(), RATE)
        for step in range(STEPS):
            optimiser.rate = rate_at(step, STEPS, RATE)
            rows = torch.randint(len(x), (BATCH,), generator=self._generator, device=x.device)
            F.cross_entropy(net(x[rows]), labels[rows]).backward()
            optimiser.step()
        return Substitute(net)


class JacobianTR(Jacobian):
    """Moves towards a random other class: down the gradient of the substitute's loss for it."""

    name = "jacobian-tr"
    source = "Juuti et al. 2019: PRADA, section 4.2, T-RND"

    def _direction(self, student: Student, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        draws = {"generator": self._generator, "device": labels.device}
        shift = torch.randint(1, self.view.classes, labels.shape, **draws)
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(student.logits(x), (labels + shift) % self.view.classes, reduction="sum")
        return -torch.autograd.grad(loss, x)[0]
