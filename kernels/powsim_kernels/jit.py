"""Numba compilation as every CPU twin wants it: cached on disk where possible, without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Return `function` compiled by Numba: nogil, IEEE division, cached where a cache folder can be written.

    Numba's cache does not see edits in imported helper functions: after editing one, delete `__pycache__`.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return cast(F, njit(cache=True, **options)(function))
    except RuntimeError:
        # Numba refuses to cache where neither the package nor the user's cache folder can be written.
        return cast(F, njit(**options)(function))


def helper(function: F) -> F:
    """Return `function` compiled to be inlined into a `jit` kernel by LLVM; it is cached with its caller."""
    return cast(F, njit(nogil=True, error_model="numpy")(function))
