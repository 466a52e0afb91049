"""The PATE kernels on a real device; test_pate.py and test_pate_contract.py run there too, for the twin "cuda"."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

from powsim_kernels import PatePlan, default_orders
from powsim_kernels.check.measure import QUICK
from powsim_kernels.check.pate import CASES, pate, realistic, wrong_answers

pytestmark = pytest.mark.gpu


def test_every_way_of_reading_answers_as_the_reference() -> None:
    assert wrong_answers((10, 40, 2, 32, 33, 100, 300)) == []


def test_the_quick_check_finds_everything_right() -> None:
    cupy = importlib.import_module("cupy")
    count = int(cupy.cuda.runtime.getDeviceProperties(0)["multiProcessorCount"])
    found = pate(SimpleNamespace(index=0, multiprocessors=count), QUICK)
    assert found["wrong"] == []
    assert len(found["rows"]) == len(CASES)  # type: ignore[arg-type]


@pytest.mark.parametrize("more", [{}, {"threshold": 150.0, "sigma1": 40.0}, {"mechanism": "lnmax"}], ids=str)
@pytest.mark.parametrize("classes", [10, 100])
def test_a_million_rows_on_the_device_cost_what_they_cost_on_the_cpu(classes: int, more: dict[str, float]) -> None:
    cupy = importlib.import_module("cupy")
    pytest.importorskip("numba")
    votes = realistic(classes)[np.random.default_rng(3).integers(0, 256, 1_000_003)]
    gpu, cpu = (PatePlan(250, classes, 20.0, default_orders("short"), backend=b, **more) for b in ("cuda", "cpu"))  # type: ignore[arg-type]
    there = cupy.asarray(votes)
    total = gpu.total(there)
    assert isinstance(total, cupy.ndarray)
    np.testing.assert_allclose(total.get(), cpu.total(votes), rtol=1e-12)
    np.testing.assert_allclose(gpu.total(votes), cpu.total(votes), rtol=1e-12)
    np.testing.assert_allclose(gpu.logq(there).get(), cpu.logq(votes), rtol=1e-13)
    few = slice(0, 20_000)
    np.testing.assert_allclose(gpu.rdp(there[few]).get(), cpu.rdp(votes[few]), rtol=1e-11, atol=1e-290)
    found = gpu.running_eps(there[few], 1e-5).get()
    np.testing.assert_allclose(found, cpu.running_eps(votes[few], 1e-5), rtol=1e-11)
    bad = there.copy()
    bad[777_777, 3] = -1
    with pytest.raises(ValueError, match=r"votes\[777777\] = "):
        gpu.total(bad)


def test_tensors_of_torch_are_read_in_place() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch does not see the device")
    votes = realistic(10)
    gpu = PatePlan(250, 10, 20.0, backend="cuda")
    np.testing.assert_allclose(gpu.total(torch.from_numpy(votes).cuda()).get(), gpu.total(votes), rtol=1e-13)
