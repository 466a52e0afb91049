"""SHA-256 and the miner by Numba.

v1 whole leading blocks once per puzzle (midstate), one compression per nonce in scalar code: 7.4 MH/s on one core of an
AMD EPYC of family 26 (Zen 5), 3 times a loop over hashlib, which has SHA instructions.
v2 vectors of 16, 8 or 4 nonces that differ in one word of the last block, everything else folded into constants
(`plan`), two vectors side by side, only the first digest word formed and compared: 183 MH/s on that core with AVX-512.
"""

# Numba infers the types of the compiled functions, so mypy is not told them:
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from functools import cache, partial
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from llvmlite import binding
from numba import config
from numpy.typing import NDArray

from powsim_kernels.backend import BackendUnavailable
from powsim_kernels.jit import jit
from powsim_kernels.sha256.scalar import INITIAL, absorb, load, put_length
from powsim_kernels.sha256.vector import MISS, searcher
from powsim_kernels.threads import over_ranges

FIRST_CHUNK = 1 << 19
"""Hashes of the first chunk of a search: 3 to 50 ms of one core, before its speed is known."""

PIECE = 1 << 14
"""Nonces that one thread tries before it looks for a lower winner: about 0.1 ms."""

GRAIN = 1 << 15
"""Hashes below which a second thread costs more than it brings."""


class Variant(NamedTuple):
    """A vector form of the search."""

    feature: str  # what the CPU must have, in LLVM's words
    lanes: int
    streams: int  # vectors side by side
    ternary: bool


VARIANTS = {
    "avx512": Variant("avx512f", 16, 2, True),
    "avx2": Variant("avx2", 8, 2, False),
    "sse2": Variant("sse2", 4, 2, False),
    "neon": Variant("neon", 4, 2, False),
}
"""Best first. One can be forced by name, as in backend="cpu:avx2"; LLVM still uses every instruction the CPU has."""


def features() -> set[str]:
    """Return the CPU features that Numba compiles for: the host's, or what NUMBA_CPU_FEATURES says instead."""
    forced = getattr(config, "CPU_FEATURES", None)
    if forced:
        return {word[1:] for word in forced.split(",") if word.startswith("+")}
    return {name for name, has in binding.get_host_cpu_features().items() if has}


@cache
def twin(name: str) -> SimpleNamespace:
    """Return the twin "cpu" (the widest vectors that this CPU has) or "cpu:VARIANT". Raises BackendUnavailable."""
    has = features()
    if name == "cpu":
        name = f"cpu:{next(v for v, shape in VARIANTS.items() if shape.feature in has)}"
    shape = VARIANTS.get(name.removeprefix("cpu:"))
    if shape is None:
        known = ", ".join(f"cpu:{variant}" for variant in VARIANTS)
        raise ValueError(f"unknown backend {name!r}: the CPU miner has {known}")
    if shape.feature not in has:
        raise BackendUnavailable(f"backend {name!r} cannot run: this CPU has no {shape.feature}; use backend='cpu'")

    def search_here(puzzles, rows, begin, count, limits, threads):
        return search(shape, puzzles, rows, begin, count, limits, threads)

    return SimpleNamespace(FIRST_CHUNK=FIRST_CHUNK, sha256=sha256, prepare=prepare, search=search_here)


class Puzzles(NamedTuple):
    """Challenges as `search` wants them."""

    midstate: NDArray[np.uint32]  # [P, 8] hash value after the whole leading blocks
    tail: NDArray[np.uint32]  # [P, 16] the last block, padded, with zeros in place of the nonce
    place: NDArray[np.int64]  # [P] byte of the tail at which the nonce begins, 0..47


@jit
def _digests(data, offsets, out, begin, end):
    state, w, scratch = np.empty(8, np.uint32), np.empty(16, np.uint32), np.empty(8, np.uint32)
    for row in range(begin, end):
        message = data[offsets[row] : offsets[row + 1]]
        last = (len(message) + 8) // 64
        state[:] = INITIAL
        for block in range(last + 1):
            load(message, block, w)
            if block == last:
                put_length(message, w)
            absorb(state, w, scratch)
        for i in range(32):
            out[row, i] = np.uint8(state[i // 4] >> np.uint32(24 - 8 * (i % 4)))


@jit
def _prepare(data, offsets, midstate, tail, begin, end):
    scratch = np.empty(8, np.uint32)
    for row in range(begin, end):
        message = data[offsets[row] : offsets[row + 1]]
        whole = len(message) // 64
        midstate[row] = INITIAL
        for block in range(whole):
            load(message, block, tail[row])
            absorb(midstate[row], tail[row], scratch)
        load(message, whole, tail[row])
        put_length(message, tail[row])


def _joined(messages: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return all bytes in one array, and where each message begins (and the last one ends)."""
    offsets = np.zeros(len(messages) + 1, np.int64)
    np.cumsum([len(message) for message in messages], out=offsets[1:])
    return np.frombuffer(b"".join(messages), np.uint8), offsets


def _grain(offsets: NDArray[np.int64]) -> int:
    """Return how many messages make GRAIN blocks."""
    return max(1, GRAIN * (len(offsets) - 1) // (int(offsets[-1]) // 64 + len(offsets)))


def sha256(messages: list[bytes], threads: int | None) -> NDArray[np.uint8]:
    """Return the digest of every message: uint8 [N, 32]."""
    data, offsets = _joined(messages)
    out = np.empty((len(messages), 32), np.uint8)
    over_ranges(
        lambda begin, end: _digests(data, offsets, out, begin, end),
        len(messages),
        threads=threads,
        grain=_grain(offsets),
    )
    return out


def prepare(challenges: list[bytes], threads: int | None) -> Puzzles:
    """Return midstates and padded tails of the challenges; 8 zero bytes keep the nonce's place."""
    data, offsets = _joined([challenge + bytes(8) for challenge in challenges])
    midstate, tail = np.empty((len(challenges), 8), np.uint32), np.empty((len(challenges), 16), np.uint32)
    over_ranges(
        lambda begin, end: _prepare(data, offsets, midstate, tail, begin, end),
        len(challenges),
        threads=threads,
        grain=_grain(offsets),
    )
    return Puzzles(midstate, tail, (np.diff(offsets) - 8) % 64)


def search(
    shape: Variant,
    puzzles: Puzzles,
    rows: NDArray[np.int64],
    begin: NDArray[np.uint64],
    count: NDArray[np.uint64],
    limits: NDArray[np.uint64],
    threads: int | None,
) -> NDArray[np.uint64]:
    """Return, for each row, the lowest i < count with begin + i solving its puzzle, or count: uint64 [R].

    The ranges are cut into adjacent pieces, of one puzzle or of many, and the threads share the pieces.
    """
    pieces = (count.astype(np.int64) + (PIECE - 1)) // PIECE
    ends = np.cumsum(pieces)
    owner = np.repeat(np.arange(len(rows)), pieces)
    skip = (np.arange(len(owner)) - np.repeat(ends - pieces, pieces)).astype(np.uint64) * np.uint64(PIECE)
    size = np.minimum(count[owner] - skip, np.uint64(PIECE)).astype(np.int64)
    hit = np.full(len(owner), MISS)
    best = np.full(len(rows), MISS)
    position = ((puzzles.place[rows] + 7) // 4)[owner]
    for word in np.unique(position).tolist():
        which = np.flatnonzero(position == word)
        kernel = searcher(shape.lanes, shape.streams, shape.ternary, word)
        arguments = (*puzzles, rows, begin, limits, which, owner, skip, size, best, hit)
        over_ranges(
            partial(kernel, *arguments),
            len(which),
            threads=threads,
            grain=max(1, GRAIN * len(which) // int(size[which].sum())),
        )
    return np.minimum(np.minimum.reduceat(hit, ends - pieces), count)
