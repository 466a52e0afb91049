"""PATE privacy cost of one query's vote histogram (GNMax, data dependent)."""

from powsim_kernels.votecost.contract import VoteCost, vote_cost

__all__ = ["VoteCost", "vote_cost"]
