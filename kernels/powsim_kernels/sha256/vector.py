"""Vector code for Numba: the steps of a `plan` as LLVM operations on 16, 8 or 4 lanes of 32 bits.

Two intrinsics. `fill_table` computes a plan's constants; `scan` runs its steps over vectors of consecutive words until
a lane's digest word is small enough. Both take the position of the varying word as a literal, so that each position is
a kernel of its own, compiled when it is first needed.
"""

# llvmlite has no types, and Numba's intrinsics have other arguments inside compiled code than outside:
# mypy: ignore-errors

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from powsim_kernels.jit import jit
from powsim_kernels.sha256.plan import INITIAL, INPUTS, ROTATIONS, SHIFTS, WORDS, plan
from powsim_kernels.sha256.reference import K
from powsim_kernels.sha256.scalar import some_rounds

I32, I64 = ir.IntType(32), ir.IntType(64)
MISS = np.uint64(2**64 - 1)
TABLE = 128  # words; the largest plan has 119 constants
POINTER = types.CPointer(types.uint32)
XOR3, CHOOSE, MAJORITY = 0x96, 0xCA, 0xE8
"""Truth tables of three words for AVX-512's vpternlog: LLVM alone spends two operations on a majority."""


@dataclass(frozen=True)
class Lanes:
    """Arithmetic on one LLVM type: a vector of `n` words, or a single word for n = 1."""

    builder: ir.IRBuilder
    n: int
    ternary: bool  # three-word logic as one AVX-512 operation

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

    def sigma(self, name: str, x):
        """Return one of Σ0, Σ1, σ0, σ1 (FIPS 180-4, 4.1.2)."""
        suffix = f"v{self.n}i32" if self.n > 1 else "i32"
        rotate = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(self.type, [self.type] * 3), f"llvm.fshr.{suffix}"
        )
        turned = [self.builder.call(rotate, [x, x, self.constant(n)]) for n in ROTATIONS[name]]
        if name in SHIFTS:
            turned.append(self.builder.lshr(x, self.constant(SHIFTS[name])))
        return self._logic(XOR3, *turned)

    def function(self, name: str, operands):
        """Return a step's value."""
        if name == "add":
            return self.builder.add(*operands)
        if name == "ch":
            return self._logic(CHOOSE, *operands)
        if name == "maj":
            return self._logic(MAJORITY, *operands)
        return self.sigma(name, *operands)

    def _logic(self, table: int, x, y, z):
        b = self.builder
        if self.ternary:
            word = cgutils.get_or_insert_function(
                b.module,
                ir.FunctionType(self.type, [self.type] * 3 + [I32]),
                f"llvm.x86.avx512.pternlog.d.{32 * self.n}",
            )
            return b.call(word, [x, y, z, ir.Constant(I32, table)])
        if table == XOR3:
            return b.xor(b.xor(x, y), z)
        if table == CHOOSE:
            return b.xor(z, b.and_(x, b.xor(y, z)))
        return b.or_(b.and_(x, y), b.and_(z, b.or_(x, y)))


def _place(builder, pointer, index: int):
    return builder.gep(pointer, [ir.Constant(I64, index)])


@intrinsic
def data_of(typingctx, array):
    """Return the address of a uint32 array's first item."""

    def generate(context, builder, signature, arguments):
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return POINTER(array), generate


@intrinsic
def fill_table(typingctx, position, inputs, table):
    """Compute the constants of plan(position) from its inputs (uint32 [25]) into `table`."""
    if not isinstance(position, types.IntegerLiteral):
        return None
    steps = plan(position.literal_value)

    def generate(context, builder, signature, arguments):
        _, source, target = arguments
        word = Lanes(builder, 1, False)
        values: list[ir.Value] = []
        for name, operands in steps.scalars:
            if name == "input":
                values.append(builder.load(_place(builder, source, operands[0])))
            elif name == "k":
                values.append(ir.Constant(I32, K[operands[0]]))
            else:
                values.append(word.function(name, [values[o] for o in operands]))
        for scalar, place in steps.table.items():
            builder.store(values[scalar], _place(builder, target, place))
        return context.get_dummy_value()

    return types.void(position, inputs, table), generate


@intrinsic
def scan(typingctx, position, lanes, streams, ternary, table, first, stride, vectors, limit, hits):
    """Return the first pair of vectors with a digest word 0 at or below `limit`, or `vectors`.

    Vector v holds the words first + stride * (lanes * v + lane). They are taken `streams` at a time, their steps
    interleaved, because one chain of rounds leaves the units idle; the number returned is that of the first of a
    group, and hits[stream] gets a bit for each lane that qualifies.
    """
    shape = (position, lanes, streams, ternary)
    if not all(isinstance(value, types.IntegerLiteral) for value in shape):
        return None
    at, n, side_by_side, three = (value.literal_value for value in shape)

    def generate(context, builder, signature, arguments):
        return _scan(builder, Lanes(builder, n, bool(three)), at, side_by_side, *arguments[4:])

    arguments = (*shape, table, types.uint32, types.uint32, types.int64, types.uint32, hits)
    return types.int64(*arguments), generate


def _scan(b, lanes: Lanes, position: int, streams: int, table, first, stride, vectors, limit, hits):
    steps = plan(position)
    offsets = b.mul(lanes.splat(stride), ir.Constant(lanes.type, list(range(lanes.n))))
    start = b.add(lanes.splat(first), offsets)
    advance = lanes.splat(b.mul(stride, ir.Constant(I32, lanes.n)))
    bound = lanes.splat(limit)
    before, loop, done = b.block, b.append_basic_block("scan"), b.append_basic_block("scanned")
    b.branch(loop)
    b.position_at_end(loop)
    number, word = b.phi(I64), b.phi(lanes.type)
    number.add_incoming(ir.Constant(I64, 0), before)
    word.add_incoming(start, before)
    words = [word]
    while len(words) < streams:
        words.append(b.add(words[-1], advance))
    values: list[list[ir.Value]] = [[] for _ in range(streams)]
    for name, operands in steps.steps:
        shared = [lanes.splat(b.load(_place(b, table, i))) if kind == "c" else None for kind, i in operands]
        for stream, own in enumerate(values):
            given = [own[i] if k is None else k for k, (_, i) in zip(shared, operands, strict=True)]
            own.append(words[stream] if name == "word" else lanes.function(name, given))
    mask_type = ir.IntType(lanes.n)
    found = ir.Constant(I32, 0)
    for stream, own in enumerate(values):
        mask = b.bitcast(b.icmp_unsigned("<=", own[steps.result], bound), mask_type)
        mask = b.zext(mask, I32)
        # This store may, for all LLVM knows, change the table: so it does not hoist a hundred broadcasts out of the
        # loop, which would then live on the stack.
        b.store(mask, _place(b, hits, stream))
        found = b.or_(found, mask)
    hit = b.icmp_unsigned("!=", found, ir.Constant(I32, 0))
    following = b.add(number, ir.Constant(I64, streams))
    go_on = b.and_(b.icmp_signed("<", following, vectors), b.not_(hit))
    number.add_incoming(following, b.block)
    word.add_incoming(b.add(words[-1], advance), b.block)
    b.cbranch(go_on, loop, done)
    b.position_at_end(done)
    return b.select(hit, number, vectors)


@cache
def searcher(lanes: int, streams: int, three: bool, position: int):
    """Return the compiled search, by this form of vectors, for nonces that end in word `position` of the last block.

    Pieces which[start:stop] are searched: piece p is nonces begin + skip[p] .. + size[p] of puzzle rows[owner[p]].
    hit[p] gets the lowest solving offset from `begin`, or keeps MISS; best[slot] the lowest of any piece.
    """
    ternary = int(three)

    def search_pieces(midstate, tail, place, rows, begin, limits, which, owner, skip, size, best, hit, start, stop):
        w, inputs = np.empty(16, np.uint32), np.empty(INPUTS, np.uint32)
        block, end = np.empty(16, np.uint32), np.empty(8, np.uint32)
        table, masks = np.empty(TABLE, np.uint32), np.empty(streams, np.uint32)
        for number in range(start, stop):
            piece = which[number]
            slot = owner[piece]
            # Another thread may write `best` meanwhile: what is read is a real winner or MISS, so that a piece is
            # left out only if a lower winner is known. The result itself is made of `hit`.
            if best[slot] < skip[piece]:
                continue
            row = rows[slot]
            limit = limits[slot]
            bound = np.uint32(limit >> np.uint64(32))
            state = midstate[row]
            at = place[row]
            # The last word that holds nonce bytes holds `width` bits of it; nonces that share the rest make a segment.
            width = np.uint64(8 * ((at + 7) % 4 + 1))
            turn = np.uint32(np.uint64(32) - width)
            low_bits = np.uint64((np.uint64(1) << width) - np.uint64(1))
            done = np.int64(0)
            while done < size[piece] and hit[piece] == MISS:
                nonce = np.uint64(begin[slot] + skip[piece] + np.uint64(done))
                low = nonce & low_bits
                segment = np.int64(min(np.uint64(size[piece] - done), low_bits - low + np.uint64(1)))
                w[:] = tail[row]
                shift = np.uint64(8 * (at % 4))
                w[at // 4] |= np.uint32(nonce >> (np.uint64(32) + shift))
                w[at // 4 + 1] |= np.uint32(nonce >> shift)
                w[at // 4 + 2] |= np.uint32(nonce << (np.uint64(32) - shift))
                first, stride = w[position], np.uint32(np.uint32(1) << turn)
                some_rounds(state, w, position, inputs)
                inputs[WORDS:INITIAL] = w
                inputs[INITIAL] = state[0]
                fill_table(position, data_of(inputs), data_of(table))
                vectors = (segment + lanes - 1) // lanes
                vector = np.int64(0)
                while vector < vectors and hit[piece] == MISS:
                    here = np.uint32(first + np.uint32(stride * np.uint32(vector * lanes)))
                    ahead = scan(
                        position,
                        lanes,
                        streams,
                        ternary,
                        data_of(table),
                        here,
                        stride,
                        vectors - vector,
                        bound,
                        data_of(masks),
                    )
                    if ahead >= vectors - vector:
                        break
                    vector += ahead
                    for lane in range(streams * lanes):
                        index = vector * lanes + lane
                        if index >= segment:
                            break
                        if masks[lane // lanes] >> np.uint32(lane % lanes) & np.uint32(1):
                            # Candidates by the first 32 bits: the target has 64.
                            block[:] = w
                            block[position] = np.uint32(first + np.uint32(stride * np.uint32(index)))
                            some_rounds(state, block, 64, end)
                            high, under = np.uint32(state[0] + end[0]), np.uint32(state[1] + end[1])
                            if (np.uint64(high) << np.uint64(32)) | np.uint64(under) <= limit:
                                hit[piece] = skip[piece] + np.uint64(done + index)
                                best[slot] = min(best[slot], hit[piece])
                                break
                    vector += streams
                done += segment

    return jit(search_pieces)
