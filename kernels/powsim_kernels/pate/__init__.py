"""PATE costs of vote histograms in batches: GNMax, Confident GNMax and LNMax at any Renyi orders."""

from powsim_kernels.pate.accountant import Accumulator
from powsim_kernels.pate.conversion import OrderGridWarning, default_orders, rdp_to_delta, rdp_to_eps
from powsim_kernels.pate.plan import PatePlan

__all__ = ["Accumulator", "OrderGridWarning", "PatePlan", "default_orders", "rdp_to_delta", "rdp_to_eps"]
