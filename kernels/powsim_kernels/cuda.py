"""What every CUDA twin shares: errors of CuPy, the compiler, the driver and the device become BackendUnavailable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cupy

from powsim_kernels.backend import BackendUnavailable

FAULTS = (RuntimeError, OSError, ImportError, MemoryError, cupy.cuda.compiler.CompileException)
"""What CuPy raises: CUDA's, NVRTC's and the loader's errors are RuntimeErrors, its out of memory is a MemoryError."""


@contextmanager
def named_faults(doing: str, smaller: str = "give it less at a time") -> Iterator[None]:
    """Turn errors of CuPy, the compiler, the driver and the device into BackendUnavailable with a cause and a cure.

    smaller: the cure where memory does not suffice.
    """
    try:
        yield
    except BackendUnavailable:
        raise
    except FAULTS as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:500]  # a compiler's log is long
        if isinstance(error, MemoryError):
            cure = f"{smaller}, free the memory of the device, or use backend='cpu'"
        elif "nvrtc" in text.lower() and not isinstance(error, cupy.cuda.compiler.CompileException):
            cure = (
                "install NVIDIA's run-time compiler (`pip install nvidia-cuda-nvrtc`, for CUDA 12 "
                "`nvidia-cuda-nvrtc-cu12`), or use backend='cpu'"
            )
        elif isinstance(error, cupy.cuda.compiler.CompileException):
            cure = "update CuPy and NVRTC, or use backend='cpu'"
        elif "cudaErrorInsufficientDriver" in text:
            cure = "install or update NVIDIA's driver, or use backend='cpu'"
        else:
            cure = "see what `nvidia-smi` says, start the program anew, or use backend='cpu'"
        raise BackendUnavailable(f"backend 'cuda' failed while {doing}: {text}: {cure}") from error
