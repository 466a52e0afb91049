"""stdout and stderr where they are closed, where nobody reads them, and where they cannot show a character."""

from __future__ import annotations

import contextlib
import os
import sys


def prepare() -> None:
    """Make stdout and stderr writable: one that the caller closed leads nowhere, a character that it lacks is a `?`.

    A closed one's number is taken too, else the next file that is opened would get it, and what C code prints.
    """
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _nowhere(number, "r" if number == 0 else "w"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _nowhere(number: int, mode: str) -> object:
    handle = os.open(os.devnull, os.O_RDWR)
    try:
        os.fstat(number)  # somebody else's by now
    except OSError:
        os.dup2(handle, number)
    if handle == number:
        return open(number, mode, encoding="utf-8", closefd=False)
    return open(handle, mode, encoding="utf-8")  # noqa: PTH123


def say(text: str) -> None:
    """Say something on stderr, if anybody listens there."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def forget_stdout() -> None:
    """Send what stdout still holds nowhere, else the interpreter complains about it on the way out."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()  # it may be stderr whose reader left
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
