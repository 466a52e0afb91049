"""Which twin a plan runs on, of `pate` or of `ledgers`; "auto" takes a GPU only where it can start."""

from __future__ import annotations

import importlib
import warnings
from functools import cache

from powsim_kernels.backend import BackendUnavailable, resolve


def choose(backend: str, offered: tuple[str, ...], kernel: str) -> str:
    """Return the backend to run. Raises BackendUnavailable where it cannot, a GPU that fails its self-test included.

    "auto" warns and takes the CPU where there is a GPU that cannot start, say because NVRTC is missing.
    """
    name = resolve(backend, offered)
    if name != "cuda":
        return name
    fault = _cuda_fault(kernel)
    if fault is None:
        return name
    if backend == "cuda":
        raise BackendUnavailable(fault)
    warnings.warn(f"{fault}; backend='auto' uses the CPU", RuntimeWarning, stacklevel=4)
    return resolve("cpu", offered)


@cache
def _cuda_fault(kernel: str) -> str | None:
    """Return why the current GPU cannot start, or None if it has; found out once."""
    try:
        importlib.import_module(f"powsim_kernels.{kernel}.cuda").start()
    except BackendUnavailable as error:
        return str(error)
    return None
