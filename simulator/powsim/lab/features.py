"""Oriented-gradient features: fixed, so that what all teachers share has seen no private image."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

ORIENTATIONS, CELLS = 8, 4
WIDTH = ORIENTATIONS * CELLS * CELLS
CHUNK = 512  # images at once: about 8 MB at 16x16


def features(x: NDArray[np.float32] | torch.Tensor, device: str = "cpu") -> torch.Tensor:
    """Return oriented-gradient features: float32 [N, 128] on the device, of length 1 (0 for a flat image).

    Differentiable in x where x asks for it; at a flat spot, where the size of a gradient has a kink, by 0.

    x: [N, channels, height, width]. The gradient of each pixel (central differences of the channels' mean) goes into
    the two nearest of 8 orientations over the full circle in proportion, and is averaged over 4x4 cells.
    Follows Dalal and Triggs, "Histograms of oriented gradients" (2005), with one block.
    """
    images = torch.as_tensor(x)
    return torch.cat([_some(part.to(device, torch.float32)) for part in images.split(CHUNK)])


def _some(x: torch.Tensor) -> torch.Tensor:
    grey = F.pad(x.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    right = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]) / 2
    down = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]) / 2
    flat = (right == 0) & (down == 0)  # where hypot's derivative is not a number
    size = torch.hypot(right.masked_fill(flat, 1.0), down).masked_fill(flat, 0.0)
    turn = torch.atan2(down, right) * (ORIENTATIONS / (2 * math.pi))  # -4..4
    bins = torch.arange(ORIENTATIONS, device=x.device, dtype=x.dtype)[None, :, None, None]
    away = torch.remainder(turn - bins + ORIENTATIONS / 2, ORIENTATIONS) - ORIENTATIONS / 2
    cells = F.adaptive_avg_pool2d(size * (1 - away.abs()).clamp_min(0), CELLS).flatten(1)
    return F.normalize(cells, dim=1)
