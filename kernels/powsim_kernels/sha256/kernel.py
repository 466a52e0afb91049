"""The compiled searches: LLVM IR of a loop over pieces of puzzles, one for each word position and form of vectors.

A piece is up to 2^32 consecutive nonces of one puzzle that differ in word `position` of the last block only. Scalar
code runs the rounds before that word and fills a table with the constants of its `plan`; the vector loop then tries
lanes x streams nonces at a time until the first digest word of one is at most the bound.
"""

# llvmlite has no types:
# mypy: ignore-errors

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from llvmlite import ir

from powsim_kernels import native
from powsim_kernels.sha256 import sha_ni
from powsim_kernels.sha256.lanes import I32, I64, Lanes, item
from powsim_kernels.sha256.plan import INITIAL, STATE, WORDS, plan
from powsim_kernels.sha256.reference import K

TABLE = 128
"""Words of the table; the largest plan has 119 constants."""
SPARE = 64
"""Words for what the vector loop puts out: masks, then digest words."""

I32P, I64P = I32.as_pointer(), I64.as_pointer()
ARGUMENTS = {
    "midstate": I32P,  # [P, 8] hash value after the whole leading blocks
    "tail": I32P,  # [P, 16] last block, padded, zeros in place of the nonce
    "turn": I64P,  # [P] bits of word `position` after the nonce's last
    "rows": I64P,  # [R] puzzle of each slot
    "begin": I64P,  # [R] nonce from which `skip` counts
    "bound": I32P,  # [R] largest first digest word of a candidate
    "owner": I64P,  # [pieces] slot of each piece
    "skip": I64P,  # [pieces] first nonce, from `begin`
    "size": I64P,  # [pieces] nonces, at least 1
    "best": I64P,  # [R] lowest candidate of any piece so far, from `begin`; all ones: none
    "hit": I64P,  # [pieces] twice the lowest candidate of the piece, plus 1 where its digest word equals the bound
    "which": I64P,  # [N] pieces to search
    "cursor": I64P,  # [1] how many of `which` are taken: threads share it
    "total": I64,  # N
    "table": I32P,  # [TABLE] for this thread alone
    "spare": I32P,  # [SPARE] for this thread alone
}


class Form(NamedTuple):
    """A form of the vector loop."""

    name: str
    lanes: int
    streams: int  # vectors side by side: one chain of rounds leaves units idle
    ternary: bool = False


def build(form: Form, position: int) -> str:
    """Return the IR of the function "search" for nonces that end in word `position` of the last block, 1..13."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), ARGUMENTS.values()), "search")
    a = dict(zip(ARGUMENTS, function.args, strict=True))
    names = ("entry", "next", "look", "prepare", "scan", "scanned", "keep", "lower", "done")
    block = {name: function.append_basic_block(name) for name in names}
    b = ir.IRBuilder(block["entry"])
    b.branch(block["next"])

    b.position_at_end(block["next"])
    number = b.atomic_rmw("add", a["cursor"], ir.Constant(I64, 1), "monotonic")
    b.cbranch(b.icmp_signed("<", number, a["total"]), block["look"], block["done"])

    b.position_at_end(block["look"])
    piece = b.load(item(b, a["which"], number))
    slot, skip, size = (b.load(item(b, a[name], piece)) for name in ("owner", "skip", "size"))
    best = item(b, a["best"], slot)
    # Another thread may write `best` meanwhile: what is read is a real candidate or none, so that a piece is left out
    # only if a lower one is known. The result itself is made of `hit`.
    b.cbranch(b.icmp_unsigned("<", b.load(best), skip), block["next"], block["prepare"])

    b.position_at_end(block["prepare"])
    row = b.load(item(b, a["rows"], slot))
    bound = b.load(item(b, a["bound"], slot))
    nonce = b.add(b.load(item(b, a["begin"], slot)), skip)
    turn = b.load(item(b, a["turn"], row))
    tail = [b.load(item(b, a["tail"], b.add(b.mul(row, ir.Constant(I64, 16)), ir.Constant(I64, i)))) for i in range(16)]
    state = [
        b.load(item(b, a["midstate"], b.add(b.mul(row, ir.Constant(I64, 8)), ir.Constant(I64, i)))) for i in range(8)
    ]
    turned = b.shl(nonce, turn)
    # Two shifts, because one by 64 is undefined.
    over = b.lshr(b.lshr(nonce, ir.Constant(I64, 1)), b.sub(ir.Constant(I64, 63), turn))
    for place, value in ((0, turned), (1, b.lshr(turned, ir.Constant(I64, 32))), (2, over)):
        if position >= place:
            tail[position - place] = b.or_(tail[position - place], b.trunc(value, I32))
    stride = b.trunc(b.shl(ir.Constant(I64, 1), turn), I32)
    shape = sha_ni if form.name == "sha-ni" else _Vectors(form)
    shape.prepare(b, position, state, tail, a["table"])
    step = form.lanes * form.streams
    before = b.block
    b.branch(block["scan"])

    b.position_at_end(block["scan"])
    tried, word = b.phi(I64), b.phi(I32)
    tried.add_incoming(ir.Constant(I64, 0), before)
    word.add_incoming(tail[position], before)
    mask, digests = shape.scan(b, position, form, word, stride, bound, a["table"], a["spare"])
    following = b.add(tried, ir.Constant(I64, step))
    hit = b.icmp_unsigned("!=", mask, ir.Constant(mask.type, 0))
    tried.add_incoming(following, b.block)
    word.add_incoming(b.add(word, b.mul(stride, ir.Constant(I32, step))), b.block)
    more = b.and_(b.icmp_signed("<", following, size), b.not_(hit))
    b.cbranch(more, block["scan"], block["scanned"])

    b.position_at_end(block["scanned"])
    lane = b.cttz(mask, ir.Constant(ir.IntType(1), 0))
    lane = b.zext(lane, I64) if mask.type.width < 64 else lane
    index = b.add(tried, lane)
    b.cbranch(b.and_(hit, b.icmp_signed("<", index, size)), block["keep"], block["next"])

    b.position_at_end(block["keep"])
    found = b.add(skip, index)
    for stream, digest in enumerate(digests):
        place = b.bitcast(item(b, a["spare"], stream * form.lanes), digest.type.as_pointer())
        b.store(digest, place, align=4)
    equal = b.icmp_unsigned("==", b.load(item(b, a["spare"], lane)), bound)
    doubled = b.or_(b.shl(found, ir.Constant(I64, 1)), b.zext(equal, I64))
    b.store(doubled, item(b, a["hit"], piece))
    b.cbranch(b.icmp_unsigned("<", found, b.load(best)), block["lower"], block["next"])

    b.position_at_end(block["lower"])
    b.store(found, best)
    b.branch(block["next"])

    b.position_at_end(block["done"])
    b.ret_void()
    return str(module)


class _Vectors:
    """The steps of a plan, on vectors of any width."""

    def __init__(self, form: Form) -> None:
        self.form = form

    def prepare(self, b, position: int, state, words, table) -> None:
        """Store the plan's constants in the table."""
        single = Lanes(b)
        inputs = {WORDS + i: value for i, value in enumerate(words)} | {INITIAL: state[0]}
        inputs |= {STATE + i: value for i, value in enumerate(single.rounds(state, words, position))}
        values = []
        steps = plan(position)
        for name, operands in steps.scalars:
            if name == "input":
                values.append(inputs[operands[0]])
            elif name == "k":
                values.append(ir.Constant(I32, K[operands[0]]))
            else:
                values.append(single.function(name, [values[o] for o in operands]))
        for scalar, place in steps.table.items():
            b.store(values[scalar], item(b, table, place))

    def scan(self, b, position: int, form: Form, word, stride, bound, table, spare):
        """Return a mask of the lanes at or below the bound, lowest nonce first, and the first digest words."""
        lanes = Lanes(b, form.lanes, form.ternary)
        steps = plan(position)
        numbers = ir.Constant(lanes.type, list(range(lanes.n)))
        words = [b.add(lanes.splat(word), b.mul(lanes.splat(stride), numbers))]
        advance = lanes.splat(b.mul(stride, ir.Constant(I32, lanes.n)))
        while len(words) < form.streams:
            words.append(b.add(words[-1], advance))
        values = [[] for _ in words]
        for name, operands in steps.steps:
            shared = [lanes.splat(b.load(item(b, table, i))) if kind == "c" else None for kind, i in operands]
            for stream, own in enumerate(values):
                given = [own[i] if k is None else k for k, (_, i) in zip(shared, operands, strict=True)]
                own.append(words[stream] if name == "word" else lanes.function(name, given))
        wide = ir.IntType(lanes.n * form.streams)
        mask = ir.Constant(wide, 0)
        for stream, own in enumerate(values):
            below = b.icmp_unsigned("<=", own[steps.result], lanes.splat(bound))
            bits = b.zext(b.bitcast(below, ir.IntType(lanes.n)), wide)
            mask = b.or_(mask, b.shl(bits, ir.Constant(wide, lanes.n * stream)))
        # This store may, for all LLVM knows, change the table: so it does not hoist a hundred broadcasts out of the
        # loop, which would then live on the stack.
        b.store(mask, b.bitcast(spare, wide.as_pointer()))
        return mask, [own[steps.result] for own in values]


@cache
def searcher(form: Form, target: native.Target, position: int) -> Callable[..., None]:
    """Return the compiled search; it runs without the GIL and its arguments are ARGUMENTS in order."""
    kinds = [ctypes.c_int64 if kind is I64 else ctypes.c_void_p for kind in ARGUMENTS.values()]
    name = "-".join(map(str, (*form, position)))  # whatever shapes the code: it is kept under this name
    return native.load("search", name, lambda: build(form, position), target, kinds)
