"""`powsim bench` from outside: data on stdout, words on stderr, files that `powsim run` takes, exit codes."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from powsim import catalogue
from powsim.bench import honest
from powsim.bench import run as bench_run
from powsim.bench.machine import Machine
from powsim.bench.measuring import Spread
from powsim.bench.outcome import Honest, Measured, Outcome, Prices, Solves
from powsim.bench.solvers import Solver
from powsim.cli import benching
from powsim.own_devices import load_devices
from powsim.report import bench as report
from powsim.report.console import wide

HASHCAT = """hashcat (v6.2.6) starting in benchmark mode
* Device #1: NVIDIA GeForce RTX 4090, 24209/24217 MB, 128MCU
* Hash-Mode 1400 (SHA2-256)
Speed.#1.........: 21234.5 MH/s (85.95ms) @ Accel:16 Loops:1024 Thr:512 Vec:1
"""
SCENARIO = [
    "--set",
    "population={}",
    "--set",
    'campaign={theft={trace="copycat",queries=500,devices=["box"],replicas=5}}',
    "--set",
    'device_files=["box.toml"]',
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hashcat.txt").write_text(HASHCAT)
    return tmp_path


def spread(rate: float) -> Spread:
    return Spread(rate, 0.95 * rate, 1.05 * rate)


def measured(backend: str, threads: int | None, rate: float, whole: bool = True, **more: Any) -> Measured:
    rates = [
        spread(rate),
        spread(0.99 * rate),
        spread(0.9 * rate),
        spread(0.8 * rate),
        spread(rate / 4096),
        spread(1.0),
    ]
    return Measured(Solver(backend, threads, whole), *rates, **more)


MACHINE = Machine("AMD EPYC\x1b[2J 9634", 8, ("NVIDIA H200, driver 570.1",), "Linux x86_64", "powsim 0.1.0")
OUTCOME = Outcome(
    MACHINE,
    0.5,
    5,
    "2026-11-25",
    (
        measured("cpu:avx2", 1, 2e7, False),
        measured("cpu:avx2", 8, 1.5e8, joules_per_hash=1.2e-7, watts=18.0, usd_per_2_40=0.5),
        measured("cuda:0", None, 2e10),
        Measured(Solver("cpu:neon", 8, True), wrong="finds nonce 5 and hashlib 6"),
    ),
    (
        Honest("hashlib", "Python 3.11", spread(1e6), None),
        Honest("webcrypto", "Node 20.1.0", spread(5e4), None),
        Honest("node-crypto", None, None, "node fell over"),
    ),
    (Solves("cuda:0", 8, 1e6, True), Solves("cuda:0", 32, 4.66, False)),
)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the plans that a benchmark of a known outcome was asked with."""
    plans: list[Any] = []

    def instead(plan: Any, progress: Any) -> Outcome:
        plans.append(plan)
        progress("timing", 0.5)
        return OUTCOME

    monkeypatch.setattr(benching, "run", instead)
    return plans


def test_a_quick_run_measures_this_machine_and_what_it_saves_can_be_run(
    done: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole path, for real, with the best CPU path alone to be quick: measure, save, list, simulate."""
    monkeypatch.setattr(bench_run, "solvers", lambda threads: [Solver("cpu", 1, False), Solver("cpu", 2, True)])
    code, out, err = done("bench", "--quick", "--json", "--save", "box.toml", "--name", "box", "--usd-per-hour", "0.5")
    assert code == 0, err
    value = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert value["solvers"]
    for solver in value["solvers"]:
        assert solver["wrong_answer"] is None
        for kind in ("single_hashes_per_s", "batch_hashes_per_s", "batch_puzzles_per_s"):
            for length in ("short", "long"):
                s = solver[kind][length]
                assert 0 < s["low"] <= s["median"] <= s["high"]
        assert len(solver["nearest"]) == 2
        assert all(near["name"] in catalogue() for near in solver["nearest"])
    rates = {s["solver"]: s["single_hashes_per_s"]["short"]["median"] for s in value["solvers"]}
    assert value["best_solver"] == max(rates, key=lambda name: rates[name])
    loops = {loop["loop"]: loop for loop in value["honest"]}
    assert set(loops) == set(honest.LOOPS)
    assert loops["hashlib"]["hashes_per_s"]["median"] > 1e4
    ahead = loops["hashlib"]["best_solver_is_faster_by"]
    assert ahead == pytest.approx(max(rates.values()) / loops["hashlib"]["hashes_per_s"]["median"])
    assert {row["bits"] for row in value["solves_per_s"]} == set(range(8, 33, 4))
    assert {row["from"] for row in value["solves_per_s"]} <= {"measured", "computed"}
    assert "box.toml" in err
    box = load_devices(here / "box.toml")
    assert {"box", "box-hashlib"} <= set(box)
    assert (box["box"].usd_per_h, box["box"].rate_from) == (0.5, "measured")
    code, out, err = done("run", "--json", "--out", "r", *SCENARIO)
    assert code == 0, err
    assert [group["name"] for group in json.loads(out)["groups"]] == ["theft/box/x1"]
    listed = json.loads(done("devices", "--file", "box.toml", "--json")[1])
    assert [device["name"] for device in listed] == list(box)


def test_tables_show_every_number_and_its_meaning(done: Any, known: list[Any]) -> None:
    code, out, err = done("bench")
    assert code == 1  # one solver of it is wrong
    assert "cpu:neon x8: finds nonce 5 and hashlib 6" in err
    assert "node-crypto not measured: node fell over" in err
    for text in ("cpu:avx2", "150M", "142M–158M", "20G", "WRONG", "120", "0.5", "~4.66", "1M", "not measured"):
        assert text in out, text
    assert re.search(r"WebCrypto.*50k .*400,000x", out)
    assert re.search(r"cuda:0 +20G +[a-z0-9-]+ +\S+G +[\d.]+x", out)
    assert "cuda:0, tries 20G hashes/s: 20,000x the hashlib loop, 400,000x the webcrypto loop." in out
    assert "\x1b" not in out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 170


def test_options_become_the_plan(done: Any, known: list[Any]) -> None:
    done("bench", "--seconds", "2", "--threads", "3", "--watts", "90", "--usd-per-kwh", "0.3", "--usd-per-hour", "1")
    done("bench", "--quick")
    done("bench")
    assert [(plan.seconds, plan.repeats, plan.threads) for plan in known] == [
        (2.0, 5, 3),
        (0.12, 3, None),
        (0.5, 5, None),
    ]
    assert known[0].prices == Prices(1.0, 90.0, 0.3)
    assert known[1].prices == Prices()


def test_a_measured_file_is_not_written_over_another_and_nothing_is_measured_then(
    done: Any, known: list[Any], here: Path
) -> None:
    (here / "x.toml").write_text("precious")
    code, out, err = done("bench", "--save", "x.toml")
    assert (code, out, known) == (2, "", [])
    assert "--force" in err
    assert (here / "x.toml").read_text() == "precious"
    assert done("bench", "--save", "x.toml", "--force")[0] == 1
    assert next(iter(load_devices(here / "x.toml"))).startswith("amd-epyc")
    assert "\x1b" not in (here / "x.toml").read_text()


WRONG_USE = [
    ["--seconds", "0"],
    ["--seconds", "nan"],
    ["--seconds", "1", "--quick"],
    ["--threads", "0"],
    ["--watts", "-1"],
    ["--watts", "0"],
    ["--watts", "nan"],
    ["--usd-per-kwh", "inf"],
    ["--usd-per-hour", "many"],
    ["--name", "My Box", "--save", "x.toml"],
    ["--name", "", "--save", "x.toml"],
    ["--force"],
    ["--save", "none/x.toml"],
    ["--save", "."],
    ["--import", "none.txt"],
    ["--import", "."],
    ["--import", "hashcat.txt", "--quick"],
    ["--import", "hashcat.txt", "--seconds", "1"],
    ["--import", "hashcat.txt", "--threads", "1"],
    ["--import", "hashcat.txt", "--save", "none/x.toml"],
    ["extra"],
]


@pytest.mark.parametrize("arguments", WRONG_USE, ids=[" ".join(a) for a in WRONG_USE])
def test_wrong_use_ends_with_2_and_words_and_measures_nothing(
    arguments: list[str], done: Any, known: list[Any], here: Path
) -> None:
    code, out, err = done("bench", *arguments)
    assert (code, out, known) == (2, "", [])
    assert len(err) > 20
    assert [entry.name for entry in here.iterdir()] == ["hashcat.txt"]


def test_hashcat_is_imported_beside_the_catalogue_and_saved(done: Any, here: Path) -> None:
    code, out, err = done("bench", "--import", "hashcat.txt", "--save", "box.toml", "--name", "box", "--watts", "400")
    assert code == 0, err
    for text in ("box", "21.2G", "400", "rtx-4090", "0.99x"):
        assert text in out
    device = load_devices(here / "box.toml")["box"]
    assert (device.rate_hz, device.watts, device.family) == (pytest.approx(21234.5e6), 400.0, "sha256-hashcash")
    code, out, _ = done("bench", "--import", "hashcat.txt", "--json")
    value = json.loads(out)
    assert code == 0
    assert value["hashcat"] == "v6.2.6"
    assert [d["nearest"][0]["name"] for d in value["devices"]] == ["rtx-4090"]
    assert value["devices"][0]["watts"] == catalogue()["rtx-4090"].watts
    assert done("run", "--json", "--no-save", *SCENARIO)[0] == 0


def test_an_import_that_is_cut_off_warns_and_one_without_anything_is_refused(done: Any, here: Path) -> None:
    (here / "cut.txt").write_text(HASHCAT + "* Hash-Mode 100 (SHA1)\n")
    code, out, err = done("bench", "--import", "cut.txt", "--json")
    assert code == 0
    assert "mode 100 has no speed" in err
    assert len(json.loads(out)["devices"]) == 1
    (here / "none.txt").write_text("nothing")
    code, out, err = done("bench", "--import", "none.txt", "--save", "x.toml")
    assert (code, out) == (2, "")
    assert "hashcat -b -m 1400" in err
    assert not (here / "x.toml").exists()


def test_devices_of_a_file_are_listed_explained_and_refused_with_their_place(done: Any, here: Path) -> None:
    done("bench", "--import", "hashcat.txt", "--save", "box.toml", "--name", "box")
    out = done("devices", "--file", "box.toml")[1]
    assert "box" in out
    assert "rtx-4090" not in out
    out = done("devices", "--file", "box.toml", "box")[1]
    assert "hashcat v6.2.6 benchmark" in out
    assert done("devices", "--file", "box.toml", "rtx-4090")[0] == 2
    (here / "bad.toml").write_text("[devices.a]\nwatts = -1.0\nx = 1\n")
    code, out, err = done("devices", "--file", "bad.toml")
    assert (code, out) == (2, "")
    for place in ("bad.toml: 4 mistakes", "devices.a.watts", "devices.a.x", "devices.a.rate_low_hz"):
        assert place in err
    assert done("devices", "--file", "none.toml")[0] == 2


def test_help_loads_nothing_of_the_benchmark() -> None:
    heavy = "('numba', 'rich.table', 'powsim.bench')"
    code = "import sys; from powsim.cli import run; run(['bench', '-h'])"
    code += f"; print(*[m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == ""
    assert "--usd-per-kwh" in shown


def test_bits_that_are_shown_are_the_issues() -> None:
    assert bench_run.BITS == (8, 12, 16, 20, 24, 28, 32)


ABSENT = Measured(Solver("cuda:0", None, True), why_not="no [/driver]")


def test_a_solver_that_cannot_run_is_not_called_wrong(
    done: Any, known: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = replace(OUTCOME, measured=(*OUTCOME.measured[:2], ABSENT))
    monkeypatch.setattr(benching, "run", lambda plan, progress: outcome)
    code, out, err = done("bench")
    assert code == 0
    assert "WRONG" not in out
    assert "cuda:0 not measured: no [/driver]" in err
    assert json.loads(done("bench", "--json")[1])["solvers"][-1]["why_not"] == "no [/driver]"


def test_where_no_solver_runs_the_reasons_are_told_and_nothing_is_saved(
    done: Any, known: list[Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benching, "run", lambda plan, progress: replace(OUTCOME, measured=(ABSENT,)))
    code, out, err = done("bench", "--save", "x.toml")
    assert (code, out) == (2, "")
    assert "no solver of this machine can be measured" in err
    assert "cuda:0: no [/driver]" in err
    assert not (here / "x.toml").exists()


def test_what_cannot_be_saved_is_printed_all_the_same(
    done: Any, known: list[Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(plan: Any, progress: Any) -> Outcome:
        (here / "x.toml").write_text("theirs")
        return OUTCOME

    monkeypatch.setattr(benching, "run", late)
    code, out, err = done("bench", "--save", "x.toml")
    assert code == 2
    assert "142M–158M" in out
    assert "'x.toml' exists" in err
    assert (here / "x.toml").read_text() == "theirs"


@pytest.mark.parametrize("width", [20, 80, 81, 100, 105, 118, 170])
def test_tables_fit_the_terminal_from_80_columns_on(width: int) -> None:
    stream = io.StringIO()
    narrow = wide(Console(file=stream, width=width, force_terminal=True), report.NARROW)
    benching._show(narrow, OUTCOME)
    out = stream.getvalue()
    assert max(map(len, out.splitlines())) <= max(width, 80)
    assert "…" not in out
    for text in ("142M–158M", "128M–142M", "120", "0.5", "400,000x", "is faster by", "WRONG", "~4.66"):
        assert text in out
    assert ("Their puzzles" in out) == (width <= 100)
