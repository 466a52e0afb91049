"""Which variant a device runs: the fastest of those that gave right answers, measured once and remembered.

Counting instructions does not decide it: chips differ in how they split integer work over their pipes.
"""

from __future__ import annotations

import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.backend import BackendUnavailable
from powsim_kernels.folders import read_json, user_cache, write_json
from powsim_kernels.sha256.target import target_limit
from powsim_kernels.sha256.variants import DEFAULT_WORD, VARIANTS, Variant, source_digest

TIMED_S = 0.015
"""How long the kept timing of a variant lasts at least: seven of them, with their warm-ups, take about 0.3 s."""
STEP = 8
FIRST_COUNT, MOST_COUNT = 1 << 16, 1 << 34

CHALLENGE = b"powsim tries the forms of its miner on this."
"""44 bytes: its nonce ends in DEFAULT_WORD and fills it."""
BITS = (3.0, 6.5, 9.0, 11.0)


class Tunable(Protocol):
    """What tuning needs of a device."""

    @property
    def identity(self) -> str:
        """Return what the choice depends on beside the sources: device, driver, compiler."""

    def compile(self, variant: Variant, word: int) -> None:
        """Compile a variant, so that searching with it starts at once."""

    def trial(
        self,
        variant: Variant,
        challenge: bytes,
        begin: int,
        count: int,
        limits: NDArray[np.uint64],
    ) -> tuple[NDArray[np.uint64], float]:
        """Return (lowest solving index or count for each limit, seconds on the device) of one launch."""


@cache
def answers(challenge: bytes = CHALLENGE, bits: tuple[float, ...] = BITS) -> list[int]:
    """Return the lowest nonce of the challenge at each difficulty, ascending, by hashlib."""
    found, nonce = [], 0
    for limit in target_limit(np.array(bits)).tolist():
        while int.from_bytes(hashlib.sha256(challenge + nonce.to_bytes(8, "big")).digest()[:8], "big") > limit:
            nonce += 1
        found.append(nonce)
    return found


def rate(device: Tunable, variant: Variant, challenge: bytes = CHALLENGE) -> float:
    """Return the hashes per second of a puzzle that has no solution, on the device, launch included."""
    nothing, count = np.zeros(1, np.uint64), FIRST_COUNT
    while True:
        _, seconds = device.trial(variant, challenge, 0, count, nothing)
        if seconds >= TIMED_S or count >= MOST_COUNT:
            return count / max(seconds, 1e-9)
        count *= STEP


def is_right(device: Tunable, variant: Variant, challenge: bytes = CHALLENGE) -> bool:
    """Return whether a variant finds the lowest nonces that hashlib finds."""
    expected = answers(challenge)
    got, _ = device.trial(variant, challenge, 0, 2 * max(expected) + 1, target_limit(np.array(BITS)))
    return bool(got.tolist() == expected)


def choose(device: Tunable, path: Path | None = None) -> Variant:
    """Return the variant for a device: the remembered one, else the fastest right one, which is then remembered.

    A memory that cannot be read or written costs a second at the next start and nothing else. Raises
    BackendUnavailable if no variant gives right answers.
    """
    base = user_cache()
    path = path or (base / "cuda.json" if base else None)
    key = f"{device.identity}; sources {source_digest()}"
    entry = read_json(path).get(key) if path else None
    if isinstance(entry, dict) and str(entry.get("variant")) in VARIANTS:
        return VARIANTS[entry["variant"]]
    rates = measure(device)
    best = max(rates, key=lambda name: rates[name])
    remembered: dict[str, object] = {"variant": best, "hashes_per_s": {name: round(r) for name, r in rates.items()}}
    with contextlib.suppress(OSError):
        if path:
            write_json(path, {**read_json(path), key: remembered})
    return VARIANTS[best]


def measure(device: Tunable) -> dict[str, float]:
    """Return the rate of every variant that compiles and gives right answers; at least one, or raise."""
    faults, rates = {}, {}
    # The compiler works without Python's lock.
    with ThreadPoolExecutor(len(VARIANTS)) as pool:
        compiled = {name: pool.submit(device.compile, variant, DEFAULT_WORD) for name, variant in VARIANTS.items()}
    for name, variant in VARIANTS.items():
        try:
            compiled[name].result()
            if is_right(device, variant):
                rates[name] = rate(device, variant)
            else:
                faults[name] = "wrong nonces"
        except BackendUnavailable as error:
            faults[name] = str(error)
    if not rates:
        raise BackendUnavailable(
            f"no variant of the CUDA miner works on {device.identity}: "
            + "; ".join(f"{name}: {fault}" for name, fault in faults.items())
        )
    return rates
