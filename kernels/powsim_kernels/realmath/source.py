"""The CUDA twin's text: the functions of `realmath.cuh` with the coefficients that all twins share in front."""

from __future__ import annotations

import math
from pathlib import Path

from powsim_kernels.realmath import coefficients

NAMES = (
    *("LOG2_E", "LN2_HIGH", "LN2_LOW", "MAGIC", "ROOT_HALF_BITS", "LOG", "SMALL", "LOG1M", "EXP", "EXP2"),
    *("CENTRE", "NEAR"),
    *("CENTRE_ABOVE", "CENTRE_BELOW", "TAIL_ABOVE", "TAIL_BELOW", "FAR_ABOVE", "FAR_BELOW"),
)


def literal(value: float | int | tuple[float, ...]) -> str:
    """Return a number, or a tuple of them, as C++ writes it, exactly."""
    if isinstance(value, tuple):
        return "{" + ", ".join(literal(item) for item in value) + "}"
    return f"{value:#x}ll" if isinstance(value, int) else float(value).hex()


def source() -> str:
    """Return the text; it wants to stand before what uses it."""
    lines = [f"#define {name} {literal(getattr(coefficients, name))}" for name in NAMES]
    lines.append(f"#define INFINITE __longlong_as_double({0x7FF << 52:#x}ll)  // {math.inf}")
    text = Path(__file__).with_name("realmath.cuh").read_text(encoding="utf-8")
    return "\n".join(lines) + "\n" + text.replace("#pragma once\n", "")
