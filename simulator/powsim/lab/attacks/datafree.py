"""DataFree (DFME): a generator makes images on which student and victim disagree, the student learns from them."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from powsim.lab.adam import Adam
from powsim.lab.attacks.base import Answers, Student, View
from powsim.lab.attacks.parts import NetStudent, generator
from powsim.lab.nets import small_cnn
from powsim.lab.task import Images

NOISE = 256
BATCH = 64
STUDENT_STEPS = 5  # per generator step
DIFFERENCE = 1e-3
STUDENT_RATE = 1e-2
GENERATOR_RATE = 3e-4
TINY = 1e-30


class DataFree:
    """Needs no data: one generator step, by forward differences, then five student steps, and so on.

    The generator step asks 64 images and the same ones moved by 0.001 in a random direction; the victim's logits are
    recovered from its probabilities, and the difference in the L1 loss estimates the gradient that the generator
    ascends. The student steps ask 5 x 64 images of the generator as it then is. 448 queries a round, as in the paper
    with one direction. Student: `small_cnn` with Adam. Each query is used once, as there.
    """

    name = "datafree"
    labels = "soft"
    data = "synthetic"
    needs_student = False
    needs_oracle = False
    source = "Truong et al. 2021: Data-Free Model Extraction, algorithm 1 and section 3.3"

    def __init__(self, view: View) -> None:
        self.view = view
        self._random = generator(view)
        host = generator(view, "cpu")
        self._net = small_cnn(view.shape, view.classes, host).to(view.device)
        self._maker = image_generator(view.shape, host).to(view.device)
        self._student_adam = Adam(self._net.parameters(), STUDENT_RATE)
        self._maker_adam = Adam(self._maker.parameters(), GENERATOR_RATE)
        self._generating = True
        self._begin_phase()

    def _begin_phase(self) -> None:
        """Make the queries of a generator step, or of the student steps that follow it."""
        many = BATCH if self._generating else BATCH * STUDENT_STEPS
        noise = torch.randn(many, NOISE, generator=self._random, device=self.view.device)
        with torch.set_grad_enabled(self._generating):
            self._before = self._maker(noise)  # before the sigmoid
        self._queries = torch.sigmoid(self._before.detach())
        if self._generating:
            self._direction = unit_directions(self._before.detach(), self._random)
            moved = torch.sigmoid(self._before.detach() + DIFFERENCE * self._direction)
            self._queries = torch.cat([self._queries, moved])
        self._asked, self._answers = 0, np.empty((0, self.view.classes), np.float32)

    def propose(self, n: int) -> Images:
        """Return the next n queries of this phase, or the rest of it."""
        x: Images = self._queries[self._asked : self._asked + n].cpu().numpy()
        self._asked += len(x)
        return x

    def observe(self, x: Images, answers: Answers) -> None:
        """Take the answers, and the steps that they complete."""
        self._answers = np.concatenate((self._answers, answers))
        if len(self._answers) < len(self._queries):
            return
        victim = recovered_logits(torch.from_numpy(self._answers).to(self.view.device))
        if self._generating:
            self._step_generator(victim)
        else:
            for images, logits in zip(self._queries.split(BATCH), victim.split(BATCH), strict=True):
                disagreement(self._net(images), logits).mean().backward()
                self._student_adam.step()
        self._generating = not self._generating
        self._begin_phase()

    def _step_generator(self, victim: torch.Tensor) -> None:
        with torch.no_grad():
            here, moved = disagreement(self._net(self._queries), victim).split(BATCH)
        slope = forward_difference(here, moved, self._direction)
        self._before.backward(-slope / BATCH)
        self._maker_adam.step()

    def training_set(self) -> tuple[Images, Answers]:
        """Return nothing: queries are used once, by the attack itself."""
        return np.empty((0, *self.view.shape), np.float32), np.empty((0, self.view.classes), np.float32)

    def student_updated(self, student: Student) -> None:
        """Change nothing."""

    def own_student(self) -> Student | None:
        """Return the student as it is now."""
        return NetStudent(copy.deepcopy(self._net))


def image_generator(shape: tuple[int, int, int], host: torch.Generator) -> nn.Module:
    """Return a network from noise [n, NOISE] to images before the sigmoid.

    Its last layer normalises over the batch, without weights: otherwise the sigmoid saturates and images stay constant.
    """
    channels, height, width = shape
    rows, columns = (height + 3) // 4, (width + 3) // 4
    # Layers draw initial weights from the global generator; those are replaced below. (`skip_init` loads for 0.7 s.)
    with torch.random.fork_rng(devices=[]):
        layers = nn.Sequential(
            nn.Linear(NOISE, 32 * rows * columns),
            nn.Unflatten(1, (32, rows, columns)),
            nn.BatchNorm2d(32),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(32, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.LeakyReLU(0.2),
            nn.Upsample(size=(height, width)),
            nn.Conv2d(16, channels, 3, padding=1),
            nn.BatchNorm2d(channels, affine=False),
        )
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=0.2, generator=host)
            nn.init.zeros_(layer.bias)
    return layers.to(memory_format=torch.channels_last)  # a third of the time on a CPU


def recovered_logits(p: torch.Tensor) -> torch.Tensor:
    """Return logits [n, C] from probabilities, up to the constant that the softmax took: their mean is 0."""
    logs = p.clamp_min(TINY).log()
    return logs - logs.mean(dim=1, keepdim=True)


def disagreement(student: torch.Tensor, victim: torch.Tensor) -> torch.Tensor:
    """Return the L1 distance [n] of logits [n, C]."""
    return (student - victim).abs().sum(dim=1)


def unit_directions(like: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Return a direction of length 1 for each image, uniform on the sphere."""
    normal = torch.randn(like.shape, generator=random, dtype=like.dtype, device=like.device)
    return F.normalize(normal.flatten(1), dim=1).reshape(like.shape)


def forward_difference(here: torch.Tensor, moved: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """Return the estimated gradient [n, ...]: d (loss moved - loss here) / step along unit directions, d the pixels."""
    dimensions = direction[0].numel()
    slope = dimensions * (moved - here) / DIFFERENCE
    return slope.reshape(-1, *[1] * (direction.dim() - 1)) * direction
