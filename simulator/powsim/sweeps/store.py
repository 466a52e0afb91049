"""A sweep's folder: whole files only, so that a kill at any moment costs no more than the shards in flight.

    DIR/sweep.toml                                  the sweep file, as it was given
    DIR/manifest.json                               its points, what was asked of them, how many shards each
    DIR/running.json                                who sweeps here now
    DIR/points/ID/shard-00000-of-00004.parquet      the totals of one part of one point
    DIR/merged.parquet, DIR/merged.json             one table over all points

Every file is written beside its name, flushed, and renamed. A shard's name and content follow from its point's content
id, so two sweeps in one folder, of the same or of different files, could only repeat work: nothing can be mixed. The
lock in running.json spares the repetition.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from powsim.files import reason
from powsim.results import OutputError
from powsim.sweeps.shard import ShardError, Totals, about, decoded
from powsim.sweeps.spec import Plan, Point

FORMAT = "powsim-sweep-1"
MANIFEST, SWEEP, RUNNING, MERGED = "manifest.json", "sweep.toml", "running.json", "merged.json"
PARTIAL = ".partial-"
SHARD = re.compile(r"shard-(\d{5,})-of-(\d{5,})\.parquet")


def write_whole(path: Path, content: bytes, told: Path | None = None) -> None:
    """Write a file that is whole on disk before it has its name. Raises OutputError; nothing half-written stays.

    told: the name that an error gives it, where its own means nothing to anybody.
    """
    temporary = path.with_name(f".{path.name}{PARTIAL}{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _flush_folder(path.parent)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise OutputError(f"cannot write {str(told or path)[:200]}: {reason(error)}; no half of it was left") from error


def _flush_folder(folder: Path) -> None:
    """Make sure that a new name is on disk, where the system lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@dataclass(frozen=True)
class Store:
    """The folder of one sweep."""

    folder: Path

    def place(self, point: str, shard: int, shards: int) -> Path:
        """Return where a shard stands."""
        return self.folder / "points" / point / f"shard-{shard:05d}-of-{shards:05d}.parquet"

    def present(self, point: str, shards: int) -> list[int]:
        """Return the numbers of the shards that are there by name, rising; their content is not looked at."""
        try:
            names = [path.name for path in (self.folder / "points" / point).iterdir()]
        except FileNotFoundError:
            return []
        found = [match for name in names if (match := SHARD.fullmatch(name))]
        return sorted(int(match[1]) for match in found if int(match[2]) == shards)

    def read(self, point: Point, shard: int, shards: int) -> Totals:
        """Return a shard's totals. Raises ShardError, naming the file, for one that is missing or not to be used."""
        path = self.place(point.id, shard, shards)
        try:
            return decoded(path.read_bytes(), about(point.scenario, point.seed, shard, shards))
        except OSError as error:
            raise ShardError(f"{path}: cannot be read: {reason(error)}") from None
        except ShardError as error:
            raise ShardError(f"{path} {error}") from None

    def write(self, point: Point, shard: int, shards: int, content: bytes) -> None:
        """Write a shard. Raises OutputError."""
        write_whole(self.place(point.id, shard, shards), content)

    def start(self, plan: Plan, until: str | None, max_shards: int) -> None:
        """Write down what is to be done. Raises OutputError, also where the folder holds what no sweep wrote."""
        manifest = {
            "format": FORMAT,
            "name": plan.name,
            "description": plan.description,
            "shards": plan.shards,
            "until": until,
            "max_shards": max_shards,
            "points": [
                {
                    "id": point.id,
                    "values": point.values,
                    "seed": point.seed,
                    "folder": str(point.folder.resolve()),
                    "scenario": json.loads(point.raw),
                }
                for point in plan.points
            ],
        }
        write_whole(self.folder / SWEEP, plan.text.encode())
        write_whole(self.folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())

    def manifest(self) -> dict[str, Any]:
        """Return what was written down. Raises OutputError where that is no sweep's."""
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                raise ValueError(f"its format is {manifest['format']}, not {FORMAT}")
        except FileNotFoundError:
            raise OutputError(f"{self.folder} holds no sweep: start one with `powsim sweep SWEEP --out DIR`") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{self.folder / MANIFEST} is no sweep's: {str(error)[:200]}; choose another folder"
            ) from None
        return dict(manifest)

    def refuse_others(self) -> None:
        """Raise OutputError where the folder is a file, or holds something while it is no sweep's."""
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"{self.folder} is a file: choose another --out")
        if (self.folder / MANIFEST).exists():
            self.manifest()
        elif self.folder.is_dir():
            held = {entry.name for entry in self.folder.iterdir() if PARTIAL not in entry.name}
            if others := sorted(held - {SWEEP, RUNNING, "points"}):
                raise OutputError(
                    f"{self.folder} holds {others[0]}, which no sweep wrote: choose an empty or new --out"
                )

    def tidy(self) -> None:
        """Remove the halves of files that a killed sweep left under names of their own."""
        for path in [*self.folder.glob(f".*{PARTIAL}*"), *self.folder.glob(f"points/*/.*{PARTIAL}*")]:
            with contextlib.suppress(OSError):
                path.unlink()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder while the block runs. Raises OutputError where another run that lives holds it.

        One whose process is gone is taken over. Should two take it over in the same instant, both run: see above.
        """
        path = self.folder / RUNNING
        running = self.running()
        if running is not None and running["alive"] is not False:
            raise OutputError(
                f"{self.folder} is in use by process {running['pid']} on {running['host']}: wait for it, or choose "
                f"another --out (if that machine is gone, remove {path})"
            )
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "born": _born(os.getpid()), "started": time.time()}
        if running is not None:
            path.unlink(missing_ok=True)
        _claim(path, json.dumps(mine) + "\n")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()

    def running(self) -> dict[str, Any] | None:
        """Return who sweeps here: pid, host, started (epoch seconds), and alive, None where another machine knows."""
        try:
            found = json.loads((self.folder / RUNNING).read_text(encoding="utf-8"))
            pid, host, born, started = int(found["pid"]), str(found["host"]), found["born"], float(found["started"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # there is none: files here are whole or absent
        # The same number may be another process's by now, which was born at another time.
        alive = _born(pid) == born if host == socket.gethostname() else None
        return {"pid": pid, "host": host, "started": started, "alive": alive}


def _claim(path: Path, text: str) -> None:
    """Write a file that must not be there yet, whole. Raises OutputError where it is by now."""
    own = path.with_name(f".{path.name}{PARTIAL}{secrets.token_hex(4)}")
    write_whole(own, text.encode(), told=path)
    try:
        os.link(own, path)
    except FileExistsError:
        raise OutputError(
            f"{path.parent} is in use by another run, which has just begun: choose another --out"
        ) from None
    except OSError:  # a file system without links
        own.replace(path)
    finally:
        own.unlink(missing_ok=True)


def _born(pid: int) -> float | None:
    """Return when a process started, or None where there is none."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except (psutil.Error, ValueError, OverflowError):
        return None
