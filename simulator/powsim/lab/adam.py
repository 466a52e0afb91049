"""Adam, as plain operations: torch's own loads its compiler when it is first made, which takes seconds a process."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Adam:
    """The optimiser of Kingma and Ba 2015, algorithm 1, with their constants; `rate` may change between steps."""

    def __init__(self, parameters: Iterable[torch.Tensor], rate: float) -> None:
        self.rate = rate
        self._parameters = list(parameters)
        self._means = [torch.zeros_like(p) for p in self._parameters]
        self._squares = [torch.zeros_like(p) for p in self._parameters]
        self._steps = 0

    def step(self) -> None:
        """Move the parameters by their gradients, and forget those."""
        self._steps += 1
        first, second = BETAS
        size = self.rate / (1 - first**self._steps)
        root = math.sqrt(1 - second**self._steps)
        with torch.no_grad():
            for p, mean, square in zip(self._parameters, self._means, self._squares, strict=True):
                if p.grad is None:
                    continue
                mean.lerp_(p.grad, 1 - first)
                square.mul_(second).addcmul_(p.grad, p.grad, value=1 - second)
                p.addcdiv_(mean, (square.sqrt() / root).add_(EPSILON), value=-size)
                p.grad = None
