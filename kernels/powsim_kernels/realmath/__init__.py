"""log, exp, exp2 and the normal quantile with the same bits in Python, Numba and CUDA C++: IEEE doubles, fused steps.

`reference` is the specification, `cpu` its Numba twin, `realmath.cuh` its CUDA twin; `coefficients` serves all.
"""
