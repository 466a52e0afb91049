"""Which backend runs: asked for by name it runs or says why not; "auto" never falls back to plain Python."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from powsim_kernels import BACKENDS, BackendUnavailable, geometric, mine, philox, vote_cost, why_not
from powsim_kernels.backend import resolve
from powsim_kernels.threads import over_ranges, thread_count


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """Make `missing` packages look as if they were not installed."""
    real = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> object:
        return None if name in missing else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)


def with_cupy(monkeypatch: pytest.MonkeyPatch, available: bool) -> None:
    """Put a cupy in place that finds a device, or finds none."""
    real = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> object:
        return object() if name == "cupy" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(is_available=lambda: available))


def test_the_backends_are_the_three_of_the_design() -> None:
    assert BACKENDS == ("reference", "cpu", "cuda")


def test_reference_and_cpu_run_on_every_machine() -> None:
    assert why_not("reference") is None
    assert why_not("cpu") is None


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "numba", "auto "], ids=repr)
def test_an_unknown_name_is_a_value_error_that_lists_the_known_ones(name: str) -> None:
    for call in (lambda: why_not(name), lambda: resolve(name, ("reference", "cpu"))):
        with pytest.raises(ValueError, match=r"unknown backend .*: choose one of auto, reference, cpu, cuda"):
            call()


def test_auto_takes_the_fastest_compiled_twin_that_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cupy(monkeypatch, available=True)
    assert resolve("auto", BACKENDS) == "cuda"
    assert resolve("auto", ("reference", "cpu")) == "cpu"
    with_cupy(monkeypatch, available=False)
    assert resolve("auto", BACKENDS) == "cpu"


@pytest.mark.parametrize("offered", [BACKENDS, ("reference", "cpu")], ids=str)
def test_auto_never_picks_the_reference(offered: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "numba", "cupy")
    with pytest.raises(BackendUnavailable, match=r"pip install numba"):
        resolve("auto", offered)


def test_auto_for_a_kernel_with_no_compiled_twin_says_so_and_does_not_pick_the_reference() -> None:
    with pytest.raises(BackendUnavailable):
        resolve("auto", ("reference",))


@pytest.mark.parametrize("kernel", ["philox", "geometric", "vote_cost"])
def test_every_kernel_refuses_rather_than_run_slowly(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {
        "philox": lambda: philox([[0, 0, 0, 0]], 0),
        "geometric": lambda: geometric([[0.5]], key=0, stream=0, identity=[0]),
        "vote_cost": lambda: vote_cost([[1, 2]], sigma=1.0, delta=0.1),
    }
    without(monkeypatch, "numba", "cupy")
    with pytest.raises(BackendUnavailable, match=r"cpu.* cannot run: numba is not installed: run `pip install numba`"):
        calls[kernel]()


@pytest.mark.parametrize("missing", ["numba", "llvmlite"])
def test_mining_without_its_compiler_names_the_cure(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, missing, "cupy")
    for backend in ("auto", "cpu", "cpu:sse2"):
        with pytest.raises(BackendUnavailable, match=rf"{missing} is not installed: run `pip install {missing}`"):
            mine(b"", 1, backend=backend)


@pytest.mark.parametrize("threads", [1.5, "2", True], ids=repr)
def test_threads_of_another_kind_are_refused_by_name(threads: object) -> None:
    with pytest.raises(TypeError, match=rf"threads={threads!r} must be an integer"):
        thread_count(threads)  # type: ignore[arg-type]


def test_a_backend_that_is_no_text_is_unknown() -> None:
    with pytest.raises(ValueError, match="unknown backend None"):
        mine(b"", 1, backend=None)  # type: ignore[arg-type]


def test_an_unavailable_backend_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "numba", "cupy")
    with pytest.raises(BackendUnavailable, match=r"numba is not installed: run `pip install numba`"):
        resolve("cpu", BACKENDS)
    with pytest.raises(BackendUnavailable, match=r"cupy is not installed: run `pip install 'powsim\[cuda12\]'`"):
        resolve("cuda", BACKENDS)
    with_cupy(monkeypatch, available=False)
    with pytest.raises(BackendUnavailable, match=r"no CUDA device .*: use backend='cpu'"):
        resolve("cuda", BACKENDS)


def test_a_twin_that_a_kernel_lacks_is_unavailable_and_the_others_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cupy(monkeypatch, available=True)
    with pytest.raises(BackendUnavailable, match="this kernel has no cuda twin yet: use one of auto, reference, cpu"):
        resolve("cuda", ("reference", "cpu"))


def test_a_backend_that_was_named_is_the_one_that_runs() -> None:
    assert resolve("reference", ("reference", "cpu")) == "reference"
    assert resolve("cpu", ("reference", "cpu")) == "cpu"


def test_unavailable_is_no_value_error_so_that_callers_can_tell_them_apart() -> None:
    assert issubclass(BackendUnavailable, RuntimeError)
    assert not issubclass(BackendUnavailable, ValueError)


def test_threads_default_to_the_processors_of_this_process() -> None:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert thread_count(None) == count
    assert thread_count(3) == 3


@pytest.mark.parametrize("threads", [0, -1])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_fewer_than_one_thread_is_refused_whatever_runs(threads: int, backend: str) -> None:
    with pytest.raises(ValueError, match=rf"threads={threads} must be at least 1"):
        philox([[0, 0, 0, 0]], 0, threads=threads, backend=backend)


@pytest.mark.parametrize("total", [0, 1, 7, 64, 65, 1000])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("grain", [1, 64])
def test_ranges_cover_every_row_exactly_once(total: int, threads: int, grain: int) -> None:
    seen = np.zeros(total, int)
    lock = threading.Lock()

    def work(begin: int, end: int) -> None:
        with lock:
            seen[begin:end] += 1

    over_ranges(work, total, threads=threads, grain=grain)
    assert np.all(seen == 1)


def test_an_error_in_a_worker_reaches_the_caller() -> None:
    def work(begin: int, end: int) -> None:
        if begin > 0:
            raise ArithmeticError("row 8")

    with pytest.raises(ArithmeticError, match="row 8"):
        over_ranges(work, 32, threads=2, grain=1)


def test_a_kernel_can_be_used_from_many_python_threads_at_once() -> None:
    counters = np.arange(80_000, dtype=np.uint32).reshape(-1, 4)
    truth = philox(counters, 3, threads=1)
    results: list[np.ndarray] = []
    workers = [threading.Thread(target=lambda: results.append(philox(counters, 3, threads=2))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    assert all(np.array_equal(result, truth) for result in results)
