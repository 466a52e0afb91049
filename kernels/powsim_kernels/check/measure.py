"""What the check measures on one device, section by section, each beside what was predicted for it.

The sections follow the checklist of gpu_sha.md section 9. Predictions are counted (`counted`) and turned into rates by
the clock that the device really ran at, so that a slow clock is not taken for a slow kernel.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from powsim_kernels.check.counted import clocks
from powsim_kernels.check.ledgers import ledgers
from powsim_kernels.check.pate import pate
from powsim_kernels.sha256 import contract, nvml, target_limit, tune
from powsim_kernels.sha256.variants import VARIANTS, source_digest

PIPES = {
    "lop3": 64,
    "shf": 64,
    "iadd3": 64,
    "imad": 64,
    "imad_hi": 32,
    "lop3_imad": 125,
    "shf_imad": 125,
    "shf_lop3": 64,
    "shf_imad_hi": 85,
    "sha_mix": 102,
}
"""Expected operations per clock and multiprocessor: one pipe of 64 lanes each, two where a mix uses both.

An H100 and an H200 gave 64 and 96 for the last two: a product's high half keeps shifts waiting."""

WORDS = (9, 12, 13, 1)
BATCHES = ((8, 200_000), (12, 100_000), (16, 40_000), (20, 8192), (24, 1024), (28, 64))
"""(bits, puzzles): each about 10^9 hashes, more for the last two."""


@dataclass(frozen=True)
class Effort:
    """How long the check takes."""

    load_s: float  # each variant and word
    probe_loops: int
    words: tuple[int, ...]
    batches: tuple[tuple[int, int], ...]
    lengths: tuple[int, ...]  # challenges of the correctness section
    messages: int
    rows: int  # histograms of the largest PATE case
    copy_bytes: int
    repeats: int
    classes: tuple[int, ...]  # of the PATE answers that are checked
    identities: int  # of the ledgers


LENGTHS = tuple(n for n in range(192) if n % 64 <= 47)
FULL = Effort(1.0, 200, WORDS, BATCHES, LENGTHS, 1_000_000, 1 << 26, 1 << 30, 5, (10, 40, 2, 32, 33, 100, 300), 1 << 23)
QUICK = Effort(0.01, 1, (12,), ((4, 40), (8, 8)), (44, 47, 31, 95), 500, 6000, 1 << 16, 1, (10, 40), 200)


def challenge_of(word: int) -> bytes:
    """Return a challenge after which the nonce ends in this block word, filling it where that can be."""
    return b"powsim checks this machine with a challenge of all of these letters"[: 47 if word == 13 else 4 * word - 4]


def machine(device: Any, effort: Effort) -> dict[str, object]:
    """Return date, device, versions, and the idle readings of NVML."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device.name,
        "compute_capability": device.capability,
        "multiprocessors": device.multiprocessors,
        "bus": device.bus,
        "versions": f"{device.versions}, NumPy {np.__version__}, Python {platform.python_version()}",
        "system": platform.platform(),
        "sources": source_digest(),
        "variant": device.variant.name,
        "idle": nvml.reading(device.bus),
    }


def pipes(device: Any, effort: Effort) -> dict[str, object]:
    """Return operations per clock of each pipe and mix beside the expected ones, and the clock of an idle device."""
    probes = {
        name: {"measured": round(device.probe(name, effort.probe_loops), 2), "expected": expected}
        for name, expected in PIPES.items()
    }
    return {"operations_per_clock": probes, "light_load_ghz": round(device.clock_ghz(), 4)}


def correctness(device: Any, effort: Effort) -> dict[str, object]:
    """Return what gave wrong answers: variants at each word, digests, and nonces after challenges of every length."""
    wrong = [
        f"{name} at word {word}"
        for name, variant in VARIANTS.items()
        for word in effort.words
        if not tune.is_right(device, variant, challenge_of(word))
    ]
    backend = f"cuda:{device.index}"
    messages = [hashlib.shake_128(b"check").digest(length) for length in range(257)]
    digests = contract.sha256(messages, backend=backend)
    wrong += [
        f"digest of {len(message)} bytes"
        for message, digest in zip(messages, digests, strict=True)
        if hashlib.sha256(message).digest() != digest.tobytes()
    ]
    challenges = [hashlib.shake_128(b"length").digest(length) for length in effort.lengths]
    start = 2**32 - 100  # so that the high half of the nonce changes
    mined = contract.mine(challenges, 9, start=start, backend=backend)
    limit = int(target_limit(9)[0])
    for challenge, nonce in zip(challenges, mined.nonce.tolist(), strict=True):
        expected = start
        while _value(challenge, expected) > limit:
            expected += 1
        if nonce != expected:
            wrong.append(f"nonce after {len(challenge)} bytes")
    return {"wrong": wrong, "variants": len(VARIANTS), "digests": len(messages), "lengths": len(challenges)}


def _value(challenge: bytes, nonce: int) -> int:
    return int.from_bytes(hashlib.sha256(challenge + nonce.to_bytes(8, "big")).digest()[:8], "big")


def rates(device: Any, effort: Effort) -> dict[str, object]:
    """Return one row for every variant and word: rate, clock under load, energy, and the counted prediction."""
    return {"rows": [load(device, effort, name, word) for word in effort.words for name in VARIANTS]}


def load(device: Any, effort: Effort, name: str, word: int) -> dict[str, object]:
    """Return the rate of a variant over `effort.load_s` seconds, with NVML's readings in the middle of them."""
    variant, challenge = VARIANTS[name], challenge_of(word)
    count = int(max(tune.rate(device, variant, challenge) * effort.load_s, 1))
    before = nvml.energy_j([device.bus])
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(device.trial, variant, challenge, 0, count, np.zeros(1, np.uint64))
        time.sleep(effort.load_s / 2)
        under_load = nvml.reading(device.bus)
        _, seconds = running.result()
    after = nvml.energy_j([device.bus])
    rate = count / seconds
    mhz = under_load["sm_mhz"]
    clock_hz = float(mhz) * 1e6 if mhz is not None else 1e9 * device.clock_ghz()
    predicted = device.multiprocessors * clock_hz / clocks(name, word)
    joules = None if before is None or after is None else after - before
    return {
        "variant": name,
        "word": word,
        "hashes": count,
        "hashes_per_s": rate,
        "clock_hz": clock_hz,
        "clocks_per_hash": device.multiprocessors * clock_hz / rate,
        "counted_clocks_per_hash": clocks(name, word),
        "counted_hashes_per_s": predicted,
        "share_of_counted": rate / predicted,
        "under_load": under_load,
        "j_per_gh": None if joules is None else joules / count * 1e9,
    }


def messages(device: Any, effort: Effort) -> dict[str, object]:
    """Return the rates of the kernels beside the search, transfers included: digests and preparation per second."""
    rows = [b"%044d" % row for row in range(effort.messages)]
    backend = f"cuda:{device.index}"
    result = {}
    twin = contract._twin(backend)
    for name, work in (
        ("digests_per_s", lambda: twin.sha256(rows, None)),
        ("prepared_per_s", lambda: twin.prepare(rows, None)),
    ):
        began = time.perf_counter()
        work()
        result[name] = len(rows) / (time.perf_counter() - began)
    return {"messages": len(rows), **result}


def batches(device: Any, effort: Effort) -> dict[str, object]:
    """Return puzzles per second and useful hashes per second of whole `mine` calls, every answer checked by hashlib."""
    rows = []
    for bits, puzzles in effort.batches:
        challenges = [b"%03d %040d" % (bits, row) for row in range(puzzles)]
        mined = contract.mine(challenges, bits, backend=f"cuda:{device.index}")
        limit = int(target_limit(bits)[0])
        checked = zip(challenges[:2000], mined.nonce.tolist(), strict=False)
        wrong = sum(_value(challenge, nonce) > limit for challenge, nonce in checked)
        for challenge, nonce in zip(challenges[:3], mined.nonce.tolist(), strict=False):
            # That a lower nonce solves too is looked for where it takes less than a second.
            wrong += any(_value(challenge, lower) <= limit for lower in range(min(nonce, 200_000)))
        useful = float(mined.tries.sum()) / mined.seconds
        rows.append(
            {
                "bits": bits,
                "puzzles": puzzles,
                "seconds": mined.seconds,
                "puzzles_per_s": puzzles / mined.seconds,
                "useful_hashes_per_s": useful,
                "wrong": wrong,
            }
        )
    return {"rows": rows}


SECTIONS: dict[str, Callable[[Any, Effort], dict[str, object]]] = {
    "machine": machine,
    "pipes": pipes,
    "correctness": correctness,
    "rates": rates,
    "messages": messages,
    "batches": batches,
    "pate": pate,
    "ledgers": ledgers,
}
