"""The PATE kernels through NVIDIA's compiler: they compile without a device, spill nothing, use what was planned."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nogpu import nvrtc, sass
from powsim_kernels.pate import sources

every_chip = pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_120"])
OTHERS = ("price", "best_orders", "answered", "thresholds", "crossings", "sum_rows")


def plan(classes: int = 10, voters: int = 250, **more: Any) -> Any:
    plain = {"num_classes": classes, "num_voters": voters, "mechanism": "gnmax", "screening": "theorem6"}
    return SimpleNamespace(**{**plain, "confident": False, **more})


def tally(its: Any, dtype: Any, architecture: str, weighted: bool = False) -> bytes:
    options, _ = sources.totalling(its, dtype, weighted, 300)
    return nvrtc.compiled(sources.source("totals.cu"), options, architecture)


def local(ops: Any) -> int:
    """Return how many instructions touch local memory: spilled registers."""
    return sum(n for op, n in ops.items() if op.startswith(("LDL", "STL")))


@every_chip
@pytest.mark.parametrize("classes", [10, 100])
def test_totals_spill_nothing_and_add_without_compare_and_swap(classes: int, architecture: str, tmp_path: Path) -> None:
    ops, registers, stack = sass.usage(tally(plan(classes), np.int16, architecture), tmp_path, "tally")
    assert (local(ops), stack) == (0, 0)
    assert registers <= 80  # three blocks of 256 threads on a multiprocessor
    names = " ".join(ops)
    assert "CAS" not in names  # what a float64 add to shared memory would become
    assert any(op.startswith("RED") and "ADD.F64" in op for op in ops)
    assert sum(n for op, n in ops.items() if op.startswith("ATOMS")) == 1  # the rank of a row in its bucket
    if classes <= 32:
        assert any("128" in op for op in ops if op.startswith("LDG"))  # votes come 16 bytes at a time
    else:
        held = [n for op, n in ops.items() if op.startswith("LDG") and (".U16" in op or ".S16" in op)]
        assert sum(held) == 4  # votes are held, not read again


@pytest.mark.parametrize(
    ("its", "dtype", "weighted"),
    [
        (plan(confident=True), np.int16, True),
        (plan(1000), np.uint8, False),
        (plan(32), np.int64, True),
        (plan(10), np.float64, False),
        (plan(100), np.float32, False),
        (plan(10, 200_000), np.int32, False),
    ],
    ids=["confident", "wide", "eight-bytes", "soft", "wide-soft", "no-table"],
)
def test_every_way_of_reading_spills_nothing(its: Any, dtype: Any, weighted: bool, tmp_path: Path) -> None:
    ops, _, stack = sass.usage(tally(its, dtype, "sm_90", weighted), tmp_path, "tally")
    assert (local(ops), stack) == (0, 0)
    assert not any("CAS" in op for op in ops)


@every_chip
def test_costs_spill_nothing_and_are_stored_whole(architecture: str, tmp_path: Path) -> None:
    cubin = nvrtc.compiled(sources.source("costs.cu"), sources.pricing(plan()), architecture)
    ops, registers, stack = sass.usage(cubin, tmp_path, "price")
    assert (local(ops), stack) == (0, 0)
    assert registers <= 128
    read, _ = sources.reading(plan(), np.int16)
    cubin = nvrtc.compiled(sources.source("read.cu"), read, architecture)
    ops, _, stack = sass.usage(cubin, tmp_path, "read_votes")
    assert (local(ops), stack) == (0, 0)


@pytest.mark.parametrize(
    "more", [{"confident": True}, {"confident": True, "screening": "exact"}, {"mechanism": "lnmax"}], ids=str
)
def test_the_other_mechanisms_compile(more: dict[str, Any], tmp_path: Path) -> None:
    cubin = nvrtc.compiled(sources.source("costs.cu"), sources.pricing(plan(**more), np.float32), "sm_90")
    listing = sass.dump(cubin, tmp_path, "-sass")
    for name in OTHERS:
        assert sass.instructions(listing, name)


def test_the_copy_that_measures_memory_compiles() -> None:
    from powsim_kernels.check import pate

    source = (Path(pate.__file__).parent / "copy.cu").read_text()
    assert nvrtc.compiled(source, ("-std=c++17",), "sm_90")[:4] == b"\x7fELF"
