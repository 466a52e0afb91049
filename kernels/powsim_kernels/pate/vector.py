"""exp, expm1, log and log1p without branches, so that LLVM turns loops over them into vector code.

Each is within about an ulp. The C library's calls cost 5 to 12 ns a value and stop vectorisation; these cost about one.
Arguments are those that the bounds meet: `exp` and `expm1` give 0 (-1) below -708, `log` wants normal numbers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
MAGIC = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer, which then stands in the low bits
MAGIC_BITS = 0x4338000000000000
ROOT_HALF_BITS = 0x3FE6A09E667F3BCD
ONE_BITS = 0x3FF0000000000000
LEAST = -708.0
CHUNK = 32  # numbers of which `chunk_most` finds the largest
NEGLIGIBLE = 1e-140  # squares of smaller numbers are subnormal, 50 times slower, and count for nothing


def _bits_of(typing_context: Any, x: Any) -> Any:
    """Return a float64's bits as int64."""
    return types.int64(types.float64), lambda _, builder, __, args: builder.bitcast(args[0], ir.IntType(64))


def _of_bits(typing_context: Any, x: Any) -> Any:
    """Return the float64 with these bits."""
    return types.float64(types.int64), lambda _, builder, __, args: builder.bitcast(args[0], ir.DoubleType())


def _chunk_most(typing_context: Any, numbers: Any, at: Any) -> Any:
    """Return the largest of CHUNK unsigned numbers of a C-contiguous array, from the flat index `at` on.

    Written as one vector reduction: LLVM unrolls the loop to as many branches instead (450 -> 105 ns for 1,000).
    """
    bits = numbers.dtype.bitwidth

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(bits), CHUNK)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        loaded = builder.load(builder.bitcast(builder.gep(data, [args[1]]), vector.as_pointer()), align=bits // 8)
        kind = ir.FunctionType(ir.IntType(bits), [vector])
        name = f"llvm.vector.reduce.umax.v{CHUNK}i{bits}"
        found = builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), [loaded])
        return found if bits == 64 else builder.zext(found, ir.IntType(64))

    return types.uint64(numbers, types.uint64), generate


bits_of: Any = intrinsic(_bits_of)
of_bits: Any = intrinsic(_of_bits)
chunk_most: Any = intrinsic(_chunk_most)


def fused(function: Any) -> Any:
    """Return `function` compiled to be inlined, its products and sums fused where the machine can."""
    return njit(nogil=True, error_model="numpy", fastmath={"contract"}, forceinline=True)(function)


@fused
def _reduced(x):  # type: ignore[no-untyped-def]
    """Return expm1(r) and 2^n with x = n ln 2 + r, |r| <= ln(2)/2: Taylor to the 13th degree (4e-18 left)."""
    shifted = x * LOG2_E + MAGIC
    n = shifted - MAGIC
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    safe = r if abs(r) > NEGLIGIBLE else 0.0
    r2 = safe * safe
    r4 = r2 * r2
    low = (0.5 + safe * (1 / 6)) + r2 * (1 / 24 + safe * (1 / 120))
    middle = (1 / 720 + safe * (1 / 5040)) + r2 * (1 / 40320 + safe * (1 / 362880))
    high = (1 / 3628800 + safe * (1 / 39916800)) + r2 * (1 / 479001600 + safe * (1 / 6227020800))
    return r + r2 * (low + r4 * (middle + r4 * high)), of_bits((bits_of(shifted) - MAGIC_BITS + 1023) << 52)


@fused
def exp(x):  # type: ignore[no-untyped-def]
    """Return e^x for x <= 709; 0 below -708."""
    p, scale = _reduced(x if x > LEAST else LEAST)
    value = scale + scale * p
    return value if x > LEAST else 0.0


@fused
def expm1(x):  # type: ignore[no-untyped-def]
    """Return e^x - 1 for x <= 709."""
    p, scale = _reduced(x if x > LEAST else LEAST)
    return scale * p + (scale - 1.0)


@fused
def _log_near(n, f):  # type: ignore[no-untyped-def]
    """Return n ln 2 + ln(1 + f) for 1 + f in 0.7..1.42 (fdlibm's series in s = f / (2 + f))."""
    safe = f if abs(f) > NEGLIGIBLE else 0.0
    s = safe / (2.0 + safe)
    z = s * s
    w = z * z
    even = w * (0.3999999999940941908 + w * (0.2222219843214978396 + w * 0.1531383769920937332))
    odd = z * (
        0.6666666666666735130 + w * (0.2857142874366239149 + w * (0.1818357216161805012 + w * 0.1479819860511658591))
    )
    half = 0.5 * safe * safe
    return n * LN2_HIGH - ((half - (s * (half + (even + odd)) + n * LN2_LOW)) - f)


@fused
def log(x):  # type: ignore[no-untyped-def]
    """Return ln x of a normal positive number."""
    bits = bits_of(x)
    biased = (bits - ROOT_HALF_BITS + ONE_BITS) >> 52
    n = of_bits(biased + (MAGIC_BITS - 1023)) - MAGIC
    return _log_near(n, of_bits(bits - ((biased - 1023) << 52)) - 1.0)


@fused
def log1p(x):  # type: ignore[no-untyped-def]
    """Return ln(1 + x) for 0 <= x < 1e300: f = (1 + x) 2^-n - 1 comes from x itself, with nothing rounded away."""
    biased = (bits_of(1.0 + x) - ROOT_HALF_BITS + ONE_BITS) >> 52
    scale = of_bits((2046 - biased) << 52)
    return _log_near(of_bits(biased + (MAGIC_BITS - 1023)) - MAGIC, x * scale + (scale - 1.0))
