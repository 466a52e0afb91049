"""The model that is sold by the query: a small convolutional network trained on the private data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from powsim.lab.networks import Parameters, fitted, forward
from powsim.lab.task import Images, Split, Task
from powsim.lab.tasks.augment import Distortion

CHUNK = 1024  # images answered at once
STEPS, BATCH = 500, 32
COLOUR_STEPS = 3000  # natural images are harder than strokes
# Little: 15 degrees, 8 and 15 % make digits16's victim no better (.985 for .988) and harder to steal with images that
# are no digits: CopyCat's 2,000 labels then give .83 instead of .89 (seeds 10 to 15, 700 steps).
DISTORTION = Distortion(degrees=5.0, shift=0.03, scale=0.05)


@dataclass(frozen=True, eq=False)
class Victim:
    """A trained network: 3x3 convolutions, each halved by pooling, and two dense layers."""

    parameters: Parameters
    classes: int
    device: str

    def logits(self, x: Images) -> NDArray[np.float32]:
        """Return float32 [N, C] for images [N, channels, height, width]."""
        out = np.empty((len(x), self.classes), np.float32)
        for at in range(0, len(x), CHUNK):
            images = torch.as_tensor(x[at : at + CHUNK]).to(self.device)
            with torch.no_grad():
                out[at : at + CHUNK] = forward(self.parameters, images).cpu().numpy()
        return out

    def probabilities(self, x: Images) -> NDArray[np.float32]:
        """Return the softmax of the logits, float32 [N, C]; rows sum to 1."""
        out: NDArray[np.float32] = torch.from_numpy(self.logits(x)).softmax(dim=1).numpy()
        return out

    def accuracy(self, split: Split) -> float:
        """Return the share of a split's images whose largest logit is the label's."""
        return float(np.mean(self.logits(split.x).argmax(axis=1) == split.y))


def fit_victim(task: Task, seed: int, device: str = "cpu", *, steps: int | None = None) -> Victim:
    """Return the victim, trained on all of the task's private images as `networks.fitted` does.

    steps: of BATCH images, default STEPS, and COLOUR_STEPS for images in colour.
    """
    if steps is None:
        steps = STEPS if task.shape[0] == 1 else COLOUR_STEPS
    every = [np.arange(len(task.private.x))]
    p = fitted(
        task.private.x,
        task.private.y,
        every,
        task.classes,
        seed,
        steps=steps,
        batch=BATCH,
        distortion=DISTORTION,
        device=device,
    )
    return Victim({name: value[0] for name, value in p.items()}, task.classes, device)
