"""The contract of the batched PATE cost: one mechanism with its orders, and what histograms cost under it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from powsim_kernels.choice import choose
from powsim_kernels.pate.accountant import Accumulator, running
from powsim_kernels.pate.conversion import (
    check_delta,
    check_orders,
    default_orders,
    rdp_to_eps,
    surcharge,
)
from powsim_kernels.pate.hosted import BUFFER_VALUES
from powsim_kernels.pate.rows import (
    bad_row,
    check_flags,
    check_groups,
    check_votes,
    check_weights,
    group_count,
    to_host,
)
from powsim_kernels.threads import thread_count

OFFERED = ("reference", "cpu", "cuda")
LEAST_SIGMA, MOST_SIGMA = 1e-6, 1e12
MOST_THRESHOLD = 1e18
MOST_VOTERS = 2**53  # counts above are not whole numbers in float64 any more


@dataclass(frozen=True, eq=False)
class PatePlan:
    """A noisy vote with its Renyi orders; its methods price histograms `votes` [N, C].

    num_voters T, num_classes C >= 2; votes are counts 0..T, integers (read in place) or floats: NumPy arrays, lists,
    and whatever speaks DLPack. backend: "cuda" also takes votes on the device (CuPy, torch: `__cuda_array_interface__`
    or DLPack) without a copy; results live where the votes live, there as CuPy arrays. A plan stays on the device that
    is CuPy's current one when it first computes. "auto": CUDA where it can start, else the CPU. sigma: standard
    deviation of the Gaussian noise per class ("gnmax"; Papernot et al. 2018, theorem 6) or the Laplace scale ("lnmax";
    Papernot et al. 2017). orders: Renyi orders > 1, each once, default `default_orders()`.
    threshold with sigma1: Confident GNMax, a query is answered if max(votes) + N(0, sigma1^2) reaches the threshold;
    screening says how that bit is priced: "theorem6", or "exact" (the larger Renyi divergence to max -1 and +1).
    clip=True takes the smaller of data-dependent cost and order / sigma^2; clip=False the data-dependent one wherever
    its conditions hold, as the published private-kNN accountant does (threshold step included).
    check=False lets rows that cannot be votes through: they cost NaN, and so does every total with one.

    Costs depend on private votes: publishing them, or any eps made from them, leaks. Costs below 1e-290 may be 0.
    Raises ValueError naming the argument, TypeError for votes that are no numbers, BackendUnavailable.
    """

    num_voters: int
    num_classes: int
    sigma: float
    orders: ArrayLike | None = None  # float64 [L] after construction
    threshold: float | None = None
    sigma1: float | None = None
    mechanism: str = "gnmax"
    clip: bool = True
    screening: str = "theorem6"
    backend: str = "auto"
    threads: int | None = None
    check: bool = True

    def __post_init__(self) -> None:
        for name, least, most in (("num_voters", 1, MOST_VOTERS), ("num_classes", 2, 2**31)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise TypeError(f"{name}={value!r} must be an integer")
            if not least <= value <= most:
                raise ValueError(f"{name}={value} must lie between {least} and {most}")
        for name, low, high in (
            ("sigma", LEAST_SIGMA, MOST_SIGMA),
            ("sigma1", LEAST_SIGMA, MOST_SIGMA),
            ("threshold", -MOST_THRESHOLD, MOST_THRESHOLD),
        ):
            value = getattr(self, name)
            if value is None and name != "sigma":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
                raise TypeError(f"{name}={value!r} must be a number")
            object.__setattr__(self, name, float(value))  # float32 would lose digits in all that follows
            if not low <= value <= high:
                raise ValueError(f"{name}={value} must lie between {low:g} and {high:g} votes")
        for name in ("clip", "check"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise TypeError(f"{name}={getattr(self, name)!r} must be True or False")
        if (self.threshold is None) != (self.sigma1 is None):
            raise ValueError(f"threshold={self.threshold} and sigma1={self.sigma1}: give both or neither")
        for name, known in (("mechanism", ("gnmax", "lnmax")), ("screening", ("theorem6", "exact"))):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(known)}")
        if self.screening == "exact" and self.threshold is None:
            raise ValueError("screening='exact' prices a threshold: give threshold and sigma1")
        grid = default_orders() if self.orders is None else check_orders(self.orders)
        grid.flags.writeable = False
        object.__setattr__(self, "orders", grid)
        object.__setattr__(self, "backend", choose(self.backend, OFFERED, "pate"))
        object.__setattr__(self, "threads", thread_count(self.threads))

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone, for copies and other processes: what was made of them is made again there."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.grid.flags.writeable = False

    @property
    def grid(self) -> NDArray[np.float64]:
        """The orders, float64 [L]."""
        return self.orders  # type: ignore[return-value]

    @property
    def confident(self) -> bool:
        """Whether a threshold decides which queries are answered."""
        return self.threshold is not None

    @property
    def gate(self) -> tuple[float, float]:
        """Threshold and sigma1; NaN without them."""
        return (math.nan, math.nan) if self.threshold is None else (self.threshold, self.sigma1 or math.nan)

    @cached_property
    def twin(self) -> Any:
        """The module that computes."""
        return importlib.import_module(f"powsim_kernels.pate.{self.backend}")

    @cached_property
    def space(self) -> Any:
        """The module that knows where votes and results live: on the host, or on a device."""
        return self.twin if self.backend == "cuda" else importlib.import_module("powsim_kernels.pate.hosted")

    @cached_property
    def data_independent(self) -> NDArray[np.float64]:
        """What one answered query costs at most at each order, whatever the votes: float64 [L]."""
        if self.mechanism == "lnmax":
            cost = np.minimum(2.0 * self.grid / self.sigma**2, 2.0 / self.sigma)
        else:
            cost = self.grid / self.sigma**2
        if self.sigma1 is None:
            return cost
        if self.screening == "theorem6":
            return cost + self.grid / (2.0 * self.sigma1**2)
        worst = np.zeros(self.grid.size)
        step = max(1, BUFFER_VALUES // self.grid.size)
        for begin in range(-(-self.num_voters // self.num_classes), self.num_voters + 1, step):
            tops = np.arange(begin, min(begin + step, self.num_voters + 1), dtype=np.float64)
            worst = np.maximum(worst, self.twin.thresholds(self, tops).max(axis=0))
        return cost + worst

    def _adopt(self, values: Any, what: str = "votes") -> Any:
        return self.space.adopt(self, values, what)

    def _votes(self, votes: Any) -> Any:
        """Return votes [N, C] as an array that the twin can cut into pieces; values are not looked at."""
        return check_votes(self._adopt(votes), votes, self.num_classes)

    def _read(
        self, votes: Any, *, width: int = 1, lnq: Any = None, top: Any = None
    ) -> Iterator[tuple[slice, Any, Any]]:
        """Yield (rows, ln q, most votes) of pieces of votes; `width` numbers for each row are wanted at a time.

        lnq, top: arrays [N] to fill, else each piece has its own.
        """
        for begin, piece in self.space.pieces(self, votes, width):
            rows = slice(begin, begin + len(piece))
            own = [
                self.space.room(self, (len(piece),), np.float64, piece) if values is None else values[rows]
                for values in (lnq, top)
            ]
            bad = self.twin.log_q(self, piece, *own)
            if bad >= 0 and self.check:
                raise bad_row(begin + bad, votes, self.num_voters)
            yield rows, own[0], own[1]

    def logq(self, votes: Any) -> NDArray[np.float64]:
        """Return ln of the bound on Pr[noisy winner is not the first winner], float64 [N], at most ln(1 - 1/C)."""
        array = self._votes(votes)
        out: NDArray[np.float64] = self.space.room(self, (len(array),), np.float64, array)
        for _ in self._read(array, lnq=out):
            pass
        return out

    def log_pr_answered(self, votes: Any) -> NDArray[np.float64]:
        """Return ln Pr[max(votes) + noise passes the threshold], float64 [N]; 0 for a plan without one."""
        array = self._votes(votes)
        out: NDArray[np.float64] = self.space.room(self, (len(array),), np.float64, array)
        for rows, _, top in self._read(array):
            self.space.store(out, rows, self.twin.log_answered(self, top) if self.confident else 0.0)
        return out

    def rdp(
        self,
        votes: Any,
        *,
        realised: Any = None,
        out: NDArray[Any] | None = None,
        dtype: DTypeLike = np.float64,
    ) -> NDArray[Any]:
        """Return what each row costs at each order: [N, L], float64 or float32.

        With a threshold: its own cost, plus the answer's cost times Pr[answered], or times realised (bool [N]).
        out: an array to fill instead of a new one; after an error it holds nothing of use.
        """
        array = self._votes(votes)
        shape, kinds = (len(array), self.grid.size), (np.dtype(np.float32), np.dtype(np.float64))
        if out is None:
            if np.dtype(dtype) not in kinds:
                raise TypeError(f"dtype={np.dtype(dtype)}: costs come as float64 or float32")
            out = self.space.room(self, shape, dtype, array)
        elif out.shape != shape or out.dtype not in kinds:
            raise ValueError(f"out has shape {out.shape} and dtype {out.dtype}: {shape}, float64 or float32, is needed")
        flags = self._flags(realised, len(array))
        for rows, lnq, top in self._read(array, width=self.grid.size):
            self.space.costs(self, lnq, top, None if flags is None else flags[rows], out[rows])
        return out

    def _costs(
        self, lnq: NDArray[np.float64], top: NDArray[np.float64], realised: NDArray[np.bool_] | None
    ) -> NDArray[np.float64]:
        """Return the costs [n, L] of rows already read, on the host."""
        costs = np.empty((len(lnq), self.grid.size))
        self.twin.answers(self, lnq, costs)
        if self.confident:
            costs *= (np.exp(self.twin.log_answered(self, top)) if realised is None else realised)[:, None]
            tops, where = np.unique(top, return_inverse=True)
            costs += self.twin.thresholds(self, tops)[where]
        return costs

    def _flags(self, realised: Any, rows: int) -> Any:
        """Return which rows were answered, bool [N], or None for the expectation."""
        if realised is None:
            return None
        flags = self._adopt(realised, "realised")
        check_flags(flags, rows, self.confident)
        return flags

    def _weights(self, weights: Any, rows: int) -> Any:
        """Return how often each row counts, real [N], or None; values are not looked at."""
        if weights is None:
            return None
        factors = self._adopt(weights, "weights")
        check_weights(factors, rows)
        return factors

    def _groups(self, groups: Any, rows: int) -> Any:
        """Return the group of each row, integers [N], or None; values are not looked at."""
        if groups is None:
            return None
        numbers = self._adopt(groups, "groups")
        check_groups(numbers, rows)
        return numbers

    def eps(
        self, votes: Any, delta: float, *, conversion: str = "improved"
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return (eps [N], order index [N]): each query taken alone, converted as `rdp_to_eps` does."""
        array = self._votes(votes)
        extra = surcharge(self.grid, check_delta(delta), conversion)
        best = self.space.room(self, (len(array),), np.float64, array)
        index = self.space.room(self, (len(array),), np.int64, array)
        for rows, lnq, top in self._read(array):
            self.space.best(self, lnq, top, extra, best[rows], index[rows])
        return best, index

    def accumulator(self, num_groups: int | None = None) -> Accumulator:
        """Return an empty running total; totals of the same plan merge with `+`."""
        return Accumulator(self, num_groups)

    def total(
        self,
        votes: Any,
        *,
        groups: Any = None,
        weights: Any = None,
        realised: Any = None,
    ) -> NDArray[np.float64]:
        """Return the summed cost at each order: float64 [L], or [G, L] with groups (int [N] in 0..G-1).

        weights: how often each row counts, float [N]. realised as in `rdp`. Memory does not grow with N.
        """
        array = self._votes(votes)
        numbers = self._groups(groups, len(array))
        most = None if numbers is None else group_count(numbers, self.grid.size)
        return self.accumulator(most).add(array, groups=numbers, weights=weights, realised=realised).total()

    def running_eps(
        self,
        votes: Any,
        delta: float,
        *,
        start: ArrayLike | None = None,
        every: int = 1,
        groups: Any = None,
        conversion: str = "improved",
    ) -> NDArray[np.float64]:
        """Return eps of all queries so far, after every `every`-th one: float64 [N // every].

        start: Renyi costs [L] (with groups [G, L]) spent before. groups: int [N], then the eps after a query is that
        of its own group. Costs are expectations where a threshold is set.
        """
        array = self._votes(votes)
        numbers = self._groups(groups, len(array))
        if isinstance(every, bool) or not isinstance(every, int | np.integer):
            raise TypeError(f"every={every!r} must be an integer")
        if every < 1:
            raise ValueError(f"every={every} must be at least 1")
        out: NDArray[np.float64] = self.space.room(self, (len(array) // every,), np.float64, array)
        for rows, eps in running(self, array, delta, start, numbers, conversion):
            some, before = eps[(every - 1 - rows.start) % every :: every], rows.start // every
            self.space.store(out, slice(before, before + len(some)), some)
        return out

    def queries_until(self, votes: Any, budget: float, delta: float, *, conversion: str = "improved") -> int:
        """Return the index of the first query after which eps exceeds `budget`; N if none does."""
        if not isinstance(budget, int | float | np.integer | np.floating) or math.isnan(budget):
            raise ValueError(f"budget={budget!r} must be a number")
        array = self._votes(votes)
        for rows, eps in running(self, array, delta, None, None, conversion):
            over = eps > budget
            if over.any():
                return int(rows.start) + int(over.argmax())
        return len(array)

    def rdp_to_eps(
        self, rdp: Any, delta: float, conversion: str = "improved"
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return `rdp_to_eps` of costs at this plan's orders; costs on a device are copied to the host."""
        return rdp_to_eps(to_host(rdp), self.grid, delta, conversion)
