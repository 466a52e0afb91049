"""Ledgers on the GPU: launches on an imagined machine, the source through NVIDIA's compiler, a device if any."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
import pytest

from ledger_plans import CLOCKS, PRICES, SOURCES, WHO, assert_same, plan
from nogpu import nvrtc
from nogpu.fake_cupy import Machine
from nogpu.ledgers import simulate
from nogpu.machine import install
from powsim_kernels import BackendUnavailable, why_not
from powsim_kernels.ledgers import simulate_ledgers
from powsim_kernels.ledgers.layout import SUMS
from powsim_kernels.ledgers.source import OPTIONS, source

__all__ = ["install"]  # a fixture
Install = Callable[..., Machine]


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_120"])
def test_the_source_compiles(architecture: str) -> None:
    assert nvrtc.compiled(source(), OPTIONS, architecture)[:4] == b"\x7fELF"


@pytest.mark.parametrize("chunk", [64, 100, 1 << 18])
def test_the_launch_layer_gives_the_cpus_bits(install: Install, chunk: int) -> None:
    install()
    for parts in (("published", "trace"), ("all", "renyi", "thinking"), ("calibrated", "bank", "paced", "accounts")):
        made = plan(*parts, sub_puzzles=3)
        more = {"histograms": SUMS, "rows": True}
        got = simulate_ledgers(made, 30, 250, backend="cuda", chunk=chunk, **more)
        assert_same(got, simulate_ledgers(made, 30, 250, backend="cpu", **more))


def test_blocks_are_added_in_order_in_groups_of_any_seed() -> None:
    made = plan("published", "trace")
    for begin, end, seed in ((70, 64 * 37 + 5, 0), (0, 64 * 32, 3)):  # a warp adds 32 blocks at a time
        got, right = (
            simulate(made, begin, end, SUMS, seed),
            simulate_ledgers(made, begin, end, histograms=SUMS, rows=True, backend="cpu"),
        )
        assert_same(got, right)


def test_nothing_is_launched_for_nobody(install: Install) -> None:
    machine = install()
    simulate_ledgers(plan(), 5, 6, backend="cuda")  # which tests the device first
    before = len(machine.launched)
    assert simulate_ledgers(plan(), 5, 5, backend="cuda").totals.count("identities") == 0
    assert len(machine.launched) == before


def test_a_fault_names_its_cause_and_cure(install: Install) -> None:
    install(Machine(broken={"add_blocks"}))
    with pytest.raises(BackendUnavailable, match=r"illegal memory access.*use backend='cpu'"):
        simulate_ledgers(plan(), 0, 10, backend="cuda")
    install(Machine(nvrtc=False))
    with pytest.raises(BackendUnavailable, match="nvrtc"):
        simulate_ledgers(plan(), 0, 10, backend="cuda")
    with pytest.warns(RuntimeWarning, match="backend='auto' uses the CPU"):
        simulate_ledgers(plan(), 0, 10)


def test_a_device_that_answers_wrong_is_not_used(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    twin = importlib.import_module("powsim_kernels.ledgers.cuda")
    right = twin.source()
    monkeypatch.setattr(twin, "source", lambda: right.replace("hashes += tries;", "hashes += tries + 1;"))
    with pytest.raises(BackendUnavailable, match="wrong answers"):
        simulate_ledgers(plan(), 0, 10, backend="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(why_not("cuda") is not None, reason=str(why_not("cuda")))
def test_a_real_device_has_the_cpus_bits() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        made = plan(*(str(rng.choice(list(group))) for group in (PRICES, SOURCES, CLOCKS, WHO)), sub_puzzles=3)
        more = {"histograms": SUMS, "rows": True}
        assert_same(
            simulate_ledgers(made, 0, 5000, backend="cuda", **more),
            simulate_ledgers(made, 0, 5000, backend="cpu", **more),
        )
