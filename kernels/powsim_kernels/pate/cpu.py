"""The plan by Numba: a table of tails for whole counts, vector functions over orders, moments for totals.

Rows are shared among threads in ranges; every range has its own moments, and they are added in the order of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.jit import jit
from powsim_kernels.pate import costs, grid, moments, running, tally
from powsim_kernels.pate.ported import log_phi, rdp_lnmax, rdp_screening
from powsim_kernels.threads import over_ranges

if TYPE_CHECKING:
    from powsim_kernels.pate.plan import PatePlan

Floats = NDArray[np.float64]
State = dict[str, Floats]
GRAIN_VALUES = 1 << 18
MOMENTS_MOST = 8 << 20  # bytes of moments per thread; more groups than fit are priced row by row
BLOCK_VALUES = 1 << 17  # votes whose ln q are held at once: they stay in the second-level cache
NONE = np.empty(0)


@dataclass(frozen=True)
class Tools:
    """What a plan needs more than once."""

    plan: PatePlan

    @cached_property
    def tables(self) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Tails, their logarithms and reach by gap; of one gap for more voters than a table is worth."""
        voters = self.plan.num_voters if self.plan.num_voters <= grid.TABLE_MOST else 0
        found: tuple[Floats, Floats, NDArray[np.int64]] = tally.tails(
            voters, self.plan.sigma, self.plan.mechanism == "lnmax"
        )
        return found

    @cached_property
    def law(self) -> tuple[int, float, bool]:
        """Voters, scale and whether the noise is Laplace's, as `tally.read` takes them."""
        return int(self.plan.num_voters), float(self.plan.sigma), self.plan.mechanism == "lnmax"

    @cached_property
    def answer(self) -> grid.Step:
        """The step that answers."""
        return costs.step_of(self.plan.grid, float(self.plan.sigma), self.plan.clip)

    @cached_property
    def gate(self) -> grid.Step:
        """The threshold step: theorem 6 with noise sqrt(2) sigma1."""
        return costs.step_of(self.plan.grid, math.sqrt(2.0) * self.plan.gate[1], self.plan.clip)

    @cached_property
    def cells(self) -> grid.Cells:
        """The cells for totals of the answers."""
        return grid.cells_of(self.answer, grid.reach(self.plan.num_voters, self.plan.sigma))

    @cached_property
    def answered(self) -> Floats:
        """Pr[answered] by most votes, for plans with a table."""
        found: Floats = np.exp(_log_answered(np.arange(float(len(self.tables[0]))), *self.plan.gate))
        return found


def tools(plan: PatePlan) -> Tools:
    """Return the plan's tools, made once."""
    found = plan.__dict__.get("_tools")
    if found is None:
        found = plan.__dict__["_tools"] = Tools(plan)
    return found


@jit
def _log_answered(top, threshold, sigma1):  # type: ignore[no-untyped-def]
    out = np.empty(top.shape[0])
    for row in range(top.shape[0]):
        out[row] = log_phi((top[row] - threshold) / sigma1)
    return out


@jit
def _gate_lnq(top, threshold, sigma1):  # type: ignore[no-untyped-def]
    out = np.empty(top.shape[0])
    for row in range(top.shape[0]):
        out[row] = log_phi(-abs((threshold - top[row]) / sigma1))
    return out


@jit
def _screenings(top, threshold, sigma1, orders, out):  # type: ignore[no-untyped-def]
    for row in range(top.shape[0]):
        for at in range(orders.shape[0]):
            out[row, at] = rdp_screening(top[row], threshold, sigma1, orders[at]) if top[row] >= 0.0 else math.nan


@jit
def _lnmax_rows(lnq, scale, orders, out, begin, end):  # type: ignore[no-untyped-def]
    for row in range(begin, end):
        for at in range(orders.shape[0]):
            out[row, at] = rdp_lnmax(lnq[row], scale, orders[at]) if lnq[row] <= 0.0 else math.nan


@jit
def _count_tops(top, weights, counts, begin, end):  # type: ignore[no-untyped-def]
    """Add the weights of rows whose most votes are whole to counts [T + 1]; return whether all were."""
    every = True
    for row in range(begin, end):
        at = np.int64(top[row]) if top[row] >= 0.0 and top[row] < counts.shape[0] else np.int64(-1)
        if at >= 0 and np.float64(at) == top[row]:
            counts[at] += weights[row] if weights.shape[0] > 0 else 1.0
        else:
            every = False
    return every


@jit
def _answer_weights(top, weights, realised, answered, out, begin, end):  # type: ignore[no-untyped-def]
    """Fill how much of each answer is paid; -1 where the table does not say."""
    for row in range(begin, end):
        w = weights[row] if weights.shape[0] > 0 else 1.0
        if realised.shape[0] > 0:
            w *= realised[row]
        else:
            at = np.int64(top[row]) if top[row] >= 0.0 and top[row] < answered.shape[0] else np.int64(-1)
            w = w * answered[at] if at >= 0 and np.float64(at) == top[row] else -1.0
        out[row - begin] = w


def _grain(values: int) -> int:
    return max(1, GRAIN_VALUES // values)


def log_q(plan: PatePlan, votes: NDArray[Any], lnq: Floats, top: Floats) -> int:
    """Fill ln q and the most votes of each row; return the first row that cannot be votes (it gets NaN), or -1."""
    own, bad = tools(plan), []

    def work(begin: int, end: int) -> None:
        found = tally.read(votes, own.tables, own.law, lnq, top, begin, end)
        if found >= 0:
            bad.append(found)

    over_ranges(work, len(votes), threads=plan.threads, grain=_grain(plan.num_classes))
    return min(bad, default=-1)


def log_answered(plan: PatePlan, top: Floats) -> Floats:
    """Return ln Pr[answered] of rows with `top` votes for their winner."""
    found: Floats = _log_answered(top, *plan.gate)
    return found


def answers(plan: PatePlan, lnq: Floats, out: Floats) -> None:
    """Fill the costs [n, L] of answering rows whose ln q is known."""
    work: Callable[[int, int], None]
    if plan.mechanism == "lnmax":
        scale = float(plan.sigma)
        work = lambda begin, end: _lnmax_rows(lnq, scale, plan.grid, out, begin, end)  # noqa: E731
    else:
        step = tools(plan).answer
        work = lambda begin, end: costs.fill_rows(lnq, step, out, begin, end)  # noqa: E731
    over_ranges(work, len(lnq), threads=plan.threads, grain=_grain(plan.grid.size))


def thresholds(plan: PatePlan, tops: Floats) -> Floats:
    """Return what the threshold step costs for each number of votes, [n, L]."""
    out = np.empty((len(tops), plan.grid.size))
    if plan.screening == "exact":
        _screenings(tops, *plan.gate, plan.grid, out)
    else:
        costs.fill_rows(_gate_lnq(tops, *plan.gate), tools(plan).gate, out, 0, len(tops))
    return out


def _by_moments(plan: PatePlan, groups: int) -> bool:
    return plan.mechanism == "gnmax" and groups * len(tools(plan).cells.middle) * 64 <= MOMENTS_MOST


def empty(plan: PatePlan, groups: int) -> State:
    """Return a total of nothing: sums [G, L], moments [G, M, 8], and rows by most votes [G, T + 1]."""
    state = {"sums": np.zeros((groups, plan.grid.size))}
    if _by_moments(plan, groups):
        own = tools(plan)
        state["moments"] = np.zeros((groups, len(own.cells.middle), grid.DEGREE))
        if plan.confident:
            state["tops"] = np.zeros((groups, len(own.tables[0])))
    return state


def add(
    plan: PatePlan,
    state: State,
    votes: NDArray[Any],
    groups: NDArray[np.int64] | None,
    weights: Floats | None,
    realised: NDArray[np.bool_] | None,
) -> int:
    """Add rows to a total; return the first row that cannot be votes, or -1."""
    parts: dict[int, tuple[State, int]] = {}
    count = len(state["sums"])

    def work(begin: int, end: int) -> None:
        found, bad = empty(plan, count), -1
        step = max(256, BLOCK_VALUES // plan.num_classes)
        for low in range(begin, end, step):
            cut = slice(low, min(low + step, end))
            some: list[Any] = [None if values is None else values[cut] for values in (groups, weights, realised)]
            at = _add_block(plan, found, votes[cut], *some)
            bad = low + at if at >= 0 and bad < 0 else bad
        parts[begin] = found, bad

    over_ranges(work, len(votes), threads=plan.threads, grain=_grain(plan.num_classes))
    bad = -1
    for begin in sorted(parts):
        for name, values in parts[begin][0].items():
            state[name] += values
        bad = parts[begin][1] if bad < 0 else bad
    return bad


def _add_block(
    plan: PatePlan,
    state: State,
    votes: NDArray[Any],
    groups: NDArray[np.int64] | None,
    weights: Floats | None,
    realised: NDArray[np.bool_] | None,
) -> int:
    own, n = tools(plan), len(votes)
    lnq, top = np.empty(n), np.empty(n)
    bad = tally.read(votes, own.tables, own.law, lnq, top, 0, n)
    whole = NONE if weights is None else weights
    paid = whole
    if "moments" not in state:
        _add_rows(plan, state["sums"], lnq, top, np.arange(n), groups, whole, realised)
        return bad
    left = np.zeros(n, np.bool_)
    if plan.confident:
        paid = np.empty(n)
        _answer_weights(top, whole, NONE if realised is None else realised.astype(float), own.answered, paid, 0, n)
        if len(own.tables[0]) <= 1 or votes.dtype.kind == "f":
            left = ~((top == np.floor(top)) & (top < len(own.tables[0])))
    for group, rows in _by_group(groups, n):
        if rows is not None:
            sub = (lnq[rows], top[rows], paid[rows] if len(paid) else paid, whole[rows] if len(whole) else whole)
        else:
            sub = (lnq, top, paid, whole)
        _add_group(plan, state, group, sub, left if rows is None else left[rows], rows, realised, groups)
    return bad


def _by_group(groups: NDArray[np.int64] | None, n: int) -> list[tuple[int, NDArray[np.int64] | None]]:
    if groups is None:
        return [(0, None)]
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    return [(int(groups[rows[0]]), rows) for rows in np.split(order, cuts) if len(rows)]


def _add_group(
    plan: PatePlan,
    state: State,
    group: int,
    sub: tuple[Floats, Floats, Floats, Floats],
    left: NDArray[np.bool_],
    rows: NDArray[np.int64] | None,
    realised: NDArray[np.bool_] | None,
    groups: NDArray[np.int64] | None,
) -> None:
    lnq, top, paid, whole = sub
    own = tools(plan)
    flags = realised if realised is None or rows is None else realised[rows]
    if left.any():  # soft counts under a threshold: row by row
        _add_rows(plan, state["sums"][group : group + 1], lnq, top, np.flatnonzero(left), None, whole, flags)
        kept = ~left
        lnq, top = lnq[kept], top[kept]
        paid, whole = (values[kept] if len(values) else values for values in (paid, whole))
        flags = flags if flags is None else flags[kept]
    beyond = np.empty(len(lnq), np.int64)
    count = moments.gather(lnq, paid, own.cells, state["moments"][group], beyond, 0, len(lnq))
    if plan.confident:
        _count_tops(top, whole, state["tops"][group], 0, len(top))
    sums, buffer = state["sums"][group], np.empty(plan.grid.size)
    for row in beyond[:count].tolist():
        if math.isnan(lnq[row]):
            sums[:] = math.nan
        else:
            costs.add_row(-lnq[row], own.answer, paid[row] if len(paid) else 1.0, buffer, sums)


def _add_rows(
    plan: PatePlan,
    sums: Floats,
    lnq: Floats,
    top: Floats,
    rows: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    weights: Floats,
    realised: NDArray[np.bool_] | None,
) -> None:
    """Add the costs of these rows, held in pieces of bounded size."""
    step = max(1, (1 << 17) // plan.grid.size)
    for begin in range(0, len(rows), step):
        pick = rows[begin : begin + step]
        found = plan._costs(lnq[pick], top[pick], None if realised is None else realised[pick])
        if len(weights):
            found *= weights[pick, None]
        if groups is None:
            sums[0] += found.sum(axis=0)
        else:
            np.add.at(sums, groups[pick], found)


def finish(plan: PatePlan, state: State) -> Floats:
    """Return the total of each group, [G, L]."""
    sums = state["sums"].copy()
    if "moments" in state:
        own = tools(plan)
        for group in range(len(sums)):
            moments.finish(state["moments"][group], own.cells, own.answer, sums[group])
            if plan.confident:
                at = np.flatnonzero(state["tops"][group])
                step = max(1, (1 << 17) // plan.grid.size)
                for begin in range(0, len(at), step):
                    some = at[begin : begin + step]
                    sums[group] += state["tops"][group][some] @ thresholds(plan, some.astype(np.float64))
    return sums


def run(plan: PatePlan, lnq: Floats, top: Floats, spent: Floats, extra: Floats, eps: Floats) -> None:
    """Fill eps after each row; `spent` [L] is what came before, and may be changed."""
    own = tools(plan)
    if plan.mechanism == "gnmax" and not plan.confident and np.all(-lnq <= own.cells.most):  # NaN compares false
        room = np.zeros((len(own.cells.middle), grid.DEGREE))
        running.run(lnq, spent, extra, own.answer, own.cells, room, eps)
        return
    step = max(1, (1 << 17) // plan.grid.size)
    for begin in range(0, len(lnq), step):
        found = plan._costs(lnq[begin : begin + step], top[begin : begin + step], None)
        found[0] += spent
        np.cumsum(found, axis=0, out=found)
        spent[:] = found[-1]
        found += extra
        np.min(found, axis=1, out=eps[begin : begin + step])
