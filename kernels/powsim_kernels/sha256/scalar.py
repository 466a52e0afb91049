"""SHA-256 of single blocks by Numba: for what surrounds the vector search, and for batched digests."""

# Numba infers the types of the compiled functions, so mypy is not told them:
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from powsim_kernels.jit import helper
from powsim_kernels.sha256 import reference

INITIAL = np.array(reference.INITIAL, np.uint32)
K = np.array(reference.K, np.uint32)


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
def some_rounds(state, w, count, out):
    """Write a..h after the first `count` rounds on the block `w` from `state` into `out` (uint32 [8] or more).

    A loop and not unrolled: it compiles in a tenth of the time, and the search needs it a few times per thousand
    hashes. From round 16 on it turns `w` into later schedule words.
    """
    a, b, c, d, e, f, g, h = state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]
    for t in range(count):
        if t >= 16:
            w[t % 16] = later(w[t % 16], w[(t + 1) % 16], w[(t + 9) % 16], w[(t + 14) % 16])
        new_e, new_a = step(a, b, c, d, e, f, g, h, K[t] + w[t % 16])
        a, b, c, d, e, f, g, h = new_a, a, b, c, new_e, e, f, g
    out[0], out[1], out[2], out[3], out[4], out[5], out[6], out[7] = a, b, c, d, e, f, g, h


@helper
def absorb(state, w, out):
    """Add the block `w` to the hash value `state` in place; `out` (uint32 [8]) and `w` are used up."""
    some_rounds(state, w, 64, out)
    for i in range(8):
        state[i] += out[i]


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
