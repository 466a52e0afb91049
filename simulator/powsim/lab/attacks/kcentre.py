"""k-centre: ask the image farthest from all asked so far, as the student sees them."""

from __future__ import annotations

import numpy as np
import torch

from powsim.lab.attacks.base import Student, View
from powsim.lab.attacks.parts import FromPool, logits_of
from powsim.lab.task import Images


class KCentre(FromPool):
    """Greedy 2-approximation of the k-centre problem with the student's softmax as features; random before one."""

    name = "k-centre"
    labels = "hard"
    data = "in"
    needs_student = True
    source = "Sener & Savarese 2018: core-sets, algorithm 1"

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._features: torch.Tensor | None = None  # [pool, C]
        self._far = torch.empty(0)  # [pool] distance to the nearest asked one; -1 for those asked

    def propose(self, n: int) -> Images:
        """Return n images, each the farthest from those before it."""
        if self._features is None:
            return super().propose(n)
        rows = []
        for _ in range(min(n, len(self._left))):
            row = int(self._far.argmax())
            rows.append(row)
            near = torch.linalg.vector_norm(self._features - self._features[row], dim=1)
            self._far = torch.minimum(self._far, near)
            self._far[row] = -1.0
        self._left = self._left[~np.isin(self._left, rows)]
        return self.view.pool[rows]

    def student_updated(self, student: Student) -> None:
        """Measure all distances anew, in this student's outputs."""
        self._features = torch.softmax(logits_of(student, self.view.pool, self.view.device), dim=1)
        left = torch.from_numpy(self._left).to(self._features.device)
        asked = torch.ones(len(self.view.pool), dtype=torch.bool, device=left.device)
        asked[left] = False
        self._far = torch.full((len(asked),), -1.0, device=left.device)
        if len(left) == 0:
            return
        centres = self._features[asked]
        if len(centres) == 0:
            centres = self._features[left[:1]]  # nothing is asked: any start serves the greedy rule
        distances = [torch.cdist(self._features[part], centres).amin(dim=1) for part in left.split(1024)]
        self._far[left] = torch.cat(distances)
