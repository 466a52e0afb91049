"""Attackers without data of the task: noise, CopyCat and random Knockoff."""

from __future__ import annotations

from powsim.lab.attacks.base import View
from powsim.lab.attacks.parts import Fresh, Learner
from powsim.lab.task import Images


class Noise(Learner):
    """Pixels uniform in 0..1, hard labels."""

    name = "noise"
    labels = "hard"
    data = "synthetic"
    source = "Tramèr et al. 2016: random queries"

    def propose(self, n: int) -> Images:
        """Return n images of noise."""
        return self.view.rng.random((n, *self.view.shape), dtype="float32")


class CopyCat(Learner):
    """Out-of-distribution images at random without replacement, hard labels."""

    name = "copycat"
    labels = "hard"
    data = "out"
    source = "Correia-Silva et al. 2018: Copycat CNN"

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._images = Fresh(view.outside, view.rng)

    def propose(self, n: int) -> Images:
        """Return n images, none of them asked before."""
        return self._images.take(n)


class KnockoffRandom(CopyCat):
    """The same queries as CopyCat, but the student learns from probabilities."""

    name = "knockoff"
    labels = "soft"
    source = "Orekondy et al. 2019: Knockoff Nets, random"
