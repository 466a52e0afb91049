"""The contract of the batched PATE cost: one mechanism with its orders, and what histograms cost under it."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from powsim_kernels.backend import resolve
from powsim_kernels.pate.accountant import Accumulator, running
from powsim_kernels.pate.conversion import check_delta, check_orders, default_orders, rdp_to_eps, surcharge
from powsim_kernels.pate.rows import bad_row, check_flags, check_groups, check_votes, check_weights, pieces
from powsim_kernels.threads import thread_count

OFFERED = ("reference", "cpu")
LEAST_SIGMA, MOST_SIGMA = 1e-6, 1e12
MOST_VOTERS = 2**53  # counts above are not whole numbers in float64 any more
BUFFER_VALUES = 1 << 19  # Renyi costs held at once where only their conversion is wanted
BUFFER_ROWS = 1 << 17  # rows read at once where the costs of all are wanted


@dataclass(frozen=True, eq=False)
class PatePlan:
    """A noisy vote with its Renyi orders; its methods price histograms `votes` [N, C].

    num_voters T, num_classes C >= 2; votes are counts 0..T, integers (read in place) or floats. sigma: standard
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
        for name in ("sigma", "sigma1"):
            value = getattr(self, name)
            if value is not None and not LEAST_SIGMA <= value <= MOST_SIGMA:
                raise ValueError(f"{name}={value} must lie between {LEAST_SIGMA:g} and {MOST_SIGMA:g} votes")
        if (self.threshold is None) != (self.sigma1 is None):
            raise ValueError(f"threshold={self.threshold} and sigma1={self.sigma1}: give both or neither")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"threshold={self.threshold} must be finite")
        for name, known in (("mechanism", ("gnmax", "lnmax")), ("screening", ("theorem6", "exact"))):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(known)}")
        if self.screening == "exact" and self.threshold is None:
            raise ValueError("screening='exact' prices a threshold: give threshold and sigma1")
        grid = default_orders() if self.orders is None else check_orders(self.orders)
        grid.flags.writeable = False
        object.__setattr__(self, "orders", grid)
        object.__setattr__(self, "backend", resolve(self.backend, OFFERED))
        object.__setattr__(self, "threads", thread_count(self.threads))

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

    def _read(self, votes: Any, first: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return ln q and the most votes of each row; errors count rows from `first` on."""
        array = check_votes(votes, self.num_classes)
        lnq, top = np.empty(len(array)), np.empty(len(array))
        for begin, piece in pieces(array):
            end = begin + len(piece)
            bad = self.twin.log_q(self, piece, lnq[begin:end], top[begin:end])
            if bad >= 0 and self.check:
                raise bad_row(bad, first + begin, piece, self.num_voters)
        return lnq, top

    def logq(self, votes: Any) -> NDArray[np.float64]:
        """Return ln of the bound on Pr[noisy winner is not the first winner], float64 [N], at most ln(1 - 1/C)."""
        return self._read(votes)[0]

    def log_pr_answered(self, votes: Any) -> NDArray[np.float64]:
        """Return ln Pr[max(votes) + noise passes the threshold], float64 [N]; 0 for a plan without one."""
        _, top = self._read(votes)
        return self._log_answered(top)

    def _log_answered(self, top: NDArray[np.float64]) -> NDArray[np.float64]:
        out: NDArray[np.float64] = self.twin.log_answered(self, top) if self.confident else np.zeros(len(top))
        return out

    def rdp(
        self,
        votes: Any,
        *,
        realised: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
        dtype: DTypeLike = np.float64,
    ) -> NDArray[Any]:
        """Return what each row costs at each order: [N, L], float64 or float32.

        With a threshold: its own cost, plus the answer's cost times Pr[answered], or times realised (bool [N]).
        out: an array to fill instead of a new one.
        """
        array = check_votes(votes, self.num_classes)
        shape = (len(array), self.grid.size)
        if out is None:
            if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
                raise TypeError(f"dtype={np.dtype(dtype)}: costs come as float64 or float32")
            out = np.empty(shape, dtype)
        elif out.shape != shape or out.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise ValueError(f"out has shape {out.shape} and dtype {out.dtype}: {shape}, float64 or float32, is needed")
        flags = check_flags(realised, len(array), self.confident)
        whole = out.dtype == np.float64 and out.flags.c_contiguous and not self.confident
        step = BUFFER_ROWS if whole else max(1, BUFFER_VALUES // self.grid.size)
        for begin in range(0, len(array), step):
            rows = slice(begin, begin + step)
            lnq, top = self._read(array[rows], begin)
            if whole:
                self.twin.answers(self, lnq, out[rows])
            else:
                out[rows] = self._costs(lnq, top, None if flags is None else flags[rows])
        return out

    def _costs(
        self, lnq: NDArray[np.float64], top: NDArray[np.float64], realised: NDArray[np.bool_] | None
    ) -> NDArray[np.float64]:
        """Return the costs [n, L] of rows already read."""
        costs = np.empty((len(lnq), self.grid.size))
        self.twin.answers(self, lnq, costs)
        if self.confident:
            costs *= (np.exp(self._log_answered(top)) if realised is None else realised)[:, None]
            tops, where = np.unique(top, return_inverse=True)
            costs += self.twin.thresholds(self, tops)[where]
        return costs

    def eps(
        self, votes: Any, delta: float, *, conversion: str = "improved"
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return (eps [N], order index [N]): each query taken alone, converted as `rdp_to_eps` does."""
        array = check_votes(votes, self.num_classes)
        extra = surcharge(self.grid, check_delta(delta), conversion)
        best, index = np.empty(len(array)), np.empty(len(array), np.int64)
        step = max(1, BUFFER_VALUES // self.grid.size)
        for begin in range(0, len(array), step):
            rows = slice(begin, begin + step)
            best[rows], index[rows] = self._least(array[rows], begin, extra)
        return np.maximum(best, 0.0, out=best), index

    def _least(
        self, votes: NDArray[Any], first: int, extra: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the least cost + extra of each row, and the order it is at."""
        candidates = self._costs(*self._read(votes, first), None)
        candidates += extra
        return np.min(candidates, axis=1), np.argmin(candidates, axis=1)

    def accumulator(self, num_groups: int | None = None) -> Accumulator:
        """Return an empty running total; totals of the same plan merge with `+`."""
        return Accumulator(self, num_groups)

    def total(
        self,
        votes: Any,
        *,
        groups: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        realised: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Return the summed cost at each order: float64 [L], or [G, L] with groups (int [N] in 0..G-1).

        weights: how often each row counts, float [N]. realised as in `rdp`. Memory does not grow with N.
        """
        array = check_votes(votes, self.num_classes)
        numbers = check_groups(groups, len(array), None)
        most = None if numbers is None else int(numbers.max(initial=-1)) + 1
        return self.accumulator(most).add(array, groups=numbers, weights=weights, realised=realised).total()

    def _checked(
        self, votes: Any, groups: Any, weights: Any, realised: Any, num_groups: int | None
    ) -> tuple[NDArray[Any], Any, Any, Any]:
        array = check_votes(votes, self.num_classes)
        if (groups is None) != (num_groups is None):
            raise ValueError(f"groups and num_groups={num_groups}: give both or neither")
        return (
            array,
            check_groups(groups, len(array), num_groups),
            check_weights(weights, len(array)),
            check_flags(realised, len(array), self.confident),
        )

    def running_eps(
        self,
        votes: Any,
        delta: float,
        *,
        start: ArrayLike | None = None,
        every: int = 1,
        groups: ArrayLike | None = None,
        conversion: str = "improved",
    ) -> NDArray[np.float64]:
        """Return eps of all queries so far, after every `every`-th one: float64 [N // every].

        start: Renyi costs [L] (with groups [G, L]) spent before. groups: int [N], then the eps after a query is that
        of its own group. Costs are expectations where a threshold is set.
        """
        return running(self, votes, delta, start, every, groups, conversion)

    def queries_until(self, votes: Any, budget: float, delta: float, *, conversion: str = "improved") -> int:
        """Return the index of the first query after which eps exceeds `budget`; N if none does."""
        spent = self.running_eps(votes, delta, conversion=conversion)
        over = spent > budget
        return int(np.argmax(over)) if over.any() else len(spent)

    def rdp_to_eps(
        self, rdp: ArrayLike, delta: float, conversion: str = "improved"
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return `rdp_to_eps` of costs at this plan's orders."""
        return rdp_to_eps(rdp, self.grid, delta, conversion)
