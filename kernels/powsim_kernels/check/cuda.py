"""Votes on the device, its clock, and its memory's speed: what the check of the PATE kernels needs of CuPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from powsim_kernels.cuda import named_faults


def seconds_of(work: Callable[[], Any], repeats: int) -> float:
    """Return the least seconds that `work` takes by the current device's clock, once warm."""
    with named_faults("timing"):
        work()
        took = []
        for _ in range(repeats):
            before, after = cupy.cuda.Event(), cupy.cuda.Event()
            before.record()
            work()
            after.record()
            after.synchronize()
            took.append(float(cupy.cuda.get_elapsed_time(before, after)) / 1000.0)
        return min(took)


def sent(values: Any) -> Any:
    """Return an array on the current device."""
    with named_faults("sending votes", "take fewer"):
        return cupy.asarray(values)


def on(index: int) -> Any:
    """Return the context in which a device is the current one."""
    return cupy.cuda.Device(index)


def copied_bytes_per_s(size: int, repeats: int, multiprocessors: int) -> float:
    """Return bytes read and written per second by a kernel that copies `size` bytes on the current device."""
    with named_faults("measuring the memory", "take fewer bytes"):
        source = (Path(__file__).parent / "copy.cu").read_text(encoding="utf-8")
        kernel = cupy.RawModule(code=source, options=("-std=c++17",)).get_function("copy")
        here, there = cupy.empty(size // 8, np.uint64), cupy.empty(size // 8, np.uint64)
        blocks, arguments = (32 * multiprocessors,), (here, there, np.uint64(size // 16))
        return 2.0 * size / seconds_of(lambda: kernel(blocks, (256,), arguments), repeats)
