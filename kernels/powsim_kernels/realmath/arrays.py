"""The same functions over whole arrays, with the same bits: in Python, or by Numba."""

from __future__ import annotations

import importlib

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.backend import resolve

OFFERED = ("reference", "cpu")
FUNCTIONS = ("exp", "log", "normal_quantile")


def over(function: str, x: NDArray[np.float64], *, backend: str = "auto") -> NDArray[np.float64]:
    """Return one of FUNCTIONS of every number of x [A], float64 [A]; they must be within its range in `reference`."""
    if function not in FUNCTIONS:
        raise ValueError(f"unknown function {function!r}: choose one of {', '.join(FUNCTIONS)}")
    values = np.ascontiguousarray(x, np.float64)
    if resolve(backend, OFFERED) == "reference":
        real = importlib.import_module("powsim_kernels.realmath.reference")
        return np.array([getattr(real, function)(value) for value in values.tolist()], np.float64)
    out = np.empty_like(values)
    getattr(importlib.import_module("powsim_kernels.realmath.loops"), function)(values, out)
    return out
