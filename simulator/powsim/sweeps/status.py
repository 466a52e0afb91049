"""How far a sweep is, from what its folder holds: read from anywhere, while it runs or after."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from powsim.sweeps.store import MANIFEST, MERGED, Store


@dataclass(frozen=True)
class Status:
    """How far a sweep is. Shards are counted by name; a merge looks into them."""

    name: str
    state: str  # done | running | stopped | unknown: another machine's process, which cannot be asked from here
    shards_done: int
    shards: int  # with `until`, the least that is needed
    points_done: int
    points: int
    until: str | None
    max_shards: int  # per point, that `until` may lead to
    pid: int | None
    host: str | None
    shards_per_s: float | None  # since the run at work began
    left_s: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def status(folder: str | Path) -> Status:
    """Return how far the sweep in a folder is. Raises OutputError where there is none."""
    store = Store(Path(folder))
    manifest, running = store.manifest(), store.running()
    needed, done, whole, recent = manifest["shards"], 0, 0, 0
    for point in manifest["points"]:
        present = store.present(point["id"], needed)
        done += len(present)
        whole += set(range(needed)) <= set(present)
        if running is not None:
            recent += sum(_written(store, point["id"], k, needed) >= running["started"] for k in present)
    total = max(needed * len(manifest["points"]), done if manifest["until"] else 0)
    alive = None if running is None else running["alive"]
    at_work = running is not None and alive is not False
    state = "running" if alive else "unknown" if at_work else "stopped"
    if not at_work and whole == len(manifest["points"]) and _merged(store):
        state = "done"
    rate = recent / max(time.time() - running["started"], 1e-3) if running is not None and at_work else None
    return Status(
        name=manifest["name"],
        state=state,
        shards_done=done,
        shards=total,
        points_done=whole,
        points=len(manifest["points"]),
        until=manifest["until"],
        max_shards=manifest["max_shards"],
        pid=running["pid"] if running is not None and at_work else None,
        host=running["host"] if running is not None and at_work else None,
        shards_per_s=rate,
        left_s=(total - done) / rate if rate and not manifest["until"] else None,
    )


def _written(store: Store, point: str, shard: int, shards: int) -> float:
    try:
        return store.place(point, shard, shards).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _merged(store: Store) -> bool:
    """Return whether the merged table is there, of this manifest, and misses no point."""
    table, manifest = store.folder / MERGED, store.folder / MANIFEST
    try:
        if table.stat().st_mtime_ns < manifest.stat().st_mtime_ns:
            return False
        return not json.loads(table.read_text(encoding="utf-8"))["missing"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
