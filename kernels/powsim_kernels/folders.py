"""Where this package keeps what it can make again: compiled code and measured choices, in the user's cache folder.

A version of the kernels, told by a digest of all their sources, has a folder of its own. Files are written beside their
name and renamed, and compiled code is checked when it is read. A folder that is not there, or that cannot be written,
is no error: it only costs time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

STALE_S = 30 * 86400
DIGEST_BYTES = 32


@cache
def version() -> str:
    """Return 16 hex digits that change with every edit of a kernel source."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*")):
        if path.suffix in (".py", ".cu", ".cuh"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def user_cache() -> Path | None:
    """Return powsim's part of the user's cache folder, by the platform's convention; None for a user without a home.

    Nothing is created.
    """
    named = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    if named and sys.platform != "darwin":
        return Path(named) / "powsim"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    places = {"win32": home / "AppData" / "Local", "darwin": home / "Library" / "Caches"}
    return places.get(sys.platform, home / ".cache") / "powsim"


@cache
def cache_folder(kind: str) -> Path | None:
    """Return the folder for files of one kind and this version, or None.

    Other versions unused for a month are removed.
    """
    base = user_cache()
    if base is None:
        return None
    folder = base / kind / version()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.utime(folder)
        for other in folder.parent.iterdir():
            if time.time() - other.stat().st_mtime > STALE_S:
                shutil.rmtree(other, ignore_errors=True)
    return folder


def kept(kind: str, name: str) -> bytes | None:
    """Return the bytes kept under a name, or None where there are none, or where they are damaged."""
    folder = cache_folder(kind)
    if folder is None:
        return None
    try:
        data = (folder / name).read_bytes()
    except OSError:
        return None
    content = data[DIGEST_BYTES:]
    return content if _digest(name, content) == data[:DIGEST_BYTES] else None


def keep(kind: str, name: str, content: bytes) -> None:
    """Keep bytes under a name, wholly or not at all."""
    folder = cache_folder(kind)
    if folder is not None:
        with contextlib.suppress(OSError):
            write_whole(folder / name, _digest(name, content) + content)


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + content).digest()


def read_json(path: Path) -> dict[str, object]:
    """Return the JSON object in a file, or an empty one where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, values: dict[str, object]) -> None:
    """Replace a file by a JSON object, wholly or not at all. Raises OSError where the folder cannot be written."""
    text = json.dumps(values, indent=1) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file, wholly or not at all. Raises OSError where its folder cannot be written."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
