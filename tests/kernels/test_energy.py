"""Joules from counters that wrap round, that hide, and that are not there."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from powsim_kernels import mine
from powsim_kernels.energy import Rapl
from powsim_kernels.sha256 import cpu, reference
from powsim_kernels.sha256 import search as search_module

BACKENDS = ("reference", cpu.paths()[0])


def zone(folder: Path, number: str, name: str, microjoules: int, limit: int = 10**9) -> Path:
    path = folder / f"intel-rapl:{number}"
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text(f"{limit}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    return path / "energy_uj"


def test_packages_add_up_and_their_parts_do_not_count_twice(tmp_path: Path) -> None:
    first, second = zone(tmp_path, "0", "package-0", 5_000_000), zone(tmp_path, "1", "package-1", 7_000_000)
    core, psys = zone(tmp_path, "0:0", "core", 0), zone(tmp_path, "2", "psys", 0)
    rapl = Rapl(tmp_path)
    assert rapl.joules() == 0.0
    first.write_text("6500000")
    second.write_text("7250000")
    for other in (core, psys):
        other.write_text("900000000")
    assert rapl.joules() == 1.75
    assert rapl.joules() == 1.75


def test_a_counter_that_wraps_round_goes_on(tmp_path: Path) -> None:
    file = zone(tmp_path, "0", "package-0", 999_000_000, limit=999_999_999)
    rapl = Rapl(tmp_path)
    for microjoules, total in ((500_000, 1.5), (999_500_000, 1000.5), (0, 1001.0)):
        file.write_text(str(microjoules))
        assert rapl.joules() == total


def test_nothing_is_invented_where_nothing_can_be_read(tmp_path: Path) -> None:
    assert Rapl(tmp_path / "none").joules() is None
    zone(tmp_path, "0", "package-0", 1).write_text("what?")
    assert Rapl(tmp_path).joules() is None


def test_packages_of_one_name_both_count(tmp_path: Path) -> None:
    files = [zone(tmp_path, number, "package-0", 0) for number in "01"]
    rapl = Rapl(tmp_path)
    for file in files:
        file.write_text("1000000")
    assert rapl.joules() == 2.0


def test_readings_from_many_threads_add_up(tmp_path: Path) -> None:
    file = zone(tmp_path, "0", "package-0", 0)
    rapl, before = Rapl(tmp_path), sys.getswitchinterval()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            rapl.joules()

    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        other = file.with_name("next")
        for microjoules in range(0, 3000, 3):
            other.write_text(str(microjoules))
            other.replace(file)
        over.set()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert rapl.joules() == pytest.approx(2997e-6)


def test_a_counter_that_disappears_keeps_its_total(tmp_path: Path) -> None:
    file = zone(tmp_path, "0", "package-0", 0)
    rapl = Rapl(tmp_path)
    file.write_text("2000000")
    assert rapl.joules() == 2.0
    file.unlink()
    assert rapl.joules() == 2.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_search_tells_its_joules_or_that_it_cannot(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter((10.0, 12.5, None, 3.0))
    twin = {"reference": reference}.get(backend) or cpu.twin(backend)
    mine(b"", 0, backend=backend)  # its self-test does not read them
    monkeypatch.setattr(twin, "energy_j", lambda: next(readings))
    assert mine(b"a", 1, backend=backend).joules == 2.5
    assert mine(b"a", 1, backend=backend).joules is None


def test_long_searches_read_the_counter_before_it_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[None] = []
    monkeypatch.setattr(search_module, "ENERGY_S", 0.0)
    monkeypatch.setattr(cpu.twin(BACKENDS[1]), "energy_j", lambda: reads.append(None))
    mine(b"a", 64, limit=1 << 23, backend=BACKENDS[1])
    assert len(reads) > 2
