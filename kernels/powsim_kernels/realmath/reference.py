"""The specification: every operation rounds once, to nearest; products and sums are fused where `fma` is written."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from powsim_kernels.realmath.coefficients import (
    CENTRE,
    CENTRE_ABOVE,
    CENTRE_BELOW,
    EXP,
    EXP2,
    FAR_ABOVE,
    FAR_BELOW,
    LN2_HIGH,
    LN2_LOW,
    LOG,
    LOG1M,
    LOG2_E,
    MAGIC,
    NEAR,
    ROOT_HALF_BITS,
    SMALL,
    TAIL_ABOVE,
    TAIL_BELOW,
)


def fma(a: float, b: float, c: float) -> float:
    """Return a * b + c rounded once. Python divides whole numbers with one rounding, and has no fma before 3.13."""
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return a * b + c
    (an, ad), (bn, bd), (cn, cd) = a.as_integer_ratio(), b.as_integer_ratio(), c.as_integer_ratio()
    below = ad * bd
    return (an * bn * cd + cn * below) / (below * cd)


def horner(x: float, coefficients: Sequence[float]) -> float:
    """Return the polynomial with these coefficients, lowest power first."""
    value = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        value = fma(value, x, coefficient)
    return value


def from_one(x: float, coefficients: Sequence[float]) -> float:
    """Return a polynomial that begins with 1; its other powers, even and odd, are two chains half as long."""
    square = x * x
    return fma(x, fma(x, horner(square, coefficients[2::2]), horner(square, coefficients[1::2])), 1.0)


def bits_of(x: float) -> int:
    """Return the 64 bits of a double as a signed integer."""
    return int(struct.unpack("<q", struct.pack("<d", x))[0])


def of_bits(bits: int) -> float:
    """Return the double with these 64 bits."""
    return float(struct.unpack("<d", struct.pack("<q", bits))[0])


def log(x: float) -> float:
    """Return ln x of a normal positive number, within an ulp (fdlibm's form)."""
    n = (bits_of(x) - ROOT_HALF_BITS + (1023 << 52) >> 52) - 1023
    f = of_bits(bits_of(x) - (n << 52)) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * horner(w, (LOG[1], LOG[3], LOG[5]))
    rest = fma(z, horner(w, (LOG[0], LOG[2], LOG[4], LOG[6])), even)
    half = 0.5 * f * f
    return fma(float(n), LN2_HIGH, f - (half - fma(s, half + rest, n * LN2_LOW)))


def log2(x: float) -> float:
    """Return log2 x of a normal positive number, within two ulps."""
    return log(x) * LOG2_E


def log1m(p: float) -> float:
    """Return ln(1 - p) for p in [0, 1], within two ulps; -inf at 1.

    Small chances, those of nearly all puzzles, take a short series. Elsewhere what 1 - p
    loses in rounding, c, adds c / (1 - p): c (1 + p) is near enough, c being 0 from 1/2 on.
    """
    if p <= SMALL:
        return -fma(p * p, horner(p, LOG1M), p)
    u = 1.0 - p
    if u == 0.0:
        return -math.inf
    lost = (1.0 - u) - p
    return log(u) + fma(lost, p, lost)


def exp(x: float) -> float:
    """Return e^x for -708 <= x <= 709, within an ulp."""
    n = (x * LOG2_E + MAGIC) - MAGIC
    r = fma(-n, LN2_LOW, fma(-n, LN2_HIGH, x))
    return from_one(r, EXP) * of_bits((int(n) + 1023) << 52)


def exp2(x: float) -> float:
    """Return 2^x for -1022 <= x <= 1023, within an ulp; exact at integers."""
    n = (x + MAGIC) - MAGIC
    return from_one(x - n, EXP2) * of_bits((int(n) + 1023) << 52)


def normal_quantile(p: float) -> float:
    """Return the standard normal quantile of p in [2^-54, 1), within 1e-15 relative (AS 241)."""
    q = p - 0.5
    if abs(q) <= CENTRE:
        r = fma(-q, q, 0.180625)
        return q * horner(r, CENTRE_ABOVE) / horner(r, CENTRE_BELOW)
    r = math.sqrt(-log(p if q < 0.0 else 1.0 - p))
    if r <= NEAR:
        value = horner(r - 1.6, TAIL_ABOVE) / horner(r - 1.6, TAIL_BELOW)
    else:
        value = horner(r - 5.0, FAR_ABOVE) / horner(r - 5.0, FAR_BELOW)
    return -value if q < 0.0 else value
