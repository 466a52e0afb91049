"""Ctrl-C and termination, remembered: some packages swallow or disguise a KeyboardInterrupt in their callbacks."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

HANDLED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
SAME_S = 1.0  # signals this soon after the first are the same wish: tidying up and the exit code outlive them
_seen: list[tuple[int, float]] = []


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Turn signals into a KeyboardInterrupt that is remembered while the block runs; in a main thread only.

    One that came inside a callback of C code, which can only print it, is remembered without that.
    """
    before = {number: signal.getsignal(number) for number in HANDLED}
    hook = sys.unraisablehook

    def quiet(lost: sys.UnraisableHookArgs) -> None:
        if not (seen() is not None and issubclass(lost.exc_type, KeyboardInterrupt)):
            hook(lost)

    install()
    sys.unraisablehook = quiet
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def install() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into a KeyboardInterrupt that is remembered. Only a main thread may call this.

    A hangup that was ignored stays ignored: nohup starts programs like that.
    """
    _seen.clear()
    for number in HANDLED:
        if number != getattr(signal, "SIGHUP", None) or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)


def ignore() -> None:
    """Ignore signals from now on: the process is over, and how it ended is decided."""
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)


def check() -> None:
    """Raise KeyboardInterrupt if one came and was swallowed."""
    if _seen:
        raise KeyboardInterrupt


def seen() -> int | None:
    """Return the first signal that came, or None."""
    return _seen[0][0] if _seen else None


def exit_code() -> int:
    """Return how a process says that a signal ended it."""
    return 128 + (seen() or signal.SIGINT)


def _note(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    soon = bool(_seen) and now - _seen[0][1] < SAME_S
    _seen.append((number, now))
    kernels = sys.modules.get("powsim_kernels.unbroken")
    if not soon and not (kernels is not None and kernels.inside()):
        raise KeyboardInterrupt
