"""Foreign files read with care: a pipe is not waited for, and no file fills the memory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def kind_of(mode: int) -> str | None:
    """Return what stands there instead of a regular file, or None for one."""
    return None if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "no file")


def reason(error: Exception) -> str:
    """Return why the system refused; not every error has its words."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def read_file(path: Path, largest: int, piped: bool = False) -> bytes:
    """Return a file's bytes; piped: a pipe's or a device's too, however long it takes.

    Raises OSError as the system does, and ValueError saying what is wrong with anything else.
    """
    if "\0" in str(path):
        raise ValueError("cannot be read: its name has a null byte")
    kind = kind_of(path.stat().st_mode)
    if kind is not None and not (piped and kind != KINDS[stat.S_IFDIR]):
        cure = "" if kind == KINDS[stat.S_IFDIR] else ": write what it holds into a file, and name that"
        raise ValueError(f"is {kind}, not a file{cure}")
    with open(path, "rb", opener=None if piped else _at_once) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"is longer than {largest >> 20} MiB, the most that is read")
    return content


def _at_once(name: str, flags: int) -> int:
    """Open without waiting, should a pipe have come where the file was: there is nothing in it then."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
