"""Small worlds for the attacks' tests: linear students and victims on 8x8 images of four classes."""

from __future__ import annotations

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
