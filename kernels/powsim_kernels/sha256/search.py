"""The search for lowest nonces in chunks short enough to be watched, cancelled and interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

ENERGY_S = 60.0
"""Seconds after which an energy counter is read again, lest it wraps round unseen."""

CHUNK_S = 0.05
"""Seconds that a chunk is meant to last: a cancellation or Ctrl-C waits about this long."""

LAST = np.uint64(2**64 - 1)
Z95 = 1.6448536269514722
"""The 95 % quantile of the standard normal distribution."""


class Cancel(Protocol):
    """Anything that can be asked whether to stop, such as `threading.Event`."""

    def is_set(self) -> bool:
        """Return whether the search shall stop."""


class Twin(Protocol):
    """What a backend provides: a module, or an object with the same names."""

    FIRST_CHUNK: int  # hashes of the first chunk
    BREADTH: int  # puzzles to search side by side: one fills a CPU, thousands a GPU

    def energy_j(self) -> float | None:
        """Return the joules drawn so far by what solves, since any fixed moment, or None where nothing tells."""

    def sha256(self, messages: list[bytes], threads: int | None) -> NDArray[np.uint8]:
        """Return the digest of every message: uint8 [N, 32]."""

    def prepare(self, challenges: list[bytes], threads: int | None) -> Any:
        """Return challenges as `search` wants them."""

    def search(
        self,
        puzzles: Any,
        rows: NDArray[np.int64],
        begin: NDArray[np.uint64],
        count: NDArray[np.uint64],
        limits: NDArray[np.uint64],
        threads: int | None,
    ) -> NDArray[np.uint64]:
        """Return, for each row, the lowest i < count with begin + i solving its puzzle, or count: uint64 [R]."""


@dataclass(frozen=True)
class MineProgress:
    """Where a search stands after a chunk.

    The search has no memory, so that what remains does not depend on what was tried: the expectation is the
    sum of 2^bits over the puzzles still searched, whatever their `limit`, and the quantile is that of the
    gamma distribution with the same mean and variance.
    """

    tries: int  # hashes so far
    solved: int  # puzzles with a nonce
    ended: int  # puzzles that are no longer searched: solved, or at their limit
    total: int  # puzzles
    remaining_tries: float  # expected hashes until every puzzle that has not ended is solved
    remaining_tries_p95: float  # hashes that suffice for that with a probability of 95 %
    seconds: float  # since the search began
    hashes_per_s: float  # of the last chunk

    @property
    def remaining_s(self) -> float:
        """Return the expected seconds until every puzzle that has not ended is solved, at the last chunk's speed."""
        return self.remaining_tries / self.hashes_per_s if self.hashes_per_s > 0 else math.inf

    @property
    def remaining_s_p95(self) -> float:
        """Return the seconds that suffice for that with a probability of 95 %, at the last chunk's speed."""
        return self.remaining_tries_p95 / self.hashes_per_s if self.hashes_per_s > 0 else math.inf


@dataclass(frozen=True)
class MineResult:
    """The lowest solving nonce of each puzzle from its start on, and what it took."""

    nonce: NDArray[np.uint64]  # [P] 0 where not found
    digest: NDArray[np.uint8]  # [P, 32] SHA-256(challenge || nonce), zeros where not found
    tries: NDArray[np.uint64]  # [P] hashes up to and including the winner's, or all of them where not found
    found: NDArray[np.bool_]  # [P]
    start: NDArray[np.uint64]  # [P] first nonce tried
    seconds: float  # wall time of the search
    joules: float | None  # drawn meanwhile by the CPU packages or GPUs, other work on them included; None: not told
    backend: str  # what ran

    @property
    def next_start(self) -> NDArray[np.uint64]:
        """Return the `start` from which a further search finds what one long search finds: uint64 [P].

        The nonce itself where found (one hash confirms it), else the first untried nonce. Where all 2^64 are
        tried it is the last of them, which is then tried once more.
        """
        after = self.start + self.tries
        after[after < self.start] = LAST
        return np.where(self.found, self.nonce, after)


def search(
    twin: Twin,
    puzzles: Any,
    start: NDArray[np.uint64],
    limits: NDArray[np.uint64],
    most: int | None,
    *,
    threads: int | None,
    cancel: Cancel | None,
    on_progress: Callable[[MineProgress], None] | None,
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return (tries uint64 [P], found bool [P]) of puzzles searched from `start`, at most `most` nonces each.

    Puzzles are taken in order. A chunk holds as many of them as fill it if each needs twice its expectation,
    or, where they are hard, a part of each of BREADTH; what is left unsolved goes first into the next chunk.
    """
    total = len(start)
    tries, found = np.zeros(total, np.uint64), np.zeros(total, np.bool_)
    if most == 0:
        return tries, found
    # 2^64 - start nonces are left; from 0 on that does not fit, and the last of them is never reached.
    budget = np.where(start == 0, LAST, ~start + np.uint64(1))
    if most is not None:
        budget = np.minimum(budget, np.uint64(min(most, 2**64 - 1)))
    mean = 2.0**64 / (limits.astype(np.float64) + 1.0)
    mean_after, variance_after = _sum_from(mean), _sum_from(mean * (mean - 1.0))
    carry = np.empty(0, np.int64)  # begun and not ended
    fresh = 0  # first puzzle not begun
    work = float(twin.FIRST_CHUNK)
    began = energy_read = time.perf_counter()
    while carry.size or fresh < total:
        if cancel is not None and cancel.is_set():
            break
        queue = np.concatenate((carry, np.arange(fresh, min(fresh + int(work), total))))
        most_each = max(int(work) // min(twin.BREADTH, carry.size + total - fresh), 1)
        share = np.minimum(np.ceil(2.0 * mean[queue]), most_each).astype(np.uint64)
        share = np.minimum(share, budget[queue] - tries[queue])
        filled = np.cumsum(share)
        taken = min(int(np.searchsorted(filled, int(work))) + 1, len(queue))
        rows, count = queue[:taken], share[:taken]
        if filled[taken - 1] > int(work):
            count[-1] -= filled[taken - 1] - np.uint64(work)  # a chunk is full, but not more than that
        chunk_began = time.perf_counter()
        index = twin.search(puzzles, rows, start[rows] + tries[rows], count, limits[rows], threads)
        chunk_s = time.perf_counter() - chunk_began
        if chunk_began - energy_read > ENERGY_S:
            twin.energy_j()
            energy_read = chunk_began
        found[rows] = index < count
        done = np.where(index < count, index + np.uint64(1), count)
        tries[rows] += done
        going = ~found[rows] & (tries[rows] < budget[rows])
        fresh += max(0, taken - len(carry))
        carry = np.concatenate((rows[going], carry[taken:]))
        # The measured speed sets the next chunk; small steps, because one odd chunk says little.
        ideal = float(done.sum()) * CHUNK_S / max(chunk_s, 1e-9)
        work = min(max(ideal, work / 4, 16.0), work * 4, 2.0**40)
        if on_progress is not None:
            remaining = float(mean_after[fresh] + mean[carry].sum())
            variance = float(variance_after[fresh] + (mean[carry] * (mean[carry] - 1.0)).sum())
            on_progress(
                MineProgress(
                    tries=int(tries.sum()),
                    solved=int(found.sum()),
                    ended=fresh - len(carry),
                    total=total,
                    remaining_tries=remaining,
                    remaining_tries_p95=quantile95(remaining, variance),
                    seconds=time.perf_counter() - began,
                    hashes_per_s=float(done.sum()) / max(chunk_s, 1e-9),
                )
            )
    return tries, found


def quantile95(mean: float, variance: float) -> float:
    """Return the 95 % quantile of the gamma distribution of this mean and variance.

    By Wilson and Hilferty (PNAS 17, 1931): 1 % low for a single hard puzzle, closer for several.
    """
    if variance <= 0.0:
        return mean
    shape = mean * mean / variance
    return mean * (1.0 - 1.0 / (9.0 * shape) + Z95 / (3.0 * math.sqrt(shape))) ** 3


def _sum_from(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums over values[i:] for i in 0..P: float64 [P + 1]."""
    return np.concatenate((np.cumsum(values[::-1])[::-1], [0.0]))
