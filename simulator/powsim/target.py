"""The file to write: asked about before any work is done, written whole or not at all, never over a stranger's.

A link is followed: the file that it leads to is the one that is written or replaced, and the link stays.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from powsim.files import kind_of, reason
from powsim.results import OutputError
from powsim.text import shown

PREFIX = ".powsim.partial-"
Answer = TypeVar("Answer")


def check(target: Path, force: bool, option: str = "--save") -> Path:
    """Return the file to write, links followed; a file is made beside it and removed, to see that one can be.

    option: what named the target, for messages. Raises OutputError where it cannot be written, or may not be replaced.
    """
    name = _named(target)
    there = _asked(name, option, lambda: _status(target, follow=True))
    if there is not None:
        kind = kind_of(there.st_mode)
        if kind is not None:
            raise OutputError(f"{name} is {kind}: choose another {option}, a file or a new name")
        if _is_open(there):
            raise OutputError(f"{name} is where this command prints: choose another {option}")
    if not force and (there is not None or _asked(name, option, lambda: _status(target, follow=False)) is not None):
        raise OutputError(f"{name} exists: choose another {option}, or replace it with --force")
    real = Path(_asked(name, option, lambda: os.path.realpath(target)))
    folder = _asked(name, option, lambda: _status(real.parent, follow=True))
    if folder is None or not stat.S_ISDIR(folder.st_mode):
        raise OutputError(f"cannot write {name}: there is no folder {_named(real.parent)}; make it first")
    if there is not None and _kept(there, folder):
        raise OutputError(f"{name} is another user's, in a folder where only they replace it: choose another {option}")
    handle, temporary = _asked(name, option, lambda: tempfile.mkstemp(prefix=PREFIX, dir=real.parent))
    os.close(handle)
    Path(temporary).unlink()
    return real


def write(target: Path, content: bytes, force: bool) -> None:
    """Write the file; it is whole or not there. Raises OutputError, also where one came meanwhile, without `force`."""
    with staged(target, force) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def staged(target: Path, force: bool, option: str = "--save") -> Iterator[Path]:
    """Yield a file beside the target that takes its name when the block ends well, and vanishes when it does not.

    Raises OutputError as `check` does, where writing fails, and where the name was taken meanwhile, without `force`.
    """
    real, name, temporary = check(target, force, option), _named(target), None
    try:
        handle, temporary = tempfile.mkstemp(prefix=PREFIX, dir=real.parent)
        os.close(handle)
        yield Path(temporary)
        with open(temporary, "rb+") as file:  # noqa: PTH123
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        if force:
            Path(temporary).replace(real)
        else:
            _take(Path(temporary), real)
    except FileExistsError:
        raise OutputError(
            f"{name} came while this run went on, from another one: it stays as it is; choose another {option}"
        ) from None
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {name}: {reason(error)}; nothing was kept") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def _take(temporary: Path, real: Path) -> None:
    """Give a file a name that nothing has. Raises FileExistsError where something has it: of two, one wins."""
    try:
        os.link(temporary, real)
    except FileExistsError:
        raise
    except OSError:  # a file system without second names: hold the name by an empty file, then replace that
        os.close(os.open(real, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        try:
            temporary.replace(real)
        except OSError:
            real.unlink()
            raise


def _named(path: Path) -> str:
    return shown(str(path), 300)


def _asked(name: str, option: str, ask: Callable[[], Answer]) -> Answer:
    """Return what the system answers. Raises OutputError where it refuses to."""
    try:
        return ask()
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise OutputError(f"cannot write {name}: {reason(error)}; choose another {option}") from None


def _status(path: Path, follow: bool) -> os.stat_result | None:
    """Return what stands at a path, or None for nothing."""
    try:
        return path.stat(follow_symlinks=follow)
    except FileNotFoundError:
        return None


def _is_open(there: os.stat_result) -> bool:
    """Return whether stdout or stderr goes there: what is printed would be lost with the file that is replaced."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if os.path.samestat(there, os.fstat(stream.fileno())):
                return True
    return False


def _kept(there: os.stat_result, folder: os.stat_result) -> bool:
    """Return whether a folder like /tmp keeps a file for its owner."""
    user = os.geteuid() if hasattr(os, "geteuid") else 0
    return bool(folder.st_mode & stat.S_ISVTX) and user not in (0, there.st_uid, folder.st_uid)
