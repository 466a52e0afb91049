"""Loops over the Numba twin, for `arrays`."""

from __future__ import annotations

from powsim_kernels.jit import jit
from powsim_kernels.realmath import cpu


@jit
def exp(x, out):  # type: ignore[no-untyped-def]
    """Fill out with e^x."""
    for i in range(len(x)):
        out[i] = cpu.exp(x[i])


@jit
def log(x, out):  # type: ignore[no-untyped-def]
    """Fill out with ln x."""
    for i in range(len(x)):
        out[i] = cpu.log(x[i])


@jit
def normal_quantile(x, out):  # type: ignore[no-untyped-def]
    """Fill out with standard normal quantiles."""
    for i in range(len(x)):
        out[i] = cpu.normal_quantile(x[i])
