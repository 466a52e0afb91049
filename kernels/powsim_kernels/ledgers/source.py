"""The CUDA twin's text: `ledgers.cu` with places of the packed plan, and the project's own log and exp, in front."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.ledgers import layout, plan, totals
from powsim_kernels.realmath import source as realmath
from powsim_kernels.realmath.source import literal

OPTIONS = ("-std=c++17", "-fmad=false")
"""Without contraction: a fused step that the other twins do not take would change bits."""

THREADS = 128
TOGETHER, WIDE = THREADS // layout.BLOCK, THREADS + 1
"""Blocks of identities of a group of threads, and doubles of a column of shared memory."""

COLUMNS, COUNTED = 2 * len(layout.SUMS) + 1, len(totals.COUNTS) + 2
"""Sums, squares and a product; counts, and hashes in two halves."""


def options_for(packed: layout.Packed) -> tuple[str, ...]:
    """Return the compiler's options for a plan: without Renyi orders, none takes registers."""
    return OPTIONS if packed.integers[layout.INTEGERS.index("orders")] else (*OPTIONS, "-DMOST_ORDERS=1")


def given(packed: layout.Packed) -> NDArray[np.void]:
    """Return the plan's numbers as `Given` lays them out, [1]: CuPy hands the bytes of such an array over by value."""
    parts = {"numbers": packed.numbers, "integers": packed.integers}
    out = np.empty(1, [(name, part.dtype, part.shape) for name, part in parts.items()])
    for name, part in parts.items():
        out[name] = part
    return out


def shared_bytes(devices: int) -> int:
    """Return the shared memory of a group of threads."""
    return 8 * ((len(layout.SUMS) + 1 + 4) * WIDE + TOGETHER * devices * (COLUMNS + COUNTED))


@cache
def source() -> str:
    """Return the text."""
    lines = [f"#define N_{name.upper()} {at}" for at, name in enumerate(layout.NUMBERS)]
    lines += [f"#define I_{name.upper()} {at}" for at, name in enumerate(layout.INTEGERS)]
    streams = ("VOLUME", "DEVICE", "RATE", "SHIFT", "DRIFT", "TRIES", "COST", "START")
    lines += [f"#define S_{name} {getattr(layout, name)}" for name in streams]
    sizes = {
        "NUMBERS": len(layout.NUMBERS),
        "INTEGERS": len(layout.INTEGERS),
        "BLOCK": layout.BLOCK,
        "SUMS": len(layout.SUMS),
        "COLUMNS": COLUMNS,
        "COUNTED": COUNTED,
        "THREADS": THREADS,
        "TOGETHER": TOGETHER,
        "WIDE": WIDE,
        "AT_SERVICE_S": layout.SUMS.index("service_s"),
        "AT_SOLVE_S": layout.SUMS.index("solve_s"),
        "AT_OVERHEAD": layout.SUMS.index("overhead"),
        "DEVICE_COLUMNS": len(layout.DEVICE_COLUMNS),
        "CURVE_COLUMNS": len(layout.CURVE_COLUMNS),
        "CELLS": totals.CELLS,
        "CELL_SHIFT": 52 - totals.SUB_BITS,
        "CELL_BELOW": (1023 + totals.LOWEST << totals.SUB_BITS) - 1,
    }
    lines += [f"#define {name} {value}" for name, value in sizes.items()]
    lines += [f"#define {name} {literal(getattr(layout, name))}" for name in ("PER_DRIFT_UNIT", "FEWEST_BITS")]
    lines += ["#ifndef MOST_ORDERS", f"#define MOST_ORDERS {plan.MOST_ORDERS}", "#endif"]
    text = Path(__file__).with_name("ledgers.cu").read_text(encoding="utf-8")
    return realmath.source() + "\n".join(lines) + "\n" + text
