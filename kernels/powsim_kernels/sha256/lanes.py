"""SHA-256's operations as LLVM instructions, on vectors of 32-bit words or on single words."""

# llvmlite has no types:
# mypy: ignore-errors

from __future__ import annotations

from dataclasses import dataclass, field

from llvmlite import ir

from powsim_kernels.sha256.plan import ROTATIONS, SHIFTS
from powsim_kernels.sha256.reference import K

I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
XOR3, CHOOSE, MAJORITY = 0x96, 0xCA, 0xE8
"""Truth tables of three words for AVX-512's vpternlog: LLVM alone spends two operations on a majority."""


@dataclass(frozen=True)
class Lanes:
    """Arithmetic on one LLVM type: a vector of `n` words, or a single word for n = 1."""

    builder: ir.IRBuilder
    n: int = 1
    ternary: bool = False  # three-word logic as one AVX-512 operation
    _differences: dict[tuple[ir.Value, ir.Value], ir.Value] = field(default_factory=dict)

    @property
    def type(self) -> ir.Type:
        """Return the LLVM type."""
        return ir.VectorType(I32, self.n) if self.n > 1 else I32

    def constant(self, value: int):
        """Return `value` in every lane."""
        return ir.Constant(self.type, [value] * self.n if self.n > 1 else value)

    def splat(self, word):
        """Return a vector whose lanes all hold `word`."""
        if self.n == 1:
            return word
        undefined = ir.Constant(self.type, ir.Undefined)
        one = self.builder.insert_element(undefined, word, ir.Constant(I32, 0))
        return self.builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, self.n), [0] * self.n))

    def function(self, name: str, operands):
        """Return the value of a step: add, ch, maj, or one of the sigmas."""
        if name == "add":
            return self.builder.add(*operands)
        if name == "ch":
            return self._choose(*operands)
        if name == "maj":
            return self._majority(*operands)
        return self.sigma(name, *operands)

    def sigma(self, name: str, x):
        """Return one of Σ0, Σ1, σ0, σ1 (FIPS 180-4, 4.1.2)."""
        suffix = f"v{self.n}i32" if self.n > 1 else "i32"
        rotate = declared(self.builder.module, f"llvm.fshr.{suffix}", self.type, [self.type] * 3)
        turned = [self.builder.call(rotate, [x, x, self.constant(n)]) for n in ROTATIONS[name]]
        if name in SHIFTS:
            turned.append(self.builder.lshr(x, self.constant(SHIFTS[name])))
        if self.ternary:
            return self._ternary(XOR3, *turned)
        return self.builder.xor(self.builder.xor(turned[0], turned[1]), turned[2])

    def _choose(self, x, y, z):
        if self.ternary:
            return self._ternary(CHOOSE, x, y, z)
        b = self.builder
        return b.xor(z, b.and_(x, b.xor(y, z)))

    def _majority(self, x, y, z):
        if self.ternary:
            return self._ternary(MAJORITY, x, y, z)
        # y where x and y agree, else z: and this round's x ^ y is the next round's y ^ z.
        b = self.builder
        return b.xor(y, b.and_(self._difference(x, y), self._difference(y, z)))

    def _difference(self, x, y):
        if (x, y) not in self._differences:
            self._differences[x, y] = self.builder.xor(x, y)
        return self._differences[x, y]

    def _ternary(self, table: int, x, y, z):
        name = f"llvm.x86.avx512.pternlog.d.{32 * self.n}"
        function = declared(self.builder.module, name, self.type, [self.type] * 3 + [I32])
        return self.builder.call(function, [x, y, z, ir.Constant(I32, table)])

    def round(self, state, kw):
        """Return a..h after one round; `kw` is the round's constant plus its schedule word (6.2.2 step 3)."""
        a, b, c, d, e, f, g, h = state
        add = self.builder.add
        t1 = add(add(add(h, kw), self.function("ch", (e, f, g))), self.sigma("S1", e))
        t2 = add(self.sigma("S0", a), self.function("maj", (a, b, c)))
        return [add(t1, t2), a, b, c, add(d, t1), e, f, g]

    def rounds(self, state, words, count: int):
        """Return a..h after the first `count` rounds on the 16 `words`, unrolled (6.2.2 steps 1 and 3)."""
        words, add = list(words), self.builder.add
        for t in range(count):
            if t >= 16:
                early = add(words[t - 16], self.sigma("s0", words[t - 15]))
                words.append(add(add(early, words[t - 7]), self.sigma("s1", words[t - 2])))
            state = self.round(state, add(words[t], self.constant(K[t])))
        return state


def declared(module: ir.Module, name: str, returned: ir.Type, arguments: list[ir.Type]) -> ir.Function:
    """Return the function `name` of the module, declared once."""
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(returned, arguments), name)


def item(builder: ir.IRBuilder, pointer, index):
    """Return the address of item `index` (a number or an i64) of the array at `pointer`."""
    return builder.gep(pointer, [ir.Constant(I64, index) if isinstance(index, int) else index])
