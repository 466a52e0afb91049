"""Where tables go: consoles that take every text as it is, and whose reader may leave."""

from __future__ import annotations

from typing import IO

from rich.console import Console

MIN_WIDTH = 118
NARROW = 80  # for tables that are cut in pieces where the window is narrow
PIPE_WIDTH = 170  # a pipe or file has no width of its own: enough for the widest table


class Screen(Console):
    """A console without markup or emoji codes: `[red]` in a user's text is text."""

    def __init__(self, width: int | None = None, stderr: bool = False, file: IO[str] | None = None) -> None:
        super().__init__(width=width, stderr=stderr, file=file, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Let the command end, which is no error; words for people are lost without an end. Rich would exit with 1."""
        if not self.stderr:
            raise BrokenPipeError
        self.quiet = True


def words() -> Console:
    """Return the console of stderr: progress, warnings, what was done."""
    return Screen(stderr=True)


def data(least: int = MIN_WIDTH) -> Console:
    """Return the console of stdout, at least so wide where it is a narrow window, and wide where it is a pipe."""
    return wide(Screen(), least)


def wide(console: Console, least: int = MIN_WIDTH) -> Console:
    """Return the console, made wide enough for the tables where it is a pipe or a narrow window."""
    return Screen(max(console.width, least) if console.is_terminal else PIPE_WIDTH, file=console.file)
