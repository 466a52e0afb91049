"""Fixtures: a machine with imagined GPUs in place of this one."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from nogpu.fake_cupy import Machine
from powsim_kernels import choice, why_not
from powsim_kernels.sha256 import contract, tune
from powsim_kernels.sha256.variants import DEFAULT

TWIN = "powsim_kernels.sha256.cuda"
TWINS = (
    TWIN,
    "powsim_kernels.pate.cuda",
    "powsim_kernels.ledgers.cuda",
    "powsim_kernels.check.cuda",
    "powsim_kernels.cuda",
)


def forget() -> None:
    """Drop what was learnt of the machine, the twin on it included."""
    contract._twin.cache_clear()
    contract._cuda_fault.cache_clear()
    choice._cuda_fault.cache_clear()
    for name in TWINS:
        sys.modules.pop(name, None)
        package = sys.modules.get(name.rpartition(".")[0])
        if hasattr(package, "cuda"):
            del package.cuda


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """Return a function that puts a machine in place; autotuning is left out unless it is asked for."""

    def put(machine: Machine | None = None, *, tuned: bool = False) -> Machine:
        forget()
        machine = machine or Machine()
        cupy = machine.cupy
        cupy.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setattr(tune, "user_cache", lambda: tmp_path / "powsim")
        if not tuned:
            monkeypatch.setattr(tune, "choose", lambda device: DEFAULT)
        return machine

    yield put
    forget()


@pytest.fixture
def cuda(install: Callable[..., Machine]) -> ModuleType:
    """Return the module of the CUDA twin on a machine with one GPU."""
    install()
    return importlib.import_module(TWIN)


@pytest.fixture
def imagined(request: pytest.FixtureRequest) -> Machine | None:
    """Put a machine with one imagined GPU in place for tests of the twin "cuda", where this one has no GPU."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is None or callspec.params.get("backend") != "cuda" or why_not("cuda") is None:
        return None
    machine: Machine = request.getfixturevalue("install")()
    return machine
