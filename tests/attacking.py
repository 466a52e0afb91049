"""Small worlds for the attacks' tests: linear students and victims on 8x8 images of four classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from powsim.lab.attacks import View

SHAPE, CLASSES = (1, 8, 8), 4


@dataclass(frozen=True)
class LinearStudent:
    weight: torch.Tensor  # [64, C]

    @classmethod
    def random(cls, seed: int, scale: float = 1.0) -> LinearStudent:
        return cls(scale * torch.randn(64, CLASSES, generator=torch.Generator().manual_seed(seed)))

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return (x - 0.5).flatten(1) @ self.weight


VICTIM = LinearStudent.random(99)


def answered(x: np.ndarray, labels: str) -> np.ndarray:
    """Return what the linear victim says of images."""
    p = torch.softmax(VICTIM.logits(torch.from_numpy(x)), dim=1)
    if labels == "hard":
        p = torch.nn.functional.one_hot(p.argmax(dim=1), CLASSES).float()
    return p.numpy()


def images(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).random((n, *SHAPE), dtype=np.float32)


def arm(number: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return images of an out-of-distribution class: dark to bright."""
    return np.float32(0.2 * number) + np.float32(0.2) * rng.random((n, *SHAPE), dtype=np.float32)


def view(seed: int, **other: Any) -> View:
    """Return a view on a pool of 200 images and five out-of-distribution classes; costs are mean brightness."""
    given = {
        "shape": SHAPE,
        "classes": CLASSES,
        "pool": images(1000, 200),
        "outside": lambda n, rng: rng.random((n, *SHAPE), dtype=np.float32),
        "outside_arms": arm,
        "arms": 5,
        "rng": np.random.default_rng(seed),
        "oracle": lambda x: x.mean(axis=(1, 2, 3)).astype(np.float64),
    }
    return View(**{**given, **other})


def slow_features(x: np.ndarray) -> np.ndarray:
    """Return oriented-gradient features [n, 128] in float64, pixel after pixel; sides of x are multiples of 4."""
    grey = x.astype(np.float64).mean(axis=1)
    count, height, width = grey.shape
    out, every = np.zeros((count, 8, 4, 4)), np.arange(count)
    for i in range(height):
        for j in range(width):
            right = (grey[:, i, min(j + 1, width - 1)] - grey[:, i, max(j - 1, 0)]) / 2
            down = (grey[:, min(i + 1, height - 1), j] - grey[:, max(i - 1, 0), j]) / 2
            turn = np.arctan2(down, right) / (2 * np.pi) * 8 % 8
            low = turn.astype(int) % 8
            size = np.hypot(right, down)
            out[every, low, i * 4 // height, j * 4 // width] += size * (1 - turn % 1)
            out[every, (low + 1) % 8, i * 4 // height, j * 4 // width] += size * (turn % 1)
    length = np.sqrt((out**2).sum(axis=(1, 2, 3), keepdims=True))
    return (out / np.where(length > 0, length, 1)).reshape(count, -1)


def slopes(x: np.ndarray, value: Callable[[np.ndarray], np.ndarray], step: float = 1e-6) -> np.ndarray:
    """Return the gradients [n, pixels, ...] of value(x) [n, ...], by central differences, pixel after pixel."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    columns = []
    for pixel in range(flat.shape[1]):
        up, down = flat.copy(), flat.copy()
        up[:, pixel] += step
        down[:, pixel] -= step
        columns.append((value(up.reshape(x.shape)) - value(down.reshape(x.shape))) / (2 * step))
    return np.stack(columns, axis=1)
