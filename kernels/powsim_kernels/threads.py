"""Threads for the CPU twins: plain workers over ranges, so that results never depend on how many there are."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def thread_count(threads: int | None) -> int:
    """Return how many threads to use: `threads`, or every CPU that this process may run on."""
    if not isinstance(threads, int | np.integer | None) or isinstance(threads, bool):
        raise TypeError(f"threads={threads!r} must be an integer, or None for every CPU")
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise ValueError(f"threads={threads} must be at least 1")
    return int(threads)


def over_ranges(work: Callable[[int, int], None], total: int, *, threads: int | None, grain: int) -> None:
    """Call `work(begin, end)` so that the ranges cover 0..total; each writes only its own rows.

    Numba's own parallel loops are not used: their default threading layer aborts the process when two Python
    threads enter it at once, and a simulation is often run from a thread pool.
    """
    workers = min(thread_count(threads), -(-total // grain) if total else 1)
    if workers <= 1:
        work(0, total)
        return
    # Several ranges per worker, so that one slow range does not hold up the end.
    step = max(grain, -(-total // (workers * 4)))
    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(work, begin, min(begin + step, total)) for begin in range(0, total, step)]:
            future.result()
