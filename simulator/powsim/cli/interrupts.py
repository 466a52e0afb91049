"""Ctrl-C and termination, remembered: some packages swallow or disguise a KeyboardInterrupt in their callbacks."""

from __future__ import annotations

import signal
from types import FrameType

HANDLED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_seen: list[int] = []


def install() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into a KeyboardInterrupt that is remembered. Only a main thread may call this."""
    _seen.clear()
    for number in HANDLED:
        signal.signal(number, _note)


def check() -> None:
    """Raise KeyboardInterrupt if one came and was swallowed."""
    if _seen:
        raise KeyboardInterrupt


def seen() -> int | None:
    """Return the first signal that came, or None."""
    return _seen[0] if _seen else None


def _note(number: int, frame: FrameType | None) -> None:
    _seen.append(number)
    raise KeyboardInterrupt
