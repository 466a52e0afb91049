"""Policies: from a ledger to work in hashes. A policy sees queries and costs, never who is honest.

A policy is any object with `queries_per_puzzle`, `partial_puzzle` and `price`; a scenario names a shipped one, or its
own as "package.module:Class" or "file.py:Class", and the other keys of its [policy] table become arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from powsim import study
from powsim.ledger import Ledger, Service

Positive = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1), Le(10**9)]
PAPER_SOLVER_HZ = 0.44e6
"""Typical rate of the authors' Python solver: the middle of 2^bits / seconds over their timing table."""


class Policy(Protocol):
    """Prices puzzles. Column p of the answer may depend on columns 0..p only: the server cannot see ahead."""

    @property
    def queries_per_puzzle(self) -> int:
        """Queries between two puzzles; 0 stands for the service's batch."""

    @property
    def partial_puzzle(self) -> bool:
        """Whether queries after the last whole block are charged as well."""

    def price(self, ledger: Ledger, service: Service) -> NDArray[np.float64]:
        """Return work, float64 [A, P], in expected hashes; 0 means no puzzle."""


@dataclass(frozen=True)
class AsPublished:
    """The released server's rule, faults included: two-sided, one puzzle per 1,000 queries, bits cut to an integer.

    price = clip(base^|cost - expected|, 0.1, 2948) seconds; bits = int(max(3.514 log10(price) + 18.53, 16)).
    An identity that stops before 1,000 queries meets no puzzle: that is how Table 2 counts. The released server
    asks per request instead: queries_per_puzzle = 64, partial_puzzle = true.
    """

    base: Annotated[float, Gt(1), Le(2)] = 1.0075
    queries_per_puzzle: Count = 1000
    partial_puzzle: bool = False
    truncate_bits: bool = True  # False: price * solver_hz hashes, so that the paper's solver takes the price on average
    solver_hz: Positive = PAPER_SOLVER_HZ

    def price(self, ledger: Ledger, service: Service) -> NDArray[np.float64]:
        """Return 2^bits for every cell."""
        rule = study.price_rule()
        expected = service.expected_slope * ledger.queries + service.expected_intercept
        price_s = rule.price_s(ledger.cost - expected, base=self.base)
        return np.exp2(rule.server_bits(price_s)) if self.truncate_bits else price_s * self.solver_hz


@dataclass(frozen=True)
class Calibrated:
    """The same idea corrected: one-sided, exact log2 bits, a puzzle per request, the honest slowdown chosen.

    work = (target_slowdown - 1) * service seconds * reference_hz * base^max(0, cost - (1 + tolerance) * expected):
    a caller of average cost whose device reaches reference_hz is slowed down by target_slowdown on average.
    """

    target_slowdown: Annotated[float, Gt(1), Le(1000)] = 2.0
    reference_hz: Positive = 4e6
    base: Annotated[float, Gt(1), Le(2)] = 1.0075
    tolerance: Annotated[float, Ge(0), Le(10)] = 0.0
    max_bits: Annotated[float, Ge(0), Le(58)] = 40.0
    queries_per_puzzle: Annotated[int, Ge(0), Le(10**9)] = 0
    partial_puzzle: bool = True

    def price(self, ledger: Ledger, service: Service) -> NDArray[np.float64]:
        """Return the work, at most 2^max_bits."""
        expected = (1.0 + self.tolerance) * service.mean_cost * ledger.queries
        asked = np.maximum(ledger.asked, 1)  # cells past the end are not due; any number will do
        honest = (self.target_slowdown - 1.0) * service.seconds_per_query * asked * self.reference_hz
        # In logarithms, and cut off at the cap: base^excess alone would overflow.
        bits = np.log2(honest) + np.log2(self.base) * np.maximum(ledger.cost - expected, 0.0)
        return np.asarray(np.exp2(np.minimum(bits, self.max_bits)))


@dataclass(frozen=True)
class Fixed:
    """The same puzzle for everybody: HashCash without a meter."""

    bits: Annotated[float, Ge(0), Le(58)] = 20.0
    queries_per_puzzle: Annotated[int, Ge(0), Le(10**9)] = 0
    partial_puzzle: bool = True

    def price(self, ledger: Ledger, service: Service) -> NDArray[np.float64]:
        """Return 2^bits for every cell."""
        return np.full(ledger.cost.shape, 2.0**self.bits)


@dataclass(frozen=True)
class NoPuzzle:
    """No puzzles: the undefended service."""

    queries_per_puzzle: int = 0
    partial_puzzle: bool = True

    def price(self, ledger: Ledger, service: Service) -> NDArray[np.float64]:
        """Return zeros."""
        return np.zeros(ledger.cost.shape)


SHIPPED: dict[str, type[Policy]] = {
    "as-published": AsPublished,
    "calibrated": Calibrated,
    "fixed": Fixed,
    "none": NoPuzzle,
}
