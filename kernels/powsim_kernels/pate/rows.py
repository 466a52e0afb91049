"""What callers may hand in beside the plan: votes in pieces of bounded size, and one number per row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

DIRECT = ("uint8", "int8", "uint16", "int16", "int32", "int64", "float32", "float64")
"""Votes of these types are read where they are, if they are C-contiguous; others are converted in pieces."""
PIECE_VALUES = 1 << 18


def check_votes(votes: Any, num_classes: int) -> NDArray[Any]:
    """Return votes as an array [N, C]; one histogram [C] becomes [1, C]. Values are not looked at."""
    if hasattr(votes, "__cuda_array_interface__"):
        raise TypeError("votes lie on a CUDA device, and this kernel has no cuda twin yet: copy them to the host")
    array = np.asarray(votes)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"votes have dtype {array.dtype}: counts must be integers or floats")
    if array.ndim == 1:
        array = array[None, :]
    if array.ndim != 2 or array.shape[1] != num_classes:
        raise ValueError(f"votes have shape {np.shape(votes)}: [queries, num_classes={num_classes}] is needed")
    return array


def pieces(votes: NDArray[Any], rows: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (first row, rows that a twin can read); the whole array at once where that takes no copy."""
    direct = votes.dtype.name in DIRECT and votes.dtype.isnative and votes.flags.c_contiguous
    step = rows or (max(len(votes), 1) if direct else max(1, PIECE_VALUES // votes.shape[1]))
    for begin in range(0, len(votes), step):
        piece = votes[begin : begin + step]
        if not direct:
            name = votes.dtype.name
            if name in ("uint32", "uint64"):  # every count that a plan allows fits int64
                piece = np.minimum(piece, np.uint64(2**62) if name == "uint64" else piece.dtype.type(2**32 - 1))
                name = "int64"
            piece = np.ascontiguousarray(piece, dtype=name if name in DIRECT else "float64")
        yield begin, piece


def bad_row(row: int, first: int, piece: NDArray[Any], num_voters: int) -> ValueError:
    """Return the error that names a row whose counts cannot be votes."""
    counts = piece[row, :20].tolist()
    more = f" and {piece.shape[1] - 20} more" if piece.shape[1] > 20 else ""
    return ValueError(
        f"votes[{first + row}] = {counts}{more} holds a negative, NaN or infinite count, "
        f"or one above num_voters={num_voters}"
    )


def check_flags(realised: ArrayLike | None, rows: int, confident: bool) -> NDArray[np.bool_] | None:
    """Return which rows were answered, bool [N], or None for the expectation."""
    if realised is None:
        return None
    if not confident:
        raise ValueError("realised says which queries passed the threshold: this plan has no threshold and sigma1")
    flags = np.asarray(realised)
    if flags.dtype != np.bool_:
        raise TypeError(f"realised has dtype {flags.dtype}: bool is needed")
    if flags.shape != (rows,):
        raise ValueError(f"realised has shape {flags.shape}: one per row, ({rows},), is needed")
    return np.ascontiguousarray(flags)


def check_weights(weights: ArrayLike | None, rows: int) -> NDArray[np.float64] | None:
    """Return how often each row counts, float64 [N]."""
    if weights is None:
        return None
    factors = np.ascontiguousarray(weights, dtype=np.float64)
    if factors.shape != (rows,):
        raise ValueError(f"weights have shape {factors.shape}: one per row, ({rows},), is needed")
    bad = ~(np.isfinite(factors) & (factors >= 0.0))
    if bad.any():
        raise ValueError(f"weights[{int(np.argmax(bad))}] = {factors[bad][0]} is negative or not finite")
    return factors


def check_groups(groups: ArrayLike | None, rows: int, num_groups: int | None) -> NDArray[np.int64] | None:
    """Return the group of each row, int64 [N] in 0..num_groups-1."""
    if groups is None:
        return None
    numbers = np.asarray(groups)
    if numbers.dtype.kind not in "iu" and numbers.size:
        raise TypeError(f"groups have dtype {numbers.dtype}: integers are needed")
    if numbers.shape != (rows,):
        raise ValueError(f"groups have shape {numbers.shape}: one per row, ({rows},), is needed")
    bad = (numbers < 0) | (numbers >= (2**31 if num_groups is None else num_groups))
    if bad.any():
        limit = "" if num_groups is None else f" or not below num_groups={num_groups}"
        raise ValueError(f"groups[{int(np.argmax(bad))}] = {numbers[bad][0]} is negative{limit}")
    return np.ascontiguousarray(numbers, dtype=np.int64)
