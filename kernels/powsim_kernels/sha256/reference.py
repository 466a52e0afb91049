"""SHA-256 in plain Python integers, and a miner that tries one nonce after the other: the specification.

Section numbers are those of FIPS 180-4 (NIST, August 2015, https://doi.org/10.6028/NIST.FIPS.180-4).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.energy import cpu_j

FIRST_CHUNK, BREADTH = 256, 1
"""Hashes of the first chunk of a search: about 30 ms of plain Python, before its speed is known."""

MASK = 0xFFFFFFFF

# 5.3.3: fractional parts of the square roots of the first eight primes.
INITIAL = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)

# 4.2.2: fractional parts of the cube roots of the first 64 primes.
# fmt: off
K = (
    0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
    0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
    0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
    0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
    0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
    0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
    0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
    0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2,
)
# fmt: on


def rotr(x: int, n: int) -> int:
    """Return the 32-bit word `x` turned right by `n` bits (3.2, operation 4)."""
    return (x >> n) | (x << (32 - n)) & MASK


def padded(message: bytes) -> bytes:
    """Return the message, a one bit, zeros and its length in bits as 64 bits: whole blocks (5.1.1)."""
    zeros = (55 - len(message)) % 64
    return message + b"\x80" + bytes(zeros) + (8 * len(message)).to_bytes(8, "big")


def schedule(block: bytes) -> list[int]:
    """Return the 64 words of the message schedule of one 64-byte block (5.2.1 and 6.2.2 step 1)."""
    w = [int.from_bytes(block[i : i + 4], "big") for i in range(0, 64, 4)]
    for t in range(16, 64):
        sigma0 = rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ (w[t - 15] >> 3)  # (4.6)
        sigma1 = rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ (w[t - 2] >> 10)  # (4.7)
        w.append((sigma1 + w[t - 7] + sigma0 + w[t - 16]) & MASK)
    return w


def compress(state: tuple[int, ...], block: bytes) -> tuple[int, ...]:
    """Return the eight words of the hash value after one more 64-byte block (6.2.2 steps 1 to 4)."""
    a, b, c, d, e, f, g, h = state
    for k, word in zip(K, schedule(block), strict=True):
        big1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)  # (4.5)
        big0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)  # (4.4)
        choice = (e & f) ^ (~e & MASK & g)  # (4.2)
        majority = (a & b) ^ (a & c) ^ (b & c)  # (4.3)
        t1 = h + big1 + choice + k + word
        t2 = big0 + majority
        a, b, c, d, e, f, g, h = (t1 + t2) & MASK, a, b, c, (d + t1) & MASK, e, f, g
    return tuple((old + new) & MASK for old, new in zip(state, (a, b, c, d, e, f, g, h), strict=True))


def digest(message: bytes) -> bytes:
    """Return the 32-byte SHA-256 digest of one message (6.2)."""
    state: tuple[int, ...] = INITIAL
    blocks = padded(message)
    for start in range(0, len(blocks), 64):
        state = compress(state, blocks[start : start + 64])
    return b"".join(word.to_bytes(4, "big") for word in state)


def sha256(messages: list[bytes], threads: int | None) -> NDArray[np.uint8]:
    """Return `digest` of every message: uint8 [N, 32]; `threads` is not used."""
    out = np.empty((len(messages), 32), np.uint8)
    for row, message in enumerate(messages):
        out[row] = list(digest(message))
    return out


def solves(challenge: bytes, nonce: int, limit: int) -> bool:
    """Return whether the first 8 bytes of SHA-256(challenge || nonce), big-endian, are at most `limit`."""
    return int.from_bytes(digest(challenge + nonce.to_bytes(8, "big"))[:8], "big") <= limit


energy_j = cpu_j


def prepare(challenges: list[bytes], threads: int | None) -> list[bytes]:
    """Return what `search` needs: here the challenges themselves."""
    return challenges


def search(
    puzzles: list[bytes],
    rows: NDArray[np.int64],
    begin: NDArray[np.uint64],
    count: NDArray[np.uint64],
    limits: NDArray[np.uint64],
    threads: int | None,
) -> NDArray[np.uint64]:
    """Return, for each row, the lowest i < count with begin + i solving its puzzle, or count: uint64 [R]."""
    return np.array(
        [
            next((i for i, nonce in _nonces(first, n) if solves(puzzles[row], nonce, limit)), n)
            for row, first, n, limit in zip(rows.tolist(), begin.tolist(), count.tolist(), limits.tolist(), strict=True)
        ],
        np.uint64,
    )


def _nonces(first: int, count: int) -> Iterator[tuple[int, int]]:
    return enumerate(range(first, first + count))
