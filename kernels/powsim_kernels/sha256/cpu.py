"""The miner on this CPU: vectors or SHA instructions, compiled by LLVM for the machine that it runs on.

v1 whole leading blocks once per puzzle (midstate), one compression per nonce in scalar code by Numba: 7.4 MH/s on one
core of an AMD EPYC of family 26 (Zen 5), 3 times a loop over hashlib, which has SHA instructions.
v2 vectors of 16, 8 or 4 nonces that differ in one word of the last block, everything else folded into constants
(`plan`), two vectors side by side, only the first digest word formed and compared: 183 MH/s on that core with AVX-512.
v3 22 additions fewer per hash, a path by SHA instructions (`sha_ni`), threads that take pieces from one queue, and
machine code without Numba's front end: ready in a third of a second in place of fifteen. One core of a Zen 3 server,
by SHA instructions 54 MH/s, by AVX2 32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.backend import BackendUnavailable
from powsim_kernels.energy import cpu_j
from powsim_kernels.sha256.headstart import HeadStart
from powsim_kernels.sha256.ranges import Puzzles, Ranges, first_64_bits, prepare, search


class Path(NamedTuple):
    """A way to search on CPUs of one kind."""

    machines: tuple[str, ...]  # first parts of LLVM's target triples
    needs: tuple[str, ...]  # features, in LLVM's words, beyond what every such machine has
    lanes: int
    streams: int
    without: tuple[str, ...] = ()  # features that the code shall not use, so that it is what older CPUs run


X86, ARM = ("x86_64", "amd64"), ("aarch64", "arm64")
AVX512 = ("avx512f", "avx512vl", "avx512bw", "avx512dq", "avx512cd")
PATHS = {
    "avx512": Path(X86, ("avx512f",), 16, 1),
    "sha-ni": Path(X86, ("sha", "sse4.1"), 1, 2, AVX512),
    "avx2": Path(X86, ("avx2",), 8, 1, AVX512),
    "sse2": Path(X86, (), 4, 1, (*AVX512, "avx2", "avx", "xop", "sse4.2", "sse4.1", "ssse3", "sse3")),
    "neon": Path(ARM, (), 4, 1),
}
"""Fastest first: the order of "cpu", as measured. Two vectors side by side pay where registers are plenty and four
vector units wait (AVX-512 on Zen 5); elsewhere they spill (AVX2: 24 MH/s in place of 32)."""


def paths() -> list[str]:
    """Return the ways to search that this CPU has, fastest first, as `mine` takes them: ["cpu:sha-ni", ...]."""
    return [f"cpu:{name}" for name in PATHS if why_not_path(name) is None]


def fastest() -> str:
    """Return the first of `paths`. Raises BackendUnavailable where there is none."""
    found = paths()
    if not found:
        raise BackendUnavailable(
            f"backend 'cpu' cannot run: this CPU has none of {', '.join(PATHS)}; use backend='reference'"
        )
    return found[0]


def why_not_path(name: str) -> str | None:
    """Return None where this CPU can take the path, else what it lacks."""
    from powsim_kernels import native

    path = PATHS[name]
    if native.host().triple.partition("-")[0] not in path.machines:
        return f"this CPU is no {path.machines[0]}"
    missing = [feature for feature in path.needs if not native.host_features().get(feature)]
    return f"this CPU has no {missing[0]}" if missing else None


@cache
def twin(name: str) -> Twin:
    """Return the twin "cpu" (the fastest path of this CPU) or "cpu:PATH". Raises ValueError or BackendUnavailable."""
    if name == "cpu":
        return Twin(None)
    path = name.removeprefix("cpu:")
    if path not in PATHS:
        known = ", ".join(f"cpu:{other}" for other in PATHS)
        raise ValueError(f"unknown backend {name!r}: the CPU miner has {known}")
    reason = why_not_path(path)
    if reason is not None:
        raise BackendUnavailable(f"backend {name!r} cannot run: {reason}; use backend='cpu'")
    return Twin(path)


class Twin:
    """The CPU backend, on one path or on the fastest.

    On the fastest a loop over hashlib runs while the kernel is compiled, so that easy puzzles wait for nothing. A path
    asked for by name runs alone.
    """

    FIRST_CHUNK = 1 << 19
    """Hashes of the first chunk of a search: 3 to 50 ms of one core, before its speed is known."""
    BREADTH = 1

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._head_start = HeadStart(self.kernel) if path is None else None

    def kernel(self, position: int) -> Callable[..., None]:
        """Return the search for nonces that end in word `position`."""
        self._path = self._path or fastest().removeprefix("cpu:")
        return kernel(self._path, position)

    def energy_j(self) -> float | None:
        """Return the joules of the CPU packages since the first call, or None."""
        return cpu_j()

    def sha256(self, messages: list[bytes], threads: int | None) -> NDArray[np.uint8]:
        """Return the digest of every message: uint8 [N, 32]; by hashlib, which uses the CPU's SHA instructions."""
        digests = b"".join([hashlib.sha256(message).digest() for message in messages])
        return np.frombuffer(digests, np.uint8).reshape(-1, 32).copy()

    def prepare(self, challenges: list[bytes], threads: int | None) -> Puzzles:
        """Return midstates and padded tails of the challenges; 8 zero bytes keep the nonce's place."""
        return prepare(challenges)

    def search(
        self,
        puzzles: Puzzles,
        rows: NDArray[np.int64],
        begin: NDArray[np.uint64],
        count: NDArray[np.uint64],
        limits: NDArray[np.uint64],
        threads: int | None,
    ) -> NDArray[np.uint64]:
        """Return, for each row, the lowest i < count with begin + i solving its puzzle, or count: uint64 [R]."""
        ranges = Ranges(rows, begin, count, limits)
        positions = np.unique(puzzles.position[rows]).tolist()
        if self._head_start is None or self._head_start.ready(positions):
            return search(self.kernel, puzzles, ranges, threads)
        index, row, tried = self._head_start.search(positions, puzzles.challenges, ranges)
        if row < len(rows):
            # The kernels are ready: they take what is left, the row in hand from where the loop stopped.
            skip = np.zeros(len(rows) - row, np.uint64)
            skip[0] = tried
            left = ranges.of(np.arange(row, len(rows)), skip)
            index[row:] = search(self.kernel, puzzles, left, threads) + skip
        return index


@cache
def kernel(path: str, position: int) -> Callable[..., None]:
    """Return the compiled search of a path for one word position, tested. Raises BackendUnavailable."""
    from powsim_kernels import native
    from powsim_kernels.sha256.kernel import Form, searcher

    shape = PATHS[path]
    target = native.host(shape.without)
    # Zen 5 has four 512-bit units, too many for one chain of rounds; on two units one vector fills 95 % of them.
    streams = 2 if path == "avx512" and target.cpu == "znver5" else shape.streams
    try:
        call = searcher(Form(path, shape.lanes, streams, path == "avx512"), target, position)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise BackendUnavailable(
            f"backend 'cpu:{path}' cannot run: LLVM could not compile it for this CPU ({reason}); "
            "update numba and llvmlite, or use backend='reference'"
        ) from error
    _check(call, path, position)
    return call


def _check(call: Callable[..., None], path: str, position: int) -> None:
    """Raise BackendUnavailable unless the kernel finds what hashlib finds, across a carry into the next words."""
    from powsim_kernels import native

    challenge = (b"powsim self-test" * 8)[: 64 + max(0, 4 * position - 5)]
    begin, count, limit = 2**32 - 100, 4096, 2**64 // 300
    base = hashlib.sha256(challenge)
    expected = next((i for i in range(count) if first_64_bits(base, begin + i) <= limit), count)
    ranges = Ranges(np.array([0]), *(np.array([value], np.uint64) for value in (begin, count, limit)))
    found = int(search(lambda _: call, prepare([challenge]), ranges, 1)[0])
    if found != expected:
        raise BackendUnavailable(
            f"backend 'cpu:{path}' failed its self-test: nonce {begin + found} came out, not {begin + expected}: "
            f"{native.distrust()}, or use backend='reference'"
        )
