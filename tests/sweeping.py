"""Small sweeps for tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from small import SMALL

SCENARIO = SMALL.replace("identities = 400", "identities = 203")

SWEEP = """
name = "bits"
description = "a description"
scenario = "s.toml"
shards = 4
[grid]
"policy.bits" = [16.0, 20.0]
"""

MERGED = ("merged.json", "merged.parquet")


def write(folder: Path, sweep: str = SWEEP, scenario: str = SCENARIO) -> Path:
    """Return the path of a sweep file, written beside its scenario."""
    (folder / "s.toml").write_text(scenario)
    (folder / "sweep.toml").write_text(sweep)
    return folder / "sweep.toml"


def merged_bytes(folder: Path) -> dict[str, bytes]:
    """Return the merged table, in both forms."""
    return {name: (folder / name).read_bytes() for name in MERGED}


def shard_files(folder: Path) -> list[Path]:
    """Return the shards of a sweep."""
    return sorted(folder.glob("points/*/shard-*.parquet"))


def halves(folder: Path) -> list[Path]:
    """Return what was left half-written."""
    return [path for path in folder.rglob("*") if ".partial-" in path.name]


def command(*arguments: str | Path, python: str = sys.executable, **more: object) -> subprocess.Popen[str]:
    """Return a started `powsim ARGUMENTS`, in a group of its own."""
    return subprocess.Popen(
        [python, "-W", "error", "-m", "powsim", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **more},  # type: ignore[dict-item]
        start_new_session=True,
    )


def seen_device(wait_s: float) -> tuple[int, str | None]:
    """Return a worker's process id and the CUDA device that it sees."""
    time.sleep(wait_s)
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")
