"""What one run of `simulate_ledgers` is made of: frozen values, checked when they are made.

A policy is lowered to a `Price`: a few numbers and small tables, so that one kernel serves all. With x the excess of
the ledger's cost over an expected line, a the queries that the puzzle stands for and t the time,

    bits = clip(base_bits + [per_query] log2(a) + slope * x + band(x) + load(t), low, high), cut down if `whole`

and the work is 2^bits expected hashes. Bits of -1000 or less, such as -inf, ask for no puzzle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.philox.contract import check_number
from powsim_kernels.realmath import reference as real

MOST_ORDERS, MOST_BANDS, MOST_DEVICES, MOST_ROWS = 16, 16, 64, 1 << 20
MOST_QUERIES = 10**9
NOTHING: NDArray[np.float64] = np.empty(0)


def _array(name: str, values: Any, dimensions: int = 1) -> NDArray[np.float64]:
    """Return a read-only float64 copy, or raise ValueError where it has another shape or holds NaN."""
    array = np.array(values, dtype=np.float64, order="C")
    if array.ndim != dimensions:
        raise ValueError(f"{name} has shape {array.shape}: {dimensions} axes are needed")
    if np.isnan(array).any():
        raise ValueError(f"{name} holds NaN: every value must be a number")
    array.setflags(write=False)
    return array


def _check(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Raise ValueError where a number is outside low..high, NaN or infinite."""
    if not low <= value <= high or not math.isfinite(value):
        span = "" if math.isinf(low) else f", {low:g} or more" if math.isinf(high) else f", {low:g} to {high:g}"
        raise ValueError(f"{name}={value} does not fit: give a finite number{span}")


def _check_count(name: str, value: int, low: int, high: float) -> None:
    """Raise ValueError where a count is outside low..high, TypeError where it is no whole number."""
    _check(name, value, low, high)
    check_number(name, value, 64)


@dataclass(frozen=True)
class Curve:
    """Summed cost after n queries: straight lines between points, and `rate` per query beyond the last."""

    queries: NDArray[np.float64]  # [R] rising, first is 0
    cost: NDArray[np.float64]  # [R]
    rate: float

    def __post_init__(self) -> None:
        for name in ("queries", "cost"):
            object.__setattr__(self, name, _array(f"curve.{name}", getattr(self, name)))
        if not len(self.queries) or len(self.queries) != len(self.cost):
            raise ValueError(f"a curve has {len(self.queries)} queries and {len(self.cost)} costs: give one for one")
        if self.queries[0] != 0 or not np.all(np.diff(self.queries) > 0) or not np.all(np.isfinite(self.queries)):
            raise ValueError("curve.queries must begin at 0 and rise: sort the points and put the origin in front")
        if not np.all(np.isfinite(self.cost)):
            raise ValueError("curve.cost holds an infinite cost: every point must be finite")
        _check("curve.rate", self.rate, -math.inf)

    @staticmethod
    def constant(cost: float) -> Curve:
        """Return the curve of queries that all cost the same."""
        return Curve(np.zeros(1), np.zeros(1), cost)


@dataclass(frozen=True)
class Bank:
    """Costs of single queries, equally likely; each query draws a row (chances are even to within N / 2^32).

    With `recordings`, rows are so many recordings of Q = N / recordings queries each, in the order asked. Callers draw
    one of them for each `block` queries, and query q, counted from 0, costs what stands at position q of the one drawn
    for block q // block: early queries stay early, and neighbours neighbours. Beyond Q, positions are those of the last
    P = block * ceil((Q // block) / 2) queries, again and again: q - k P with the least k that makes it less than Q.

    With `surcharge`, costs are Renyi costs at as many orders, which add up order by order and are converted once:
    eps = min over orders of (sum + surcharge), as `pate.conversion.surcharge` gives it ("classic": ln(1/delta)/(a-1)).
    """

    cost: NDArray[np.float64]  # [N], or [N, L] with a surcharge
    surcharge: NDArray[np.float64] = field(default_factory=lambda: NOTHING)  # [L]
    recordings: int = 0
    block: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "surcharge", _array("bank.surcharge", self.surcharge))
        orders = len(self.surcharge)
        object.__setattr__(self, "cost", _array("bank.cost", self.cost, 2 if orders else 1))
        if orders > MOST_ORDERS:
            raise ValueError(f"{orders} orders exceed {MOST_ORDERS}: keep those that come out best on your data")
        if orders and self.cost.shape[1] != orders:
            raise ValueError(f"bank.cost has {self.cost.shape[1]} columns, bank.surcharge {orders}: one per order")
        if not 1 <= len(self.cost) <= MOST_ROWS:
            raise ValueError(
                f"a bank of {len(self.cost)} rows does not fit: give 1 to {MOST_ROWS:,}, sample a longer one"
            )
        if not np.all(np.isfinite(self.cost) & (self.cost >= 0)):
            raise ValueError("bank.cost holds a negative or infinite cost: every cost must be finite, 0 or more")
        rows, recordings = len(self.cost), check_number("bank.recordings", self.recordings, 32)
        if recordings and rows % recordings:
            raise ValueError(f"bank.recordings={recordings} does not divide {rows} rows: make recordings equally long")
        if recordings and not 1 <= check_number("bank.block", self.block, 32) <= rows // recordings:
            raise ValueError(
                f"bank.block={self.block} does not fit recordings of {rows // recordings} queries: give 1 to as many"
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return recordings, queries in each, queries in a block, and the queries that are repeated beyond the last.

        Single queries are recordings of one query.
        """
        if not self.recordings:
            return len(self.cost), 1, 1, 1
        queries = len(self.cost) // self.recordings
        return self.recordings, queries, self.block, self.block * -(-(queries // self.block) // 2)


@dataclass(frozen=True)
class Price:
    """A policy, lowered; see the head of this file."""

    base_bits: float = -math.inf
    per_query: bool = False
    slope: float = 0.0  # bits per unit of excess
    expected_slope: float = 0.0  # the expected line: expected_slope * n + expected_intercept
    expected_intercept: float = 0.0
    two_sided: bool = False  # x = |cost - expected|, else max(0, cost - expected)
    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    every: int = 1  # queries between two puzzles
    partial: bool = True  # whether a last, shorter stretch is charged as well
    band_edges: NDArray[np.float64] = field(default_factory=lambda: NOTHING)  # [E] rising
    band_bits: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))  # [E + 1] below, between, above
    load_bits: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))  # [K] log2 of multipliers, in turn
    load_step_s: float = math.inf  # seconds that each of them holds; after the last comes the first again
    decay_s: float = math.inf  # time constant with which cost and queries of the ledger are forgotten

    def __post_init__(self) -> None:
        for name in ("band_edges", "band_bits", "load_bits"):
            object.__setattr__(self, name, _array(f"price.{name}", getattr(self, name)))
        _check_count("price.every", self.every, 1, MOST_QUERIES)
        for name in ("slope", "expected_slope", "expected_intercept"):
            _check(f"price.{name}", getattr(self, name), -math.inf)
        if math.isnan(self.base_bits) or self.base_bits == math.inf:
            raise ValueError(f"price.base_bits={self.base_bits} does not fit: give a number, or -inf for no puzzle")
        if not self.low <= self.high:
            raise ValueError(f"price.low={self.low} must not exceed price.high={self.high}")
        edges = self.band_edges
        if len(edges) > MOST_BANDS or len(self.band_bits) != len(edges) + 1 or not np.all(np.diff(edges) > 0):
            raise ValueError(
                f"{len(edges)} band edges and {len(self.band_bits)} bits do not fit: give up to {MOST_BANDS} rising "
                "edges, and one number of bits more"
            )
        if np.any(self.band_bits == math.inf) or not len(self.load_bits) or np.any(self.load_bits == math.inf):
            raise ValueError("price.band_bits and price.load_bits must be numbers, or -inf for no puzzle")
        for name in ("load_step_s", "decay_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"price.{name}={getattr(self, name)} must be above 0 seconds")

    @property
    def timed(self) -> bool:
        """Return whether the price depends on the time at which a puzzle is given out."""
        return bool(math.isfinite(self.decay_s) or len(self.load_bits) > 1)


@dataclass(frozen=True)
class Clock:
    """What takes time beside the puzzles. A request starts when it has arrived and the one before it is done."""

    seconds_per_query: float
    batch: int = 1  # queries in one request; arrivals are spaced by it
    request_every_s: float = 0.0  # 0: the next request arrives when the one before it is done
    think_s: float = 0.0  # pause after the answer to every puzzle
    verify_s: float = 0.0  # of the server, per puzzle
    parallel: bool = (
        False  # sub-puzzles of a puzzle are solved side by side: the slowest counts, energy and rent are of all
    )
    starts_within_s: float = 0.0  # callers begin at a time drawn evenly from 0 to this

    def __post_init__(self) -> None:
        _check("clock.seconds_per_query", self.seconds_per_query, 5e-324)
        _check_count("clock.batch", self.batch, 1, MOST_QUERIES)
        for name in ("request_every_s", "think_s", "verify_s", "starts_within_s"):
            _check(f"clock.{name}", getattr(self, name), 0.0)


@dataclass(frozen=True)
class Devices:
    """What solves: one row per device, drawn by share, its rate log-uniform between low and high."""

    share: NDArray[np.float64]  # [D]
    low_hz: NDArray[np.float64]  # [D]
    high_hz: NDArray[np.float64]  # [D]
    watts: NDArray[np.float64]  # [D] while solving
    usd_per_h: NDArray[np.float64]  # [D] rent, or a negative number for owned devices, which pay their energy
    usd_per_kwh: float = 0.0

    def __post_init__(self) -> None:
        for f in fields(self)[:5]:
            object.__setattr__(self, f.name, _array(f"devices.{f.name}", getattr(self, f.name)))
            if len(getattr(self, f.name)) != len(self.share):
                raise ValueError(f"devices.{f.name} has {len(getattr(self, f.name))} rows, share {len(self.share)}")
        if not 1 <= len(self.share) <= MOST_DEVICES:
            raise ValueError(f"{len(self.share)} devices do not fit: give 1 to {MOST_DEVICES}")
        if not np.all((self.share > 0) & np.isfinite(self.share)):
            raise ValueError("devices.share must be above 0: leave out devices that nobody has")
        if not np.all((self.low_hz > 0) & (self.low_hz <= self.high_hz) & np.isfinite(self.high_hz)):
            raise ValueError("devices.low_hz must be above 0 and not above devices.high_hz")
        if not np.all(np.isfinite(self.watts) & np.isfinite(self.usd_per_h)):
            raise ValueError("devices.watts and devices.usd_per_h must be finite")
        _check("devices.usd_per_kwh", self.usd_per_kwh, 0.0)


@dataclass(frozen=True)
class Users:
    """A population: identity i asks rint(median * e^(sigma z)) queries, cut to 1..maximum, and has data of its own.

    Costs are those of the source times 1 + shift + drift * n / 10,000, within low..high per query, never falling.
    """

    median: float
    sigma: float = 0.0
    maximum: int = MOST_QUERIES
    mean_shift: float = 0.0
    shift_sd: float = 0.0
    drift_sd: float = 0.0
    low: float = -math.inf  # least and greatest cost of a query
    high: float = math.inf

    def __post_init__(self) -> None:
        _check("users.median", self.median, 0.0, MOST_QUERIES)
        _check_count("users.maximum", self.maximum, 1, MOST_QUERIES)
        for name in ("sigma", "shift_sd", "drift_sd"):
            _check(f"users.{name}", getattr(self, name), 0.0, 10.0)
        _check("users.mean_shift", self.mean_shift, -math.inf)
        if not self.low <= self.high:
            raise ValueError(f"users.low={self.low} must not exceed users.high={self.high}")

    @property
    def spread(self) -> bool:
        """Return whether anybody's costs differ from the source's."""
        return bool(self.mean_shift or self.shift_sd or self.drift_sd)


@dataclass(frozen=True)
class Accounts:
    """Repetitions of a campaign that splits its queries over accounts as evenly as it can.

    Identity i of the run is account i % accounts of repetition i // accounts; a repetition has one device.
    """

    queries: int
    accounts: int = 1

    def __post_init__(self) -> None:
        _check_count("accounts.accounts", self.accounts, 1, 2**32 - 1)
        _check_count("accounts.queries", self.queries, self.accounts, float(self.accounts) * MOST_QUERIES)


@dataclass(frozen=True)
class LedgerPlan:
    """Everything that `simulate_ledgers` needs to know about one group of identities."""

    key: int  # 64-bit Philox key of the group
    who: Users | Accounts
    source: Curve | Bank
    price: Price
    clock: Clock
    devices: Devices
    sub_puzzles: int = 1  # each puzzle is as many, of equal work, that must all be solved

    def __post_init__(self) -> None:
        check_number("key", self.key, 64)
        _check_count("sub_puzzles", self.sub_puzzles, 1, 1 << 20)
        most = self.who.maximum if isinstance(self.who, Users) else -(-self.who.queries // self.who.accounts)
        puzzles = -(-most // self.price.every)
        if (puzzles + 1) * self.sub_puzzles >= 2**33:
            raise ValueError(
                f"{puzzles:,} puzzles of {self.sub_puzzles} draws exceed the 2^33 of one stream: raise price.every"
            )
        if isinstance(self.who, Users) and abs(self.who.sigma * 9.0) + real.log(max(self.who.median, 1.0)) > 700:
            raise ValueError(f"users.sigma={self.who.sigma} is too wide: lower it")

    @property
    def campaign(self) -> Accounts | None:
        """Return the campaign, or None for a population."""
        return self.who if isinstance(self.who, Accounts) else None

    @property
    def clocked(self) -> bool:
        """Return whether elapsed time is more than the sum of service, solving and verification."""
        clock = self.clock
        return bool(clock.request_every_s or clock.think_s or clock.starts_within_s or self.price.timed)
