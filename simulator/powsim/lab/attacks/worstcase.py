"""WorstCase: an attacker who knows what each query will cost."""

from __future__ import annotations

import numpy as np

from powsim.lab.attacks.base import View
from powsim.lab.attacks.parts import FromPool
from powsim.lab.task import Images


class WorstCase(FromPool):
    """In-distribution images, the cheapest first, hard labels."""

    name = "worst-case"
    labels = "hard"
    data = "in"
    needs_oracle = True
    source = "Dziedzic et al. 2022, section 4.3: WorstCase"

    def __init__(self, view: View) -> None:
        super().__init__(view)
        if view.oracle is None:
            raise ValueError(f"attack '{self.name}' needs the oracle of exact costs: hand it over in view.oracle")
        self._ranked = False

    def propose(self, n: int) -> Images:
        """Return the n cheapest of those left; equal ones at random."""
        if not self._ranked and self.view.oracle is not None:
            costs = self.view.oracle(self.view.pool[self._left])
            self._left, self._ranked = self._left[np.argsort(costs, kind="stable")], True
        return super().propose(n)
