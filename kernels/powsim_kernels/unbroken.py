"""Stretches of work that no exception out of a signal handler may cut.

While LLVM links two modules it takes one of them over, and llvmlite notes that in the line after the call. A signal
that came during the call is handled between the two: an exception there frees the module twice, and the process
crashes. So a handler that would raise asks `inside()` first; what it has remembered, it may raise from `at_rest`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

at_rest: Callable[[], None] | None = None
"""Called in the main thread at the end of every stretch, and within long ones wherever an exception does no harm."""

_depth = 0


def inside() -> bool:
    """Return whether the main thread is within a stretch."""
    return _depth > 0


def enter() -> None:
    """Begin a stretch; they may lie within each other. Other threads get no signals, and do not count."""
    global _depth
    _depth += _here()


def leave() -> None:
    """End a stretch."""
    global _depth
    _depth -= _here()
    if not _depth:
        rest()


def rest() -> None:
    """Let what was remembered be raised."""
    if at_rest is not None and _here():
        at_rest()


@contextlib.contextmanager
def stretch() -> Iterator[None]:
    """Keep the block whole."""
    enter()
    try:
        yield
    finally:
        leave()


def _here() -> bool:
    return threading.current_thread() is threading.main_thread()
