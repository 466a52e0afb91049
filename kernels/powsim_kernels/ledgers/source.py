"""The CUDA twin's text: `ledgers.cu` with places of the packed plan, and the project's own log and exp, in front."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from powsim_kernels.ledgers import layout, plan, totals
from powsim_kernels.realmath import source as realmath
from powsim_kernels.realmath.source import literal

OPTIONS = ("-std=c++17", "-fmad=false")
"""Without contraction: a fused step that the other twins do not take would change bits."""


@cache
def source() -> str:
    """Return the text."""
    lines = [f"#define N_{name.upper()} {at}" for at, name in enumerate(layout.NUMBERS)]
    lines += [f"#define I_{name.upper()} {at}" for at, name in enumerate(layout.INTEGERS)]
    streams = ("VOLUME", "DEVICE", "RATE", "SHIFT", "DRIFT", "TRIES", "COST", "START")
    lines += [f"#define S_{name} {getattr(layout, name)}" for name in streams]
    sizes = {
        "BLOCK": layout.BLOCK,
        "SUMS": len(layout.SUMS),
        "AT_SERVICE_S": layout.SUMS.index("service_s"),
        "AT_SOLVE_S": layout.SUMS.index("solve_s"),
        "AT_OVERHEAD": layout.SUMS.index("overhead"),
        "DEVICE_COLUMNS": len(layout.DEVICE_COLUMNS),
        "CURVE_COLUMNS": len(layout.CURVE_COLUMNS),
        "MOST_ORDERS": plan.MOST_ORDERS,
        "CELLS": totals.CELLS,
        "CELL_SHIFT": 52 - totals.SUB_BITS,
        "CELL_BELOW": (1023 + totals.LOWEST << totals.SUB_BITS) - 1,
    }
    lines += [f"#define {name} {value}" for name, value in sizes.items()]
    lines += [f"#define {name} {literal(getattr(layout, name))}" for name in ("PER_DRIFT_UNIT", "FEWEST_BITS")]
    text = Path(__file__).with_name("ledgers.cu").read_text(encoding="utf-8")
    return realmath.source() + "\n".join(lines) + "\n" + text
