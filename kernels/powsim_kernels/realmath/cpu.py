"""The functions of `reference` by Numba, without branches, so that LLVM turns loops over them into vector code.

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
from powsim_kernels.pate.vector import bits_of, of_bits
from powsim_kernels.realmath import coefficients as c

MAGIC_BITS = 0x4338000000000000
ONE_BITS = 1023 << 52
LN2_HIGH, LN2_LOW, LOG2_E, MAGIC = c.LN2_HIGH, c.LN2_LOW, c.LOG2_E, c.MAGIC
ROOT_HALF_TO_ONE, EXPONENT = np.uint64(ONE_BITS - c.ROOT_HALF_BITS), np.uint64(52)
SMALL, SERIES = c.SMALL, c.LOG1M
LOG0, LOG1, LOG2, LOG3, LOG4, LOG5, LOG6 = c.LOG
EXP, EXP2 = c.EXP, c.EXP2
CENTRE_ABOVE, CENTRE_BELOW, CENTRE = c.CENTRE_ABOVE, c.CENTRE_BELOW, c.CENTRE
TAIL_ABOVE, TAIL_BELOW, FAR_ABOVE, FAR_BELOW, NEAR = c.TAIL_ABOVE, c.TAIL_BELOW, c.FAR_ABOVE, c.FAR_BELOW, c.NEAR


def _fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c rounded once."""

    return types.float64(types.float64, types.float64, types.float64), lambda _, builder, __, args: builder.fma(*args)


def _unary(name: str, why: str) -> Any:
    """Return an LLVM intrinsic of one double."""

    def typed(typing_context: Any, x: Any) -> Any:
        def build(_: Any, builder: Any, __: Any, args: Any) -> Any:
            double = ir.DoubleType()
            kind = ir.FunctionType(double, [double])
            return builder.call(builder.module.declare_intrinsic(name, [double], kind), args)

        return types.float64(types.float64), build

    typed.__doc__ = why
    return intrinsic(typed)


def _choose(typing_context: Any, condition: Any, yes: Any, no: Any) -> Any:
    """Return one of two values, both computed: a branch could become a masked store, which some CPUs do very slowly."""
    if yes != no:
        return None
    return yes(types.boolean, yes, yes), lambda _, builder, __, args: builder.select(*args)


fma: Any = intrinsic(_fma)
choose: Any = intrinsic(_choose)
root: Any = _unary("llvm.sqrt", "Return the square root, without the check that would stop vectorisation.")
floor: Any = _unary("llvm.floor", "Return the greatest whole number not above, as a double.")
nearest: Any = _unary("llvm.rint", "Return the nearest whole number, the even one of two, as a double.")


@helper
def log_parts(x):  # type: ignore[no-untyped-def]
    """Return n, f and f / (2 + f) of x = 2^n (1 + f), for `log_joined`: two short loops are faster than a long one."""
    # Unsigned: AVX2 has no arithmetic shift of 64-bit integers.
    bits = np.uint64(bits_of(x))
    biased = (bits + ROOT_HALF_TO_ONE) >> EXPONENT
    n = of_bits(np.int64(biased) + (MAGIC_BITS - 1023)) - MAGIC
    f = of_bits(np.int64(bits - (biased << EXPONENT)) + ONE_BITS) - 1.0
    return n, f, f / (2.0 + f)


@helper
def log_joined(n, f, s):  # type: ignore[no-untyped-def]
    """Return ln x by its parts."""
    z = s * s
    w = z * z
    even = w * fma(fma(LOG5, w, LOG3), w, LOG1)
    rest = fma(z, fma(fma(fma(LOG6, w, LOG4), w, LOG2), w, LOG0), even)
    half = 0.5 * f * f
    return fma(n, LN2_HIGH, f - (half - fma(s, half + rest, n * LN2_LOW)))


@helper
def log(x):  # type: ignore[no-untyped-def]
    """Return ln x of a normal positive number."""
    n, f, s = log_parts(x)
    return log_joined(n, f, s)


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
def exp(x):  # type: ignore[no-untyped-def]
    """Return e^x for -708 <= x <= 709."""
    shifted = x * LOG2_E + MAGIC
    n = shifted - MAGIC
    r = fma(-n, LN2_LOW, fma(-n, LN2_HIGH, x))
    return _from_one(r, EXP) * of_bits((bits_of(shifted) - MAGIC_BITS + 1023) << 52)


@helper
def exp2(x):  # type: ignore[no-untyped-def]
    """Return 2^x for -1022 <= x <= 1023; exact at integers."""
    shifted = x + MAGIC
    return _from_one(x - (shifted - MAGIC), EXP2) * of_bits((bits_of(shifted) - MAGIC_BITS + 1023) << 52)


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
