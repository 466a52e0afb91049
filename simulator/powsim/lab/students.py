"""The stolen models: those of all attacks are trained as one network whose layers have a row of weights for each.

A step of one small network is mostly overhead; grouped convolutions and batched matrix products share it between the
students. Each student still has its own weights, data, sampling and optimiser state: none influences another.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from powsim.lab.adam import Adam, rate_at
from powsim.lab.attacks.base import Answers
from powsim.lab.attacks.parts import NetStudent
from powsim.lab.nets import small_cnn
from powsim.lab.task import Images

WIDTHS, HIDDEN = (16, 32), 128  # the victim's widths; 8 and 24 take two thirds of the time
BATCH = 32
RATE = 6e-3

Weights = list[torch.Tensor]
"""[S, ...] of each layer's weight and bias, in order."""


@dataclass(frozen=True)
class Lesson:
    """What one student is fitted on, and the random numbers it draws its batches with."""

    x: Images  # [m, channels, height, width]
    targets: Answers  # [m, C] distributions
    seed: int
    shifts: bool = False  # whether batches are shifted by up to a pixel, the same way for every lesson that wants it


def fresh_student(shape: tuple[int, int, int], classes: int, seed: int, device: str = "cpu") -> NetStudent:
    """Return an untrained student; the same seed gives the same weights on every device."""
    random = torch.Generator().manual_seed(seed)
    return NetStudent(small_cnn(shape, classes, random, widths=WIDTHS, hidden=HIDDEN).to(device))


def fit_students(
    students: Sequence[NetStudent], lessons: Sequence[Lesson], *, steps: int, batch: int = BATCH, rate: float = RATE
) -> list[NetStudent]:
    """Return the students after `steps` of Adam on their own lessons, all at once; those given stay as they are.

    Batches of each run through its lesson without repeats, again and again; the rate rises over a tenth of the steps
    and falls as a cosine. Those that shift gain from it where labels do not depend on a pixel's place: images of the
    task's own kind. The loss is the cross-entropy with the targets. A student trained in company equals the one
    trained alone but for rounding: sums are added in another order.
    Raises ValueError where a lesson is empty.
    """
    if not students:
        return []
    for number, lesson in enumerate(lessons):
        if len(lesson.x) == 0:
            raise ValueError(f"lessons[{number}] is empty: a student needs at least one labelled image")
    nets = [student.net for student in students]
    device = next(nets[0].parameters()).device
    columns = zip(*(net.parameters() for net in nets), strict=True)
    weights = [torch.stack([own.detach() for own in column]).requires_grad_() for column in columns]
    x = torch.cat([torch.from_numpy(lesson.x) for lesson in lessons]).to(device)
    targets = torch.cat([torch.from_numpy(lesson.targets) for lesson in lessons]).to(device)
    rows = _batches(lessons, steps, batch).to(device)
    shifted = torch.tensor([lesson.shifts for lesson in lessons], device=device)[:, None, None, None]
    turns = torch.randint(-1, 2, (steps, 2), generator=torch.Generator().manual_seed(steps)).tolist()
    optimiser = Adam(weights, rate)
    for step in range(steps):
        optimiser.rate = rate_at(step, steps, rate)
        own = rows[step]  # [batch, S]
        images = x[own]
        if turns[step] != [0, 0] and shifted.any():
            images = torch.where(shifted, _shifted(images, *turns[step]), images)
        logits = forward(nets[0], weights, images)
        # The sum over students keeps their gradients apart; the mean is over each one's batch.
        (-(targets[own.T] * F.log_softmax(logits, dim=2)).sum(dim=2).mean(dim=1).sum()).backward()
        optimiser.step()
    return [NetStudent(_with(net, [own[row].detach() for own in weights])) for row, net in enumerate(nets)]


def forward(net: nn.Sequential, weights: Weights, x: torch.Tensor) -> torch.Tensor:
    """Return the logits [S, n, C] of S networks of one architecture, each on its own images x [n, S, c, h, w]."""
    n, count = x.shape[:2]
    # Channels last is what grouped convolutions on a CPU are fast with.
    z = x.flatten(1, 2).contiguous(memory_format=torch.channels_last)
    left = iter(weights)
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            weight, bias = next(left).flatten(0, 1), next(left).flatten()
            z = F.conv2d(z, weight, bias, layer.stride, layer.padding, groups=count)
        elif isinstance(layer, nn.Flatten):
            z = z.reshape(n, count, -1).transpose(0, 1)
        elif isinstance(layer, nn.Linear):
            weight, bias = next(left), next(left)
            z = torch.baddbmm(bias[:, None], z, weight.transpose(1, 2))
        else:
            z = layer(z)
    return z


def _shifted(x: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Return images moved by a pixel or none; what comes in at an edge is that edge again."""
    height, width = x.shape[-2:]
    rows = (torch.arange(height, device=x.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=x.device) - right).clamp(0, width - 1)
    return x[..., rows, :][..., columns]


def _batches(lessons: Sequence[Lesson], steps: int, batch: int) -> torch.Tensor:
    """Return the rows of all lessons, one after the other, that each step takes: int64 [steps, batch, S]."""
    columns, begin = [], 0
    for lesson in lessons:
        rng, count = torch.Generator().manual_seed(lesson.seed), len(lesson.x)
        runs = -(-steps * batch // count)
        order = torch.cat([torch.randperm(count, generator=rng) for _ in range(runs)])
        columns.append(begin + order[: steps * batch].reshape(steps, batch))
        begin += count
    return torch.stack(columns, dim=2)


def _with(net: nn.Sequential, weights: Weights) -> nn.Sequential:
    """Return a copy of a network with other weights."""
    other = copy.deepcopy(net)
    for parameter, weight in zip(other.parameters(), weights, strict=True):
        parameter.data.copy_(weight)  # laid out as it was: channels last, which a CPU answers three times as fast with
    return other
