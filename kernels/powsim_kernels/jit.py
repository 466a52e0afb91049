"""Numba compilation as every CPU twin wants it: cached on disk where possible, without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def jit(function: Callable[..., Any]) -> Any:
    """Return `function` compiled by Numba: nogil, IEEE division, cached where a cache folder can be written.

    Numba's cache does not see edits in imported helper functions: after editing one, delete `__pycache__`.
    """
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        # Numba refuses to cache where neither the package nor the user's cache folder can be written.
        return njit(nogil=True, error_model="numpy")(function)


def helper(function: Callable[..., Any]) -> Any:
    """Return `function` compiled to be inlined into a `jit` kernel by LLVM; it is cached with its caller."""
    return njit(nogil=True, error_model="numpy")(function)
