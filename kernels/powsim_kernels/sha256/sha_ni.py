"""The search by SHA instructions: one nonce per stream, four rounds in two `sha256rnds2`.

The instructions keep the state as two vectors, lowest lane first: (f, e, b, a) and (h, g, d, c). Groups of four rounds
before the varying word, and schedule groups that do not depend on it, come from the table.
"""

# llvmlite has no types:
# mypy: ignore-errors

from __future__ import annotations

from llvmlite import ir

from powsim_kernels.sha256.lanes import I32, Lanes, declared, item
from powsim_kernels.sha256.reference import K

QUAD = ir.VectorType(I32, 4)


def prepare(b, position: int, state, words, table) -> None:
    """Store the state before the group of `position`, the block's groups, and the hash value's first word."""
    group = position // 4
    a_to_h = Lanes(b).rounds(state, words, 4 * group)
    abef, cdgh = [a_to_h[i] for i in (5, 4, 1, 0)], [a_to_h[i] for i in (7, 6, 3, 2)]
    for place, value in enumerate([*abef, *cdgh, *words, state[0]]):
        b.store(value, item(b, table, place))


def scan(b, position: int, form, word, stride, bound, table, spare):
    """Return a mask of the streams at or below the bound, lowest nonce first, and the first digest words."""
    rounds2 = declared(b.module, "llvm.x86.sha256rnds2", QUAD, [QUAD] * 3)
    group = position // 4

    def stored(place: int):
        return b.load(b.bitcast(item(b, table, place), QUAD.as_pointer()), align=4)

    block = [stored(8 + 4 * i) for i in range(4)]
    streams = []
    for stream in range(form.streams):
        own = b.add(word, b.mul(stride, ir.Constant(I32, stream)))
        quads = list(block)
        quads[group] = b.insert_element(block[group], own, ir.Constant(I32, position % 4))
        streams.append([quads, stored(0), stored(4)])
    for t in range(group, 16):
        k = ir.Constant(QUAD, list(K[4 * t : 4 * t + 4]))
        for one in streams:
            quads, abef, cdgh = one
            kw = b.add(_quad(b, quads, t), k)
            cdgh, abef = abef, b.call(rounds2, [cdgh, abef, kw])
            high = b.shuffle_vector(kw, kw, ir.Constant(QUAD, [2, 3, 2, 3]))
            one[1:] = b.call(rounds2, [cdgh, abef, high]), abef
    first = b.load(item(b, table, 24))
    digests = [b.add(b.extract_element(abef, ir.Constant(I32, 3)), first) for _, abef, _ in streams]
    mask = ir.Constant(I32, 0)
    for stream, digest in enumerate(digests):
        below = b.zext(b.icmp_unsigned("<=", digest, bound), I32)
        mask = b.or_(mask, b.shl(below, ir.Constant(I32, stream)))
    b.store(mask, spare)  # as in the vector loop: what is loaded from the table stays there
    return mask, digests


def _quad(b, quads: list, t: int):
    """Return schedule words 4t..4t+3 (FIPS 180-4, 6.2.2 step 1, four at a time), adding to `quads`."""
    if t == len(quads):
        message1 = declared(b.module, "llvm.x86.sha256msg1", QUAD, [QUAD] * 2)
        message2 = declared(b.module, "llvm.x86.sha256msg2", QUAD, [QUAD] * 2)
        w16, w12, w8, w4 = quads[-4:]
        middle = b.shuffle_vector(w8, w4, ir.Constant(QUAD, [1, 2, 3, 4]))
        quads.append(b.call(message2, [b.add(b.call(message1, [w16, w12]), middle), w4]))
    return quads[t]
