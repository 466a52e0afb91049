"""SHA-256 puzzles: digests, the lowest nonce that meets a target, and the check of one."""

from powsim_kernels.sha256.contract import mine, paths, self_test, sha256, verify
from powsim_kernels.sha256.search import MineProgress, MineResult
from powsim_kernels.sha256.target import target_limit

__all__ = ["MineProgress", "MineResult", "mine", "paths", "self_test", "sha256", "target_limit", "verify"]
