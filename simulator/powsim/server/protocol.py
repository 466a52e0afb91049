"""A gate for real: signed challenges bound to caller and query, expiry in seconds, each solution good once.

It closes the holes of the released protocol that its attacks live on (a stamp not tied to any challenge, accepted any
number of times, valid for days), and it is what `measured_costs` times.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from powsim_kernels import target_limit

VALID, FORGED, EXPIRED, WRONG, REPLAYED = "valid", "forged", "expired", "wrong", "replayed"
HEAD = struct.Struct(">dd")  # when it expires, bits
SALT, MAC = 12, 16  # 44 bytes with the head: challenge and nonce stay in one block of SHA-256


class Gate:
    """Mints and verifies. What it remembers: solutions that were used, until they expire; of challenges, nothing."""

    def __init__(self, bits: float, expiry_s: float, key: bytes | None = None, *, seen_store: bool = True) -> None:
        self.bits, self.expiry_s = bits, expiry_s
        self._key = secrets.token_bytes(32) if key is None else key
        self._seen: set[bytes] | None = set() if seen_store else None
        self._ends: deque[tuple[float, bytes]] = deque()  # in the order in which they were used

    @property
    def held(self) -> int:
        """Return how many used solutions are remembered."""
        return len(self._ends)

    def mint(self, identity: bytes, query: bytes, now: float) -> bytes:
        """Return a challenge for one query of one caller; it says when it expires and is signed."""
        head = HEAD.pack(now + self.expiry_s, self.bits) + secrets.token_bytes(SALT)
        return head + self._sign(head, identity, query)

    def verify(self, challenge: bytes, nonce: int, identity: bytes, query: bytes, now: float) -> str:
        """Return VALID, or what is wrong. What costs least is looked at first; the hash comes last but one."""
        head, mac = challenge[:-MAC], challenge[-MAC:]
        if len(head) != HEAD.size + SALT or not hmac.compare_digest(mac, self._sign(head, identity, query)):
            return FORGED
        expires, bits = HEAD.unpack_from(head)
        if now > expires:
            return EXPIRED
        if not solved(challenge, nonce, bits):
            return WRONG
        if self._seen is not None:
            self._forget(now)
            if mac in self._seen:
                return REPLAYED
            self._seen.add(mac)
            self._ends.append((now + self.expiry_s, mac))  # no later than that it has expired
        return VALID

    def _sign(self, head: bytes, identity: bytes, query: bytes) -> bytes:
        # Lengths go in, so that no caller and query can be cut differently.
        body = head + struct.pack(">I", len(identity)) + identity + hashlib.sha256(query).digest()
        return hmac.digest(self._key, body, "sha256")[:MAC]

    def _forget(self, now: float) -> None:
        while self._seen is not None and self._ends and self._ends[0][0] < now:
            self._seen.discard(self._ends.popleft()[1])


def solved(challenge: bytes, nonce: int, bits: float) -> bool:
    """Return whether SHA-256(challenge || nonce) meets the 64-bit target that `powsim_kernels.mine` searches for."""
    digest = hashlib.sha256(challenge + nonce.to_bytes(8, "big")).digest()
    return int.from_bytes(digest[:8], "big") <= _limit(bits)


@functools.lru_cache(maxsize=1024)
def _limit(bits: float) -> int:
    return int(target_limit(bits)[0])


@dataclass(frozen=True)
class Measured:
    """Seconds of this process for each step of a gate in Python, medians, and bytes of one remembered solution."""

    mint_s: float
    check_s: float  # a forged challenge: the signature alone
    verify_s: float  # one hash more, and the look-up
    entry_bytes: float


def measured_costs(repeats: int = 5, steps: int = 2000) -> Measured:
    """Return what this machine takes for hashlib's and hmac's part of a gate; about a tenth of a second."""
    gate = Gate(0.0, 60.0)
    forger = Gate(0.0, 60.0)
    genuine = [gate.mint(b"caller", b"query", 0.0) for _ in range(steps)]
    forged = [forger.mint(b"caller", b"query", 0.0) for _ in range(steps)]

    def per_step(work: Callable[[bytes], object], items: list[bytes]) -> float:
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            for item in items:
                work(item)
            seconds.append((time.perf_counter() - begin) / steps)
        return sorted(seconds)[repeats // 2]

    mint = per_step(lambda _: gate.mint(b"caller", b"query", 0.0), genuine)
    check = per_step(lambda c: gate.verify(c, 7, b"caller", b"query", 1.0), forged)
    whole = per_step(lambda c: gate.verify(c, 7, b"caller", b"query", 1.0), genuine)
    shared = (sys.getsizeof(gate._seen) + sys.getsizeof(gate._ends)) / gate.held
    own = sys.getsizeof(bytes(MAC)) + sys.getsizeof(1.0) + sys.getsizeof((1.0, b""))
    return Measured(mint, check, max(whole - check, 0.0), shared + own)
