"""A loop over hashlib that searches at once, while the kernels are compiled in another thread."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.forks import compiling
from powsim_kernels.sha256.ranges import Ranges, first_64_bits

PATIENCE_S = 0.02
"""Seconds of hashing, of all searches together, before compiling begins: easy puzzles are done by then."""

SLICE = 512
"""Hashes between looks at the clock, about 0.5 ms."""

YIELD_S = 1e-4
"""Seconds of sleep after each slice: the compiling thread needs the GIL, which hashing small messages never leaves."""


class HeadStart:
    """The loop, and the kernels that it waits for: `load` takes a word position and returns when one can be used."""

    def __init__(self, load: Callable[[int], Any]) -> None:
        self.load = load
        self.spent_s = 0.0
        self._forget()
        _all.add(self)

    def _forget(self) -> None:
        """Begin without a thread: a child process inherits none, nor the ends of what they were doing."""
        self._lock = threading.Lock()
        self._loading: dict[int, Future[Any]] = {}
        self._compiler: ThreadPoolExecutor | None = None

    def ready(self, positions: list[int]) -> bool:
        """Return whether all these kernels can be used; raises what loading one raised."""
        futures = [self._loading.get(position) for position in positions]
        if not all(future is not None and future.done() for future in futures):
            return False
        for future in futures:
            if future is not None:
                future.result()
        return True

    def begin(self, positions: list[int]) -> None:
        """Begin to load the kernels that nobody has begun."""
        with self._lock:
            self._compiler = self._compiler or ThreadPoolExecutor(1, "powsim-compile")
            for position in positions:
                if position not in self._loading:
                    self._loading[position] = self._compiler.submit(self._load, position)

    def _load(self, position: int) -> Any:
        with compiling:
            return self.load(position)

    def search(
        self, positions: list[int], challenges: list[bytes], ranges: Ranges
    ) -> tuple[NDArray[np.uint64], int, int]:
        """Search the ranges in order until they end or the kernels are ready.

        Returns (index uint64 [R] as `search` of a twin, first row not finished, nonces of it tried).
        """
        index = ranges.count.copy()
        began, before = time.perf_counter(), self.spent_s
        arrays = (ranges.rows, ranges.begin, ranges.count, ranges.limits)
        for i, (row, begin, count, limit) in enumerate(zip(*(array.tolist() for array in arrays), strict=True)):
            base, tried = hashlib.sha256(challenges[row]), 0
            while tried < count:
                stop = min(tried + SLICE, count)
                while tried < stop and first_64_bits(base, begin + tried) > limit:
                    tried += 1
                if tried < stop:
                    index[i] = tried
                    break
                self.spent_s = before + time.perf_counter() - began
                if self.spent_s > PATIENCE_S:
                    self.begin(positions)
                    if self.ready(positions):
                        return (index, i, tried) if tried < count else (index, i + 1, 0)
                    time.sleep(YIELD_S)
        self.spent_s = before + time.perf_counter() - began
        return index, len(ranges.rows), 0


_all: weakref.WeakSet[HeadStart] = weakref.WeakSet()


def _forget_all() -> None:
    for loop in list(_all):
        loop._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
