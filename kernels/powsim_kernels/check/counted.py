"""What the miner should cost by its machine code for sm_90: a prediction, never a measurement.

Counted by tests/nogpu/sass.py from NVRTC 13.5 and pinned by a test: instructions of the ALU pipe, slots of the FMA pipe
(the high half of a product takes two), and all instructions of the loop that tries a nonce.
"""

from __future__ import annotations

COUNTED: dict[str, dict[int, tuple[int, int, int]]] = {
    "balanced": {9: (768, 636, 1334), 12: (719, 594, 1249), 13: (703, 580, 1221), 1: (867, 704, 1495)},
    "rotated": {9: (741, 745, 1389), 12: (694, 695, 1300), 13: (678, 681, 1272), 1: (836, 829, 1558)},
    "crowded": {9: (768, 636, 1334), 12: (719, 594, 1249), 13: (703, 580, 1221), 1: (867, 704, 1495)},
    "adds": {9: (843, 488, 1335), 12: (787, 458, 1249), 13: (769, 448, 1221), 1: (947, 544, 1495)},
    "partial": {9: (852, 513, 1296), 12: (797, 480, 1214), 13: (779, 469, 1187), 1: (956, 572, 1453)},
    "shifts": {9: (960, 253, 1143), 12: (899, 235, 1070), 13: (879, 229, 1046), 1: (1080, 277, 1281)},
    "plain": {9: (1035, 105, 1144), 12: (967, 99, 1070), 13: (945, 97, 1046), 1: (1160, 117, 1281)},
}
"""{variant: {block word: (ALU, FMA slots, all)}}."""


def clocks(variant: str, word: int) -> float:
    """Return the predicted clocks of a multiprocessor per hash: the fullest of both pipes and the issue of both."""
    alu, fma, loop = COUNTED[variant][word]
    return max(alu / 64, fma / 64, loop / 128)
