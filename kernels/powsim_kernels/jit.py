"""Numba compilation as every CPU twin wants it: without the GIL, cached on disk where possible.

Compiled code is kept in the user's cache folder, under a name made from all kernel sources. Numba itself would put it
beside the sources, where `pip uninstall` cannot know of it and leaves a ghost package behind, and would not see edits
in functions that a kernel inlines. `NUMBA_CACHE_DIR` is respected where it is set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import config, njit
from numba.core import event

from powsim_kernels import unbroken
from powsim_kernels.folders import cache_folder

CACHE_DIR = "CACHE_DIR"  # numba.config gets its attributes at run time: type checkers do not know them
LOCK, PASS = "numba:compiler_lock", "numba:run_pass"


class _Compiling(event.Listener):
    """Keeps signals from cutting Numba's work with LLVM; they are heard after every pass of the compiler."""

    def on_start(self, event: Any) -> None:
        if event.kind == LOCK:
            unbroken.enter()

    def on_end(self, event: Any) -> None:
        if event.kind == LOCK:
            unbroken.leave()
        else:
            unbroken.rest()


for kind in (LOCK, PASS):
    event.register(kind, _Compiling())  # type: ignore[no-untyped-call]


def jit(function: Callable[..., Any]) -> Any:
    """Return `function` compiled by Numba: nogil, IEEE division, cached where a cache folder can be written."""
    before = getattr(config, CACHE_DIR)
    setattr(config, CACHE_DIR, before or str(cache_folder("numba") or ""))  # empty: Numba's own choice
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        # Numba refuses to cache where it finds no folder that can be written.
        return njit(nogil=True, error_model="numpy")(function)
    finally:
        # Numba chooses the folder when it decorates, so that other users of Numba in this process keep theirs.
        setattr(config, CACHE_DIR, before)


def helper(function: Callable[..., Any]) -> Any:
    """Return `function` compiled to be inlined into a `jit` kernel by LLVM; it is cached with its caller.

    LLVM's own judgement leaves a call with two dozen arguments on the stack where an array goes in.
    """
    return njit(nogil=True, error_model="numpy", forceinline=True)(function)


def stage(function: Callable[..., Any]) -> Any:
    """Return `function` compiled for `jit` kernels to call, inlined only where LLVM thinks it worth while.

    For functions of many loops: inlined by force they would make the kernel take a minute to compile.
    """
    return njit(nogil=True, error_model="numpy")(function)
