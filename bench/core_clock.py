"""The clock of this core in cycles per second, from instructions whose latency is known."""

from __future__ import annotations

import ctypes
import time
from functools import cache
from typing import Any

from powsim_kernels import native

LATENCY = 3
"""Cycles of a 64-bit multiplication: 3 on Intel since Nehalem and on AMD since Zen; other cores differ."""
CHAIN = 64


def build() -> str:
    """Return the IR of a loop of multiplications, each of the one before."""
    chain = "\n".join(f"  %x{i + 1} = mul i64 %x{i}, %x{i}" for i in range(CHAIN))
    return f"""
define void @chain(ptr %place, i64 %loops) {{
entry:
  %first = load i64, ptr %place
  br label %loop
loop:
  %number = phi i64 [ 0, %entry ], [ %next, %loop ]
  %x0 = phi i64 [ %first, %entry ], [ %x{CHAIN}, %loop ]
{chain}
  %next = add i64 %number, 1
  %more = icmp slt i64 %next, %loops
  br i1 %more, label %loop, label %done
done:
  store i64 %x{CHAIN}, ptr %place
  ret void
}}
"""


@cache
def _chain() -> Any:
    return native.load("chain", "bench-clock", build, native.host(), [ctypes.c_void_p, ctypes.c_int64])


def cycles_per_s(loops: int = 100_000) -> float:
    """Return how many cycles this thread ran in a second of its own CPU time, over about 5 ms."""
    place = ctypes.c_uint64(3)
    began = time.thread_time()
    _chain()(ctypes.addressof(place), loops)
    return loops * CHAIN * LATENCY / (time.thread_time() - began)
