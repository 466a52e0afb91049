"""A bar on stderr for work that takes its time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

QUIET_S = 1.0  # work that ends sooner shows no progress bar


@contextlib.contextmanager
def progress_bar(errors: Console, what: str) -> Iterator[Callable[[str, float], None]]:
    """Yield a callback that draws a bar once the work has taken a second."""
    begin = time.perf_counter()
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
    )
    task = bar.add_task(what, total=1.0)
    started = False

    def report(name: str, done: float) -> None:
        nonlocal started
        if not started and time.perf_counter() - begin > QUIET_S:
            bar.start()
            started = True
        bar.update(task, completed=done, description=name)

    try:
        yield report
    finally:
        if started:
            bar.stop()
