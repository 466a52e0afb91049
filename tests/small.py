"""A small scenario for tests of the command."""

from __future__ import annotations

from pathlib import Path

SMALL = """
name = "small"
description = "a description"
[service]
dataset = "cifar10"
[policy]
name = "fixed"
bits = 20.0
[population.web]
identities = 400
queries = { median = 300.0, sigma = 1.0, max = 2000 }
[population.web.devices]
galaxy-a34-browser = 0.5
python-hashlib = 0.5
[campaign.theft]
trace = "copycat"
queries = 1000
devices = ["rtx-4090"]
identities = [1, 4]
replicas = 10
"""


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())
