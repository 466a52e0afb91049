"""What a lab study leaves: the votes on every query of every attack, in order, and the accuracies of what was stolen.

Needs NumPy alone. Mappings, ceilings, devices and accounts are evaluated on banks afterwards; nothing is trained again.
"""

from powsim.bank.records import Bank, Pool, Recording, Run

__all__ = ["Bank", "Pool", "Recording", "Run"]
