"""The CUDA sources of the PATE kernels, each as one text, and the options that make a plan's kernels of them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from powsim_kernels.pate import grid

if TYPE_CHECKING:
    from powsim_kernels.pate.plan import PatePlan

TYPES = {
    "uint8": "unsigned char",
    "int8": "signed char",
    "uint16": "unsigned short",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "float32": "float",
    "float64": "double",
}
STANDARD = "-std=c++17"
BLOCK, ITEMS, BUCKETS = 256, 2048, 1024  # as in votes.cuh and totals.cu
SHARED_MOST = 96 << 10  # bytes of shared memory of a block; sm_86 to sm_120 offer 99 KiB
SHARED_PLAIN = 48 << 10  # what a kernel may have without asking


@cache
def source(name: str) -> str:
    """Return a CUDA source with its headers in place: CuPy's cache of compiled code knows the text alone."""
    return _joined(name, set())


def _joined(name: str, seen: set[str]) -> str:
    lines = []
    for line in (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines():
        header = re.fullmatch(r'#include "(.*)"', line)
        if header is None:
            lines += [line] if line != "#pragma once" else []
        elif header[1] not in seen:
            seen.add(header[1])
            lines.append(_joined(header[1], seen))
    return "\n".join(lines) + "\n"


def pricing(plan: PatePlan, stored: DTypeLike = np.float64) -> tuple[str, ...]:
    """Return the options of kernels that price rows, for the type in which costs are stored."""
    confident = 0 if not plan.confident else 1 if plan.screening == "theorem6" else 2
    return (STANDARD, _law(plan), f"-DCONFIDENT={confident}", f"-DCOST={TYPES[np.dtype(stored).name]}")


def _law(plan: PatePlan) -> str:
    return f"-DLNMAX={int(plan.mechanism == 'lnmax')}"


def table_size(plan: PatePlan) -> int:
    """Return the gaps in the table of tails, 0..T, or one for more voters than a table is worth."""
    return int(plan.num_voters) + 1 if plan.num_voters <= grid.TABLE_MOST else 1


def reading(plan: PatePlan, dtype: DTypeLike, taken: int = 0) -> tuple[tuple[str, ...], int]:
    """Return (options, bytes of shared memory) for kernels that read votes of this type.

    taken: bytes of shared memory that the kernel needs beside.
    """
    kind, classes = np.dtype(dtype), int(plan.num_classes)
    size = table_size(plan)
    rows = 128 if classes * kind.itemsize > 128 else 256
    staged = (rows * classes * kind.itemsize + 16) * 33 // 32 + 64 if classes <= 32 else 0
    table = 8 * (size + 1)
    fits = taken + staged + table <= SHARED_MOST
    lanes = -(-classes // 32)
    options = (
        f"-DCLASSES={classes}" if classes <= 32 else f"-DPER={lanes if lanes <= 8 else 0}",
        f"-DVOTE={TYPES[kind.name]}",
        f"-DWHOLE={int(kind.kind in 'iu' and size > plan.num_voters)}",
        f"-DTABLE_SHARED={int(fits)}",
    )
    return (STANDARD, _law(plan), *options), taken + staged + fits * table


def totalling(plan: PatePlan, dtype: DTypeLike, weighted: bool, cells: int) -> tuple[tuple[str, ...], int]:
    """Return the same for totals by moments."""
    factors = weighted or plan.confident
    sorter = ITEMS * (8 + 8 * factors + 4 + 2 + 2) + 4 * (BUCKETS + 4) + 4 * 32 + 16
    options, shared = reading(plan, dtype, sorter)
    edges = 8 * (cells + 1)
    fits = shared + edges <= SHARED_MOST
    axis = (f"-DEVEN={grid.EVEN}", f"-DPER_S={grid.PER_S}", f"-DPER_SQUARE={grid.PER_SQUARE}")
    items = (f"-DCONFIDENT={int(plan.confident)}", f"-DWEIGHTED={int(weighted)}", f"-DCELLS_SHARED={int(fits)}")
    return (*options, *axis, *items), shared + fits * edges
