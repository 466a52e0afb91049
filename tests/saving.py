"""Results folders: a small scenario that is saved, and what stands in a folder, for tests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

SMALL = """
name = "small"
[service]
dataset = "cifar10"
[policy]
name = "calibrated"
max_bits = 30.0
[population.web]
identities = 500
queries = { median = 300.0, sigma = 1.0, max = 2000 }
mean_shift_sd = 0.05
[population.web.devices]
galaxy-a34-browser = 0.5
python-hashlib = 0.4
browser-fallback = 0.1
[campaign.theft]
trace = "copycat"
queries = 1001
devices = ["rtx-4090", "laptop-native"]
identities = [1, 3]
replicas = 20
"""


def problem(folder: Path) -> str | None:
    """Return what is wrong with a results folder by its manifest, None where it is whole."""
    if not (folder / "manifest.json").is_file():
        return "no manifest"
    files = json.loads((folder / "manifest.json").read_text())["files"]
    if {p.name for p in folder.iterdir()} != {*files, "manifest.json"}:
        return f"holds {sorted(p.name for p in folder.iterdir())}, lists {sorted(files)}"
    for name, about in files.items():
        content = (folder / name).read_bytes()
        if len(content) != about["bytes"] or hashlib.sha256(content).hexdigest() != about["sha256"]:
            return f"{name} is not as listed"
    return None


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())
