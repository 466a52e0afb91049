"""A lock that every fork waits for: no child process inherits a compiler, or an import, in the middle of its work."""

from __future__ import annotations

import os
import threading

compiling = threading.RLock()
"""Held while modules are loaded and compiled in a thread; LLVM's own locks would stay held in a child for ever."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=compiling.acquire, after_in_parent=compiling.release, after_in_child=compiling.release)
