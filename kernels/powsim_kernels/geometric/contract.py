"""Checks and dispatch for sampled solve work: the number of tries up to and including the lowest valid nonce."""

from __future__ import annotations

import importlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powsim_kernels.backend import resolve
from powsim_kernels.philox.contract import check_number, check_words
from powsim_kernels.threads import thread_count

OFFERED = ("reference", "cpu")
MAX_BITS = 58
"""Draws reach 36.74 / p at most (uniforms are multiples of 2^-53), so 2^58 expected tries still fit uint64."""


def geometric(
    probability: ArrayLike,
    *,
    key: int,
    stream: int,
    identity: ArrayLike,
    replica: ArrayLike = 0,
    first: int = 0,
    draws: int = 1,
    backend: str = "auto",
    threads: int | None = None,
) -> NDArray[np.uint64]:
    """Return sampled tries: uint64 [A, P], each the sum of `draws` independent geometric numbers.

    probability: float64 [A, P], chance that one hash solves the (sub-)puzzle; 0 stands for "no puzzle" and
    gives 0 tries. P(tries > k) = (1 - p)^k by inversion, k = floor(ln u / ln(1 - p)), u in (0, 1] on a grid of
    2^-53: the law is exact down to tails of that probability.
    identity, replica: integers [A]; column j of row a takes the uniforms numbered (first + j) * draws and up of
    (key, stream, identity[a], replica[a]), so that a column range may be computed on its own.

    Raises ValueError for a probability outside [0, 1] or one so small that tries could pass 2^64.
    """
    p = np.ascontiguousarray(probability, dtype=np.float64)
    if p.ndim != 2:
        raise ValueError(f"probability has shape {p.shape}: [identities, puzzles] is needed")
    key, stream = check_number("key", key, 64), check_number("stream", stream, 32)
    first, draws = check_number("first", first, 33), check_number("draws", draws, 33)
    if draws < 1:
        raise ValueError(f"draws={draws} must be at least 1")
    if not np.all((p >= 0) & (p <= 1)):
        bad = float(p[~((p >= 0) & (p <= 1))][0])
        raise ValueError(f"probability {bad} is outside 0..1")
    smallest = float(np.min(p, where=p > 0, initial=1.0))
    if draws / smallest > 2.0**MAX_BITS:
        bits = np.log2(draws / smallest)
        raise ValueError(f"difficulty {bits:.1f} bits exceeds {MAX_BITS}, the most that can be sampled: lower it")
    who = check_words("identity", identity)
    which = np.ascontiguousarray(np.broadcast_to(check_words("replica", replica), who.shape))
    if who.shape != (p.shape[0],):
        raise ValueError(f"identity has shape {who.shape}, probability has {p.shape[0]} rows")
    if (first + p.shape[1]) * draws >= 2**33:
        raise ValueError(f"{first + p.shape[1]} puzzles of {draws} draws exceed the 2^33 draws of one stream")
    twin = importlib.import_module(f"powsim_kernels.geometric.{resolve(backend, OFFERED)}")
    out: NDArray[np.uint64] = twin.geometric(p, key, stream, who, which, first, draws, thread_count(threads))
    return out
