"""Puzzles by hashlib: the truth that every miner is compared with."""

from __future__ import annotations

import hashlib
from decimal import Decimal, localcontext

import numpy as np

from powsim_kernels import MineResult


def noise(length: int, seed: int = 0) -> bytes:
    return hashlib.shake_128(b"powsim %d" % seed).digest(length)


def exact_accepted(bits: float) -> int:
    with localcontext() as context:
        context.prec = 60
        return max(1, round(Decimal(2) ** (64 - Decimal(bits))))


def value_of(challenge: bytes, nonce: int) -> int:
    return int.from_bytes(hashlib.sha256(challenge + nonce.to_bytes(8, "big")).digest()[:8], "big")


def lowest(challenge: bytes, bits: float, start: int = 0) -> int:
    accepted = exact_accepted(bits)
    while value_of(challenge, start) >= accepted:
        start += 1
    return start


def hexes(digests: np.ndarray) -> list[str]:
    return [bytes(row).hex() for row in digests]


def same(left: MineResult, right: MineResult) -> bool:
    return all(
        np.array_equal(getattr(left, name), getattr(right, name))
        for name in ("nonce", "digest", "tries", "found", "start", "next_start")
    )
