"""Scenarios with a policy or a trace of one's own, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from powsim import ScenarioError, parse_scenario, simulate
from powsim.engine import Result


def table(policy: dict[str, Any] | None = None, trace: str = "copycat") -> dict[str, Any]:
    return {
        "name": "small",
        "service": {"dataset": "cifar10"},
        "policy": policy or {"name": "none"},
        "population": {
            "web": {"identities": 5, "queries": 200, "devices": {"galaxy-a34-browser": 1.0}, "drift_sd": 0.02}
        },
        "campaign": {
            "theft": {"trace": trace, "queries": 700, "devices": ["rtx-4090"], "identities": 2, "replicas": 3}
        },
    }


def simulated(folder: Path, policy: dict[str, Any]) -> Result:
    return simulate(parse_scenario(table(policy), folder=folder))


def refused(folder: Path, policy: dict[str, Any], trace: str = "copycat") -> str:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(table(policy, trace), folder=folder)
    return str(caught.value)
