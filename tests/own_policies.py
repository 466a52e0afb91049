"""Policies of a user's own that ask for what shipped ones ask, in Python: `price` alone, and so the slow path."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim.ledger import Ledger, Service
from powsim.policy import SHIPPED, Calibrated, Fixed


class _Own:
    """A shipped policy behind a door that shows its price alone."""

    name = ""

    def __init__(self, **arguments: Any) -> None:
        self.shipped: Any = SHIPPED[self.name](**arguments)
        self.queries_per_puzzle: int = self.shipped.queries_per_puzzle
        self.partial_puzzle: bool = self.shipped.partial_puzzle

    def price(self, ledger: Ledger, service: Service) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.shipped.price(ledger, service)
        return found


class OwnAsPublished(_Own):
    name = "as-published"


class OwnCalibrated(_Own):
    name = "calibrated"


class OwnFixed(_Own):
    name = "fixed"


class OwnNone(_Own):
    name = "none"


class OwnBanded(_Own):
    name = "banded"


class Dearer(Calibrated):
    """Derived from a shipped one: its own price counts, not what it inherits."""

    def price(self, ledger: Ledger, service: Service) -> NDArray[np.float64]:
        return 2.0 * super().price(ledger, service)


class Halved(Fixed):
    """Derived, with a door of its own into the kernel."""

    def lowered(self, service: Service) -> Any:
        from powsim_kernels.ledgers import Price

        return Price(self.bits - 1.0)


class Wrong(Fixed):
    def lowered(self, service: Service) -> Any:
        return 3.0
