"""Difficulty in bits as the largest accepted value of the digest's first 64 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_BITS = 64
"""The target is compared with the first 64 bits of the digest, so that finer ones cannot be told apart."""


def target_limit(bits: ArrayLike) -> NDArray[np.uint64]:
    """Return the largest first 64 bits of a digest that still solve a puzzle of `bits`: uint64 [P].

    bits: 0..64, fractions allowed, [P] or one number (then P = 1); the expected number of tries is 2^bits.
    T = max(1, round(2^(64 - bits))) of the 2^64 values are accepted, so the limit is T - 1, inclusive: 2^64 -
    1 at 0 bits, 0 at 64. Whole bits are exact (k leading zero bits); fractional ones to one part in 2^52, the
    precision of a float64.

    Raises ValueError naming the first difficulty outside 0..64, TypeError for what is not a number.
    """
    given = np.atleast_1d(np.asarray(bits))
    if given.size and given.dtype.kind not in "iuf":
        raise TypeError(f"bits have dtype {given.dtype}: integers or floats are needed")
    values = given.astype(np.float64)
    bad = ~((values >= 0) & (values <= MAX_BITS))  # NaN compares false, hence the negation
    if bad.any():
        value = float(values[bad][0])
        if value > MAX_BITS:
            raise ValueError(f"difficulty {value} bits exceeds {MAX_BITS}: lower the bits")
        if value < 0:
            raise ValueError(f"difficulty {value} bits is below 0: raise the bits")
        raise ValueError(f"difficulty {value} bits is not a number: give bits from 0 to {MAX_BITS}")
    whole = np.floor(values)
    # 2^-fraction in (0.5, 1], then an exact scaling: exp2 of the sum would lose the exactness of whole bits.
    accepted = np.rint(np.ldexp(np.exp2(whole - values), (MAX_BITS - whole).astype(np.int32)))
    everything = accepted >= 2.0**64  # 2^64 itself does not fit uint64, 2^64 - 1 does
    limit = np.where(everything, 1.0, np.maximum(accepted, 1.0)).astype(np.uint64) - np.uint64(1)
    return np.where(everything, np.uint64(2**64 - 1), limit)
