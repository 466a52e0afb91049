"""Costs of many queries: totals that merge, and eps after every query."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powsim_kernels.pate.conversion import check_delta, surcharge
from powsim_kernels.pate.rows import bad_row, group_count, groups_of, on_device, to_host, weights_of

if TYPE_CHECKING:
    from powsim_kernels.pate.plan import PatePlan

State = dict[str, NDArray[np.float64]]
ROWS = 1 << 18  # whose groups and weights are converted at once
MOST_SPENT = 1e300


class Accumulator:
    """A running total of one plan, in memory that does not grow with the rows; `a + b` is the total of both.

    num_groups: None for one total [L], else totals of that many groups, [num_groups, L].
    """

    def __init__(self, plan: PatePlan, num_groups: int | None = None) -> None:
        self.plan, self.num_groups = plan, num_groups
        self.rows = 0
        self._on_device = plan.backend == "cuda"  # whether all rows so far were
        self._state: State = plan.twin.empty(plan, 1 if num_groups is None else num_groups)

    def add(
        self,
        votes: Any,
        *,
        groups: Any = None,
        weights: Any = None,
        realised: Any = None,
    ) -> Accumulator:
        """Add rows, and return this accumulator. A bad row raises and changes nothing."""
        plan = self.plan
        array = plan._votes(votes)
        if (groups is None) != (self.num_groups is None):
            raise ValueError(f"groups and num_groups={self.num_groups}: give both or neither")
        numbers, factors = plan._groups(groups, len(array)), plan._weights(weights, len(array))
        flags = plan._flags(realised, len(array))
        found: State = plan.twin.empty(plan, 1 if self.num_groups is None else self.num_groups)
        for first, whole in plan.space.pieces(plan, array):
            step = len(whole) if numbers is None and factors is None else ROWS
            for begin in range(0, len(whole), step):
                piece, cut = whole[begin : begin + step], slice(first + begin, first + begin + step)
                bad = plan.twin.add(
                    plan,
                    found,
                    piece,
                    None if numbers is None else groups_of(numbers[cut], cut.start, self.num_groups or 0),
                    None if factors is None else weights_of(factors[cut], cut.start),
                    None if flags is None else flags[cut],
                )
                if bad >= 0 and plan.check:
                    raise bad_row(cut.start + bad, array, plan.num_voters)
        for name, values in found.items() if self.rows else ():
            self._state[name] += values
        self._state = self._state if self.rows else found
        self.rows += len(array)
        self._on_device &= on_device(array)
        return self

    def __add__(self, other: Accumulator) -> Accumulator:
        if other.plan is not self.plan or other.num_groups != self.num_groups:
            raise ValueError("accumulators of different plans or numbers of groups do not merge")
        both = Accumulator(self.plan, self.num_groups)
        both.rows = self.rows + other.rows
        both._on_device = self._on_device and other._on_device
        both._state = {name: values + other._state[name] for name, values in self._state.items()}
        return both

    def total(self) -> NDArray[np.float64]:
        """Return the summed costs so far: float64 [L] or [num_groups, L]; on a device where all rows were there."""
        totals: NDArray[np.float64] = self.plan.twin.finish(self.plan, self._state)
        totals = totals if self._on_device and self.rows else to_host(totals)
        return totals[0] if self.num_groups is None else totals


def running(
    plan: PatePlan, votes: Any, delta: float, start: ArrayLike | None, groups: Any, conversion: str
) -> Iterator[tuple[slice, Any]]:
    """Yield (rows, eps after each of them) until every query is priced; the contract is `PatePlan.running_eps`.

    votes and groups as `PatePlan._votes` and `_groups` give them.
    """
    extra = surcharge(plan.grid, check_delta(delta), conversion)
    spent = np.zeros((1 if groups is None else group_count(groups, plan.grid.size), plan.grid.size))
    if start is not None:
        before = np.asarray(to_host(start), dtype=np.float64)
        wanted = spent.shape[1:] if groups is None else spent.shape
        if before.shape != wanted:
            raise ValueError(f"start has shape {before.shape}: Renyi costs of shape {wanted} are needed")
        if not np.all((before >= 0.0) & (before <= MOST_SPENT)):
            raise ValueError(f"start holds a cost that is negative, NaN or above {MOST_SPENT:g}")
        spent[:] = before
    yield from plan.space.running(plan, votes, groups, spent, extra)
