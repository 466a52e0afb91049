"""Philox4x32-10: random words as a pure function of a key and a counter."""

from powsim_kernels.philox.contract import philox, uniform

__all__ = ["philox", "uniform"]
