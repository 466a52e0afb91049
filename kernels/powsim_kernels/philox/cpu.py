"""Philox4x32-10 by Numba. Every product is widened to 64 bits by hand: Numba widens mixed integers on its own terms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.jit import helper, jit
from powsim_kernels.threads import over_ranges

GRAIN = 1 << 14
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
TWO, THREE, FOUR, FIVE = np.uint64(2), np.uint64(3), np.uint64(4), np.uint64(5)


@helper
def block(c0, c1, c2, c3, key):  # type: ignore[no-untyped-def]
    """Return the four words (uint64 holding 32 bits each) of one counter (uint64 words) under a uint64 key."""
    k0, k1 = key & LOW, key >> HALF
    for _ in range(10):
        first, second = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (second >> HALF) ^ c1 ^ k0, second & LOW, (first >> HALF) ^ c3 ^ k1, first & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return c0, c1, c2, c3


@helper
def _round(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    # What multiplies is cut to 32 bits, and nothing else: vector products read no more of their own accord.
    first, second = M0 * (c0 & LOW), M1 * (c2 & LOW)
    return (second >> HALF) ^ c1 ^ k0, second, (first >> HALF) ^ c3 ^ k1, first


@helper
def five(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Return four words after five rounds, written out, so that LLVM makes vector code of loops over them.

    The upper halves of the words are not clean. Loops over five rounds each are faster than one over ten: the CPU looks
    ahead at so many operations and no more.
    """
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + W0) & LOW, (k1 + W1) & LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + TWO * W0) & LOW, (k1 + TWO * W1) & LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + THREE * W0) & LOW, (k1 + THREE * W1) & LOW)
    return _round(c0, c1, c2, c3, (k0 + FOUR * W0) & LOW, (k1 + FOUR * W1) & LOW)


@helper
def later_keys(key):  # type: ignore[no-untyped-def]
    """Return the two keys of the sixth round."""
    return ((key & LOW) + FIVE * W0) & LOW, ((key >> HALF) + FIVE * W1) & LOW


@helper
def unrolled(c0, c1, c2, c3, key):  # type: ignore[no-untyped-def]
    """Return what `block` does, its rounds written out."""
    c0, c1, c2, c3 = five(c0, c1, c2, c3, key & LOW, key >> HALF)
    k0, k1 = later_keys(key)
    c0, c1, c2, c3 = five(c0, c1, c2, c3, k0, k1)
    return c0 & LOW, c1 & LOW, c2 & LOW, c3 & LOW


@helper
def uniform_of(low, high):  # type: ignore[no-untyped-def]
    """Return the number in (0, 1] that two words (uint64 holding 32 bits) stand for, as `contract.uniform` does."""
    bits = (high << HALF) | low
    return np.float64((bits >> np.uint64(11)) + np.uint64(1)) * 2.0**-53


@jit
def _rows(counters, key, out, begin, end):  # type: ignore[no-untyped-def]
    for row in range(begin, end):
        a, b, c, d = block(
            np.uint64(counters[row, 0]),
            np.uint64(counters[row, 1]),
            np.uint64(counters[row, 2]),
            np.uint64(counters[row, 3]),
            key,
        )
        out[row, 0], out[row, 1] = np.uint32(a), np.uint32(b)
        out[row, 2], out[row, 3] = np.uint32(c), np.uint32(d)


def philox(counters: NDArray[np.uint32], key: int, threads: int | None) -> NDArray[np.uint32]:
    """Return the words of every counter row."""
    out = np.empty_like(counters)
    over_ranges(
        lambda begin, end: _rows(counters, np.uint64(key), out, begin, end),
        len(counters),
        threads=threads,
        grain=GRAIN,
    )
    return out
