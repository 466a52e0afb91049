"""The command `python -m powsim_kernels.check`, end to end on an imagined GPU, and its refusal without one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from nogpu.fake_cupy import Machine
from nogpu.machine import install
from powsim_kernels.check import ledgers, measure, pate
from powsim_kernels.check.__main__ import main
from powsim_kernels.check.answers import answers
from powsim_kernels.check.counted import COUNTED, clocks
from powsim_kernels.sha256 import nvml, tune
from powsim_kernels.sha256.variants import VARIANTS

__all__ = ["install"]  # a fixture

Install = Callable[..., Machine]
BUS = "0000:00:00.0"


class NVMLError(Exception):
    pass


def imagined_nvml(machine: Machine, watts: float = 700.0, deaf: tuple[str, ...] = ()) -> SimpleNamespace:
    """Return a pynvml whose device draws `watts` while its clock runs."""

    def refuse(*_: object) -> None:
        raise NVMLError("Not Supported")

    module = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByPciBusId=lambda bus: bus,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: int(machine.now * watts * 1000),
        nvmlSystemGetDriverVersion=lambda: "580.1",
        nvmlDeviceGetPowerUsage=lambda handle: int(watts * 1000),
        nvmlDeviceGetEnforcedPowerLimit=lambda handle: 700_000,
        nvmlDeviceGetClockInfo=lambda handle, kind: 1500,
        nvmlDeviceGetMaxClockInfo=lambda handle, kind: 1980,
        nvmlDeviceGetTemperature=lambda handle, kind: 40,
    )
    for name in deaf:
        setattr(module, name, refuse)
    return module


def clock(options: tuple[str, ...]) -> float:
    """Return what a launch takes by the device's clock: a search 20 ms, anything else next to nothing."""
    return 0.02 if any(option.startswith("-DNW") for option in options) else 1e-6


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    # Host timings are no rates: two steps of the search for a measurable count are enough.
    monkeypatch.setattr(tune, "TIMED_S", 0.002)
    # Other numbers of classes are other builds, and test_cuda_pate has them.
    monkeypatch.setattr(sys.modules[main.__module__], "QUICK", replace(measure.QUICK, classes=(10,)))


def test_a_check_writes_one_file_that_answers_the_checklist(
    install: Install, quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = install(Machine(seconds=clock))
    monkeypatch.setitem(sys.modules, "pynvml", imagined_nvml(machine))
    out = tmp_path / "check.json"
    assert main(["--quick", "--out", str(out)]) == 0
    assert list(tmp_path.glob("check.json*")) == [out]
    found = json.loads(out.read_text())
    assert (found["quick"], found["ended"], found["all_right"]) == (True, True, True)
    assert set(found) == {"quick", "ended", "all_right", *measure.SECTIONS, "answers"}
    about = found["machine"]
    assert about["device"] == "Imagined GPU"
    assert list(about["idle"]) == ["driver", "watts", "limit_watts", "sm_mhz", "sm_max_mhz", "celsius"]
    assert list(about["idle"].values()) == ["580.1", 700.0, 700.0, 1500, 1980, 40]
    assert all(word in about["versions"] for word in ("driver 13000", "CuPy 14.2.0", "NVRTC 13.5", "NumPy", "Python"))
    assert set(found["pipes"]["operations_per_clock"]) == set(measure.PIPES)
    assert found["correctness"] == {"wrong": [], "variants": 7, "digests": 257, "lengths": 4}
    rows = found["rates"]["rows"]
    assert {(row["variant"], row["word"]) for row in rows} == {(name, 12) for name in VARIANTS}
    for row in rows:
        assert row["hashes_per_s"] == pytest.approx(row["hashes"] / 0.02)
        assert row["clocks_per_hash"] == pytest.approx(2 * 1.5e9 / row["hashes_per_s"])
        assert row["counted_hashes_per_s"] == pytest.approx(2 * 1.5e9 / clocks(row["variant"], row["word"]))
        assert row["share_of_counted"] == pytest.approx(row["counted_clocks_per_hash"] / row["clocks_per_hash"])
        assert row["j_per_gh"] == pytest.approx(0.02 * 700 / row["hashes"] * 1e9, rel=0.01)
    assert [(row["bits"], row["puzzles"], row["wrong"]) for row in found["batches"]["rows"]] == [(4, 40, 0), (8, 8, 0)]
    assert {question[0] for question in found["answers"]} == set("123456789")
    assert found["pate"]["wrong"] == []
    assert [row["name"] for row in found["pate"]["rows"]] == [case.name for case in pate.CASES]
    assert found["pate"]["copy_bytes_per_s"] == pytest.approx(2 * 2**16 / 1e-6)
    for row in found["pate"]["rows"]:
        assert row["rows_per_s"] == pytest.approx(row["rows"] / row["seconds"])
    assert found["ledgers"]["wrong"] == []
    assert [row["name"] for row in found["ledgers"]["rows"]] == list(ledgers.CASES)
    for row in found["ledgers"]["rows"]:
        assert row["queries_per_s"] == pytest.approx(row["queries"] / row["seconds"])
        assert row["times_cpu"] == pytest.approx(row["queries_per_s"] / row["cpu_queries_per_s"])
    assert "wrote" in capsys.readouterr().out


def test_without_a_gpu_it_says_so_and_writes_nothing(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "check.json"
    for machine, text in (
        (Machine(driver=False), "no CUDA device or driver was found"),
        (Machine(nvrtc=False), "pip install nvidia-cuda-nvrtc"),
        (Machine(refused=lambda options: True), "no variant of the CUDA miner works"),
    ):
        install(machine, tuned=True)
        assert main(["--quick", "--out", str(out)]) == 2
        assert text in capsys.readouterr().err
        assert not out.exists()


def test_the_command_itself_refuses_this_machine_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "powsim_kernels.check", "--out", "x.json"]
    hidden = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(measure.__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=hidden, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "backend 'cuda' cannot run: " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_or_device_is_refused_before_the_work(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = install()
    assert main(["--out", str(tmp_path / "no" / "x.json")]) == 2
    assert "make the folder" in capsys.readouterr().err
    assert main(["--out", str(tmp_path / "x.json"), "--device", "3"]) == 2
    assert "CUDA shows 1 device: use 'cuda:0'" in capsys.readouterr().err
    assert machine.launched == []


def test_a_failed_section_is_named_and_the_others_are_kept(
    install: Install, quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = install(Machine(seconds=clock))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    machine.broken.add("shf_imad")
    out = tmp_path / "check.json"
    assert main(["--quick", "--out", str(out)]) == 1
    found = json.loads(out.read_text())
    assert not found["all_right"]
    assert "cudaErrorIllegalAddress" in found["pipes"]["error"]
    assert found["rates"]["rows"][0]["j_per_gh"] is None
    assert found["answers"]["7 energy"].startswith("not told")
    assert "pipes FAILED" in capsys.readouterr().err


def test_wrong_answers_are_reported(
    install: Install, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(Machine(seconds=clock))
    right = tune.is_right
    monkeypatch.setattr(tune, "is_right", lambda device, v, c=tune.CHALLENGE: v.name != "adds" and right(device, v, c))
    out = tmp_path / "check.json"
    assert main(["--quick", "--out", str(out)]) == 1
    found = json.loads(out.read_text())
    assert found["correctness"]["wrong"] == ["adds at word 12"]
    assert found["answers"]["3 is every answer right"] == "no: adds at word 12"


def test_a_slow_variant_is_listed_for_a_profile() -> None:
    row = {"word": 12, "clock_hz": 1e9, "counted_hashes_per_s": 2e10, "j_per_gh": None}
    rows = [
        {**row, "variant": "plain", "hashes_per_s": 1.9e10, "share_of_counted": 0.95},
        {**row, "variant": "balanced", "hashes_per_s": 1.5e10, "share_of_counted": 0.75},
    ]
    told = answers({"rates": {"rows": rows}})
    assert told["3 best at word 12"] == "plain: 19 GH/s, 95% of the counted 20"
    assert told["4 below 90 % of the counted rate, to be profiled with ncu"] == "balanced at 12"


def test_counted_costs_cover_every_variant_and_word() -> None:
    assert set(COUNTED) == set(VARIANTS)
    assert all(set(words) == set(measure.WORDS) for words in COUNTED.values())
    assert clocks("balanced", 9) == 12.0


@pytest.mark.parametrize("word", range(1, 14))
def test_the_challenges_end_in_their_word_and_fill_it(word: int) -> None:
    place = len(measure.challenge_of(word))
    assert (place + 7) // 4 == word
    assert (place + 7) % 4 == (2 if word == 13 else 3)  # three bytes are the most that word 13 takes


def test_energy_is_summed_and_absent_where_it_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(now=3.0)
    monkeypatch.setitem(sys.modules, "pynvml", imagined_nvml(machine, watts=100.0))
    assert nvml.energy_j([BUS, BUS]) == 600.0
    deaf = ("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage")
    monkeypatch.setitem(sys.modules, "pynvml", imagined_nvml(machine, deaf=deaf))
    assert nvml.energy_j([BUS]) is None
    assert nvml.reading(BUS)["watts"] is None
    assert nvml.reading(BUS)["sm_mhz"] == 1500
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.energy_j([BUS]) is None
    assert set(nvml.reading(BUS).values()) == {None}


def test_the_twin_tells_its_energy(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    from powsim_kernels.sha256 import contract

    machine = install(Machine(names=("A", "B")))
    monkeypatch.setitem(sys.modules, "pynvml", imagined_nvml(machine, watts=1000.0))
    machine.now = 2.0
    assert contract._twin("cuda:1").energy_j() == pytest.approx(2000.0, rel=0.5)
    assert contract._twin("cuda").energy_j() > 3000.0
