"""Numba compilation as every CPU twin wants it: without the GIL, cached on disk where possible.

Compiled code is kept in the user's cache folder, under a name made from all kernel sources. Numba itself would put it
beside the sources, where `pip uninstall` cannot know of it and leaves a ghost package behind, and would not see edits
in functions that a kernel inlines. `NUMBA_CACHE_DIR` is respected where it is set.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import config, njit

from powsim_kernels.folders import user_cache

STALE_S = 30 * 86400
CACHE_DIR = "CACHE_DIR"  # numba.config gets its attributes at run time: type checkers do not know them


def jit(function: Callable[..., Any]) -> Any:
    """Return `function` compiled by Numba: nogil, IEEE division, cached where a cache folder can be written."""
    before = getattr(config, CACHE_DIR)
    setattr(config, CACHE_DIR, before or cache_folder())
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        # Numba refuses to cache where it finds no folder that can be written.
        return njit(nogil=True, error_model="numpy")(function)
    finally:
        # Numba chooses the folder when it decorates, so that other users of Numba in this process keep theirs.
        setattr(config, CACHE_DIR, before)


def helper(function: Callable[..., Any]) -> Any:
    """Return `function` compiled to be inlined into a `jit` kernel by LLVM; it is cached with its caller."""
    return njit(nogil=True, error_model="numpy")(function)


@cache
def cache_folder() -> str:
    """Return the folder for this version of the kernels; folders of versions unused for a month are removed."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    parent = user_cache() / "powsim" / "numba"
    folder = parent / digest.hexdigest()[:16]
    # Where this cannot be written, Numba tries its own choice of folder, and jit goes without after that.
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        for other in parent.iterdir():
            if time.time() - other.stat().st_mtime > STALE_S:
                shutil.rmtree(other, ignore_errors=True)
    return str(folder)
