"""What callers may hand in beside the plan, on the host or on a device: votes, and one number per row."""

from __future__ import annotations

from typing import Any

import numpy as np

ON_DEVICE = (2, 13)
"""DLPack's numbers for memory of a CUDA device, and for memory that devices and the host share."""


def on_device(values: Any) -> bool:
    """Return whether an array lies on a CUDA device: CuPy's, torch's, or any other's that says so."""
    if hasattr(values, "__cuda_array_interface__"):
        return True
    return hasattr(values, "__dlpack_device__") and int(values.__dlpack_device__()[0]) in ON_DEVICE


def to_host(values: Any) -> Any:
    """Return an array on the host; CuPy's and torch's are copied there, others are as they were."""
    if not on_device(values):
        return values
    return values.get() if hasattr(values, "get") else values.cpu().numpy()


def check_votes(array: Any, given: Any, num_classes: int) -> Any:
    """Return votes [N, C] of an adopted array; one histogram [C] becomes [1, C]. Values are not looked at."""
    if array.dtype.kind not in "iuf":
        raise TypeError(f"votes have dtype {array.dtype}: counts must be integers or floats")
    if array.ndim == 1:
        array = array[None, :]
    if array.ndim != 2 or array.shape[1] != num_classes:
        shape = tuple(given.shape) if hasattr(given, "shape") else np.shape(given)
        raise ValueError(f"votes have shape {shape}: [queries, num_classes={num_classes}] is needed")
    return array


def readable(piece: Any, direct: tuple[str, ...]) -> Any:
    """Return votes of a type that kernels read; every count that a plan allows fits int64."""
    name = piece.dtype.name
    if name in direct:
        return piece if piece.dtype.isnative else piece.astype(name)
    if name == "uint64":
        return piece.clip(None, np.uint64(2**62)).astype("int64")
    return piece.astype("int64" if name == "uint32" else "float64")


def bad_row(row: int, first: int, piece: Any, num_voters: int) -> ValueError:
    """Return the error that names a row whose counts cannot be votes."""
    counts = piece[row, :20].tolist()
    more = f" and {piece.shape[1] - 20} more" if piece.shape[1] > 20 else ""
    return ValueError(
        f"votes[{first + row}] = {counts}{more} holds a negative, NaN or infinite count, "
        f"or one above num_voters={num_voters}"
    )


def check_flags(flags: Any, rows: int, confident: bool) -> None:
    """Raise where flags, bool [N], cannot say which rows were answered."""
    if not confident:
        raise ValueError("realised says which queries passed the threshold: this plan has no threshold and sigma1")
    if flags.dtype != np.bool_:
        raise TypeError(f"realised has dtype {flags.dtype}: bool is needed")
    if flags.shape != (rows,):
        raise ValueError(f"realised has shape {flags.shape}: one per row, ({rows},), is needed")


def check_weights(factors: Any, rows: int) -> None:
    """Raise where factors, float64 [N], cannot say how often each row counts."""
    if factors.shape != (rows,):
        raise ValueError(f"weights have shape {factors.shape}: one per row, ({rows},), is needed")
    good = (factors >= 0.0) & (factors <= np.finfo(np.float64).max)  # NaN compares false
    if not good.all():
        at = int(good.argmin())
        raise ValueError(f"weights[{at}] = {float(factors[at])} is negative or not finite")


def check_groups(numbers: Any, rows: int, num_groups: int | None) -> None:
    """Raise where numbers, integers [N], are no groups in 0..num_groups-1."""
    if numbers.dtype.kind not in "iu" and len(numbers):
        raise TypeError(f"groups have dtype {numbers.dtype}: integers are needed")
    if numbers.shape != (rows,):
        raise ValueError(f"groups have shape {numbers.shape}: one per row, ({rows},), is needed")
    good = (numbers >= 0) & (numbers < (2**31 if num_groups is None else num_groups))
    if not good.all():
        at = int(good.argmin())
        limit = "" if num_groups is None else f" or not below num_groups={num_groups}"
        raise ValueError(f"groups[{at}] = {int(numbers[at])} is negative{limit}")
