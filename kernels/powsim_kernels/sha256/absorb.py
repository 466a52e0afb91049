"""Hash values after the whole leading blocks of challenges: the midstates from which a search starts."""

# llvmlite has no types:
# mypy: ignore-errors

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.backend import BackendUnavailable
from powsim_kernels.sha256 import reference

FEW = 32
"""Blocks up to which plain Python, 0.1 ms a block, is quicker than loading compiled code."""


def midstates(challenges: list[bytes], blocks: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the hash value after the first `blocks` (int64 [P]) 64-byte blocks of each challenge: uint32 [P, 8]."""
    states = np.tile(np.array(reference.INITIAL, np.uint32), (len(challenges), 1))
    long = np.flatnonzero(blocks)
    if blocks.sum() > FEW:
        states[long] = _absorbed(_compiled(), [challenges[row] for row in long.tolist()], blocks[long])
        return states
    for row in long.tolist():
        states[row] = _plain(challenges[row], int(blocks[row]))
    return states


def _plain(challenge: bytes, blocks: int) -> tuple[int, ...]:
    state = reference.INITIAL
    for at in range(0, 64 * blocks, 64):
        state = reference.compress(state, challenge[at : at + 64])
    return state


def _absorbed(call, challenges: list[bytes], blocks: NDArray[np.int64]) -> NDArray[np.uint32]:
    states = np.tile(np.array(reference.INITIAL, np.uint32), (len(challenges), 1))
    data = b"".join(challenges)
    lengths = np.array([len(challenge) for challenge in challenges])
    starts = np.cumsum(lengths) - lengths
    call(states.ctypes.data, data, starts.ctypes.data, blocks.ctypes.data, len(challenges))
    return states


@cache
def _compiled():
    """Return the compiled loop, tested. Raises BackendUnavailable."""
    from powsim_kernels import native

    arguments = [ctypes.c_void_p] * 4 + [ctypes.c_int64]
    call = native.load("absorb", "absorb", build, native.host(), arguments)
    known = [b"powsim self-test" * 8, b"another one" * 20]
    blocks = np.array([len(challenge) // 64 for challenge in known])
    if _absorbed(call, known, blocks).tolist() != [list(_plain(*each)) for each in zip(known, blocks, strict=True)]:
        raise BackendUnavailable(
            f"backend 'cpu' failed its self-test: wrong midstates came out: {native.distrust()}, or use "
            "backend='reference'"
        )
    return call


def build() -> str:
    """Return the IR of the function "absorb": 64 unrolled rounds in a loop over blocks in a loop over rows."""
    from llvmlite import ir

    from powsim_kernels.sha256.lanes import I8, I32, I64, Lanes, declared, item

    module = ir.Module()
    pointers = [I32.as_pointer(), I8.as_pointer(), I64.as_pointer(), I64.as_pointer()]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [*pointers, I64]), "absorb")
    states, data, starts, blocks, rows = function.args
    entry, row_loop, block_loop, compress, row_end, done = (
        function.append_basic_block(name) for name in ("entry", "row", "block", "compress", "end", "done")
    )
    b = ir.IRBuilder(entry)
    zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
    b.branch(row_loop)

    b.position_at_end(row_loop)
    row = b.phi(I64)
    row.add_incoming(zero, entry)
    b.cbranch(b.icmp_signed("<", row, rows), block_loop, done)

    b.position_at_end(block_loop)
    number = b.phi(I64)
    number.add_incoming(zero, row_loop)
    b.cbranch(b.icmp_signed("<", number, b.load(item(b, blocks, row))), compress, row_end)

    b.position_at_end(compress)
    start = b.add(b.load(item(b, starts, row)), b.mul(number, ir.Constant(I64, 64)))
    swap = declared(module, "llvm.bswap.i32", I32, [I32])
    words = []
    for i in range(16):
        place = item(b, data, b.add(start, ir.Constant(I64, 4 * i)))
        words.append(b.call(swap, [b.load(b.bitcast(place, I32.as_pointer()), align=1)]))
    own = item(b, states, b.mul(row, ir.Constant(I64, 8)))
    before = [b.load(item(b, own, i)) for i in range(8)]
    for i, (old, new) in enumerate(zip(before, Lanes(b).rounds(before, words, 64), strict=True)):
        b.store(b.add(old, new), item(b, own, i))
    number.add_incoming(b.add(number, one), compress)
    b.branch(block_loop)

    b.position_at_end(row_end)
    row.add_incoming(b.add(row, one), row_end)
    b.branch(row_loop)

    b.position_at_end(done)
    b.ret_void()
    return str(module)
