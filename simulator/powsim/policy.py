"""Policies: from a ledger to work in hashes. A policy sees queries and costs, never who is honest.

A policy is any object with `queries_per_puzzle`, `partial_puzzle` and either `price`, which gets arrays, or `lowered`,
which gives the few numbers by which the kernel prices: that is faster, and alone knows the time. A scenario names a
shipped one, or its own as "package.module:Class" or "file.py:Class", and the other keys of its [policy] table become
arguments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Protocol

import numpy as np
from annotated_types import Ge, Gt, Le, Len
from numpy.typing import NDArray

from powsim import study
from powsim.ledger import Ledger, Service

if TYPE_CHECKING:
    from powsim_kernels.ledgers import Price

Positive = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1), Le(10**9)]
Every = Annotated[int, Ge(0), Le(10**9)]
Bits = Annotated[float, Ge(0), Le(58)]
PAPER_SOLVER_HZ = 0.44e6
"""Typical rate of the authors' Python solver: the middle of 2^bits / seconds over their timing table."""

MOST_EDGES = 16


class Schedule(Protocol):
    """When puzzles are due: what all policies have."""

    @property
    def queries_per_puzzle(self) -> int:
        """Queries between two puzzles; 0 stands for the service's batch."""

    @property
    def partial_puzzle(self) -> bool:
        """Whether queries after the last whole block are charged as well."""


class Policy(Schedule, Protocol):
    """Prices puzzles. Column p of the answer may depend on columns 0..p only: the server cannot see ahead."""

    def price(self, ledger: Ledger, service: Service) -> NDArray[np.float64]:
        """Return work, float64 [A, P], in expected hashes; 0 means no puzzle."""


class LoweredPolicy(Schedule, Protocol):
    """Prices puzzles by numbers and tables, in the kernel."""

    def lowered(self, service: Service) -> Price:
        """Return what `powsim_kernels.ledgers.Price` describes; when puzzles are due is filled in by the schedule."""


AnyPolicy = Policy | LoweredPolicy


def offers(policy: Schedule) -> frozenset[str]:
    """Return by which of `price` and `lowered` a policy is to be asked; both say the same where it has both.

    They are those of the object itself, or of the class nearest to it that has any: a class derived from a shipped one
    that has another price of its own is not priced by what it inherits.
    """
    own = vars(policy) if hasattr(policy, "__dict__") else {}
    doors = ("price", "lowered")
    for names in (own, *map(vars, type(policy).__mro__)):
        if found := frozenset(name for name in doors if names.get(name) is not None):
            return found
    return frozenset(name for name in doors if callable(getattr(policy, name, None)))


def lowers(policy: Schedule) -> bool:
    """Return whether a policy is priced in the kernel."""
    return "lowered" in offers(policy)


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

    def lowered(self, service: Service) -> Price:
        """Return the same: bits are linear in ln(price), by the regression or as log2(price * solver_hz)."""
        from powsim_kernels.ledgers import Price

        rule = study.price_rule()
        per_decade = rule.bits_per_decade if self.truncate_bits else math.log2(10)
        at_1s = rule.bits_at_1s if self.truncate_bits else math.log2(self.solver_hz)
        least = at_1s + per_decade * math.log10(rule.min_price_s)
        return Price(
            at_1s,
            slope=per_decade * math.log10(self.base),
            expected_slope=service.expected_slope,
            expected_intercept=service.expected_intercept,
            two_sided=True,
            low=max(least, rule.min_bits) if self.truncate_bits else least,
            high=at_1s + per_decade * math.log10(rule.max_price_s),
            whole=self.truncate_bits,
        )


@dataclass(frozen=True)
class _OneSided:
    """What `calibrated`, `decay` and `load` share."""

    target_slowdown: Annotated[float, Gt(1), Le(1000)] = 2.0
    reference_hz: Positive = 4e6
    base: Annotated[float, Gt(1), Le(2)] = 1.0075
    tolerance: Annotated[float, Ge(0), Le(10)] = 0.0
    max_bits: Bits = 40.0
    queries_per_puzzle: Every = 0
    partial_puzzle: bool = True

    def lowered(self, service: Service) -> Price:
        """Return log2(honest) + log2(base) * excess, at most max_bits."""
        from powsim_kernels.ledgers import Price

        return Price(
            math.log2((self.target_slowdown - 1.0) * service.seconds_per_query * self.reference_hz),
            per_query=True,
            slope=math.log2(self.base),
            expected_slope=(1.0 + self.tolerance) * service.mean_cost,
            high=self.max_bits,
        )


@dataclass(frozen=True)
class Calibrated(_OneSided):
    """The same idea corrected: one-sided, exact log2 bits, a puzzle per request, the honest slowdown chosen.

    work = (target_slowdown - 1) * service seconds * reference_hz * base^max(0, cost - (1 + tolerance) * expected):
    a caller of average cost whose device reaches reference_hz is slowed down by target_slowdown on average.
    """

    def price(self, ledger: Ledger, service: Service) -> NDArray[np.float64]:
        """Return the work, at most 2^max_bits."""
        expected = (1.0 + self.tolerance) * service.mean_cost * ledger.queries
        asked = np.maximum(ledger.asked, 1)  # cells past the end are not due; any number will do
        honest = (self.target_slowdown - 1.0) * service.seconds_per_query * asked * self.reference_hz
        # In logarithms, and cut off at the cap: base^excess alone would overflow.
        bits = np.log2(honest) + np.log2(self.base) * np.maximum(ledger.cost - expected, 0.0)
        return np.asarray(np.exp2(np.minimum(bits, self.max_bits)))

    lowered = _OneSided.lowered  # beside `price`, so that a derived class with another price is priced by that


@dataclass(frozen=True)
class Decay(_OneSided):
    """`calibrated`, with a ledger that forgets: what a query cost, and the query, count 1/e after decay_s seconds.

    An identity that pauses is forgiven, and one that asks slowly is never dear; what is expected is forgotten as well.
    The other keys are those of `calibrated`.
    """

    decay_s: Annotated[float, Gt(0), Le(1e10)] = 86_400.0

    def lowered(self, service: Service) -> Price:
        """Return the price of `calibrated`, and the time constant."""
        return replace(super().lowered(service), decay_s=self.decay_s)


@dataclass(frozen=True)
class Load(_OneSided):
    """`calibrated`, times a multiplier that changes with the time of day: dear where the service is busy.

    multipliers[i] holds from i * step_s on, for step_s seconds; after the last comes the first again. Time 0 is the
    scenario's begin (`starts_within_s` spreads callers over the day). A multiplier of 0 asks for no puzzle. max_bits
    caps the product. With `bits` everybody is asked for 2^bits hashes times the multiplier, as by `fixed`; the keys of
    `calibrated` that set the price are then left out.
    """

    multipliers: Annotated[list[Annotated[float, Ge(0), Le(1e6)]], Len(2, 10_000)] = field(
        default_factory=lambda: [1.0, 4.0]
    )
    step_s: Annotated[float, Gt(0), Le(1e9)] = 43_200.0
    bits: Bits | None = None

    def __post_init__(self) -> None:
        if self.bits is None:
            return
        own = {f.name: f.default for f in fields(_OneSided)}
        for name in ("target_slowdown", "reference_hz", "base", "tolerance"):
            if getattr(self, name) != own[name]:
                raise ValueError(f"bits = {self.bits} asks everybody for the same: leave out {name}, or bits")
        if self.bits > self.max_bits:
            raise ValueError(f"bits = {self.bits} exceeds max_bits = {self.max_bits}: raise max_bits")

    def lowered(self, service: Service) -> Price:
        """Return the price of `calibrated` or `fixed`, and the logarithms of the multipliers."""
        from powsim_kernels.ledgers import Price

        price = super().lowered(service) if self.bits is None else Price(self.bits, high=self.max_bits)
        turns = [math.log2(value) if value else -math.inf for value in self.multipliers]
        return replace(price, load_bits=np.array(turns), load_step_s=self.step_s)


@dataclass(frozen=True)
class Banded:
    """Steps instead of a slope: bits[0] below edges[0] of excess cost, bits[1] from there to edges[1], and so on.

    excess = cost - (1 + tolerance) * expected, in the meter's unit. One number of bits more than edges, which rise.
    """

    edges: Annotated[list[Positive], Len(1, MOST_EDGES)] = field(default_factory=lambda: [500.0, 2000.0])
    bits: Annotated[list[Bits], Len(2, MOST_EDGES + 1)] = field(default_factory=lambda: [16.0, 22.0, 28.0])
    tolerance: Annotated[float, Ge(0), Le(10)] = 0.0
    queries_per_puzzle: Every = 0
    partial_puzzle: bool = True

    def __post_init__(self) -> None:
        if len(self.bits) != len(self.edges) + 1:
            raise ValueError(
                f"{len(self.edges)} edges part {len(self.edges) + 1} bands, and there are {len(self.bits)} bits: give "
                "one number of bits for each band"
            )
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"edges = {list(self.edges)} must rise: sort them, each once")

    def price(self, ledger: Ledger, service: Service) -> NDArray[np.float64]:
        """Return 2^bits of the band that the excess falls in."""
        excess = ledger.cost - (1.0 + self.tolerance) * service.mean_cost * ledger.queries
        return np.asarray(np.exp2(np.array(self.bits)[np.searchsorted(self.edges, excess, side="right")]))

    def lowered(self, service: Service) -> Price:
        """Return the same."""
        from powsim_kernels.ledgers import Price

        slope = (1.0 + self.tolerance) * service.mean_cost
        return Price(0.0, expected_slope=slope, band_edges=np.array(self.edges), band_bits=np.array(self.bits))


@dataclass(frozen=True)
class Fixed:
    """The same puzzle for everybody: HashCash without a meter."""

    bits: Bits = 20.0
    queries_per_puzzle: Every = 0
    partial_puzzle: bool = True

    def price(self, ledger: Ledger, service: Service) -> NDArray[np.float64]:
        """Return 2^bits for every cell."""
        return np.full(ledger.cost.shape, 2.0**self.bits)

    def lowered(self, service: Service) -> Price:
        """Return the same."""
        from powsim_kernels.ledgers import Price

        return Price(self.bits)


@dataclass(frozen=True)
class NoPuzzle:
    """No puzzles: the undefended service."""

    queries_per_puzzle: int = 0
    partial_puzzle: bool = True

    def price(self, ledger: Ledger, service: Service) -> NDArray[np.float64]:
        """Return zeros."""
        return np.zeros(ledger.cost.shape)

    def lowered(self, service: Service) -> Price:
        """Return the same."""
        from powsim_kernels.ledgers import Price

        return Price()


SHIPPED: dict[str, type[AnyPolicy]] = {
    "as-published": AsPublished,
    "calibrated": Calibrated,
    "fixed": Fixed,
    "none": NoPuzzle,
    "banded": Banded,
    "load": Load,
    "decay": Decay,
}
