"""Meters that look at a query's logits or only count it, beside the PATE costs of `powsim_kernels.PatePlan`.

All give one cost per row, float64 [N], and read their input in pieces, so that memory beyond it does not grow with N.
Source: Dziedzic, Kaleem, Lu and Papernot 2022, appendix B.6, and the code released with it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

DEFINITIONS = ("paper", "code")
PIECE_VALUES = 1 << 18
FLOOR = -750.0  # exp of it is 0: a logit so far below the largest one has no probability, however far it is

Measure = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def entropy(logits: ArrayLike) -> NDArray[np.float64]:
    """Return the entropy of softmax(logits) divided by ln C, float64 [N] in 0..1; uniform is 1.

    logits: [N, C] (or [C], one row), numbers of any real dtype, C >= 2. Relative error about 1e-14, near 0 too.
    Raises ValueError naming the first row with a NaN or infinite logit; TypeError for what is no real number.
    """
    return _by_rows(logits, _entropy)


def gap(logits: ArrayLike, definition: str = "paper") -> NDArray[np.float64]:
    """Return 1 - (p1 - p2), float64 [N] in 0..1: how little the likeliest class is ahead; a tie of two is 1.

    "paper": p is the softmax of all logits (appendix B.6). "code": of the two largest alone, as in the released code,
    which is 1 - tanh((z1 - z2) / 2). They differ for C > 2. logits, accuracy and errors as in `entropy`.
    """
    if definition not in DEFINITIONS:
        raise ValueError(f"unknown definition {definition!r}: choose one of {', '.join(DEFINITIONS)}")
    return _by_rows(logits, _gap_of_all if definition == "paper" else _gap_of_two)


def count(rows: ArrayLike) -> NDArray[np.float64]:
    """Return 1 for each row of votes or logits [N, C] (or [C]), float64 [N]: every query costs the same."""
    return np.ones(len(_rows(rows)))


def _rows(values: ArrayLike) -> NDArray[np.generic]:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"dtype {array.dtype}: real numbers are needed")
    if array.ndim == 1:
        array = array[None, :]
    if array.ndim != 2 or array.shape[1] < 2:
        raise ValueError(f"shape {np.shape(values)}: [queries, classes] with at least 2 classes is needed")
    return array


def _by_rows(logits: ArrayLike, measure: Measure) -> NDArray[np.float64]:
    """Return measure(below, e) of every row: its other logits minus its largest [n, C-1], and exp of that."""
    array = _rows(logits)
    out = np.empty(len(array))
    step = max(1, PIECE_VALUES // array.shape[1])
    for begin in range(0, len(array), step):
        piece = array[begin : begin + step]
        good = np.isfinite(piece).all(axis=1)
        if not good.all():
            row = int(np.argmin(good))
            raise ValueError(f"logits[{begin + row}] holds a NaN or infinite value")
        z = np.array(piece, np.float64, order="C")
        here, first = np.arange(len(z)), z.argmax(axis=1)
        largest = z[here, first]
        z[here, first] = z[:, -1]  # the largest goes, each row keeps its other C - 1
        with np.errstate(over="ignore"):  # +1e308 and -1e308 in one row
            below = np.maximum(z[:, :-1] - largest[:, None], FLOOR)
        out[begin : begin + step] = measure(below, np.exp(below))
    return out


# With S = 1 + sum(e), the largest class has p1 = 1 / S and the others p = e / S. In these forms nothing cancels.


def _entropy(below: NDArray[np.float64], e: NDArray[np.float64]) -> NDArray[np.float64]:
    """H = ln S + sum(-below e) / S."""
    rest = e.sum(axis=1)
    nats = np.log1p(rest) - (below * e).sum(axis=1) / (1.0 + rest)
    score: NDArray[np.float64] = np.minimum(nats / np.log1p(e.shape[1]), 1.0)
    return score


def _gap_of_all(below: NDArray[np.float64], e: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - (1 - e2) / S = (sum(e) + e2) / S."""
    rest = e.sum(axis=1)
    score: NDArray[np.float64] = np.minimum((rest + e.max(axis=1)) / (1.0 + rest), 1.0)
    return score


def _gap_of_two(below: NDArray[np.float64], e: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - (1 - e2) / (1 + e2)."""
    second: NDArray[np.float64] = e.max(axis=1)
    return 2.0 * second / (1.0 + second)
