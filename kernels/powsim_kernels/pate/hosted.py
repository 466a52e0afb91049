"""Where the twins on the host find votes and leave results, and what they share of the plan's methods.

`adopt` takes what callers hand in, `pieces` cuts votes into what a twin can read, `room` is for results, `store` puts
them there; `costs` and `best` fill results from rows already read, `running` yields them. A twin itself has `log_q`,
`answers`, `log_answered`, `thresholds`, `run`, and for totals `empty`, `add` and `finish`. `powsim_kernels.pate.cuda`
is both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from powsim_kernels.pate.rows import groups_of, on_device, readable

if TYPE_CHECKING:
    from powsim_kernels.pate.plan import PatePlan

Floats = NDArray[np.float64]
PIECE_VALUES = 1 << 18
BUFFER_VALUES = 1 << 19  # Renyi costs held at once where only their conversion is wanted
ROWS = 1 << 16  # read at once where numbers of every row are wanted
DIRECT = ("uint8", "int8", "uint16", "int16", "int32", "int64", "float32", "float64")
"""Votes of these types are read where they are, if they are C-contiguous; others are converted in pieces."""


def adopt(plan: PatePlan, values: Any, what: str = "votes") -> NDArray[Any]:
    """Return values as an array on the host, without a copy where they are one (DLPack too)."""
    if on_device(values):
        raise TypeError(
            f"{what} lie on a CUDA device, and this plan computes on backend {plan.backend!r}: make a plan with "
            "backend='cuda', or copy them to the host (`.get()` of CuPy, `.cpu()` of torch)"
        )
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{what} are a masked array, whose mask no kernel sees: fill it first (`.filled(0)`)")
    if hasattr(values, "__dlpack__") and not hasattr(values, "__array__"):
        return np.from_dlpack(values)
    return np.asarray(values)


def pieces(plan: PatePlan, votes: NDArray[Any], width: int = 0) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (first row, rows that a twin can read).

    The whole array at once where that takes no copy, and no room for `width` numbers of every row.
    """
    direct = votes.dtype.name in DIRECT and votes.dtype.isnative and votes.flags.c_contiguous
    step = (ROWS if width else max(len(votes), 1)) if direct else max(1, PIECE_VALUES // votes.shape[1])
    for begin in range(0, len(votes), step):
        piece = votes[begin : begin + step]
        yield begin, piece if direct else np.ascontiguousarray(readable(piece, DIRECT))


def room(plan: PatePlan, shape: tuple[int, ...], dtype: DTypeLike, like: Any) -> NDArray[Any]:
    """Return an array to fill, where `like` lives."""
    return np.empty(shape, dtype)


def store(out: NDArray[Any], rows: slice, values: Any) -> None:
    """Put results in their place."""
    out[rows] = values


def costs(plan: PatePlan, lnq: Floats, top: Floats, realised: NDArray[np.bool_] | None, out: NDArray[Any]) -> None:
    """Fill the costs [n, L] of rows already read."""
    whole = out.dtype == np.float64 and out.flags.c_contiguous and not plan.confident
    step = max(1, len(lnq) if whole else BUFFER_VALUES // plan.grid.size)
    for begin in range(0, len(lnq), step):
        rows = slice(begin, begin + step)
        if whole:
            plan.twin.answers(plan, lnq[rows], out[rows])
        else:
            out[rows] = plan._costs(lnq[rows], top[rows], None if realised is None else realised[rows])


def best(plan: PatePlan, lnq: Floats, top: Floats, extra: Floats, eps: Floats, index: NDArray[np.int64]) -> None:
    """Fill the least of cost + extra over the orders, at least 0, and the first order that has it."""
    step = max(1, BUFFER_VALUES // plan.grid.size)
    for begin in range(0, len(lnq), step):
        rows = slice(begin, begin + step)
        candidates = plan._costs(lnq[rows], top[rows], None)
        candidates += extra
        index[rows] = np.argmin(candidates, axis=1)
        eps[rows] = np.maximum(np.min(candidates, axis=1), 0.0)


def running(
    plan: PatePlan, votes: NDArray[Any], groups: NDArray[Any] | None, spent: Floats, extra: Floats
) -> Iterator[tuple[slice, Floats]]:
    """Yield (rows, eps after each of them, of its group); spent [G, L] is what came before, and is changed."""
    state: dict[str, Any] = {}  # what the twin keeps between pieces
    for rows, lnq, top in plan._read(votes):
        numbers = None if groups is None else groups_of(groups[rows], rows.start, len(spent))
        eps = np.empty(len(lnq))
        plan.twin.run(plan, lnq, top, numbers, spent, extra, eps, state)
        yield rows, np.maximum(eps, 0.0, out=eps)
