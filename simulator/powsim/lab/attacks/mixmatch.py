"""MixMatch: a few labels, many unlabelled images of the task, and a student that makes them agree."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from powsim.lab.adam import Adam
from powsim.lab.attacks.base import Student, View
from powsim.lab.attacks.parts import FromPool, NetStudent, generator
from powsim.lab.nets import small_cnn

TEMPERATURE = 0.5
ALPHA = 0.75
VIEWS = 2  # augmentations behind one guessed label
WEIGHT = 75.0  # of the unlabelled loss, reached in a linear ramp
STEPS = 250
BATCH = 64
RATE = 1e-2
AVERAGE = 0.98  # of the weights that count; the paper's 0.999 belongs to its 131,072 steps


class MixMatch(FromPool):
    """Labels random in-distribution images and trains its own student with the rest of the pool.

    Reduced to what a CPU does in seconds: `small_cnn` for WideResNet-28, settings["steps"] (250) of Adam, shifts by a
    pixel as augmentation (flips change a digit). The student is trained anew when `own_student` finds new labels.
    """

    name = "mixmatch"
    labels = "hard"
    data = "in"
    source = "Berthelot et al. 2019: MixMatch, algorithm 1"

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._generator, self._host = generator(view), generator(view, "cpu")
        self._student: NetStudent | None = None
        self._seen = 0

    def own_student(self) -> Student | None:
        """Return the student trained on the labels so far, or None before the first."""
        x, targets = self.training_set()
        if len(x) > self._seen:
            self._seen = len(x)
            unlabelled = self.view.pool[self._left] if len(self._left) else x
            self._student = self._train(*(torch.from_numpy(a).to(self.view.device) for a in (x, targets, unlabelled)))
        return self._student

    def _train(self, x: torch.Tensor, targets: torch.Tensor, unlabelled: torch.Tensor) -> NetStudent:
        net = small_cnn(self.view.shape, self.view.classes, self._host).to(self.view.device)
        average = copy.deepcopy(net)
        optimiser = Adam(net.parameters(), RATE)
        steps = int(self.view.settings.get("steps", STEPS))
        for step in range(steps):
            known_rows, rows = self._some(x), self._some(unlabelled)
            views = [shifted(unlabelled[rows], self._generator) for _ in range(VIEWS)]
            mixed, mixed_targets = self._mix(
                torch.cat([shifted(x[known_rows], self._generator), *views]),
                torch.cat([targets[known_rows], *([guessed_labels(net, views)] * VIEWS)]),
            )
            logits = net(mixed)
            known = F.cross_entropy(logits[:BATCH], mixed_targets[:BATCH])
            guessed = F.mse_loss(torch.softmax(logits[BATCH:], dim=1), mixed_targets[BATCH:])
            (known + WEIGHT * (step / steps) * guessed).backward()
            optimiser.step()
            with torch.no_grad():
                for kept, new in zip(average.parameters(), net.parameters(), strict=True):
                    kept.lerp_(new, 1 - min(AVERAGE, step / (step + 10)))
        return NetStudent(average)

    def _some(self, x: torch.Tensor) -> torch.Tensor:
        return torch.randint(len(x), (BATCH,), generator=self._generator, device=x.device)

    def _mix(self, x: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight = torch.from_numpy(mixing_weights(self.view.rng, len(x))).to(x.device)
        other = torch.randperm(len(x), generator=self._generator, device=x.device)
        return torch.lerp(x[other], x, weight[:, None, None, None]), torch.lerp(
            targets[other], targets, weight[:, None]
        )


def guessed_labels(net: nn.Module, views: list[torch.Tensor]) -> torch.Tensor:
    """Return the sharpened mean [n, C] of what a network says of several views [n, ...] of each image."""
    with torch.no_grad():
        p = torch.softmax(net(torch.cat(views)), dim=1)
    return sharpened(p.reshape(len(views), -1, p.shape[1]).mean(dim=0))


def sharpened(p: torch.Tensor) -> torch.Tensor:
    """Return distributions [n, C] made surer: p^(1/T), normalised."""
    power = p ** (1 / TEMPERATURE)
    return power / power.sum(dim=1, keepdim=True)


def mixing_weights(rng: np.random.Generator, n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return MixUp's lambda' = max(lambda, 1 - lambda), lambda ~ Beta(0.75, 0.75): each image stays mostly itself."""
    weight = rng.beta(ALPHA, ALPHA, n)
    return np.maximum(weight, 1 - weight).astype(np.float32)


def shifted(x: torch.Tensor, generator: torch.Generator, most: int = 1) -> torch.Tensor:
    """Return each image moved by up to `most` pixels each way, its edge repeated."""
    n, _, height, width = x.shape
    draws = torch.randint(2 * most + 1, (2, n), generator=generator, device=x.device)
    padded = F.pad(x, (most, most, most, most), mode="replicate")
    down = draws[0, :, None] + torch.arange(height, device=x.device)
    right = draws[1, :, None] + torch.arange(width, device=x.device)
    rows = torch.arange(n, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[rows, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)
