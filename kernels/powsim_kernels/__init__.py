"""The hot loops of powsim, usable alone: `mine`, `verify`, `sha256`, `PatePlan`, `vote_cost`, `philox`, ...

Every kernel is one folder with the same rooms: `contract` (checks, documentation, dispatch), `reference` (plain
loops, the specification) and its twins (`cpu` by Numba or llvmlite, `cuda` by CuPy). Twins load when they are first
used: importing this package costs NumPy.
"""

from powsim_kernels.backend import BACKENDS, BackendUnavailable, why_not
from powsim_kernels.geometric import geometric
from powsim_kernels.ledgers import LedgerPlan, LedgerRows, LedgerTotals, simulate_ledgers
from powsim_kernels.pate import Accumulator, OrderGridWarning, PatePlan, default_orders, rdp_to_delta, rdp_to_eps
from powsim_kernels.philox import philox, uniform
from powsim_kernels.queueing import QueueResult, queue
from powsim_kernels.sha256 import MineProgress, MineResult, mine, sha256, target_limit, verify
from powsim_kernels.votecost import VoteCost, vote_cost

__all__ = [
    "BACKENDS",
    "Accumulator",
    "BackendUnavailable",
    "LedgerPlan",
    "LedgerRows",
    "LedgerTotals",
    "MineProgress",
    "MineResult",
    "OrderGridWarning",
    "PatePlan",
    "QueueResult",
    "VoteCost",
    "default_orders",
    "geometric",
    "mine",
    "philox",
    "queue",
    "rdp_to_delta",
    "rdp_to_eps",
    "sha256",
    "simulate_ledgers",
    "target_limit",
    "uniform",
    "verify",
    "vote_cost",
    "why_not",
]
