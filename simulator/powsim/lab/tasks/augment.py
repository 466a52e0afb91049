"""Small distortions of images, and crops of photographs: what makes a few originals into many queries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from powsim.lab.task import Images, Split

Shares = NDArray[np.float64]


@dataclass(frozen=True)
class Distortion:
    """The largest of each: uniform within these bounds, one draw per image."""

    degrees: float = 0.0
    shift: float = 0.0  # share of the side
    scale: float = 0.0  # 0.1: from 1/1.1 to 1.1
    noise: float = 0.0  # standard deviation of the grey value, drawn once per pixel


def distorted(x: Images, size: tuple[int, int], limits: Distortion, rng: np.random.Generator) -> Images:
    """Return images [N, channels, *size] drawn larger or smaller and distorted, values in 0..1; black lies outside."""
    draws = torch.from_numpy(rng.uniform(-1, 1, (4, len(x))).astype(np.float32))
    out: Images = warped(torch.from_numpy(x), size, limits, draws).numpy()
    if limits.noise:
        out += limits.noise * rng.standard_normal(out.shape, np.float32)
    return np.clip(out, 0.0, 1.0)


def warped(x: torch.Tensor, size: tuple[int, int], limits: Distortion, draws: torch.Tensor) -> torch.Tensor:
    """Return images [N, channels, *size], turned, zoomed and shifted by the limits times draws [4, N] in -1..1.

    One bilinear look-up does all of it, and changes the size too, so that nothing is blurred twice.
    """
    angle, zoom = math.radians(limits.degrees) * draws[0], (1 + limits.scale) ** draws[1]
    across, down = 2 * limits.shift * draws[2:]  # the grid is 2 wide
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    theta = torch.stack((cos, -sin, across, sin, cos, down), dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [len(x), x.shape[1], *size], align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def augmented(
    x: Images,
    y: NDArray[np.int64],
    original: NDArray[np.int64],
    copies: int,
    size: tuple[int, int],
    limits: Distortion,
    rng: np.random.Generator,
) -> Split:
    """Return a split with `copies` distorted images of each one given, in random order."""
    order = rng.permutation(np.repeat(np.arange(len(x)), copies))
    return Split(distorted(x[order], size, limits, rng), y[order], original[order])


def resized(x: Images, size: tuple[int, int]) -> Images:
    """Return images [N, channels, *size], bilinear, smoothed where they shrink; a flat image stays as flat."""
    made = F.interpolate(torch.from_numpy(x), size, mode="bilinear", antialias=True, align_corners=False)
    out: Images = made.numpy()
    return out


def stretched(x: Images, low: float | Shares = 0.0, high: float | Shares = 1.0) -> Images:
    """Return images whose `low` and `high` quantile are 0 and 1, each by itself, cut to 0..1; flat ones become 0.

    By default the least and the largest value; low, high: for all, or [N].
    """
    ordered = np.sort(x.reshape(len(x), math.prod(x.shape[1:])), axis=1)
    rows, last = np.arange(len(x)), ordered.shape[1] - 1
    black, white = (ordered[rows, np.rint(np.multiply(share, last)).astype(int)] for share in (low, high))
    depth = np.maximum(white - black, np.float32(1e-6))
    out: Images = np.clip((x - black[:, None, None, None]) / depth[:, None, None, None], 0.0, 1.0)
    return out
