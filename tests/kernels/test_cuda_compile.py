"""The CUDA sources through NVIDIA's compiler, without a device: they compile, and cost what was counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nogpu import nvrtc, sass
from powsim_kernels.check.counted import COUNTED
from powsim_kernels.sha256.variants import ARCHITECTURES, DEFAULT, VARIANTS, source


@pytest.mark.parametrize(("architecture", "word"), [*((name, 12) for name in ARCHITECTURES), ("sm_90", 9)])
def test_every_variant_compiles_for_every_architecture(architecture: str, word: int) -> None:
    # Two at a time: the compiler works without Python's lock.
    with ThreadPoolExecutor(2) as pool:
        cubins = list(pool.map(lambda variant: nvrtc.miner(variant, word, architecture), VARIANTS.values()))
    assert len({cubin[:4] for cubin in cubins}) == 1
    assert cubins[0][:4] == b"\x7fELF"
    # Each macro reaches the code, else two variants would be one.
    assert len(set(cubins)) == len(VARIANTS)


def test_the_default_compiles_for_every_position_of_the_nonce() -> None:
    with ThreadPoolExecutor(2) as pool:
        cubins = list(pool.map(lambda word: nvrtc.miner(DEFAULT, word, "sm_90"), range(1, 14)))
    assert len(set(cubins)) == 13


@pytest.mark.parametrize("file", ["messages.cu", "pipes.cu"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_other_kernels_compile_for_every_architecture(file: str, architecture: str) -> None:
    assert nvrtc.compiled(source(file), ("-std=c++17",), architecture)[:4] == b"\x7fELF"
    assert [bytes([i])[0] for i in range(256)] == list(range(256))  # nothing was written into Python's own bytes


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_120"])
def test_the_default_keeps_both_pipes_busy(architecture: str, tmp_path: Path) -> None:
    """The goal of the issue, at block word 9: gpu_sha.md counted 780, 641 and 1349 for its prototype."""
    counts = sass.count(nvrtc.miner(DEFAULT, 9, architecture), tmp_path)
    assert counts.alu <= 785
    assert counts.fma <= 645
    assert counts.loop <= 1360
    assert (counts.local, counts.stack) == (0, 0)  # no spilled registers, in the loop or out of it
    assert counts.registers <= 128  # what four blocks of 128 threads leave to a thread
    best = sass.count(nvrtc.miner(DEFAULT, 12, architecture), tmp_path)
    assert best.clocks < 11.5 < counts.clocks < 12.2
    assert (best.local, best.stack) == (0, 0)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_cost_what_the_check_predicts(name: str, tmp_path: Path) -> None:
    # A change here is a change of speed. Compilers of other versions differ by a few instructions.
    for word in (12, 9) if VARIANTS[name] is DEFAULT else (12,):
        counts = sass.count(nvrtc.miner(VARIANTS[name], word, "sm_90"), tmp_path)
        assert (counts.alu, counts.fma, counts.loop) == pytest.approx(COUNTED[name][word], abs=6)
        assert counts.local == 0


def test_the_counter_sees_a_spill_and_each_pipe(tmp_path: Path) -> None:
    starved = DEFAULT._replace(min_blocks=8)
    assert sass.count(nvrtc.miner(starved, 12, "sm_90"), tmp_path).local > 0
    plain, shifts = (sass.count(nvrtc.miner(VARIANTS[name], 12, "sm_90"), tmp_path) for name in ("plain", "shifts"))
    # 34 schedule words with two plain shifts each go from one pipe to two slots of the other.
    assert (plain.alu - shifts.alu, shifts.fma - plain.fma) == (68, 136)
