"""The user's cache folder for compiled kernels and tuning results; everything in it can be made again.

A version of the kernels, told by a digest of all their sources, has a folder of its own. Files are checked when they
are read, written beside their name and renamed, and a folder that cannot be written is no error: it only costs time.
"""

from __future__ import annotations

import contextlib
import hashlib
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


@cache
def cache_folder(kind: str) -> Path:
    """Return the folder for files of one kind and this version; other versions unused for a month are removed."""
    parent = _user_cache() / "powsim" / kind
    folder = parent / version()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.utime(folder)
        for other in parent.iterdir():
            if time.time() - other.stat().st_mtime > STALE_S:
                shutil.rmtree(other, ignore_errors=True)
    return folder


def kept(kind: str, name: str) -> bytes | None:
    """Return the bytes kept under a name, or None where there are none, or where they are damaged."""
    try:
        data = (cache_folder(kind) / name).read_bytes()
    except OSError:
        return None
    content = data[DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == data[:DIGEST_BYTES] else None


def keep(kind: str, name: str, content: bytes) -> None:
    """Keep bytes under a name, whole or not at all."""
    folder = cache_folder(kind)
    with contextlib.suppress(OSError):
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
            Path(temporary).replace(folder / name)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise


def _user_cache() -> Path:
    """Return the user's cache folder by the platform's convention."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
