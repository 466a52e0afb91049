"""The PATE kernels without a GPU: the same sources compiled by g++, warps as fibers, on an imagined device.

The twins' common tests (test_pate.py, test_pate_contract.py) run on it as well; here stands what only this twin does.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from histograms import mixed
from nogpu.fake_cupy import FakeArray, Machine
from nogpu.machine import install
from powsim_kernels import BackendUnavailable, PatePlan, default_orders
from powsim_kernels.pate import sources

__all__ = ["install"]  # a fixture

Install = Callable[..., Machine]
KINDS: list[dict[str, Any]] = [{}, {"threshold": 150, "sigma1": 40}, {"mechanism": "lnmax"}]
every_kind = pytest.mark.parametrize("more", KINDS, ids=["gnmax", "confident", "lnmax"])
ALL_TYPES = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64]


def pair(*arguments: Any, **more: Any) -> tuple[PatePlan, PatePlan]:
    """Return the plan on the imagined GPU and on the CPU."""
    gpu, cpu = (PatePlan(*arguments, backend=name, **more) for name in ("cuda", "cpu"))
    return gpu, cpu


def on(machine: Machine, values: np.ndarray) -> FakeArray:
    """Return an array of the current device that shares memory with `values`."""
    return FakeArray(machine, machine.current, values)


def close(found: np.ndarray, truth: np.ndarray, lnq: np.ndarray) -> None:
    """Costs: 2e-15 (1 + |ln q|) relative from either twin; below 1e-290 they may be zero."""
    scale = 4e-15 * (1 - lnq).reshape(-1, *[1] * (truth.ndim - 1))
    assert np.all(np.abs(found - truth) <= scale * truth + 1e-290)


@pytest.mark.parametrize("classes", [2, 10, 31, 32, 33, 100, 256, 257, 300])
@pytest.mark.parametrize("sigma", [2.0, 30.0])
def test_every_number_of_classes_reads_as_on_the_cpu(install: Install, classes: int, sigma: float) -> None:
    install()
    votes = mixed(40, 120, classes).astype(np.int16)
    votes[0], votes[1], votes[2] = 0, 1, 0
    votes[2, -1] = 120
    gpu, cpu = pair(120, classes, sigma, [2.0, 9.0])
    np.testing.assert_allclose(gpu.logq(votes), cpu.logq(votes), rtol=1e-13)
    np.testing.assert_allclose(gpu.total(votes), cpu.total(votes), rtol=1e-12, atol=1e-280)
    for value in (-1, 121):
        for column in (0, classes - 1):
            bad = votes.copy()
            bad[7, column] = bad[39, 0] = value
            for method in (gpu.logq, gpu.total):
                with pytest.raises(ValueError, match=r"votes\[7\] = "):
                    method(bad)


@pytest.mark.parametrize("classes", [10, 40])
def test_the_type_of_votes_changes_no_bit(install: Install, classes: int) -> None:
    install()
    votes = mixed(300, 100, classes)
    gpu, _ = pair(100, classes, 8.0, [2.0])
    lnq = gpu.logq(votes)
    for dtype in (*ALL_TYPES, np.uint32, np.uint64, np.float16, ">i4", ">f8"):
        assert np.array_equal(gpu.logq(votes.astype(dtype)), lnq), dtype


@pytest.mark.parametrize("classes", [5, 32, 40, 300])
@pytest.mark.parametrize("mechanism", ["gnmax", "lnmax"])
def test_soft_counts_read_as_the_specification(install: Install, classes: int, mechanism: str) -> None:
    install()
    votes = mixed(40, 120, classes) * 0.99 + 0.003
    votes[3] = 7.25  # all tied
    votes[4, :2] = 99.5
    for sigma in (0.5, 2.0, 30.0):
        gpu, truth = (PatePlan(160, classes, sigma, [2], mechanism=mechanism, backend=b) for b in ("cuda", "reference"))
        np.testing.assert_allclose(gpu.logq(votes), truth.logq(votes), rtol=1e-13)


def test_more_voters_than_a_table_is_worth_are_read_as_soft_counts(install: Install) -> None:
    install()
    votes = mixed(30, 400_000, 5).astype(np.int32)
    gpu, cpu = pair(400_000, 5, 30_000.0, [2.0, 40.0])
    np.testing.assert_allclose(gpu.logq(votes), cpu.logq(votes), rtol=1e-13)
    np.testing.assert_allclose(gpu.total(votes), cpu.total(votes), rtol=1e-12)


@pytest.mark.parametrize(("teachers", "sigma"), [(250, 40.0), (300, 2.0), (5000, 1.0), (5000, 300.0), (50, 0.5)])
@pytest.mark.parametrize("clip", [True, False])
def test_totals_are_the_cpus(install: Install, teachers: int, sigma: float, clip: bool) -> None:
    # 5000 voters with sigma 1 have more cells than shared memory, and rows that no cell holds.
    install()
    votes, grid = mixed(2500, teachers, 6).astype(np.int16), default_orders()[::29]
    gpu, cpu = pair(teachers, 6, sigma, grid, clip=clip)
    truth = np.array([math.fsum(column) for column in cpu.rdp(votes).T])
    np.testing.assert_allclose(gpu.total(votes), truth, rtol=2e-13, atol=1e-280)
    lnq, rdp = cpu.logq(votes), cpu.rdp(votes)
    close(gpu.rdp(votes), rdp, lnq)


@every_kind
@pytest.mark.parametrize("kind", [np.int16, np.float64])
def test_groups_weights_and_answers_are_the_cpus(install: Install, more: dict[str, Any], kind: type) -> None:
    install()
    votes = mixed(700, 250, 6).astype(kind)
    if kind is np.float64:
        votes[::5] = votes[::5] * 0.99 + 0.25  # soft counts have no row in the table of thresholds
    gpu, cpu = pair(250, 6, 20.0, default_orders("short"), **more)
    rng = np.random.default_rng(2)
    groups, weights = rng.integers(0, 5, 700), rng.random(700) * 3
    given: dict[str, Any] = {"groups": groups, "weights": weights}
    np.testing.assert_allclose(gpu.total(votes, **given), cpu.total(votes, **given), rtol=2e-13)
    if gpu.confident:
        flags = rng.random(700) < 0.5
        for given in ({"realised": flags}, {"realised": flags, "weights": weights, "groups": groups}):
            np.testing.assert_allclose(gpu.total(votes, **given), cpu.total(votes, **given), rtol=2e-13)
        close(gpu.rdp(votes, realised=flags), cpu.rdp(votes, realised=flags), cpu.logq(votes))
    one, all_ = gpu.eps(votes, 1e-5), cpu.eps(votes, 1e-5)
    np.testing.assert_allclose(one[0], all_[0], rtol=1e-12)
    assert np.array_equal(one[1], all_[1])


def test_more_groups_than_moments_are_worth_cost_the_same(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    votes, groups = mixed(400, 250, 6), np.arange(400) % 90
    gpu, cpu = pair(250, 6, 20.0, [2.0, 8.0], threshold=150, sigma1=40)
    truth = cpu.total(votes, groups=groups)
    np.testing.assert_allclose(gpu.total(votes, groups=groups), truth, rtol=2e-13)
    monkeypatch.setattr(gpu.twin, "MOMENTS_MOST", 1 << 20)
    assert "moments" not in gpu.twin.empty(gpu, 90)
    np.testing.assert_allclose(gpu.total(votes, groups=groups), truth, rtol=2e-13)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [10, 40])
def test_whoever_comes_first_the_sums_are_the_same(install: Install, seed: int, classes: int) -> None:
    machine = install(Machine(seed=seed))
    votes = mixed(5000, 250, classes).astype(np.int16)
    votes[4990, 0] = votes[2100, 1] = -1
    gpu, cpu = pair(250, classes, 20.0, [2.0, 9.0, 30.0], check=False)
    machine.seed = 100 + seed
    good = np.delete(votes, [2100, 4990], axis=0)
    np.testing.assert_allclose(gpu.total(good), cpu.total(good), rtol=1e-13)
    assert np.isnan(gpu.total(votes)).all()
    with pytest.raises(ValueError, match=r"votes\[2100\] = "):
        PatePlan(250, classes, 20.0, [2.0, 9.0, 30.0], backend="cuda").total(votes)


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_the_grid_changes_nothing(install: Install, blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    votes = mixed(4500, 250, 10).astype(np.uint8)
    gpu, cpu = pair(250, 10, 20.0, default_orders("short"), threshold=150, sigma1=40)
    monkeypatch.setattr(gpu.twin.Tools, "blocks", lambda self, wanted: (min(wanted, blocks),))
    np.testing.assert_allclose(gpu.total(votes), cpu.total(votes), rtol=1e-13)
    close(gpu.rdp(votes), cpu.rdp(votes), cpu.logq(votes))


@every_kind
def test_running_eps_is_the_cpus(install: Install, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    votes = mixed(900, 250, 6).astype(np.int16)
    gpu, cpu = pair(250, 6, 20.0, default_orders("short"), **more)
    monkeypatch.setattr(gpu.twin, "ROOM_BYTES", 70_000)  # several pieces, of no whole number of strips
    np.testing.assert_allclose(gpu.running_eps(votes, 1e-5), cpu.running_eps(votes, 1e-5), rtol=1e-12)
    groups = np.arange(900) * 7 % 40
    found = gpu.running_eps(votes, 1e-5, groups=groups, every=3)
    np.testing.assert_allclose(found, cpu.running_eps(votes, 1e-5, groups=groups, every=3), rtol=1e-12)


@pytest.mark.parametrize("sigma", [0.7, 9.0, 300.0])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("step", [0.001, 0.5, 40.0])
def test_runs_of_even_orders_are_inside_the_rule(install: Install, sigma: float, clip: bool, step: float) -> None:
    install()
    votes = mixed(300, 200, 4)[::7]
    grid = np.append(1.0 + step * np.arange(1, 28), 5000.0)
    gpu, truth = (PatePlan(200, 4, sigma, grid, clip=clip, backend=name) for name in ("cuda", "reference"))
    scale = 2e-15 * (1 - truth.logq(votes))[:, None]
    rows = truth.rdp(votes)
    assert np.all(np.abs(gpu.rdp(votes) - rows) <= scale * rows + 1e-290)


class Tensor:
    """What torch shows of a tensor: DLPack, and for one on a device the CUDA array interface."""

    def __init__(self, values: Any, interface: bool = False) -> None:
        self.values, self.place = getattr(values, "values", values), isinstance(values, FakeArray)
        if self.place and interface:
            self.__cuda_array_interface__ = values.__cuda_array_interface__

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2 if self.place else 1), 0

    def __dlpack__(self, **more: Any) -> Any:
        return self.values.__dlpack__(**more)


def test_device_votes_are_read_where_they_lie_and_results_stay_there(install: Install) -> None:
    machine = install()
    votes = mixed(600, 250, 10).astype(np.int16)
    gpu, cpu = pair(250, 10, 20.0, default_orders("short"), threshold=150, sigma1=40)
    groups, weights, flags = np.arange(600) % 3, np.linspace(0, 2, 600), np.arange(600) % 2 == 0
    given: dict[str, Any] = {"groups": groups, "weights": weights, "realised": flags}
    there = {name: on(machine, values) for name, values in given.items()}
    truth = [
        cpu.logq(votes), cpu.log_pr_answered(votes), cpu.rdp(votes), *cpu.eps(votes, 1e-5), cpu.total(votes),
        cpu.running_eps(votes, 1e-5), cpu.total(votes, **given), cpu.accumulator().add(votes).total(),
    ]  # fmt: skip
    for wrap in (lambda v: v, Tensor, lambda v: Tensor(v, interface=True)):
        device = wrap(on(machine, votes))
        found = [
            gpu.logq(device), gpu.log_pr_answered(device), gpu.rdp(device), *gpu.eps(device, 1e-5), gpu.total(device),
            gpu.running_eps(device, 1e-5), gpu.total(device, **there), gpu.accumulator().add(device).total(),
        ]  # fmt: skip
        for ours, theirs in zip(found, truth, strict=True):
            assert isinstance(ours, FakeArray)
            np.testing.assert_allclose(ours.get(), theirs, rtol=1e-12)
        assert gpu.queries_until(device, 0.3, 1e-5) == cpu.queries_until(votes, 0.3, 1e-5)
        assert gpu.rdp_to_eps(gpu.total(device), 1e-5)[0] == pytest.approx(cpu.rdp_to_eps(cpu.total(votes), 1e-5)[0])
    out = on(machine, np.zeros((600, 26), np.float32))
    assert gpu.rdp(on(machine, votes), out=out) is out
    np.testing.assert_allclose(out.get(), truth[2], rtol=1e-6)
    # A total with rows of the host comes to the host.
    assert isinstance(gpu.accumulator().add(on(machine, votes)).add(votes).total(), np.ndarray)
    bad = votes.copy()
    bad[77, 3] = -4
    with pytest.raises(ValueError, match=r"votes\[77\] = \["):
        gpu.total(on(machine, bad))
    for name, wrong, message in (
        ("weights", np.where(np.arange(600) == 9, -1.0, 1.0), r"weights\[9\] = -1.0"),
        ("groups", np.arange(600) - 1, r"groups\[0\] = -1"),
    ):
        with pytest.raises(ValueError, match=message):
            gpu.total(on(machine, votes), **{name: on(machine, wrong)})


def test_no_votes_of_the_device_are_copied(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = install()
    votes = mixed(50, 250, 10).astype(np.int16)
    gpu, cpu = pair(250, 10, 20.0, [2.0])
    seen = []
    real = gpu.twin.pieces
    monkeypatch.setattr(gpu.twin, "pieces", lambda *a: [seen.append(p) or (b, p) for b, p in real(*a)])  # type: ignore[func-returns-value]
    gpu.total(on(machine, votes))
    gpu.logq(on(machine, votes[7:]))  # begins between two words of 16 bytes
    assert [piece.data.ptr for piece in seen] == [votes.ctypes.data, votes[7:].ctypes.data]
    # Gaps between rows, or a type that kernels do not read, cost a copy.
    np.testing.assert_allclose(gpu.total(on(machine, votes[::2])).get(), cpu.total(votes[::2]), rtol=1e-13)
    np.testing.assert_allclose(gpu.total(on(machine, np.asfortranarray(votes))).get(), cpu.total(votes), rtol=1e-13)
    for dtype in (np.uint64, np.uint32, np.float16):
        np.testing.assert_allclose(gpu.total(on(machine, votes.astype(dtype))).get(), cpu.total(votes), rtol=1e-13)


def test_rows_that_begin_anywhere_are_read_the_same(install: Install) -> None:
    machine = install()
    gpu, _ = pair(100, 7, 8.0, [2.0])
    votes = mixed(300, 100, 7)
    for dtype in (np.uint8, np.int16, np.int64, np.float32):
        room = np.zeros(300 * 7 + 40, dtype)
        for begin in (0, 1, 3, 17):
            shifted = room[begin : begin + 2100].reshape(300, 7)
            shifted[:] = votes
            assert np.array_equal(gpu.logq(on(machine, shifted)).get(), gpu.logq(votes.astype(dtype)))


def test_votes_of_a_device_are_refused_elsewhere_with_advice(install: Install) -> None:
    machine = install(Machine(names=("A", "B")))
    votes = mixed(5, 250, 10)
    gpu, cpu = pair(250, 10, 20.0, [2.0])
    for values in (on(machine, votes), Tensor(on(machine, votes))):
        with pytest.raises(TypeError, match=r"votes lie on a CUDA device, .*'cpu': make a plan with backend='cuda'"):
            cpu.total(values)
    with pytest.raises(TypeError, match="weights lie on a CUDA device"):
        cpu.total(votes, weights=on(machine, np.ones(5)))
    gpu.total(votes)
    with pytest.raises(ValueError, match="votes lie on device 1, and this plan computes on device 0: make it under"):
        gpu.total(FakeArray(machine, 1, votes))


@pytest.mark.parametrize("backend", ["reference", "cpu", "cuda"])
def test_tensors_of_the_host_are_read_in_place(install: Install, backend: str) -> None:
    install()
    votes = mixed(20, 250, 10)
    its = PatePlan(250, 10, 20.0, [2.0], backend=backend)
    found = its.logq(Tensor(votes))
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, its.logq(votes))


def test_auto_takes_the_gpu_that_can_start_and_else_says_why_not(install: Install) -> None:
    install()
    assert PatePlan(10, 3, 2.0).backend == "cuda"
    for machine, cause in (
        (Machine(nvrtc=False), "loading|libnvrtc.*install NVIDIA's run-time compiler"),
        (Machine(lost={0}), "busy or unavailable.*nvidia-smi"),
        (Machine(broken={"tally"}), "illegal memory access"),
        (Machine(refused=lambda options: True), "refused.*update CuPy and NVRTC"),
    ):
        install(machine)
        with pytest.warns(RuntimeWarning, match="backend='auto' uses the CPU"):
            assert PatePlan(10, 3, 2.0).backend == "cpu"
        with pytest.raises(BackendUnavailable, match=cause):
            PatePlan(10, 3, 2.0, backend="cuda")


def test_what_goes_wrong_later_is_named_with_its_cure(install: Install) -> None:
    machine = install()
    gpu = PatePlan(250, 10, 20.0, [2.0], backend="cuda")
    votes = mixed(100, 250, 10).astype(np.int16)
    gpu.total(votes)
    machine.largest = 1000
    with pytest.raises(BackendUnavailable, match=r"Out of memory.*give it fewer rows, .* or use backend='cpu'"):
        gpu.total(votes)
    machine.largest = 1 << 40
    machine.lost.add(0)
    with pytest.raises(BackendUnavailable, match="see what `nvidia-smi` says"):
        gpu.logq(votes)


def test_a_device_with_wrong_answers_is_not_used(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    real = sources.source
    wrong = lambda name: real(name).replace("+ 0.5 * (double)(ties - 1)", "+ 0.4 * (double)(ties - 1)")  # noqa: E731
    assert wrong("read.cu") != real("read.cu")
    monkeypatch.setattr(sources, "source", wrong)
    with pytest.raises(BackendUnavailable, match="fails its self-test: wrong ln q of int16"):
        PatePlan(10, 3, 2.0, backend="cuda")


def test_the_host_build_sees_shared_memory_overrun(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    gpu = PatePlan(250, 10, 20.0, [2.0], backend="cuda")
    twin = importlib.import_module("powsim_kernels.pate.cuda")
    real = twin.Tools.tally
    monkeypatch.setattr(twin.Tools, "tally", lambda *a: (real(*a)[0], 20_000))
    with pytest.raises(BackendUnavailable, match="beyond the shared memory"):
        gpu.total(mixed(600, 250, 10).astype(np.int16))


def test_the_constants_are_those_of_the_sources() -> None:
    for file, name, value in (
        ("totals.cu", "ITEMS", f"{sources.ITEMS}u"),
        ("totals.cu", "BUCKETS", f"{sources.BUCKETS}u"),
        ("totals.cu", "BLOCK", str(sources.BLOCK)),
        ("costs.cu", "RUN", "8"),
    ):
        assert f"#define {name} {value}" in sources.source(file)
    plans = SimpleNamespace(num_voters=5000, num_classes=32, mechanism="gnmax", confident=True, screening="theorem6")
    for dtype in ALL_TYPES:
        for classes in (2, 10, 16, 32, 33, 1000):
            plans.num_classes = classes
            _, shared = sources.totalling(plans, dtype, True, 600)  # type: ignore[arg-type]
            assert shared <= sources.SHARED_MOST
