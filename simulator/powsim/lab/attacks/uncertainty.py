"""Active learning: ask the images that the student is least, or most, sure of."""

from __future__ import annotations

import torch

from powsim.lab.attacks.base import Student
from powsim.lab.attacks.parts import Ranked, logits_of
from powsim.lab.task import Images


class Entropy(Ranked):
    """The highest entropy of the student's softmax first."""

    name = "entropy"
    labels = "hard"
    data = "in"
    source = "Lewis & Gale 1994; Pal et al. 2020: ActiveThief, uncertainty"

    def scores(self, student: Student, x: Images) -> torch.Tensor:
        """Return the entropies."""
        logs = torch.log_softmax(logits_of(student, x, self.view.device), dim=1)
        return -(logs.exp() * logs).sum(dim=1)


class EntropyRev(Entropy):
    """The lowest entropy first: queries that look cheap, in the hope that they are."""

    name = "entropy-rev"
    source = "Dziedzic et al. 2022, section 4.3: EntropyRev"

    def scores(self, student: Student, x: Images) -> torch.Tensor:
        """Return the negative entropies."""
        return -super().scores(student, x)


class Gap(Ranked):
    """The smallest margin between the two most likely classes of the student's full softmax first."""

    name = "gap"
    labels = "hard"
    data = "in"
    source = "Scheffer et al. 2001: margin sampling; Jiang et al. 2019: gap"

    def scores(self, student: Student, x: Images) -> torch.Tensor:
        """Return the negative margins."""
        two = torch.softmax(logits_of(student, x, self.view.device), dim=1).topk(2, dim=1).values
        return two[:, 1] - two[:, 0]
