"""The private-kNN index: a query's teachers are the private images nearest to it in the victim's log-softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from powsim.lab.knn import knn_votes
from powsim.lab.task import Images, Task
from powsim.lab.victim import Victim


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The private images as the victim sees them, with their true labels."""

    victim: Victim
    points: NDArray[np.float32]  # [M, C] log-softmax
    labels: NDArray[np.int64]  # [M]
    k: int

    def votes(self, x: Images) -> NDArray[np.uint16]:
        """Return how many of the k nearest private images have each class: uint16 [N, C], rows sum to k."""
        return self.of_logits(self.victim.logits(x))

    def of_logits(self, logits: NDArray[np.float32]) -> NDArray[np.uint16]:
        """Return the votes for queries whose logits [N, C] are known, which saves the victim's work."""
        device = None if self.victim.device == "cpu" else self.victim.device
        classes = self.victim.classes
        found: Any = knn_votes(log_softmax(logits), self.points, self.labels, self.k, classes, device=device)
        votes: NDArray[np.uint16] = found.astype(np.uint16)
        return votes


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logarithm of the softmax of each row, float32 [N, C]."""
    out: NDArray[np.float32] = torch.from_numpy(logits).log_softmax(dim=1).numpy()
    return out


def fit_neighbours(task: Task, victim: Victim) -> Neighbours:
    """Return the index over the task's private images, k = `task.neighbours`; ValueError where there are fewer."""
    if not 1 <= task.neighbours <= min(len(task.private.x), 2**16 - 1):
        limit = min(len(task.private.x), 2**16 - 1)
        raise ValueError(f"neighbours={task.neighbours} must lie in 1..{limit}, the number of private images")
    return Neighbours(victim, log_softmax(victim.logits(task.private.x)), task.private.y, task.neighbours)
