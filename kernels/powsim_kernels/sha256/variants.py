"""The forms in which the CUDA miner can be compiled, and their sources as one text each.

Which form is the fastest depends on how a chip splits integer work over its pipes, so the device decides (`tune`).
The macros behind a variant are explained in `sha256.cuh`.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

WARPS_PER_BLOCK = 4
"""A block of the miner has 128 threads."""

DEFAULT_WORD = 12
"""Block word with the last nonce byte of powsim's own challenges, or the one before: what autotuning measures."""

ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
"""What every variant is tested to compile for: A100, RTX 30, RTX 40 and L4, H100 and H200, B200, RTX 50."""


class Variant(NamedTuple):
    """A form of the search kernel."""

    name: str
    add_mask: int  # additions that become multiply-adds
    shr_mode: int  # 1: the schedule's shifts become products
    rot_mode: int  # n > 0: a rotate in every n-th round becomes a product
    min_blocks: int  # resident blocks per multiprocessor; 4 leave 128 registers to a thread, 6 leave 80


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("balanced", 255, 1, 0, 4),
        Variant("rotated", 255, 1, 2, 4),
        Variant("crowded", 255, 1, 0, 6),
        Variant("adds", 255, 0, 0, 4),
        Variant("partial", 126, 1, 0, 4),
        Variant("shifts", 0, 1, 0, 4),
        Variant("plain", 0, 0, 0, 4),
    )
}
DEFAULT = VARIANTS["balanced"]
"""The best by the counted instructions of every architecture with the pipes of sm_80 to sm_100."""


def options(variant: Variant, word: int) -> tuple[str, ...]:
    """Return the compiler options for a variant where the nonce ends in block word `word`, 1..13."""
    return (
        "-std=c++17",
        f"-DNW={word}",
        f"-DADD_MASK={variant.add_mask}",
        f"-DSHR_MODE={variant.shr_mode}",
        f"-DROT_MODE={variant.rot_mode}",
        f"-DMINB={variant.min_blocks}",
    )


@cache
def source(name: str) -> str:
    """Return a CUDA source with its header in place: CuPy's cache of compiled code knows the text alone."""
    folder = Path(__file__).parent
    header = (folder / "sha256.cuh").read_text(encoding="utf-8").replace("#pragma once\n", "")
    return (folder / name).read_text(encoding="utf-8").replace('#include "sha256.cuh"\n', header)


def source_digest() -> str:
    """Return 16 hex digits that change with the miner's source or the list of variants."""
    return hashlib.sha256(f"{source('mine.cu')}{tuple(VARIANTS.values())}".encode()).hexdigest()[:16]
