"""Vectors of WIDTH lanes for Numba functions: arithmetic on them is so many lanes side by side.

LLVM's own vector loops take one machine vector at a time, and wait for each operation of a long chain: the CPU looks
ahead at some 64 vector operations, one or two rounds of such a loop. A value of this type is several machine vectors,
whose operations stand next to each other in the code and fill the time in which each alone would wait.

Lanes are float64 or uint64; scalars beside them are spread.
"""

# Numba's and llvmlite's extension interfaces have no types:
# mypy: ignore-errors

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

WIDTH = 16
"""Four vectors of AVX2: of 4, 8 and 16 the fastest on Zen 3; at 32 too little stays in registers."""

KINDS = {types.float64: ir.DoubleType(), types.uint64: ir.IntType(64), types.boolean: ir.IntType(1)}


class Wide(types.Type):
    """Lanes of one kind: float64, uint64, or boolean, which comparisons give."""

    def __init__(self, of: Any) -> None:
        self.of = of
        super().__init__(name=f"wide({of})")


@register_model(Wide)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Wide) -> None:
        super().__init__(manager, kind, vector_of(kind))


REAL, WHOLE, MASK = (Wide(of) for of in KINDS)


def vector_of(kind: Wide) -> ir.VectorType:
    """Return LLVM's type of these lanes."""
    return ir.VectorType(KINDS[kind.of], WIDTH)


def spread(context: Any, builder: Any, value: Any, kind: Any, wide: Wide) -> Any:
    """Return `value`, of Numba's type `kind`, as lanes."""
    if isinstance(kind, Wide):
        return value
    scalar = context.cast(builder, value, kind, wide.of)
    if wide.of == types.boolean:
        scalar = builder.trunc(scalar, ir.IntType(1)) if scalar.type.width != 1 else scalar
    vector = vector_of(wide)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _operation(symbol: Any, build: Any, result: Wide | None = None) -> None:
    """Teach Numba an operator on lanes: `build(builder, wide, *values)` gives LLVM's."""

    class Typed(AbstractTemplate):
        def generic(self, given: Any, named: Any) -> Any:
            wides = [kind for kind in given if isinstance(kind, Wide)]
            if not wides or any(kind != wides[0] for kind in wides):
                return None
            return signature(result or wides[0], *(types.unliteral(kind) for kind in given))

    infer_global(symbol)(Typed)

    def lower(context: Any, builder: Any, kinds: Any, values: Any) -> Any:
        wide = next(kind for kind in kinds.args if isinstance(kind, Wide))
        lanes = [spread(context, builder, value, kind, wide) for value, kind in zip(values, kinds.args, strict=True)]
        return build(builder, wide, *lanes)

    for given in ((Wide,), (Wide, Wide), (Wide, types.Any), (types.Any, Wide)):
        lower_builtin(symbol, *given)(lower)


def _pick(real: str, whole: str) -> Any:
    """Return a builder of one of two instructions, by the kind of lanes."""
    return lambda builder, wide, *lanes: getattr(builder, real if wide.of == types.float64 else whole)(*lanes)


def _compare(symbol: str) -> Any:
    return lambda builder, wide, a, b: (
        builder.fcmp_ordered(symbol, a, b) if wide.of == types.float64 else builder.icmp_unsigned(symbol, a, b)
    )


for _symbol, _build in {
    operator.add: _pick("fadd", "add"),
    operator.sub: _pick("fsub", "sub"),
    operator.mul: _pick("fmul", "mul"),
    operator.truediv: _pick("fdiv", "udiv"),
    operator.lshift: _pick("shl", "shl"),
    operator.rshift: _pick("lshr", "lshr"),
    operator.and_: _pick("and_", "and_"),
    operator.or_: _pick("or_", "or_"),
    operator.xor: _pick("xor", "xor"),
    operator.neg: lambda builder, _, a: builder.fneg(a),
    abs: lambda builder, wide, a: call(builder, "llvm.fabs", a),
}.items():
    _operation(_symbol, _build)
for _symbol, _sign in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
):
    _operation(_symbol, _compare(_sign), MASK)


def call(builder: Any, name: str, *values: Any) -> Any:
    """Return an LLVM intrinsic of numbers of one type, scalars or vectors."""
    kind = values[0].type
    suffix = f"v{kind.count}f64" if isinstance(kind, ir.VectorType) else "f64"
    function = ir.FunctionType(kind, [kind] * len(values))
    return builder.call(cgutils.get_or_insert_function(builder.module, function, f"{name}.{suffix}"), values)


def _pointer(typing_context: Any, array: Any) -> Any:
    """Return where a contiguous array begins; unlike an array, it may be handed to helpers inside a loop for nothing.

    Numba counts references to arrays in every function that gets one, and such counts keep values out of registers.
    """

    def build(context: Any, builder: Any, kinds: Any, values: Any) -> Any:
        return context.make_array(kinds.args[0])(context, builder, values[0]).data

    return types.CPointer(array.dtype)(array), build


def _place(builder: Any, pointer: Any, at: Any, wide: Wide) -> Any:
    return builder.bitcast(builder.gep(pointer, [at]), vector_of(wide).as_pointer())


def _load(typing_context: Any, pointer: Any, at: Any) -> Any:
    """Return WIDTH numbers, from a place on."""
    wide = Wide(pointer.dtype)

    def build(context: Any, builder: Any, kinds: Any, values: Any) -> Any:
        return builder.load(_place(builder, *values, wide), align=8)

    return wide(pointer, types.int64), build


def _store(typing_context: Any, pointer: Any, at: Any, lanes: Any) -> Any:
    """Write lanes, from a place on."""
    wide = Wide(pointer.dtype)

    def build(context: Any, builder: Any, kinds: Any, values: Any) -> Any:
        lanes = spread(context, builder, values[2], kinds.args[2], wide)
        builder.store(lanes, _place(builder, *values[:2], wide), align=8)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, lanes), build


def _splat(typing_context: Any, value: Any) -> Any:
    """Return lanes that all hold one number."""
    found = Wide(types.unliteral(value))
    return found(value), lambda context, builder, kinds, values: spread(
        context, builder, values[0], kinds.args[0], found
    )


def _any_of(typing_context: Any, mask: Any) -> Any:
    """Return whether a condition holds in any lane."""
    integer = ir.IntType(WIDTH)

    def build(context: Any, builder: Any, kinds: Any, values: Any) -> Any:
        return builder.icmp_unsigned("!=", builder.bitcast(values[0], integer), ir.Constant(integer, 0))

    return types.boolean(mask), build


def _align_stack(typing_context: Any) -> Any:
    """Make the caller keep its stack in whole cache lines: LLVM does so only where something asks for it.

    Without it half of the vectors that find no register are kept across two lines.
    """

    def build(context: Any, builder: Any, kinds: Any, values: Any) -> Any:
        place = cgutils.alloca_once(builder, ir.IntType(64))
        place.align = 64
        kind = ir.FunctionType(ir.VoidType(), [place.type])
        builder.asm(kind, "", "r,~{memory}", [place], True)  # no instruction, but something that needs the place
        return context.get_dummy_value()

    return types.void(), build


align_stack: Any = intrinsic(_align_stack)
pointer: Any = intrinsic(_pointer)
load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
splat: Any = intrinsic(_splat)
any_of: Any = intrinsic(_any_of)
