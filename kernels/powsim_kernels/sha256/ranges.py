"""Ranges of nonces cut into pieces that threads share, and the results of compiled kernels put together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.threads import thread_count

MISS = np.uint64(2**64 - 1)

PIECE = 1 << 14
"""Nonces that one thread tries before it looks for a lower winner: 0.1 to 1 ms."""

GRAIN = 1 << 15
"""Hashes below which a second thread costs more than it brings."""

KernelOf = Callable[[int], Callable[..., None]]
"""Gives the compiled search for nonces that end in a word of the last block."""


@dataclass(frozen=True)
class Puzzles:
    """Challenges as `search` wants them."""

    challenges: list[bytes]
    blocks: NDArray[np.int64]  # [P] whole leading blocks
    tail: NDArray[np.uint32]  # [P, 16] the last block, padded, with zeros in place of the nonce
    position: NDArray[np.int64]  # [P] word of the last block that the nonce's last byte is in, 1..13
    turn: NDArray[np.int64]  # [P] bits of that word after the nonce's last: 0, 8, 16 or 24

    @cached_property
    def midstate(self) -> NDArray[np.uint32]:
        """Return the hash value after the whole leading blocks: uint32 [P, 8]; only compiled searches need it."""
        from powsim_kernels.sha256.absorb import midstates

        return midstates(self.challenges, self.blocks)


@dataclass(frozen=True)
class Ranges:
    """What `search` shall search."""

    rows: NDArray[np.int64]  # [R] puzzle
    begin: NDArray[np.uint64]  # [R] first nonce
    count: NDArray[np.uint64]  # [R] nonces
    limits: NDArray[np.uint64]  # [R] largest first 64 bits of a solving digest

    def of(self, which: NDArray[np.int64], skip: NDArray[np.uint64]) -> Ranges:
        """Return some of the ranges, without their first `skip` nonces."""
        return Ranges(self.rows[which], self.begin[which] + skip, self.count[which] - skip, self.limits[which])


def prepare(challenges: list[bytes]) -> Puzzles:
    """Return the challenges as `search` wants them."""
    lengths = np.fromiter(map(len, challenges), np.int64, len(challenges))
    whole, place = lengths // 64, lengths % 64
    ends = [challenge[-n:] if n else b"" for challenge, n in zip(challenges, place.tolist(), strict=True)]
    tail = np.array(ends, "S64").view(np.uint8).reshape(-1, 64)  # filled with zeros
    tail[np.arange(len(challenges)), place + 8] = 0x80  # FIPS 180-4, 5.1.1
    tail.view(">u8")[:, 7] = 8 * (lengths + 8)
    return Puzzles(
        challenges,
        whole,
        tail.view(">u4").astype(np.uint32),
        (place + 7) // 4,
        8 * (3 - (place + 7) % 4),
    )


def search(kernel_of: KernelOf, puzzles: Puzzles, ranges: Ranges, threads: int | None) -> NDArray[np.uint64]:
    """Return, for each range, the lowest solving offset, or its count: uint64 [R]; `kernel_of` takes a position."""
    result = ranges.count.copy()
    which = np.flatnonzero(ranges.count)  # an empty range has no piece
    skip = np.zeros(len(which), np.uint64)
    while which.size:
        part = ranges.of(which, skip)
        index, unsure = _candidates(kernel_of, puzzles, part, threads)
        result[which] = skip + index
        # The kernels compare 32 bits. Where these equal the target's, the rest decides, and the search may go on.
        asked = np.flatnonzero(unsure).tolist()
        wrong = [i for i in asked if not _solves(puzzles.challenges[part.rows[i]], part, i, int(index[i]))]
        skip = result[which[wrong]] + np.uint64(1)
        result[which[wrong]] = ranges.count[which[wrong]]
        keep = skip < ranges.count[which[wrong]]
        which, skip = which[wrong][keep], skip[keep]
    return result


def _solves(challenge: bytes, part: Ranges, i: int, index: int) -> bool:
    return first_64_bits(hashlib.sha256(challenge), int(part.begin[i]) + index) <= int(part.limits[i])


def first_64_bits(base: Any, nonce: int) -> int:
    """Return the first 64 bits of the digest of a message begun in the hashlib object `base` and ended by the nonce."""
    whole = base.copy()
    whole.update(nonce.to_bytes(8, "big"))
    return int.from_bytes(whole.digest()[:8], "big")


def _candidates(
    kernel_of: KernelOf, puzzles: Puzzles, ranges: Ranges, threads: int | None
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return the lowest offset whose first 32 bits do not exceed the target's, or count, and whether they equal them.

    The ranges are cut into pieces at multiples of the step, so that in a piece only one word varies.
    """
    total = len(ranges.rows)
    position, turn = puzzles.position[ranges.rows], puzzles.turn[ranges.rows]
    step = np.minimum(PIECE, np.int64(1) << (32 - turn))
    lead = (ranges.begin % step.astype(np.uint64)).astype(np.int64)
    count = ranges.count.astype(np.int64)
    pieces = (lead + count + step - 1) // step
    ends = np.cumsum(pieces)
    owner = np.repeat(np.arange(total), pieces)
    level = np.arange(len(owner)) - np.repeat(ends - pieces, pieces)
    skip = np.maximum(level * step[owner] - lead[owner], 0)
    size = np.minimum((level + 1) * step[owner] - lead[owner], count[owner]) - skip
    best, hit = np.full(total, MISS), np.full(len(owner), MISS)
    bound = (ranges.limits >> np.uint64(32)).astype(np.uint32)
    given = (puzzles.midstate, puzzles.tail, puzzles.turn, ranges.rows, ranges.begin, bound)
    shared = (*given, owner, skip, size, best, hit)
    for word in np.unique(position).tolist():
        which = np.flatnonzero(position[owner] == word)
        _run(kernel_of(word), shared, which, int(size[which].sum()), threads)
    lowest = np.minimum.reduceat(hit, ends - pieces)
    none = lowest == MISS
    return np.where(none, ranges.count, lowest >> np.uint64(1)), (lowest & np.uint64(1) == 1) & ~none


def _run(
    call: Callable[..., None],
    shared: tuple[NDArray[Any], ...],
    which: NDArray[np.int64],
    hashes: int,
    threads: int | None,
) -> None:
    """Search the pieces `which`; the threads take them from one queue."""
    from powsim_kernels.sha256.kernel import SPARE, TABLE

    cursor = np.zeros(1, np.int64)

    def work(_: int) -> None:
        # Memory of its own for each thread, lest they share cache lines.
        own = np.empty(TABLE + SPARE, np.uint32)
        arrays = [array.ctypes.data for array in (*shared, which, cursor)]
        call(*arrays, len(which), own.ctypes.data, own.ctypes.data + 4 * TABLE)

    workers = min(thread_count(threads), max(1, hashes // GRAIN), len(which))
    if workers == 1:
        work(0)
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
