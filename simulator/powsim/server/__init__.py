"""The server in front of the model: a gate, a queue, attacks on the gate, and what they cost either side.

`powsim.simulate_gate(scenario)` gives the rows that `powsim run` prints.
"""

from powsim.server.attacks import FORGED, MINT, REPLAYED, SOLVED, WRONG, GateAttack, Messages
from powsim.server.model import Server
from powsim.server.protocol import Gate, Measured, measured_costs

__all__ = [
    "FORGED",
    "MINT",
    "REPLAYED",
    "SOLVED",
    "WRONG",
    "Gate",
    "GateAttack",
    "Measured",
    "Messages",
    "Server",
    "measured_costs",
]
