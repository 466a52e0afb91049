"""The plan's methods row by row and order by order: the specification of the compiled twins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.pate import bounds

if TYPE_CHECKING:
    from powsim_kernels.pate.plan import PatePlan

Floats = NDArray[np.float64]


def log_q(plan: PatePlan, votes: NDArray[Any], lnq: Floats, top: Floats) -> int:
    """Fill ln q and the most votes of each row; return the first row that cannot be votes (it gets NaN), or -1."""
    first_bad = -1
    for row, counts in enumerate(votes.astype(np.float64).tolist()):
        if all(0.0 <= count <= plan.num_voters for count in counts):  # NaN compares false
            find = bounds.log_q_gnmax if plan.mechanism == "gnmax" else bounds.log_q_lnmax
            lnq[row], top[row] = find(counts, plan.sigma), max(counts)
        else:
            lnq[row] = top[row] = math.nan
            first_bad = row if first_bad < 0 else first_bad
    return first_bad


def log_answered(plan: PatePlan, top: Floats) -> Floats:
    """Return ln Pr[answered] of rows with `top` votes for their winner."""
    threshold, sigma1 = plan.gate
    return np.array([bounds.log_phi((most - threshold) / sigma1) for most in top.tolist()], dtype=np.float64)


def answers(plan: PatePlan, lnq: Floats, out: Floats) -> None:
    """Fill the costs [n, L] of answering rows whose ln q is known."""
    for row, value in enumerate(lnq.tolist()):
        for at, order in enumerate(plan.grid.tolist()):
            if math.isnan(value):
                out[row, at] = math.nan
            elif plan.mechanism == "lnmax":
                out[row, at] = bounds.rdp_lnmax(value, plan.sigma, order)
            else:
                out[row, at] = bounds.rdp_gaussian(value, plan.sigma, order, plan.clip)


def thresholds(plan: PatePlan, tops: Floats) -> Floats:
    """Return what the threshold step costs for each number of votes, [n, L]."""
    out = np.empty((len(tops), plan.grid.size))
    for row, most in enumerate(tops.tolist()):
        for at, order in enumerate(plan.grid.tolist()):
            if math.isnan(most):
                out[row, at] = math.nan
            elif plan.screening == "exact":
                out[row, at] = bounds.rdp_screening(most, *plan.gate, order)
            else:
                out[row, at] = bounds.rdp_threshold(most, *plan.gate, order, plan.clip)
    return out


def empty(plan: PatePlan, groups: int) -> dict[str, Floats]:
    """Return a total of nothing."""
    return {"sums": np.zeros((groups, plan.grid.size))}


def add(
    plan: PatePlan,
    state: dict[str, Floats],
    votes: NDArray[Any],
    groups: NDArray[np.int64] | None,
    weights: Floats | None,
    realised: NDArray[np.bool_] | None,
) -> int:
    """Add rows to a total; return the first row that cannot be votes, or -1."""
    lnq, top = np.empty(len(votes)), np.empty(len(votes))
    bad = log_q(plan, votes, lnq, top)
    costs = plan._costs(lnq, top, realised)
    for row in range(len(votes)):
        factor = 1.0 if weights is None else float(weights[row])
        state["sums"][0 if groups is None else int(groups[row])] += factor * costs[row]
    return bad


def finish(plan: PatePlan, state: dict[str, Floats]) -> Floats:
    """Return the total of each group, [G, L]."""
    return state["sums"].copy()


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
    """Fill eps after each row of a piece; `spent` [G, L] is what came before, and is changed; `state` is not used."""
    for row in range(len(lnq)):
        mine = spent[0 if groups is None else groups[row]]
        mine += plan._costs(lnq[row : row + 1], top[row : row + 1], None)[0]
        eps[row] = np.min(mine + extra)
