"""DeepFool active learning: ask the images nearest to the student's decision boundary."""

from __future__ import annotations

import numpy as np
import torch

from powsim.lab.attacks.base import Student, View
from powsim.lab.attacks.parts import FromPool

ITERATIONS = 20
OVERSHOOT = 0.02
BATCH = 512


class DeepFool(FromPool):
    """Ranks by the L2 norm of the smallest perturbation that flips the student, and asks the unperturbed image.

    Of a large pool, `settings["candidates"]` (512) random images are ranked, as its authors do: the rest follow at
    random.
    """

    name = "deepfool"
    labels = "hard"
    data = "in"
    needs_student = True
    source = "Moosavi-Dezfooli et al. 2016, algorithm 2; Ducoffe & Precioso 2018: adversarial active learning"

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._candidates = int(view.settings.get("candidates", 512))

    def student_updated(self, student: Student) -> None:
        """Put random ones of those left, ranked by this student, in front."""
        left = self.view.rng.permutation(self._left)
        some, rest = left[: self._candidates], left[self._candidates :]
        x = torch.from_numpy(self.view.pool[some]).to(self.view.device)
        norms = [flipping_norms(student, part) for part in x.split(BATCH)]
        if norms:
            some = some[np.argsort(torch.cat(norms).cpu().numpy(), kind="stable")]
        self._left = np.concatenate((some, rest))


def flipping_norms(student: Student, x: torch.Tensor) -> torch.Tensor:
    """Return the L2 norm [n] of the perturbation at which each image's class flips, inf where 20 steps do not."""
    moved, norms = x.clone(), torch.full((len(x),), torch.inf, device=x.device)
    rows = torch.arange(len(x), device=x.device)  # of the images that have not flipped yet
    with torch.no_grad():
        first = student.logits(x).argmax(dim=1)
    for _ in range(ITERATIONS):
        moved[rows] += _step(student, moved[rows], first[rows])
        shown = x[rows] + (1 + OVERSHOOT) * (moved[rows] - x[rows])
        with torch.no_grad():
            flipped = student.logits(shown).argmax(dim=1) != first[rows]
        norms[rows[flipped]] = (shown - x[rows])[flipped].flatten(1).norm(dim=1)
        rows = rows[~flipped]
        if len(rows) == 0:
            break
    return norms


def _step(student: Student, x: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """Return the smallest step [n, ...] that crosses a boundary of the student's linearisation."""
    x = x.detach().requires_grad_()
    logits = student.logits(x)
    slopes = [torch.autograd.grad(column.sum(), x, retain_graph=True)[0] for column in logits.T]
    w = torch.stack(slopes, dim=1).flatten(2)  # [n, C, pixels]
    own = torch.arange(len(x), device=x.device)
    w = w - w[own, first][:, None]
    gap = (logits - logits[own, first][:, None]).detach().abs()
    length = w.norm(dim=2).clamp_min(1e-12)
    ratio = gap / length
    ratio[own, first] = torch.inf
    nearest = ratio.argmin(dim=1)
    # DeepFool adds a little so that a point on the boundary still moves.
    scale = (gap[own, nearest] + 1e-4) / length[own, nearest] ** 2
    return (scale[:, None] * w[own, nearest]).reshape(x.shape)
