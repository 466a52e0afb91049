"""The PATE ensemble: each teacher is fitted on its own shard of the private data, and votes with its argmax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import vmap

from powsim.lab.features import features
from powsim.lab.networks import fitted, forward
from powsim.lab.task import Images, Split, Task
from powsim.lab.tasks.augment import Distortion

KINDS = ("ridge", "kernel", "linear", "cnn")
LARGE = 8192  # private images above which "ridge" is linear: a kernel's vote compares with each of them
SHARPNESS = 1.0  # of the kernel exp(-SHARPNESS |f - g|^2) between features, which have length 1
RIDGE = 0.1
CNN_STEPS, CNN_BATCH = 150, 32
CNN_DISTORTION = Distortion(degrees=15.0, shift=0.08, scale=0.15)  # more than the victim's: a shard is small
MEMORY = 64 << 20  # bytes of kernel values and scores at once
MOST = 2**15 - 1  # teachers; votes on a device are int16

Scores = Callable[[torch.Tensor], torch.Tensor]
"""Images [n, channels, height, width] on the device -> scores [n, T, C]."""


@dataclass(frozen=True, eq=False)
class Teachers:
    """A fitted ensemble."""

    number: int
    classes: int
    device: str
    scores: Scores
    chunk: int  # images scored at once

    def votes(self, x: Images | torch.Tensor, *, tensor: bool = False) -> Any:
        """Return how many teachers vote for each class: uint16 [N, C], rows sum to T.

        tensor=True: int16 on the device, for `PatePlan` to read there through DLPack. Memory beside it is bounded.
        """
        images = torch.as_tensor(x)
        out = torch.zeros(len(images), self.classes, dtype=torch.int16, device=self.device)
        for at in range(0, len(images), self.chunk):
            with torch.no_grad():
                some = images[at : at + self.chunk].to(self.device, torch.float32)
                choices = self.scores(some).argmax(dim=2)
            ones = torch.ones_like(choices, dtype=torch.int16)
            out[at : at + len(choices)].scatter_add_(1, choices, ones)
        return out if tensor else out.cpu().numpy().astype(np.uint16)

    def accuracy(self, split: Split) -> tuple[float, float]:
        """Return the share of right votes, mean over teachers, and of right pluralities (the lowest class on ties)."""
        votes = self.votes(split.x)
        right = votes[np.arange(len(votes)), split.y].mean() / self.number
        return float(right), float(np.mean(votes.argmax(axis=1) == split.y))


def shards(split: Split, teachers: int, seed: int) -> list[NDArray[np.int64]]:
    """Return the rows of each teacher, sorted: originals are dealt out at random and never straddle two teachers."""
    originals = np.unique(split.original)
    if not 1 <= teachers <= min(len(originals), MOST):
        limit = min(len(originals), MOST)
        raise ValueError(f"teachers={teachers} must lie in 1..{limit}: each needs an original of its own")
    order = np.random.default_rng([seed, teachers]).permutation(len(originals))
    owner = np.empty(len(originals), np.int64)
    owner[order] = np.arange(len(originals)) % teachers
    of_row = owner[np.searchsorted(originals, split.original)]
    return [np.flatnonzero(of_row == teacher) for teacher in range(teachers)]


def fit_teachers(task: Task, seed: int, *, kind: str = "ridge", device: str = "cpu") -> Teachers:
    """Return the task's ensemble, fitted on shards of its private data.

    kind "kernel": ridge regression with a Gaussian kernel on `features`, "linear": on the features themselves; all
    shards as one batched Cholesky solve. "ridge": the first up to 8,192 private images, the second beyond. "cnn": small
    networks trained together through `torch.func.vmap`, for natural images and GPUs. Raises ValueError.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r} of teachers: choose one of {', '.join(KINDS)}")
    rows = shards(task.private, task.teachers, seed)
    if kind == "ridge":
        kind = "kernel" if len(task.private.x) <= LARGE else "linear"
    if kind == "cnn":
        scores, per_image = _networks(task, rows, seed, device)
    else:
        scores, per_image = (_kernel if kind == "kernel" else _linear)(task, rows, device)
    return Teachers(task.teachers, task.classes, device, scores, max(1, MEMORY // per_image))


def _padded(task: Task, rows: list[NDArray[np.int64]], device: str) -> tuple[torch.Tensor, ...]:
    """Return features [T, n, 128], targets [T, n, C] and which rows are real [T, n]; shards padded with zeros."""
    n = max(len(some) for some in rows)
    index = torch.zeros(len(rows), n, dtype=torch.int64)
    real = torch.zeros(len(rows), n, dtype=torch.float64)
    for teacher, some in enumerate(rows):
        index[teacher, : len(some)] = torch.from_numpy(some)
        real[teacher, : len(some)] = 1
    index, real = index.to(device), real.to(device)
    points = features(task.private.x, device)[index].double() * real[..., None]
    labels = torch.from_numpy(task.private.y).to(device)[index]
    target = torch.nn.functional.one_hot(labels, task.classes).double() - 1 / task.classes
    return points, target * real[..., None], real


def _kernel(task: Task, rows: list[NDArray[np.int64]], device: str) -> tuple[Scores, int]:
    points, target, real = _padded(task, rows, device)
    gram = torch.exp(-SHARPNESS * torch.cdist(points, points) ** 2) * (real[:, :, None] * real[:, None, :])
    gram += RIDGE * torch.eye(gram.shape[1], dtype=gram.dtype, device=device)  # of a padded row this is all there is
    weights = torch.cholesky_solve(target, torch.linalg.cholesky(gram)).float()
    teachers, n, classes = weights.shape
    flat = points.float().flatten(0, 1)
    lengths = (flat * flat).sum(dim=1)

    def scores(x: torch.Tensor) -> torch.Tensor:
        f = features(x, device)
        away = torch.addmm(lengths + 1.0, f, flat.T, alpha=-2.0)  # features have length 1
        near = away.mul_(-SHARPNESS).exp_().view(len(x), teachers, n)
        return torch.bmm(near.transpose(0, 1), weights).transpose(0, 1)

    return scores, 4 * teachers * (n + 2 * classes)


def _linear(task: Task, rows: list[NDArray[np.int64]], device: str) -> tuple[Scores, int]:
    points, target, real = _padded(task, rows, device)
    points = torch.cat((points, real[..., None]), dim=2)  # the last is the intercept
    square = points.transpose(1, 2) @ points
    square += RIDGE * torch.eye(square.shape[1], dtype=square.dtype, device=device)
    weights = torch.cholesky_solve(points.transpose(1, 2) @ target, torch.linalg.cholesky(square)).float()
    matrix, base = weights[:, :-1].permute(1, 0, 2).flatten(1), weights[:, -1].flatten()

    def scores(x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(base, features(x, device), matrix).view(len(x), task.teachers, task.classes)

    return scores, 4 * task.teachers * task.classes


def _networks(task: Task, rows: list[NDArray[np.int64]], seed: int, device: str) -> tuple[Scores, int]:
    x, y = task.private.x, task.private.y
    p = fitted(
        x,
        y,
        rows,
        task.classes,
        seed,
        steps=CNN_STEPS,
        batch=CNN_BATCH,
        distortion=CNN_DISTORTION,
        device=device,
    )

    def scores(images: torch.Tensor) -> torch.Tensor:
        return vmap(forward, in_dims=(0, None))(p, images).transpose(0, 1)

    _, height, width = task.shape
    return scores, 4 * task.teachers * 2 * 16 * height * width
