"""How many hashes a solver needs: exact geometric draws, addressed by identity and index."""

from powsim_kernels.geometric.contract import geometric

__all__ = ["geometric"]
