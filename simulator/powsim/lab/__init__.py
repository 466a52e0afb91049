"""What needs a machine-learning library (`pip install 'powsim[lab]'`); nothing else in powsim imports one."""

from powsim.lab.knn import knn_votes, nearest

__all__ = ["knn_votes", "nearest"]
