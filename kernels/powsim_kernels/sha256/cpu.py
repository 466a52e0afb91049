"""SHA-256 and the miner by Numba.

v1 whole leading blocks once per puzzle (midstate), one compression per nonce, rounds unrolled by 16 so that
words and state need no memory, only the first 64 bits of the digest formed and compared: 7.4 MH/s on one core
of an AMD EPYC of family 26 (Zen 5), 3 times a loop over hashlib, which has SHA instructions, in the same run.
"""

# Numba infers the types of the compiled functions, so mypy is not told them:
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.jit import helper, jit
from powsim_kernels.sha256 import reference
from powsim_kernels.threads import over_ranges

FIRST_CHUNK = 1 << 16
"""Hashes of the first chunk of a search: about 9 ms of one core, before its speed is known."""

PIECE = 1 << 13
"""Nonces that one thread tries before it looks for a lower winner: about 1 ms."""

GRAIN = 1 << 12
"""Hashes below which a second thread costs more than it brings."""

MISS = np.uint64(2**64 - 1)
INITIAL = np.array(reference.INITIAL, np.uint32)
K = np.array(reference.K, np.uint32)


class Puzzles(NamedTuple):
    """Challenges as `search` wants them."""

    midstate: NDArray[np.uint32]  # [P, 8] hash value after the whole leading blocks
    tail: NDArray[np.uint32]  # [P, 16] the last block, padded, with zeros in place of the nonce
    place: NDArray[np.int64]  # [P] byte of the tail at which the nonce begins, 0..47


@helper
def rotr(x, n):
    """Return the uint32 `x` turned right by `n`; the casts keep Numba, which widens to 64 bits, at 32."""
    return np.uint32(np.uint32(x >> np.uint32(n)) | np.uint32(x << np.uint32(32 - n)))


@helper
def step(a, b, c, d, e, f, g, h, kw):
    """Return the new (d, h) of one round: the other six words only change their names."""
    t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + (g ^ (e & (f ^ g))) + kw
    t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) | (c & (a | b)))
    return np.uint32(d + t1), np.uint32(t1 + t2)


@helper
def later(w16, w15, w7, w2):
    """Return the schedule word made of those 16, 15, 7 and 2 places before it."""
    sigma0 = rotr(w15, 7) ^ rotr(w15, 18) ^ np.uint32(w15 >> np.uint32(3))
    sigma1 = rotr(w2, 17) ^ rotr(w2, 19) ^ np.uint32(w2 >> np.uint32(10))
    return np.uint32(w16 + sigma0 + w7 + sigma1)


@helper
def rounds(state, w):
    """Return a..h after the 64 rounds on the block `w` (uint32 [16]) from `state` (uint32 [8])."""
    a, b, c, d, e, f, g, h = state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]
    w0, w1, w2, w3, w4, w5, w6, w7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
    w8, w9, w10, w11, w12, w13, w14, w15 = w[8], w[9], w[10], w[11], w[12], w[13], w[14], w[15]
    for t in range(0, 64, 16):
        if t:
            w0 = later(w0, w1, w9, w14)
            w1 = later(w1, w2, w10, w15)
            w2 = later(w2, w3, w11, w0)
            w3 = later(w3, w4, w12, w1)
            w4 = later(w4, w5, w13, w2)
            w5 = later(w5, w6, w14, w3)
            w6 = later(w6, w7, w15, w4)
            w7 = later(w7, w8, w0, w5)
            w8 = later(w8, w9, w1, w6)
            w9 = later(w9, w10, w2, w7)
            w10 = later(w10, w11, w3, w8)
            w11 = later(w11, w12, w4, w9)
            w12 = later(w12, w13, w5, w10)
            w13 = later(w13, w14, w6, w11)
            w14 = later(w14, w15, w7, w12)
            w15 = later(w15, w0, w8, w13)
        d, h = step(a, b, c, d, e, f, g, h, K[t] + w0)
        c, g = step(h, a, b, c, d, e, f, g, K[t + 1] + w1)
        b, f = step(g, h, a, b, c, d, e, f, K[t + 2] + w2)
        a, e = step(f, g, h, a, b, c, d, e, K[t + 3] + w3)
        h, d = step(e, f, g, h, a, b, c, d, K[t + 4] + w4)
        g, c = step(d, e, f, g, h, a, b, c, K[t + 5] + w5)
        f, b = step(c, d, e, f, g, h, a, b, K[t + 6] + w6)
        e, a = step(b, c, d, e, f, g, h, a, K[t + 7] + w7)
        d, h = step(a, b, c, d, e, f, g, h, K[t + 8] + w8)
        c, g = step(h, a, b, c, d, e, f, g, K[t + 9] + w9)
        b, f = step(g, h, a, b, c, d, e, f, K[t + 10] + w10)
        a, e = step(f, g, h, a, b, c, d, e, K[t + 11] + w11)
        h, d = step(e, f, g, h, a, b, c, d, K[t + 12] + w12)
        g, c = step(d, e, f, g, h, a, b, c, K[t + 13] + w13)
        f, b = step(c, d, e, f, g, h, a, b, K[t + 14] + w14)
        e, a = step(b, c, d, e, f, g, h, a, K[t + 15] + w15)
    return a, b, c, d, e, f, g, h


@helper
def absorb(state, w):
    """Add the block `w` to the hash value `state` in place."""
    a, b, c, d, e, f, g, h = rounds(state, w)
    state[0], state[1], state[2], state[3] = state[0] + a, state[1] + b, state[2] + c, state[3] + d
    state[4], state[5], state[6], state[7] = state[4] + e, state[5] + f, state[6] + g, state[7] + h


@helper
def load(data, block, w):
    """Put block number `block` of the message `data` into `w`, with the one bit but without the length."""
    for j in range(16):
        word = np.uint32(0)
        for i in range(64 * block + 4 * j, 64 * block + 4 * j + 4):
            byte = np.uint32(0)
            if i < len(data):
                byte = np.uint32(data[i])
            elif i == len(data):
                byte = np.uint32(0x80)
            word = np.uint32(word << np.uint32(8)) | byte
        w[j] = word


@helper
def put_length(data, w):
    """Put the length of the message `data`, in bits, into the last two words of `w`."""
    w[14] = np.uint32(np.uint64(len(data)) >> np.uint64(29))
    w[15] = np.uint32(np.uint64(len(data)) << np.uint64(3))


@jit
def _digests(data, offsets, out, begin, end):
    state, w = np.empty(8, np.uint32), np.empty(16, np.uint32)
    for row in range(begin, end):
        message = data[offsets[row] : offsets[row + 1]]
        last = (len(message) + 8) // 64
        state[:] = INITIAL
        for block in range(last + 1):
            load(message, block, w)
            if block == last:
                put_length(message, w)
            absorb(state, w)
        for i in range(32):
            out[row, i] = np.uint8(state[i // 4] >> np.uint32(24 - 8 * (i % 4)))


@jit
def _prepare(data, offsets, midstate, tail, begin, end):
    for row in range(begin, end):
        message = data[offsets[row] : offsets[row + 1]]
        whole = len(message) // 64
        midstate[row] = INITIAL
        for block in range(whole):
            load(message, block, tail[row])
            absorb(midstate[row], tail[row])
        load(message, whole, tail[row])
        put_length(message, tail[row])


@jit
def _search(midstate, tail, place, rows, begin, limits, owner, skip, size, best, hit, first, last):
    w = np.empty(16, np.uint32)
    for piece in range(first, last):
        slot = owner[piece]
        # Another thread may write `best` meanwhile: what is read is a real winner or MISS, so that a piece is
        # left out only if a lower winner is known. The result itself is made of `hit`.
        if best[slot] < skip[piece]:
            continue
        row = rows[slot]
        limit = limits[slot]
        state = midstate[row]
        w[:] = tail[row]
        at = place[row] // 4
        shift = np.uint64(8 * (place[row] % 4))
        base0, base1, base2 = w[at], w[at + 1], w[at + 2]
        start = np.uint64(begin[slot] + skip[piece])
        for i in range(size[piece]):
            nonce = np.uint64(start + np.uint64(i))
            w[at] = base0 | np.uint32(nonce >> (np.uint64(32) + shift))
            w[at + 1] = base1 | np.uint32(nonce >> shift)
            w[at + 2] = base2 | np.uint32(nonce << (np.uint64(32) - shift))
            a, b, _, _, _, _, _, _ = rounds(state, w)
            high, low = np.uint32(state[0] + a), np.uint32(state[1] + b)
            if (np.uint64(high) << np.uint64(32)) | np.uint64(low) <= limit:
                hit[piece] = skip[piece] + np.uint64(i)
                best[slot] = min(best[slot], hit[piece])
                break


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
    over_ranges(
        lambda first, last: _search(*puzzles, rows, begin, limits, owner, skip, size, best, hit, first, last),
        len(owner),
        threads=threads,
        grain=max(1, GRAIN * len(owner) // int(size.sum())),
    )
    return np.minimum(np.minimum.reduceat(hit, ends - pieces), count)
