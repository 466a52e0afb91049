"""Checks and dispatch for Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers", SC 2011).

A draw is addressed, never consumed: value = f(key, replica, identity, stream, index). The same address gives the
same bits on every backend, in every chunk, with any number of threads.
"""

from __future__ import annotations

import importlib
import operator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powsim_kernels.backend import resolve
from powsim_kernels.threads import thread_count

OFFERED = ("reference", "cpu")


def philox(counters: ArrayLike, key: int, *, backend: str = "auto", threads: int | None = None) -> NDArray[np.uint32]:
    """Return the four random words of each counter: uint32 [N, 4] for counters uint32 [N, 4], key 0..2^64-1."""
    words = check_words("counters", counters)
    if words.ndim != 2 or words.shape[1] != 4:
        raise ValueError(f"counters have shape {words.shape}: philox takes uint32 [N, 4]")
    twin = importlib.import_module(f"powsim_kernels.philox.{resolve(backend, OFFERED)}")
    out: NDArray[np.uint32] = twin.philox(words, check_number("key", key, 64), thread_count(threads))
    return out


def uniform(
    identity: ArrayLike,
    *,
    key: int,
    stream: int,
    index: int = 0,
    replica: ArrayLike = 0,
    backend: str = "auto",
    threads: int | None = None,
) -> NDArray[np.float64]:
    """Return one uniform number in (0, 1] per identity: float64 [A], multiples of 2^-53.

    identity, replica: integers [A] (or one replica for all), 0..2^32-1. Draw `index` of a stream is half
    `index % 2` of the block with counter (index // 2, stream, identity, replica).
    """
    stream, index = check_number("stream", stream, 32), check_number("index", index, 33)
    who = check_words("identity", identity)
    which = np.broadcast_to(check_words("replica", replica), who.shape)
    counters = np.empty((who.size, 4), np.uint32)
    counters[:, 0] = index // 2
    counters[:, 1] = stream
    counters[:, 2] = who
    counters[:, 3] = which
    words = philox(counters, key, backend=backend, threads=threads).astype(np.uint64)
    half = 2 * (index % 2)
    bits = (words[:, half + 1] << np.uint64(32)) | words[:, half]
    return ((bits >> np.uint64(11)) + np.uint64(1)).astype(np.float64) * 2.0**-53


def check_number(name: str, value: int, bits: int) -> int:
    """Return `value` as an int if it is a whole number of `bits` bits, else raise TypeError or ValueError."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} is not a whole number") from None
    if not 0 <= number < 2**bits:
        raise ValueError(f"{name}={number} does not fit: 0 to 2^{bits}-1 can be addressed")
    return number


def check_words(name: str, values: ArrayLike) -> NDArray[np.uint32]:
    """Return integers `values` as uint32, or raise ValueError naming the first that does not fit 32 bits."""
    array = np.atleast_1d(np.asarray(values))
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} has dtype {array.dtype}: integers are needed")
    if array.size and (int(array.min()) < 0 or int(array.max()) >= 2**32):
        raise ValueError(f"{name} runs from {array.min()} to {array.max()}: 0 to 2^32-1 can be addressed")
    return np.ascontiguousarray(array, dtype=np.uint32)
