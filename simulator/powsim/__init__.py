"""powsim: who pays what, when an ML API charges each query a proof-of-work puzzle priced by what it leaks.

>>> import powsim
>>> result = powsim.simulate(powsim.load_scenario("default"))
>>> groups = powsim.summarise(result)

The names below load on first use, so that `import powsim` costs NumPy at most.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from powsim.conclusions import findings as findings
    from powsim.devices import Device as Device
    from powsim.devices import catalogue as catalogue
    from powsim.edge import ScenarioError as ScenarioError
    from powsim.engine import Result as Result
    from powsim.engine import simulate as simulate
    from powsim.ledger import Ledger as Ledger
    from powsim.ledger import Service as Service
    from powsim.monitor import Monitor as Monitor
    from powsim.policy import LoweredPolicy as LoweredPolicy
    from powsim.policy import Policy as Policy
    from powsim.scenario import Scenario as Scenario
    from powsim.scenario import load_scenario as load_scenario
    from powsim.scenario import parse_scenario as parse_scenario
    from powsim.server.rows import GateRow as GateRow
    from powsim.server.rows import simulate_gate as simulate_gate
    from powsim.summary import GroupSummary as GroupSummary
    from powsim.summary import summarise as summarise
    from powsim.sweeps.merge import differences as differences
    from powsim.sweeps.merge import merge as merge
    from powsim.sweeps.run import sweep as sweep
    from powsim.sweeps.status import status as status

__version__ = "0.2.0"

_HOME = {
    "Device": "devices",
    "GateRow": "server.rows",
    "GroupSummary": "summary",
    "Ledger": "ledger",
    "LoweredPolicy": "policy",
    "Monitor": "monitor",
    "Policy": "policy",
    "Result": "engine",
    "Scenario": "scenario",
    "ScenarioError": "edge",
    "Service": "ledger",
    "catalogue": "devices",
    "differences": "sweeps.merge",
    "findings": "conclusions",
    "load_scenario": "scenario",
    "merge": "sweeps.merge",
    "parse_scenario": "scenario",
    "simulate": "engine",
    "simulate_gate": "server.rows",
    "status": "sweeps.status",
    "summarise": "summary",
    "sweep": "sweeps.run",
}
__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"powsim.{_HOME[name]}"), name)
    raise AttributeError(f"module 'powsim' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
