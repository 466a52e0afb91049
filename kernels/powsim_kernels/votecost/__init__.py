"""PATE privacy cost of one query's vote histogram (GNMax, data dependent)."""

from powsim_kernels.votecost.contract import VoteCost, default_orders, vote_cost

__all__ = ["VoteCost", "default_orders", "vote_cost"]
