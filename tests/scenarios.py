"""A scenario as a table, and the mistakes of one, for tests."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from powsim import ScenarioError, parse_scenario

SMALL = """
name = "small"
description = "two groups"
[service]
dataset = "cifar10"
[policy]
name = "calibrated"
max_bits = 30.0
[prices]
electricity_usd_per_kwh = 0.2
[devices.own]
rate_low_hz = 1e6
rate_high_hz = 2e6
watts = 3.0
[population.web]
identities = 12
queries = { median = 100.0, sigma = 0.5, max = 300 }
mean_shift_sd = 0.02
[population.web.devices]
galaxy-a34-browser = 0.5
own = 0.5
[campaign.theft]
trace = "copycat"
queries = 1000
devices = ["rtx-4090"]
identities = [1, 4]
replicas = 5
"""


def table() -> dict[str, Any]:
    return tomllib.loads(SMALL)


def mistakes(raw: dict[str, Any], overrides: list[str] | None = None, folder: Path = Path()) -> list[tuple[str, str]]:
    """Return (path, text) of every mistake; none means that the scenario is fine."""
    try:
        parse_scenario(raw, overrides=overrides, folder=folder)
    except ScenarioError as error:
        return [(mistake.path, mistake.text) for mistake in error.mistakes]
    return []


def listing(folder: Path) -> set[tuple[str, bytes | None]]:
    return {(str(p.relative_to(folder)), p.read_bytes() if p.is_file() else None) for p in folder.rglob("*")}
