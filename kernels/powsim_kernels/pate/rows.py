"""What callers may hand in beside the plan, on the host or on a device: votes, and one number per row."""

from __future__ import annotations

from typing import Any

import numpy as np

ON_DEVICE = (2, 13)
"""DLPack's numbers for memory of a CUDA device, and for memory that devices and the host share."""

MOST_WEIGHT = 1e100  # totals of larger ones would leave float64
MOST_COSTS = 1 << 31  # of groups at orders: 16 GiB


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


def bad_row(row: int, votes: Any, num_voters: int) -> ValueError:
    """Return the error that names a row of votes [N, C] whose counts cannot be votes."""
    counts = votes[row, :20].tolist()
    more = f" and {votes.shape[1] - 20} more" if votes.shape[1] > 20 else ""
    return ValueError(
        f"votes[{row}] = {counts}{more} holds a negative, NaN or infinite count, or one above num_voters={num_voters}"
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
    """Raise where factors are no real numbers [N]; their values are looked at by `weights_of`."""
    if factors.dtype.kind not in "iuf" and factors.size:
        raise TypeError(f"weights have dtype {factors.dtype}: real numbers are needed")
    if factors.shape != (rows,):
        raise ValueError(f"weights have shape {factors.shape}: one per row, ({rows},), is needed")


def weights_of(piece: Any, first: int) -> Any:
    """Return how often some rows, the first of them number `first`, count: float64 [n]."""
    factors = piece.astype(np.float64, copy=False)
    good = (factors >= 0.0) & (factors <= MOST_WEIGHT)  # NaN compares false
    if not good.all():
        at = int(good.argmin())
        raise ValueError(
            f"weights[{first + at}] = {float(factors[at])} is negative or not finite, or above {MOST_WEIGHT:g}"
        )
    return factors


def check_groups(numbers: Any, rows: int) -> None:
    """Raise where numbers are no integers [N]; their values are looked at by `groups_of`."""
    if numbers.dtype.kind not in "iu" and numbers.size:
        raise TypeError(f"groups have dtype {numbers.dtype}: integers are needed")
    if numbers.shape != (rows,):
        raise ValueError(f"groups have shape {numbers.shape}: one per row, ({rows},), is needed")


def groups_of(piece: Any, first: int, num_groups: int) -> Any:
    """Return the groups of some rows, the first of them number `first`: int64 [n] in 0..num_groups-1."""
    good = (piece >= 0) & (piece < num_groups)
    if not good.all():
        at = int(good.argmin())
        raise ValueError(f"groups[{first + at}] = {int(piece[at])} is negative or not below num_groups={num_groups}")
    return piece.astype(np.int64, copy=False)


def group_count(numbers: Any, orders: int) -> int:
    """Return one more than the largest group; raise where so many have no room for their costs [G, L]."""
    count = max(int(numbers.max()) + 1, 0) if len(numbers) else 0
    if count * orders > MOST_COSTS:
        raise ValueError(
            f"groups go up to {count - 1}: {count:,} groups at {orders} orders need {8e-9 * count * orders:,.0f} GB; "
            "number them without gaps (np.unique with return_inverse=True)"
        )
    return count
