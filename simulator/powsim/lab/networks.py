"""Small convolutional networks, many at once: the victim is one, teachers of kind "cnn" are one batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch.func import vmap

from powsim.lab.adam import Adam, rate_at
from powsim.lab.tasks.augment import Distortion, warped

WIDTHS = (16, 32)
HIDDEN = 64
RATE = 4e-3

Parameters = dict[str, torch.Tensor]
"""By name; a batch of networks has one more axis in front of each."""


def forward(p: Parameters, x: torch.Tensor) -> torch.Tensor:
    """Return one network's logits [n, C] for images [n, channels, height, width]."""
    for layer in range(len(WIDTHS)):
        x = F.max_pool2d(F.conv2d(x, p[f"kernel{layer}"], p[f"bias{layer}"], padding=1), 2).relu()
    x = F.linear(x.flatten(1), p["hidden"], p["hidden_bias"]).relu()
    return F.linear(x, p["last"], p["last_bias"])


def fresh(networks: int, shape: tuple[int, int, int], classes: int, generator: torch.Generator) -> Parameters:
    """Return untrained parameters of a batch of networks: normal, with He's variance 2 / inputs."""
    channels, height, width = shape

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(networks, *size, generator=generator) * math.sqrt(2 / math.prod(size[1:]))

    p = {}
    for layer, wide in enumerate(WIDTHS):
        p[f"kernel{layer}"], p[f"bias{layer}"] = normal(wide, channels, 3, 3), torch.zeros(networks, wide)
        channels, height, width = wide, height // 2, width // 2
    p["hidden"], p["hidden_bias"] = normal(HIDDEN, channels * height * width), torch.zeros(networks, HIDDEN)
    p["last"], p["last_bias"] = normal(classes, HIDDEN), torch.zeros(networks, classes)
    return p


def fitted(
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    shards: Sequence[NDArray[np.int64]],
    classes: int,
    seed: int,
    *,
    steps: int,
    batch: int,
    distortion: Distortion,
    device: str,
) -> Parameters:
    """Return one trained network per shard, as a batch: parameters [T, ...] on the device.

    shards: rows of x for each network. Adam, its rate rising over a tenth of the steps and falling as a cosine;
    each batch is drawn from the shard with repeats and distorted anew, within `distortion`. Seeded: the same on one
    device and version.
    """
    generator = torch.Generator().manual_seed(seed)
    images, labels = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
    channels, height, width = x.shape[1:]
    start = fresh(len(shards), (channels, height, width), classes, generator)
    alone = len(shards) == 1  # then without vmap, whose convolutions cost a fifth more
    p = {name: value.to(device) for name, value in start.items()}
    if alone:
        p = {name: value[0] for name, value in p.items()}
        for layer in range(len(WIDTHS)):  # a CPU then trains in two thirds of the time and answers in a third
            p[f"kernel{layer}"] = p[f"kernel{layer}"].to(memory_format=torch.channels_last)
    optimiser = Adam([value.requires_grad_() for value in p.values()], RATE)
    sizes = torch.tensor([len(rows) for rows in shards])[:, None]
    table = torch.zeros(len(shards), int(sizes.max()), dtype=torch.int64)
    for shard, rows in zip(table, shards, strict=True):
        shard[: len(rows)] = torch.from_numpy(rows)
    for step in range(steps):
        optimiser.rate = rate_at(step, steps, RATE)
        places = (torch.rand(len(shards), batch, generator=generator) * sizes).long()
        rows = table.gather(1, places).flatten().to(device)
        draws = (2 * torch.rand(4, len(rows), generator=generator) - 1).to(device)
        some = warped(images[rows], (height, width), distortion, draws)
        if alone:
            logits = forward(p, some)
        else:
            logits = vmap(forward)(p, some.view(len(shards), batch, channels, height, width)).flatten(0, 1)
        loss = F.cross_entropy(logits, labels[rows], reduction="sum") / batch
        loss.backward()  # networks share no parameter: the gradient of the sum is each one's own
        optimiser.step()
    return {name: value.detach()[None] if alone else value.detach() for name, value in p.items()}
