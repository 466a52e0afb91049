"""The shipped devices: every entry complete, sourced and in range."""

from __future__ import annotations

import math
import re
import tomllib
from importlib import resources

import pytest

from powsim.devices import KINDS, PROVENANCE, Device, catalogue, closest
from powsim.devices.shipped import source_text

EVERY = pytest.mark.parametrize("device", catalogue().values(), ids=list(catalogue()))
FILES = {
    entry.name: tomllib.loads(entry.read_text(encoding="utf-8"))
    for entry in resources.files("powsim.devices").iterdir()
    if entry.name.endswith(".toml")
}


def test_there_are_at_least_forty_and_none_is_listed_twice() -> None:
    names = [name for file in FILES.values() for name in file["device"]]
    assert len(catalogue()) == len(names) == len(set(names)) >= 40
    assert set(catalogue()) == set(names)


@pytest.mark.parametrize("name", ["laptop-native", "rtx-4090", "8x-h100-sxm", "paper-python-solver"])
def test_the_devices_that_others_name_are_there_and_solve_hashcash(name: str) -> None:
    assert catalogue()[name].family == "sha256-hashcash"


@EVERY
def test_every_field_of_a_device_is_valid(device: Device) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", device.name)
    assert catalogue()[device.name] is device
    assert device.title.strip()
    assert device.kind in KINDS
    assert device.family in ("sha256-hashcash", "equix", "hashwx")
    assert 0 < device.rate_low_hz <= device.rate_high_hz < 1e15
    assert device.rate_from in PROVENANCE
    assert device.watts_from in PROVENANCE
    assert math.isfinite(device.watts)
    assert 0 <= device.watts < 1e8  # a botnet of 100,000 PCs draws megawatts
    assert re.fullmatch(r"20[012]\d(-(0[1-9]|1[0-2])(-[0-3]\d)?)?", device.date)
    assert device.note is None or device.note.strip()


@EVERY
def test_every_source_is_written_out(device: Device) -> None:
    text = source_text(device.source)
    assert text != device.source
    assert len(text) > 20


@EVERY
def test_a_rent_has_a_source_and_a_source_has_a_rent(device: Device) -> None:
    assert (device.usd_per_h is None) == (device.usd_from is None)
    if device.usd_per_h is not None:
        assert 0 < device.usd_per_h < 1000
        assert device.usd_from
        assert device.usd_from.strip()


@EVERY
def test_the_rate_is_the_geometric_middle_of_its_range(device: Device) -> None:
    middle = math.exp((math.log(device.rate_low_hz) + math.log(device.rate_high_hz)) / 2)
    assert device.rate_hz == pytest.approx(middle, rel=1e-12)
    assert device.rate_low_hz * (1 - 1e-12) <= device.rate_hz <= device.rate_high_hz * (1 + 1e-12)


def test_every_kind_and_every_source_is_used() -> None:
    assert {device.kind for device in catalogue().values()} == set(KINDS)
    sources = [key for file in FILES.values() for key in file["sources"]]
    assert len(sources) == len(set(sources))
    assert {device.source for device in catalogue().values()} == set(sources)


def test_the_papers_solver_is_slow_and_a_gpu_node_is_not() -> None:
    solver, node = catalogue()["paper-python-solver"], catalogue()["8x-h100-sxm"]
    assert 0.09e6 <= solver.rate_low_hz <= 0.44e6 <= solver.rate_high_hz <= 1.46e6
    # paper.md 3.5: a public H100 figure is 16.2 GH/s a card; eight of them, within a fifth.
    assert node.rate_hz == pytest.approx(8 * 16.2e9, rel=0.2)
    assert catalogue()["rtx-4090"].rate_hz == pytest.approx(21.5e9, rel=0.1)


def test_the_catalogue_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        catalogue()["new"] = catalogue()["rtx-4090"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        catalogue()["rtx-4090"].watts = 1.0  # type: ignore[misc]


def test_a_text_that_is_no_key_stands_for_itself() -> None:
    assert source_text("measured by me on a train") == "measured by me on a train"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("rtx4090", "rtx-4090"),
        ("RTX-4090", "rtx-4090"),
        ("rtx_4090", "rtx-4090"),
        ("laptop_native", "laptop-native"),
        ("h100", "h100-sxm"),
        ("8xh100-sxm", "8x-h100-sxm"),
        ("paper-solver", "paper-python-solver"),
    ],
)
def test_a_mistyped_device_is_answered_with_what_was_meant(typed: str, meant: str) -> None:
    found = closest(typed, catalogue())
    assert meant in found
    assert len(found) <= 3
    assert len(set(found)) == len(found)
    assert all(name in catalogue() for name in found)


@pytest.mark.parametrize("typed", ["", "zzzzzz", "quantum"])
def test_nothing_is_suggested_where_nothing_is_close(typed: str) -> None:
    assert closest(typed, catalogue()) == []
