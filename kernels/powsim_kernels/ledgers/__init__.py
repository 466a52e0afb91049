"""Whole identities in one pass: each has its ledger, its price, its puzzles and its clock."""

from powsim_kernels.ledgers.contract import Ledgers, simulate_ledgers
from powsim_kernels.ledgers.plan import Accounts, Bank, Clock, Curve, Devices, LedgerPlan, Price, Users
from powsim_kernels.ledgers.totals import LedgerRows, LedgerTotals

__all__ = [
    "Accounts",
    "Bank",
    "Clock",
    "Curve",
    "Devices",
    "LedgerPlan",
    "LedgerRows",
    "LedgerTotals",
    "Ledgers",
    "Price",
    "Users",
    "simulate_ledgers",
]
