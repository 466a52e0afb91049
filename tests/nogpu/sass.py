"""Instructions per hash, by pipe, counted from machine code: what a device will execute, known without one.

The pipes are those of sm_80 to sm_100 (gpu_sha.md section 2.2): every pipe takes 64 lanes per clock and
multiprocessor, the high half of a product takes two slots, and 128 instructions are issued per clock.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ALU = re.compile(
    "(SHF|LOP3|IADD3?|ISETP|PRMT|SEL|LEA|VIADD|PLOP3|IABS|V?IMNMX|VIADDMNMX|SGXT|BMSK|P2R|R2P|VOTE)([.].*)?"
)
LEAST_LOOP = 500
"""Instructions of a loop that tries a nonce: every other loop of the miner is shorter."""


class Counts(NamedTuple):
    """One hash of one lane."""

    loop: int
    alu: int
    fma: int  # slots
    local: int  # loads and stores of local memory: spilled registers
    registers: int
    stack: int  # bytes

    @property
    def clocks(self) -> float:
        """Return clocks of a multiprocessor per hash."""
        return max(self.alu / 64, self.fma / 64, self.loop / 128)


@cache
def cuobjdump() -> str:
    """Return the path of the disassembler, or skip the test."""
    folders = sorted(Path(sys.prefix).glob("lib/python*/site-packages/nvidia/*/bin"))
    found = next((str(folder / "cuobjdump") for folder in folders if (folder / "cuobjdump").exists()), None)
    return (
        found
        or shutil.which("cuobjdump")
        or pytest.skip("cuobjdump is not installed: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm")
    )


def dump(cubin: bytes, folder: Path, option: str) -> str:
    file = folder / "kernel.cubin"
    file.write_bytes(cubin)
    return subprocess.run([cuobjdump(), option, str(file)], capture_output=True, text=True, check=True).stdout


def instructions(text: str, function: str) -> list[tuple[int, str]]:
    """Return (address, instruction) of one function."""
    body = re.split(r"Function : (\S+)", text)
    listing = dict(zip(body[1::2], body[2::2], strict=True))[function]
    return [(int(a, 16), i.strip()) for a, i in re.findall(r"^\s+/\*([0-9a-f]{4,})\*/\s+(.*?);", listing, re.MULTILINE)]


def name(instruction: str) -> str:
    words = instruction.split()
    return words[1] if words[0].startswith("@") else words[0]


def hot_loop(listing: list[tuple[int, str]]) -> list[str]:
    """Return the shortest loop that is long enough to try a nonce."""
    loops = []
    for address, text in listing:
        target = re.search(r"0x([0-9a-f]+)\s*$", text) if name(text).startswith("BRA") else None
        if target and int(target[1], 16) < address:
            loops.append([i for a, i in listing if int(target[1], 16) <= a <= address])
    return min((loop for loop in loops if len(loop) >= LEAST_LOOP), key=len)


def usage(cubin: bytes, folder: Path, function: str) -> tuple[Counter[str], int, int]:
    """Return (instructions by name, registers, bytes of stack) of a whole kernel."""
    ops = Counter(name(instruction) for _, instruction in instructions(dump(cubin, folder, "-sass"), function))
    found = re.search(rf"Function {function}:\s+REG:(\d+) STACK:(\d+)", dump(cubin, folder, "-res-usage"))
    assert found is not None
    return ops, int(found[1]), int(found[2])


def count(cubin: bytes, folder: Path, function: str = "mine_tiles") -> Counts:
    """Return the counts of the loop that tries nonces."""
    listing = instructions(dump(cubin, folder, "-sass"), function)
    ops = Counter(name(instruction) for instruction in hot_loop(listing))
    _, registers, stack = usage(cubin, folder, function)
    return Counts(
        loop=sum(ops.values()),
        alu=sum(n for op, n in ops.items() if ALU.fullmatch(op)),
        fma=sum(n * (2 if ".HI" in op or ".WIDE" in op else 1) for op, n in ops.items() if op.split(".")[0] == "IMAD"),
        local=sum(n for op, n in ops.items() if op.startswith(("LDL", "STL"))),
        registers=registers,
        stack=stack,
    )
