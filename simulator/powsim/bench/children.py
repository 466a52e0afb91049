"""Other programs run to their end, or killed: no interruption leaves one behind."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def output_of(command: Sequence[str], timeout_s: float) -> str:
    """Return what a program prints. Raises OSError or subprocess.SubprocessError where it fails or takes too long."""
    process: subprocess.Popen[str] | None = None
    try:
        with held_back():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        out, err = process.communicate(timeout=timeout_s)
    finally:
        if process is not None:
            if process.poll() is None:
                process.kill()
            with process:  # closes its pipes and waits
                pass
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, list(command), out, err)
    return out


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hold signals back until the block is over: one between a fork and its return would lose the child."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number in SIGNALS:
            signal.signal(number, lambda number, frame: came.append((number, frame)))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number, frame in came:
        handler = before[number]
        if callable(handler):
            handler(number, frame)
        elif handler == signal.SIG_DFL:
            signal.raise_signal(number)
