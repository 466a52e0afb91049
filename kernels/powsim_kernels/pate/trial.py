"""Known answers for the CUDA twin, asked of every device before its first work, and the tables that it is given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.backend import BackendUnavailable
from powsim_kernels.pate import bounds

VOTERS, CLASSES, SIGMA, ORDERS = 60, 4, 4.0, (1.5, 2.0, 3.0, 4.0, 5.0, 20.0)
VOTES = ((60, 0, 0, 0), (45, 10, 5, 0), (20, 20, 20, 0), (0, 0, 0, 0), (52, 8, 0, 0), (30, 30, 0, 0), (31, 0, 29, 0))
GATE = (35.0, 6.0)
CURE = "its results cannot be trusted; update its compiler and driver, or use backend='cpu'"


def tails(voters: int, sigma: float, laplace: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return by gap 0..voters the chance that a class so far behind wins, and its logarithm.

    The chance is 0 at gap 0, where ties are counted.
    """
    if laplace:
        scaled = [gap / sigma for gap in range(voters + 1)]
        linear = [(2.0 + x) / 4.0 * math.exp(-x) for x in scaled]
        logs = [math.log((2.0 + x) / 4.0) - x for x in scaled]
    else:
        scaled = [gap / (2.0 * sigma) for gap in range(voters + 1)]
        linear = [0.5 * math.erfc(x) for x in scaled]
        logs = [math.log(0.5) + bounds.log_erfc(x) for x in scaled]
    return np.array([0.0, *linear[1:]]), np.array(logs)


def check(twin: Any) -> None:
    """Return where the twin prices a few histograms as the specification does, row by row and in total.

    Raises BackendUnavailable naming the wrong answer.
    """
    from powsim_kernels.pate.plan import PatePlan  # the plan imports its twins, not the other way round

    plan = PatePlan(VOTERS, CLASSES, SIGMA, ORDERS, threshold=GATE[0], sigma1=GATE[1], backend="reference", threads=1)
    lnq = np.array([bounds.log_q_gnmax([float(count) for count in row], SIGMA) for row in VOTES])
    rows = np.array(
        [
            [
                bounds.rdp_threshold(max(row), *GATE, order)
                + math.exp(bounds.log_phi((max(row) - GATE[0]) / GATE[1])) * bounds.rdp_gaussian(q, SIGMA, order)
                for order in ORDERS
            ]
            for row, q in zip(VOTES, lnq.tolist(), strict=True)
        ]
    )
    for kind in (np.int16, np.float64):
        votes = np.array(VOTES, kind)
        _, piece = next(iter(twin.pieces(plan, votes)))
        found, top, costs = np.empty(len(votes)), np.empty(len(votes)), np.empty(rows.shape)
        state = twin.empty(plan, 1)
        bad = twin.log_q(plan, piece, found, top), twin.add(plan, state, piece, None, None, None)
        own = twin.room(plan, lnq.shape, np.float64, piece), twin.room(plan, lnq.shape, np.float64, piece)
        twin.log_q(plan, piece, *own)
        twin.costs(plan, *own, None, costs)
        total = twin.finish(plan, state).get()[0]
        for name, got, expected in (("ln q", found, lnq), ("costs", costs, rows), ("totals", total, rows.sum(axis=0))):
            if bad != (-1, -1) or not np.allclose(got, expected, rtol=1e-11, atol=0.0):
                raise BackendUnavailable(f"backend 'cuda' fails its self-test: wrong {name} of {kind.__name__}: {CURE}")
