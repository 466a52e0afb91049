"""The plan by Numba: a table of tails for whole counts, vector functions over orders, moments for totals.

Rows are shared among threads in ranges; every range has its own moments, and they are added in the order of the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.jit import jit
from powsim_kernels.pate import costs, curves, grid, moments, running, tally
from powsim_kernels.pate.hosted import BUFFER_VALUES
from powsim_kernels.pate.ported import log_phi, rdp_screening
from powsim_kernels.threads import over_ranges

if TYPE_CHECKING:
    from powsim_kernels.pate.plan import PatePlan

Floats = NDArray[np.float64]
State = dict[str, Floats]
GRAIN_VALUES = 1 << 18
MOMENTS_MOST = 3 << 20  # bytes of moments per thread; more groups than fit are priced row by row
BLOCK_ROWS = 1 << 15  # rows whose ln q are held at once: so many that a thread seldom waits for Python
GATES_MOST = 1 << 19  # costs of threshold steps by most votes and order that are worth holding
NONE, NO_GROUPS = np.empty(0), np.empty(0, np.int64)


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
    def curves(self) -> curves.Curves:
        """The polynomials of the answers' costs."""
        return curves.Curves(self.answer, self.cells)

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
def _count_tops(top, weights, groups, counts):  # type: ignore[no-untyped-def]
    """Add the weights of rows whose most votes are whole to counts [G, T + 1]."""
    for i in range(top.shape[0]):
        row = np.uint64(i)
        group = np.uint64(groups[row]) if groups.shape[0] > 0 else np.uint64(0)
        at = np.int64(top[row]) if top[row] >= 0.0 and top[row] < counts.shape[1] else np.int64(-1)
        if at >= 0 and np.float64(at) == top[row]:
            counts[group, np.uint64(at)] += weights[row] if weights.shape[0] > 0 else 1.0


@jit
def _scatter(found, weights, groups, sums):  # type: ignore[no-untyped-def]
    """Add costs [n, L] to the sums [G, L] of their groups."""
    for i in range(found.shape[0]):
        row = np.uint64(i)
        group, w = np.uint64(groups[row]), weights[row] if weights.shape[0] > 0 else 1.0
        for j in range(found.shape[1]):
            sums[group, np.uint64(j)] += w * found[row, np.uint64(j)]


@jit
def _answer_weights(top, weights, realised, answered, out, begin, end):  # type: ignore[no-untyped-def]
    """Fill how much of each answer is paid; -1 where the table does not say."""
    for i in range(end - begin):
        row = np.uint64(begin + i)
        w = weights[row] if weights.shape[0] > 0 else 1.0
        if realised.shape[0] > 0:
            w *= realised[row]
        else:
            at = np.int64(top[row]) if top[row] >= 0.0 and top[row] < answered.shape[0] else np.int64(-1)
            w = w * answered[np.uint64(at)] if at >= 0 and np.float64(at) == top[row] else -1.0
        out[np.uint64(i)] = w


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
    if plan.mechanism == "lnmax":
        work = partial(costs.fill_lnmax, lnq, float(plan.sigma), plan.grid, out)
        over_ranges(work, len(lnq), threads=plan.threads, grain=_grain(plan.grid.size))
        return
    own = tools(plan)
    for low in range(0, len(lnq), curves.MOST_ROWS):
        rows = slice(low, low + curves.MOST_ROWS)
        curves.fill_rows(lnq[rows], own.curves, plan.threads, out[rows])


def thresholds(plan: PatePlan, tops: Floats) -> Floats:
    """Return what the threshold step costs for each number of votes, [n, L]."""
    out = np.empty((len(tops), plan.grid.size))
    if plan.screening == "exact":
        _screenings(tops, *plan.gate, plan.grid, out)
    else:
        costs.fill_rows(_gate_lnq(tops, *plan.gate), tools(plan).gate, np.empty(0, np.int32), out, 0, len(tops))
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
    if "moments" not in state:
        return _add_blocks(plan, state, votes, groups, weights, realised, 0, len(votes))
    parts: dict[int, tuple[State, int]] = {}

    def work(begin: int, end: int) -> None:
        found = empty(plan, len(state["sums"]))
        parts[begin] = found, _add_blocks(plan, found, votes, groups, weights, realised, begin, end)

    # Every range has a total of its own until the end: of large ones no more than there are threads.
    large = sum(values.nbytes for values in state.values()) > 1 << 19
    grain = max(_grain(plan.num_classes), -(-len(votes) // (plan.threads or 1)) if large else 0)
    over_ranges(work, len(votes), threads=plan.threads, grain=grain)
    bad = -1
    for begin in sorted(parts):
        for name, values in parts[begin][0].items():
            state[name] += values
        bad = parts[begin][1] if bad < 0 else bad
    return bad


def _add_blocks(
    plan: PatePlan,
    state: State,
    votes: NDArray[Any],
    groups: NDArray[np.int64] | None,
    weights: Floats | None,
    realised: NDArray[np.bool_] | None,
    begin: int,
    end: int,
) -> int:
    """Add rows begin..end in blocks; return the first that cannot be votes, or -1."""
    own, first = tools(plan), -1
    # Made once: threads that return large pages to the system and ask for new ones wait for each other.
    most = min(BLOCK_ROWS, end - begin)
    room, beyond = np.empty((2, most)), np.empty(most, np.int64)
    for low in range(begin, end, BLOCK_ROWS):
        cut = slice(low, min(low + BLOCK_ROWS, end))
        n = cut.stop - low
        lnq, top = room[:, :n]
        bad = tally.read(votes[cut], own.tables, own.law, lnq, top, 0, n)
        first = low + bad if bad >= 0 and first < 0 else first
        whole = NONE if weights is None else weights[cut]
        numbers = NO_GROUPS if groups is None else groups[cut]
        flags = None if realised is None else realised[cut]
        _add_block(plan, state, lnq, top, whole, numbers, flags, votes.dtype.kind == "f", beyond)
    return first


def _add_block(
    plan: PatePlan,
    state: State,
    lnq: Floats,
    top: Floats,
    whole: Floats,
    groups: NDArray[np.int64],
    realised: NDArray[np.bool_] | None,
    soft: bool,
    beyond: NDArray[np.int64],
) -> None:
    own, n, paid = tools(plan), len(lnq), whole
    if "moments" not in state:
        _add_rows(plan, state["sums"], lnq, top, whole, groups, realised, np.arange(n))
        return
    if plan.confident:
        known = len(own.tables[0])
        if known <= 1 or soft:  # the tables do not say what the threshold costs: row by row
            kept = (top == np.floor(top)) & (top < known)
            _add_rows(plan, state["sums"], lnq, top, whole, groups, realised, np.flatnonzero(~kept))
            lnq, top = lnq[kept], top[kept]
            whole = whole[kept] if len(whole) else whole
            groups = groups[kept] if len(groups) else groups
            realised, n = realised if realised is None else realised[kept], len(lnq)
        paid = np.empty(n)
        _answer_weights(top, whole, NONE if realised is None else realised.astype(float), own.answered, paid, 0, n)
        _count_tops(top, whole, groups, state["tops"])
    buffer = np.empty(plan.grid.size)
    count = moments.gather(lnq, paid, groups, own.cells, state["moments"].reshape(-1, grid.DEGREE), beyond, 0, n)
    for row in beyond[:count].tolist():
        sums = state["sums"][groups[row] if len(groups) else 0]
        if math.isnan(lnq[row]):
            sums[:] = math.nan
        else:
            costs.add_row(-lnq[row], own.answer, paid[row] if len(paid) else 1.0, buffer, sums)


def _add_rows(
    plan: PatePlan,
    sums: Floats,
    lnq: Floats,
    top: Floats,
    weights: Floats,
    groups: NDArray[np.int64],
    realised: NDArray[np.bool_] | None,
    rows: NDArray[np.int64],
) -> None:
    """Add the costs of these rows, held in pieces of bounded size."""
    step = max(1, BUFFER_VALUES // plan.grid.size)
    for begin in range(0, len(rows), step):
        pick = rows[begin : begin + step]
        found = plan._costs(lnq[pick], top[pick], None if realised is None else realised[pick])
        some = weights[pick] if len(weights) else weights
        if len(groups):
            _scatter(found, some, groups[pick], sums)
        else:
            sums[0] += some @ found if len(some) else found.sum(axis=0)


def finish(plan: PatePlan, state: State) -> Floats:
    """Return the total of each group, [G, L]."""
    sums = state["sums"].copy()
    if "moments" in state:
        own = tools(plan)
        moments.finish(state["moments"], own.cells, own.answer, sums)
        for group in range(len(sums)):
            if plan.confident:
                at = np.flatnonzero(state["tops"][group])
                step = max(1, (1 << 17) // plan.grid.size)
                for begin in range(0, len(at), step):
                    some = at[begin : begin + step]
                    sums[group] += state["tops"][group][some] @ thresholds(plan, some.astype(np.float64))
    return sums


def run(
    plan: PatePlan,
    lnq: Floats,
    top: Floats,
    groups: NDArray[np.int64] | None,
    spent: Floats,
    extra: Floats,
    eps: Floats,
    state: dict[str, Any],
) -> None:
    """Fill eps after each row of a piece; `spent` [G, L] is what came before the rows that `state` {} has not seen."""
    own, tops = tools(plan), len(tools(plan).tables[0]) if plan.confident else 0
    paid, at = NONE, np.empty(0, np.int64)
    pruned = groups is None and plan.mechanism == "gnmax" and tops * plan.grid.size <= GATES_MOST
    pruned = pruned and bool(np.all(-lnq <= own.cells.most))  # NaN compares false
    if pruned and plan.confident:
        at = top.astype(np.int64)
        pruned = bool(np.all(at == top) and np.all(at < tops))
        paid = own.answered[at] if pruned else paid
    if pruned:
        if not state:
            gates = thresholds(plan, np.arange(float(tops))).T.copy() if tops else np.empty((plan.grid.size, 0))
            state["past"] = running.past(spent[0], extra, gates, own.cells)
        running.run(lnq, paid, at, extra, own.answer, own.cells, state["past"], eps)
        return
    if state:
        running.settle(state.pop("past"), own.cells, own.answer, spent[0])
    step = max(1, BUFFER_VALUES // plan.grid.size)
    for begin in range(0, len(lnq), step):
        rows = slice(begin, begin + step)
        found = plan._costs(lnq[rows], top[rows], None)
        running.add_up(
            found, np.zeros(len(found), np.int64) if groups is None else groups[rows], spent, extra, eps[rows]
        )
