"""Entries that are written can be run: TOML that reads back, whole or not at all, never over somebody's file."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powsim import target
from powsim.bench import machine, saving
from powsim.bench.machine import Machine, cpu_model, gpu_models
from powsim.bench.measuring import Spread
from powsim.bench.nearest import CLASSES, assumed_watts, by_model, by_rate
from powsim.bench.outcome import Honest, Measured, Outcome, Prices, document
from powsim.bench.solvers import Solver
from powsim.devices import KINDS, PROVENANCE, Device, catalogue
from powsim.own_devices import load_devices
from powsim.results import OutputError

HERE = Machine("AMD EPYC 9634 84-Core Processor", 8, ("NVIDIA H200, driver 570.1",), "Linux x86_64", "powsim 0.1.0")
DEVICE = Device("mine", "Mine", "desktop", "sha256-hashcash", 1e6, 2e6, "measured", 5.0, "assumed", "me", "2026-11-25")


def measured(backend: str, threads: int | None, rate: float, whole: bool, **more: Any) -> Measured:
    spread = Spread(rate, 0.9 * rate, 1.2 * rate)
    return Measured(Solver(backend, threads, whole), spread, spread, spread, spread, spread, spread, **more)


def outcome(*extra: Measured) -> Outcome:
    solvers = (
        measured("cpu:sse2", 1, 1e7, False),
        measured("cpu:sse2", 8, 7e7, True),
        measured("cpu:avx2", 1, 2.123456789e7, False),
        measured("cpu:avx2", 8, 1.5e8, True),
        *extra,
    )
    honest = (
        Honest("hashlib", "Python 3.11", Spread(1e6, 9e5, 1.1e6), None),
        Honest("webcrypto", "Node 20", Spread(5e4, 4e4, 6e4), None),
        Honest("node-crypto", None, None, "node is not on the PATH"),
    )
    return Outcome(HERE, 0.5, 5, "2026-11-25", solvers, honest, ())


def named(devices: list[Device]) -> dict[str, Device]:
    return {device.name: device for device in devices}


def test_one_entry_per_solver_worth_having_with_the_measured_range() -> None:
    found = named(saving.entries(outcome(measured("cuda:0", None, 2e10, True)), "box", Prices()))
    assert list(found) == ["box", "box-thread", "box-hashlib", "box-webcrypto", "box-gpu0"]
    assert (found["box"].rate_low_hz, found["box"].rate_high_hz) == (1.35e8, 1.8e8)
    assert found["box-thread"].rate_low_hz == 1.911e7  # four digits of 0.9 x 21.23 MH/s
    assert (found["box"].kind, found["box-gpu0"].kind) == ("server-cpu", "gpu-datacentre")
    assert (found["box-hashlib"].kind, found["box-webcrypto"].kind) == ("script", "browser")
    assert "H200" in found["box-gpu0"].title
    for device in found.values():
        assert device.kind in KINDS
        assert device.family == "sha256-hashcash"
        assert (device.rate_from, device.date) == ("measured", "2026-11-25")
        assert device.watts_from == "assumed"
        assert device.note is not None
        assert re.search("catalogue's [a-z0-9.-]+, the", device.note)
        assert "AMD EPYC 9634" in device.source
        assert "powsim 0.1.0" in device.source
        assert device.usd_per_h is None
    assert found["box-gpu0"].watts == catalogue()["h200-sxm"].watts  # the same model, not the nearest rate


def test_watts_are_measured_or_given_or_assumed_and_say_which() -> None:
    counted = outcome(measured("cuda:0", None, 2e10, True, watts=612.3, joules_per_hash=3e-8))
    found = named(saving.entries(counted, "box", Prices(usd_per_hour=2.0, watts=160.0)))
    assert (found["box-gpu0"].watts, found["box-gpu0"].watts_from) == (612.3, "measured")
    assert (found["box"].watts, found["box"].watts_from, found["box"].note) == (
        160.0,
        "assumed",
        "watts as given by --watts",
    )
    assert found["box-thread"].watts == found["box-hashlib"].watts == 20.0
    assert "over 8 threads" in str(found["box-thread"].note)
    assert (found["box"].usd_per_h, found["box"].usd_from) == (2.0, "--usd-per-hour")
    assert found["box-thread"].usd_per_h is None  # a thread is not rented alone


def test_several_gpus_are_entries_each_and_a_node_together() -> None:
    gpus = (
        measured("cuda:0", None, 2e10, True),
        measured("cuda:1", None, 1e10, True),
        measured("cuda", None, 3e10, True),
    )
    found = named(saving.entries(outcome(*gpus), "box", Prices()))
    assert list(found)[-3:] == ["box-gpu0", "box-gpu1", "box-gpus"]
    assert [found[name].rate_low_hz for name in list(found)[-3:]] == [1.8e10, 9e9, 2.7e10]
    assert found["box-gpus"].kind == "gpu-node"


def test_what_was_not_measured_or_was_wrong_is_not_saved() -> None:
    wrong = Measured(Solver("cuda:0", None, True), wrong="a wrong nonce")
    found = named(saving.entries(outcome(wrong), "box", Prices()))
    assert "box-gpu0" not in found
    assert "box-node-crypto" not in found
    assert document(outcome(wrong))["solvers"][-1]["wrong_answer"] == "a wrong nonce"


def test_saved_entries_are_devices_again(tmp_path: Path) -> None:
    devices = saving.entries(outcome(), "box", Prices(usd_per_hour=0.1))
    saving.save(tmp_path / "box.toml", devices, "a comment", False)
    back = load_devices(tmp_path / "box.toml")
    assert list(back.values()) == devices
    assert (tmp_path / "box.toml").read_text().startswith("# a comment\n")
    assert stat.S_IMODE((tmp_path / "box.toml").stat().st_mode) & 0o600 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["box.toml"]


LETTER = st.characters(exclude_categories=["Cs"])  # what UTF-8 can hold
NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True, alphabet=LETTER)
RATES = st.floats(1e-3, 1e18)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    NAMES,
    st.text(LETTER, max_size=40),
    st.text(LETTER, max_size=40),
    RATES,
    RATES,
    st.none() | st.text(LETTER, max_size=20),
    st.text(LETTER, max_size=20),
)
def test_any_text_and_rate_comes_back_from_the_file(
    name: str, title: str, source: str, one: float, other: float, note: str | None, comment: str
) -> None:
    device = replace(
        DEVICE,
        name=name,
        title=title or name,
        source=source,
        rate_low_hz=min(one, other),
        rate_high_hz=max(one, other),
        note=note,
    )
    raw = tomllib.loads(saving.toml([device], comment))
    assert raw == {"devices": {name: {k: v for k, v in asdict(device).items() if k != "name" and v is not None}}}


def test_text_without_utf8_is_replaced_and_not_half_written(tmp_path: Path) -> None:
    saving.save(tmp_path / "x.toml", [replace(DEVICE, title="a\udcffb")], "c\udcff\nd", False)
    assert load_devices(tmp_path / "x.toml")["mine"].title == "a?b"


def test_somebodys_file_is_kept_unless_force_is_said(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("precious")
    with pytest.raises(OutputError, match="--force"):
        saving.save(file, [DEVICE], "", False)
    assert file.read_text() == "precious"
    saving.save(file, [DEVICE], "", True)
    assert list(load_devices(file)) == ["mine"]
    (tmp_path / "dangling.toml").symlink_to("nowhere")
    with pytest.raises(OutputError, match="exists"):
        target.check(tmp_path / "dangling.toml", False)
    for path, reason in ((tmp_path, "is a folder"), (tmp_path / "a" / "x.toml", "no folder")):
        for force in (False, True):
            with pytest.raises(OutputError, match=reason):
                target.check(path, force)
    assert not (tmp_path / "a").exists()


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.toml"
    file.write_text("precious")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        saving.save(file, [DEVICE], "", True)
    assert file.read_text() == "precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.toml"]


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "My Box"},
        {"name": ""},
        {"rate_low_hz": 3e6},
        {"watts": -1.0},
        {"kind": "toaster"},
        {"watts": float("nan")},
    ],
    ids=str,
)
def test_what_run_would_not_take_is_not_written(bad: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        saving.save(tmp_path / "x.toml", [replace(DEVICE, **bad)], "", False)
    assert list(tmp_path.iterdir()) == []


def test_the_nearest_entries_are_the_nearest_by_factor_in_their_class() -> None:
    for name, kinds in CLASSES.items():
        rates = {d.name: d.rate_hz for d in catalogue().values() if d.kind in kinds and d.family == "sha256-hashcash"}
        for rate in (1e3, 1e6, 3.3e7, 2e10):
            near = by_rate(rate, kinds, "sha256-hashcash", 2)
            factors = {n: max(rate / r, r / rate) for n, r in rates.items()}
            assert [factors[n.name] for n in near] == pytest.approx(sorted(factors.values())[:2]), name
            assert all(n.ratio == pytest.approx(rate / n.rate_hz) for n in near)
    assert by_rate(1e6, ("desktop",), "no-such-family") == []


def test_a_model_is_found_by_all_words_of_an_entry() -> None:
    gpus = CLASSES["gpu"]
    assert getattr(by_model("NVIDIA GeForce RTX 4090", gpus), "name", None) == "rtx-4090"
    assert by_model("NVIDIA GeForce RTX 9999", gpus) is None
    assert by_model("", gpus) is None
    assert getattr(by_model("NVIDIA A100-PCIE-40GB", gpus), "name", None) == "a100-pcie"
    assert by_model("Quadro RTX 6000", gpus) is None  # not the Ada one
    watts = assumed_watts("NVIDIA GeForce RTX 4090", "gpu-consumer", 1.0, "sha256-hashcash")
    assert watts is not None
    assert watts[0] == catalogue()["rtx-4090"].watts
    assert assumed_watts("unheard of", "gpu-consumer", 0.0, "sha256-hashcash") is None
    assert {device.watts_from for device in catalogue().values()} <= set(PROVENANCE)


def test_the_machine_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: AMD  EPYC 9634 84-Core Processor\nflags : a\n")
    assert cpu_model(tmp_path / "cpuinfo") == "AMD EPYC 9634 84-Core Processor"
    assert cpu_model(tmp_path / "none")
    assert HERE.name == "amd-epyc-9634"
    monkeypatch.setattr(machine.socket, "gethostname", lambda: "Büro-PC_7.local")
    assert replace(HERE, cpu="漢字").name == "b-ro-pc-7-local"
    monkeypatch.setattr(machine.socket, "gethostname", lambda: "漢字")
    assert replace(HERE, cpu="漢字").name == "my-machine"
    assert machine.describe(3).threads == 3


def test_gpus_are_asked_of_the_drivers_tool_where_there_is_one(tmp_path: Path) -> None:
    tool = tmp_path / "smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 570.86'\necho 'NVIDIA L4, 570.86'\n")
    tool.chmod(0o755)
    assert gpu_models(str(tool)) == ("NVIDIA H200, driver 570.86", "NVIDIA L4, driver 570.86")
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpu_models(str(tool)) == ()
    assert gpu_models(str(tmp_path / "none")) == ()
