"""The functions of `reference` by Numba, of numbers and of `wide` lanes, without branches: loops become vector code.

Fused steps are LLVM's `llvm.fma`: one instruction where the CPU has it, else the C library's `fma`, which has the same
bits and is many times slower.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from powsim_kernels.jit import helper
from powsim_kernels.realmath import coefficients as c
from powsim_kernels.wide import REAL, WHOLE, Wide, call, spread, vector_of

ONE_BITS = 1023 << 52
LN2_HIGH, LN2_LOW, LOG2_E, MAGIC = c.LN2_HIGH, c.LN2_LOW, c.LOG2_E, c.MAGIC
ROOT_HALF_TO_ONE, ROOT_HALF = np.uint64(ONE_BITS - c.ROOT_HALF_BITS), np.uint64(c.ROOT_HALF_BITS)
EXPONENT, MANTISSA, BIASED_MAGIC = np.uint64(52), np.uint64((1 << 52) - 1), np.uint64(0x4338000000000000 - 1023)
SMALL, SERIES = c.SMALL, c.LOG1M
LOG0, LOG1, LOG2, LOG3, LOG4, LOG5, LOG6 = c.LOG
EXP, EXP2 = c.EXP, c.EXP2
CENTRE_ABOVE, CENTRE_BELOW, CENTRE = c.CENTRE_ABOVE, c.CENTRE_BELOW, c.CENTRE
TAIL_ABOVE, TAIL_BELOW, FAR_ABOVE, FAR_BELOW, NEAR = c.TAIL_ABOVE, c.TAIL_BELOW, c.FAR_ABOVE, c.FAR_BELOW, c.NEAR


def _joint(kinds: Any, scalar: Any) -> Any:
    """Return the lanes among some types, or where there are none the scalar."""
    return next((kind for kind in kinds if isinstance(kind, Wide)), scalar)


def _as(context: Any, builder: Any, value: Any, kind: Any, joint: Any) -> Any:
    """Return a value as lanes, or unchanged where none are."""
    return spread(context, builder, value, kind, joint) if isinstance(joint, Wide) else value


def _numbers(name: str, count: int, why: str) -> Any:
    """Return an LLVM intrinsic of so many numbers, or lanes of them."""

    def build(context: Any, builder: Any, kinds: Any, values: Any) -> Any:
        pairs = zip(values, kinds.args, strict=True)
        return call(builder, name, *(_as(context, builder, value, kind, kinds.return_type) for value, kind in pairs))

    def one(typing_context: Any, x: Any) -> Any:
        return _joint((x,), types.float64)(x), build

    def three(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
        return _joint((a, b, c), types.float64)(a, b, c), build

    typed = one if count == 1 else three
    typed.__doc__ = why
    return intrinsic(typed)


def _choose(typing_context: Any, condition: Any, yes: Any, no: Any) -> Any:
    """Return one of two values, both computed: a branch could become a masked store, which some CPUs do very slowly."""
    joint = _joint((yes, no), yes)
    if isinstance(condition, Wide) and not isinstance(joint, Wide):
        joint = Wide(joint)
    if not isinstance(joint, Wide) and yes != no:
        return None

    def build(context: Any, builder: Any, kinds: Any, values: Any) -> Any:
        _, *sides = kinds.args
        return builder.select(
            values[0], *(_as(context, builder, *pair, joint) for pair in zip(values[1:], sides, strict=True))
        )

    return joint(condition, yes, no), build


def _bits_of(typing_context: Any, x: Any) -> Any:
    """Return the bits of doubles as unsigned integers."""
    if isinstance(x, Wide):
        return WHOLE(x), lambda _, builder, __, args: builder.bitcast(args[0], vector_of(WHOLE))
    return types.uint64(types.float64), lambda _, builder, __, args: builder.bitcast(args[0], ir.IntType(64))


def _of_bits(typing_context: Any, x: Any) -> Any:
    """Return the doubles with these bits."""
    if isinstance(x, Wide):
        return REAL(x), lambda _, builder, __, args: builder.bitcast(args[0], vector_of(REAL))
    return types.float64(types.uint64), lambda _, builder, __, args: builder.bitcast(args[0], ir.DoubleType())


bits_of: Any = intrinsic(_bits_of)
of_bits: Any = intrinsic(_of_bits)
choose: Any = intrinsic(_choose)
fma: Any = _numbers("llvm.fma", 3, "Return a * b + c rounded once.")
root: Any = _numbers("llvm.sqrt", 1, "Return the square root, without the check that would stop vectorisation.")
floor: Any = _numbers("llvm.floor", 1, "Return the greatest whole number not above, as a double.")
nearest: Any = _numbers("llvm.rint", 1, "Return the nearest whole number, the even one of two, as a double.")


@helper
def log(x):  # type: ignore[no-untyped-def]
    """Return ln x of a normal positive number."""
    # Unsigned: AVX2 has no arithmetic shift of 64-bit integers.
    moved = bits_of(x) + ROOT_HALF_TO_ONE
    n = of_bits((moved >> EXPONENT) + BIASED_MAGIC) - MAGIC
    f = of_bits((moved & MANTISSA) + ROOT_HALF) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * fma(fma(LOG5, w, LOG3), w, LOG1)
    rest = fma(z, fma(fma(fma(LOG6, w, LOG4), w, LOG2), w, LOG0), even)
    half = 0.5 * f * f
    return fma(n, LN2_HIGH, f - (half - fma(s, half + rest, n * LN2_LOW)))


@helper
def log2(x):  # type: ignore[no-untyped-def]
    """Return log2 x of a normal positive number."""
    return log(x) * LOG2_E


@helper
def log1m_small(p):  # type: ignore[no-untyped-def]
    """Return ln(1 - p) for p in [0, SMALL]."""
    return -fma(p * p, fma(fma(fma(SERIES[3], p, SERIES[2]), p, SERIES[1]), p, SERIES[0]), p)


@helper
def log1m(p):  # type: ignore[no-untyped-def]
    """Return ln(1 - p) for p in [0, 1]; -inf at 1."""
    u = 1.0 - p
    lost = (1.0 - u) - p
    value = log(u) + fma(lost, p, lost)
    return choose(p <= SMALL, log1m_small(p), choose(u > 0.0, value, -math.inf))


@helper
def _from_one(r, k):  # type: ignore[no-untyped-def]
    square = r * r
    even = fma(fma(fma(k[13], square, k[11]), square, k[9]), square, k[7])
    even = fma(fma(fma(even, square, k[5]), square, k[3]), square, k[1])
    odd = fma(fma(fma(k[12], square, k[10]), square, k[8]), square, k[6])
    odd = fma(fma(odd, square, k[4]), square, k[2])
    return fma(r, fma(r, odd, even), 1.0)


@helper
def _horner8(r, k):  # type: ignore[no-untyped-def]
    value = fma(fma(fma(fma(k[7], r, k[6]), r, k[5]), r, k[4]), r, k[3])
    return fma(fma(fma(value, r, k[2]), r, k[1]), r, k[0])


@helper
def _scaled(value, shifted):  # type: ignore[no-untyped-def]
    """Return a number times 2^n, n being in the low bits of `shifted`; numbers and results are normal."""
    return of_bits(bits_of(value) + (bits_of(shifted) << EXPONENT))


@helper
def exp(x):  # type: ignore[no-untyped-def]
    """Return e^x for -708 <= x <= 709."""
    shifted = x * LOG2_E + MAGIC
    n = shifted - MAGIC
    r = fma(-n, LN2_LOW, fma(-n, LN2_HIGH, x))
    return _scaled(_from_one(r, EXP), shifted)


@helper
def exp2(x):  # type: ignore[no-untyped-def]
    """Return 2^x for -1022 <= x <= 1023; exact at integers."""
    shifted = x + MAGIC
    return _scaled(_from_one(x - (shifted - MAGIC), EXP2), shifted)


@helper
def normal_quantile(p):  # type: ignore[no-untyped-def]
    """Return the standard normal quantile of p in [2^-54, 1)."""
    q = p - 0.5
    r = fma(-q, q, 0.180625)
    centre = q * _horner8(r, CENTRE_ABOVE) / _horner8(r, CENTRE_BELOW)
    r = root(-log(choose(q < 0.0, p, 1.0 - p)))
    near = _horner8(r - 1.6, TAIL_ABOVE) / _horner8(r - 1.6, TAIL_BELOW)
    far = _horner8(r - 5.0, FAR_ABOVE) / _horner8(r - 5.0, FAR_BELOW)
    tail = choose(r <= NEAR, near, far)
    return choose(abs(q) <= CENTRE, centre, choose(q < 0.0, -tail, tail))
