"""log, exp, exp2, the normal quantile: near mpmath's values, and the same bits in Python, Numba and C++."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from numba import njit

from nogpu import host, nvrtc
from powsim_kernels.realmath import arrays, coefficients, cpu, reference
from powsim_kernels.realmath.source import source

RNG = np.random.default_rng(1)
UNIFORM = RNG.integers(1, 2**53, 3000) * 2.0**-53
EDGES = np.array([2.0**-54, 2.0**-53, 2.0**-40, 0.25, 0.5, 0.75, 1 - 2.0**-53, math.sqrt(0.5)])
NEAR_EDGES = np.concatenate([EDGES, np.nextafter(EDGES, 0), np.nextafter(EDGES, 1)])

# name: (arguments, truth, greatest error in ulps)
CASES: dict[str, tuple[np.ndarray, Callable[[mpf], mpf], float]] = {
    "log": (
        np.concatenate(
            [UNIFORM, NEAR_EDGES, [1.0], np.exp(RNG.uniform(-300, 300, 2000)), 1 + RNG.uniform(0, 1e-9, 500)]
        ),
        mp.log,
        1.0,
    ),
    "log2": (np.concatenate([UNIFORM, np.arange(1.0, 2000.0)]), lambda x: mp.log(x, 2), 2.0),
    "log1m": (
        np.concatenate([2.0 ** -RNG.uniform(0, 58, 4000), UNIFORM[:2000], NEAR_EDGES[NEAR_EDGES < 1], [2.0**-58]]),
        lambda p: mp.log1p(-p),
        2.0,
    ),
    "exp": (np.concatenate([RNG.uniform(-700, 700, 2000), RNG.uniform(-20, 20, 3000), [0.0]]), mp.exp, 1.5),
    "exp2": (np.concatenate([RNG.uniform(-1000, 1000, 2000), RNG.uniform(-2, 58, 3000)]), lambda x: mpf(2) ** x, 1.5),
    "normal_quantile": (
        np.concatenate([UNIFORM[:800], NEAR_EDGES[NEAR_EDGES != 0.5], 2.0 ** -RNG.uniform(1, 54, 300)]),
        lambda p: mp.sqrt(2) * mp.erfinv(2 * p - 1),
        5.0,
    ),
}


def compiled(name: str) -> Callable[[np.ndarray], np.ndarray]:
    function = getattr(cpu, name)

    @njit
    def over(x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        for i in range(len(x)):
            out[i] = function(x[i])
        return out

    return over  # type: ignore[no-any-return]


def hosted(name: str, x: np.ndarray) -> np.ndarray:
    kernel = (
        f"{source()}\nstatic inline double real_log2(double x) {{ return real_log(x) * LOG2_E; }}\n"
        "static inline double real_normal_quantile(double x) { return normal_quantile(x); }\n"
        'extern "C" __global__ void over(unsigned long long n, const double* x, double* out) {\n'
        "  const unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;\n"
        f"  if (i < n) out[i] = real_{name}(x[i]);\n}}\n"
    )
    out = np.zeros_like(x)
    host.launch(host.build(kernel, (), 1), "over", -(-len(x) // 64), 64, (len(x), x, out))
    return out


@pytest.mark.parametrize("name", CASES)
def test_values_are_near_mpmaths_and_twins_have_the_same_bits(name: str) -> None:
    x, truth, most = CASES[name]
    values = np.array([getattr(reference, name)(value) for value in x.tolist()])
    np.testing.assert_array_equal(compiled(name)(x), values)
    np.testing.assert_array_equal(hosted(name, x), values)
    with mp.workdps(40):
        for at, value in zip(x.tolist(), values.tolist(), strict=True):
            exact = truth(mpf(at))
            error = abs(mpf(value) - exact)
            assert error <= most * math.ulp(float(exact)), (at, value)


def test_special_values() -> None:
    assert reference.log(1.0) == 0.0
    assert reference.log1m(0.0) == 0.0
    assert reference.log1m(1.0) == compiled("log1m")(np.ones(1))[0] == hosted("log1m", np.ones(1))[0] == -math.inf
    for n in range(-1022, 1023):
        assert reference.exp2(float(n)) == 2.0**n
    np.testing.assert_array_equal(compiled("exp2")(np.arange(-1022.0, 1023.0)), 2.0 ** np.arange(-1022.0, 1023.0))


def test_the_quantile_falls_at_no_seam_between_its_forms() -> None:
    # sqrt(-ln p) = 5 and |p - 1/2| = 0.425 part the three forms.
    for seam in (0.075, 0.925, math.exp(-25.0)):
        p = seam * (1 + np.arange(-200, 201) * 1e-13)
        values = compiled("normal_quantile")(p)
        assert np.all(np.diff(values) >= -1e-15 * np.abs(values[1:]))


number = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(number, number, number)
def test_fma_rounds_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    assert reference.fma(a, b, c) == float(exact)
    fused = njit(lambda x, y, z: cpu.fma(x, y, z))
    if not hasattr(test_fma_rounds_once, "fused"):
        test_fma_rounds_once.fused = fused  # type: ignore[attr-defined]
    assert test_fma_rounds_once.fused(a, b, c) == float(exact)  # type: ignore[attr-defined]


def test_fma_is_not_a_product_and_a_sum() -> None:
    a = 1.0 + 2.0**-30
    assert reference.fma(a, a, -1.0 - 2.0**-29) == 2.0**-60 != a * a - (1.0 + 2.0**-29)
    assert reference.fma(math.inf, 1.0, 1.0) == math.inf


def test_taylor_coefficients_are_the_nearest_doubles() -> None:
    with mp.workdps(40):
        for k, (of_e, of_two) in enumerate(zip(coefficients.EXP, coefficients.EXP2, strict=True)):
            assert of_e == float(1 / mp.factorial(k))
            assert of_two == float(mp.log(2) ** k / mp.factorial(k))


def test_a_cpu_without_fused_instructions_has_the_same_bits() -> None:
    code = (
        "import hashlib, numpy as np\nfrom numba import njit\nfrom powsim_kernels.realmath import cpu\n"
        "@njit(error_model='numpy')\ndef over(x, out):\n    for i in range(len(x)):\n"
        "        out[i] = cpu.log(x[i]) + cpu.exp2(x[i]) + cpu.normal_quantile(x[i])\n"
        "x = np.random.default_rng(1).uniform(1e-9, 1, 5000)\nout = np.empty(5000)\nover(x, out)\n"
        "print('vfmadd' in next(iter(over.inspect_asm().values())), hashlib.sha256(out.tobytes()).hexdigest())\n"
    )
    plain = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    found = [
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True, text=True).stdout.split()
        for env in (dict(os.environ), plain)
    ]
    assert found[1][0] == "False"
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_120"])
def test_the_cuda_text_compiles_and_contracts_nothing(architecture: str) -> None:
    code = source() + 'extern "C" __global__ void f(double* x) { *x = normal_quantile(real_exp(real_log1m(*x))); }\n'
    assert nvrtc.compiled(code, ("-std=c++17", "-fmad=false"), architecture)[:4] == b"\x7fELF"


@pytest.mark.parametrize("name", arrays.FUNCTIONS)
def test_whole_arrays_have_the_same_bits_on_every_backend(name: str) -> None:
    x = CASES[name][0]
    alone = [getattr(reference, name)(value) for value in x.tolist()]
    for backend in ("reference", "cpu"):
        assert arrays.over(name, x, backend=backend).tolist() == alone
        assert arrays.over(name, x[::-1], backend=backend).tolist() == alone[::-1]
    with pytest.raises(ValueError, match="unknown function 'sin': choose one of exp, log, normal_quantile"):
        arrays.over("sin", x)
