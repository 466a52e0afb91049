"""The choice of a variant: measured by the device's clock among right ones, remembered, never trusted blindly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mining import lowest, noise
from nogpu.fake_cupy import Machine
from nogpu.machine import install
from powsim_kernels import BackendUnavailable, mine
from powsim_kernels.folders import read_json, write_json
from powsim_kernels.sha256 import contract, tune, variants
from powsim_kernels.sha256.variants import DEFAULT_WORD, VARIANTS, Variant

__all__ = ["install"]  # a fixture

Install = Callable[..., Machine]


def options_of(name: str) -> tuple[str, ...]:
    return variants.options(VARIANTS[name], DEFAULT_WORD)


def fastest(name: str) -> Callable[[tuple[str, ...]], float]:
    """Return a device clock by which one variant takes half the time of the others."""
    return lambda options: 0.02 if options == options_of(name) else 0.04


def chosen() -> list[str]:
    return [device.variant.name for device in contract._twin("cuda").devices]


def test_the_autotuning_puzzle_fills_the_default_word() -> None:
    place = len(tune.CHALLENGE) % 64
    assert ((place + 7) // 4, (place + 7) % 4) == (DEFAULT_WORD, 3)
    assert tune.answers() == [lowest(tune.CHALLENGE, bits) for bits in tune.BITS]


@pytest.mark.parametrize("name", ["plain", "rotated", "crowded"])
def test_the_fastest_variant_is_taken_and_remembered(install: Install, tmp_path: Path, name: str) -> None:
    install(Machine(seconds=fastest(name)), tuned=True)
    assert chosen() == [name]
    (entry,) = json.loads((tmp_path / "powsim" / "cuda.json").read_text()).values()
    assert entry["variant"] == name
    assert set(entry["hashes_per_s"]) == set(VARIANTS)
    assert entry["hashes_per_s"][name] == max(entry["hashes_per_s"].values())
    again = install(Machine(seconds=fastest("adds")), tuned=True)
    assert chosen() == [name]
    assert {options for _, kernel, options in again.launched if kernel == "mine_tiles"} == {
        variants.options(VARIANTS[name], 5)  # the self-test alone
    }


def test_another_device_driver_or_source_is_measured_anew(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(Machine(seconds=fastest("plain")), tuned=True)
    assert chosen() == ["plain"]
    install(Machine(names=("Imagined GPU", "Other"), seconds=fastest("adds")), tuned=True)
    assert chosen() == ["plain", "adds"]
    monkeypatch.setattr(tune, "source_digest", lambda: "changed")
    install(Machine(seconds=fastest("shifts")), tuned=True)
    assert chosen() == ["shifts"]
    assert len(json.loads((tmp_path / "powsim" / "cuda.json").read_text())) == 3


def test_devices_of_one_kind_are_measured_once(install: Install) -> None:
    machine = install(Machine(names=("A", "A"), seconds=fastest("plain")), tuned=True)
    assert chosen() == ["plain", "plain"]
    tried = {(device, options) for device, kernel, options in machine.launched if kernel == "mine_tiles"}
    assert (0, options_of("adds")) in tried
    assert (1, options_of("adds")) not in tried


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 1}', "\x00"])
def test_a_spoiled_memory_is_replaced(install: Install, tmp_path: Path, text: str) -> None:
    path = tmp_path / "powsim" / "cuda.json"
    path.parent.mkdir()
    path.write_text(text)
    install(Machine(seconds=fastest("plain")), tuned=True)
    assert chosen() == ["plain"]
    assert any(isinstance(entry, dict) for entry in json.loads(path.read_text()).values())


@pytest.mark.parametrize("entry", [7, {}, {"variant": "gone"}, {"variant": ["plain"]}])
def test_a_spoiled_entry_is_measured_anew(install: Install, tmp_path: Path, entry: object) -> None:
    install(Machine(seconds=fastest("plain")), tuned=True)
    chosen()
    path = tmp_path / "powsim" / "cuda.json"
    (key,) = read_json(path)
    write_json(path, {key: entry})
    install(Machine(seconds=fastest("adds")), tuned=True)
    assert chosen() == ["adds"]


def test_a_memory_that_cannot_be_written_is_no_error(install: Install, tmp_path: Path) -> None:
    (tmp_path / "powsim").write_text("a file where the folder should be")
    install(Machine(seconds=fastest("plain")), tuned=True)
    assert chosen() == ["plain"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_variant_that_does_not_compile_is_passed_over(install: Install) -> None:
    install(Machine(seconds=fastest("plain"), refused=lambda options: options == options_of("plain")), tuned=True)
    assert chosen()[0] != "plain"
    assert mine([noise(44, 1)], 8, backend="cuda").nonce.tolist() == [lowest(noise(44, 1), 8)]


def test_a_variant_with_wrong_answers_is_passed_over(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    right = tune.is_right
    monkeypatch.setattr(tune, "is_right", lambda device, variant: variant.name != "plain" and right(device, variant))
    install(Machine(seconds=fastest("plain")), tuned=True)
    assert chosen()[0] != "plain"


def test_a_device_without_a_right_variant_is_unavailable(install: Install, tmp_path: Path) -> None:
    wrong = {"-DADD_MASK=0", "-DADD_MASK=126"}
    install(Machine(seconds=fastest("plain"), refused=lambda options: bool({*options} - wrong)), tuned=True)
    with pytest.raises(BackendUnavailable, match=r"no variant of the CUDA miner works on Imagined.*plain: .*refused"):
        mine(b"a", 1, backend="cuda")
    assert not (tmp_path / "powsim" / "cuda.json").exists()


class Device:
    """A device whose clock is exact and whose answers can be wrong."""

    identity = "a device"

    def __init__(self, hashes_per_s: float, shift: int = 0) -> None:
        self.hashes_per_s, self.shift, self.total_s = hashes_per_s, shift, 0.0

    def compile(self, variant: Variant, word: int) -> None:
        pass

    def trial(
        self, variant: Variant, challenge: bytes, begin: int, count: int, limits: np.ndarray
    ) -> tuple[np.ndarray, float]:
        seconds = 1e-5 + count / self.hashes_per_s
        self.total_s += seconds
        return np.array(tune.answers(), np.uint64) + np.uint64(self.shift), seconds


@pytest.mark.parametrize("hashes_per_s", [1e9, 2e10, 1e11])
def test_rates_are_exact_to_a_percent_and_measured_within_a_second(hashes_per_s: float) -> None:
    device = Device(hashes_per_s)
    rates = tune.measure(device)
    assert set(rates) == set(VARIANTS)
    assert list(rates.values()) == pytest.approx([hashes_per_s] * len(VARIANTS), rel=0.01)
    assert device.total_s < 1.0


def test_a_nonce_beside_the_lowest_is_wrong() -> None:
    assert tune.is_right(Device(1e9), VARIANTS["plain"])
    assert not tune.is_right(Device(1e9, shift=1), VARIANTS["plain"])
