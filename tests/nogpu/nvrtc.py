"""NVIDIA's run-time compiler without a device: cuda.bindings loads it where CuPy's own call would ask for a driver."""

from __future__ import annotations

from functools import cache

import pytest

from powsim_kernels.sha256 import variants

# What CuPy 14 adds to the options of a RawModule.
CUPY_ADDS = ("-ftz=true", "--device-as-default-execution-space")


@cache
def compiled(code: str, options: tuple[str, ...], architecture: str) -> bytes:
    """Return the machine code of a source for an architecture, or skip the test where the wheels are absent."""
    nvrtc = pytest.importorskip(
        "cuda.bindings.nvrtc", reason="cuda-bindings and nvidia-cuda-nvrtc are not installed: pip install -e '.[test]'"
    )
    error, program = nvrtc.nvrtcCreateProgram(code.encode(), b"kernel.cu", 0, None, None)
    assert int(error) == 0, error
    given = [option.encode() for option in (*options, *CUPY_ADDS, f"--gpu-architecture={architecture}")]
    (error,) = nvrtc.nvrtcCompileProgram(program, len(given), given)
    # NVRTC writes into these bytes. Python keeps one object for each single byte: the end of an empty log, written into
    # b" ", made every space of the process a zero. So they are never of length 1.
    log = bytes(nvrtc.nvrtcGetProgramLogSize(program)[1] + 1)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert int(error) == 0, log.decode()
    cubin = bytes(nvrtc.nvrtcGetCUBINSize(program)[1])
    nvrtc.nvrtcGetCUBIN(program, cubin)
    nvrtc.nvrtcDestroyProgram(program)
    return cubin


def miner(variant: variants.Variant, word: int, architecture: str) -> bytes:
    return compiled(variants.source("mine.cu"), variants.options(variant, word), architecture)
