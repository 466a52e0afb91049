"""CUDA sources compiled by g++ for the host, through `host.h`, and their kernels run from Python."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest

STANDARD, HEADER = (Path(__file__).with_name(name) for name in ("standard.h", "host.h"))
# Without unrolling the constant tables are read at run time: half the speed.
FLAGS = (
    "-std=c++17",
    "-O1",
    "-shared",
    "-fPIC",
    "-Wall",
    "-Wno-unused-function",
    "-Wno-unknown-pragmas",
    "-Winvalid-pch",
    "-Werror",
)
SLOTS = 10

lock = threading.Lock()


@cache
def compiler() -> str:
    """Return the path of g++, or skip the test."""
    return shutil.which("g++") or pytest.skip("g++ is not installed: the host build of the CUDA sources needs it")


def folder() -> Path:
    """Return where libraries are kept."""
    made = Path(tempfile.gettempdir()) / f"powsim-host-{os.getuid()}"
    made.mkdir(mode=0o700, exist_ok=True)
    return made


@cache
def standard() -> Path:
    """Return the header of the standard library's headers, compiled."""
    command = [compiler(), *(flag for flag in FLAGS if flag != "-shared"), "-x", "c++-header"]
    digest = hashlib.sha256("\0".join([*command, STANDARD.read_text()]).encode()).hexdigest()[:24]
    kept = folder() / digest
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=folder()) as work:
            made = Path(work) / "made"
            made.mkdir()
            header = shutil.copy(STANDARD, made)
            subprocess.run([*command, header, "-o", f"{header}.gch"], check=True)
            with contextlib.suppress(OSError):  # another process was first
                made.rename(kept)
    return kept / STANDARD.name


@cache
def build(code: str, options: tuple[str, ...], lanes: int) -> ctypes.CDLL:
    """Return a source as a library; kept for later runs under a name made from all that goes into it."""
    code = code.replace("#pragma unroll 1\n", "#pragma GCC unroll 1\n").replace(
        "#pragma unroll\n", "#pragma GCC unroll 64\n"
    )
    macros = tuple(option for option in options if option.startswith("-D"))
    macros += ("-DSHARED_MEMORY",) if "POOL(" in code or "__shared__" in code else ()
    command = [compiler(), *FLAGS, *macros, f"-DLANES={lanes}", "-include", str(standard()), "-include", str(HEADER)]
    digest = hashlib.sha256("\0".join([code, *command, HEADER.read_text()]).encode()).hexdigest()[:24]
    library = folder() / f"{digest}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder()) as work:
            source, made = Path(work) / "source.cpp", Path(work) / "made.so"
            source.write_text(code)
            done = subprocess.run([*command, str(source), "-o", str(made)], capture_output=True, text=True, check=False)
            if done.returncode:
                raise SyntaxError(done.stderr[:3000])
            made.replace(library)
    loaded = ctypes.CDLL(str(library))
    loaded.host_launch.restype = ctypes.c_char_p
    return loaded


def launch(
    library: ctypes.CDLL,
    kernel: str,
    grid: int,
    block: int,
    arguments: tuple[object, ...],
    seed: int = 0,
    shared: int = 0,
) -> None:
    """Run a kernel to its end; arrays go by address. Raises RuntimeError for what would go wrong on a device."""
    slots = (ctypes.c_uint64 * SLOTS)()
    for i, argument in enumerate(arguments):
        slots[i] = argument.ctypes.data if isinstance(argument, np.ndarray) else int(argument)  # type: ignore[call-overload]
    pointer = ctypes.cast(getattr(library, kernel), ctypes.c_void_p)
    with lock:  # the fibers' scheduler is one
        fault = library.host_launch(pointer, grid, block, shared, ctypes.c_uint64(seed), slots)
    if fault is not None:
        raise RuntimeError(fault.decode())
