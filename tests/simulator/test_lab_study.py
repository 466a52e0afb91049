"""A study goes on where it was stopped, and never mixes with another."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from powsim.bank import Bank, Pool, Recording
from powsim.lab.study import Study, StudyError, checkpoints, record
from powsim.sweeps.executors import Serial
from powsim_kernels import BackendUnavailable

SMALL = Study("gaussian", ("standard", "noise"), (0, 1), queries=64, steps=5, device="cpu")
SCRIPT = """
from pathlib import Path
import sys
from powsim.lab.study import Study, record
if __name__ == "__main__":
    study = Study("gaussian", ("standard", "noise"), (0, 1), queries=64, steps=5, device="cpu")
    record(study, Path(sys.argv[1]), workers=1)
"""


def same(one: Bank, other: Bank) -> bool:
    """Return whether two banks hold the same measured values; times of the clock differ."""
    pairs: list[tuple[Pool | Recording, Pool | Recording]] = []
    for mine, theirs in zip(one.runs, other.runs, strict=True):
        if (mine.seed, mine.victim_accuracy, mine.ensemble_accuracy) != (
            theirs.seed,
            theirs.victim_accuracy,
            theirs.ensemble_accuracy,
        ):
            return False
        pairs += [(mine.pool, theirs.pool), *zip(mine.recordings, theirs.recordings, strict=True)]
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for a, b in pairs for field in fields(a))


def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process do the seeds: another one would load torch again."""
    monkeypatch.setattr("powsim.lab.study._pool", lambda workers: contextlib.nullcontext(Serial()))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bank]:
    """Return the folder and the bank of a study that was killed after its first seed and gone on with."""
    scratch = tmp_path_factory.mktemp("killed")
    script, out = scratch / "script.py", scratch / "out"
    script.write_text(SCRIPT, encoding="utf-8")
    job = subprocess.Popen([sys.executable, str(script), str(out)], start_new_session=True)
    first = out / f"seed-0-{SMALL.id}.npz"
    end = time.monotonic() + 240
    while not first.exists() and time.monotonic() < end and job.poll() is None:
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert first.exists()
    assert not (out / f"seed-1-{SMALL.id}.npz").exists()
    kept = first.stat().st_mtime_ns
    with pytest.MonkeyPatch.context() as monkeypatch:
        here(monkeypatch)
        bank = record(SMALL, out, workers=1)
    assert first.stat().st_mtime_ns == kept
    return out, bank


def test_a_killed_study_loses_nothing_finished(killed: tuple[Path, Bank]) -> None:
    """Its bank is that of seeds which were never interrupted, here in one process."""
    from powsim.lab.seed import recorded

    _, bank = killed
    assert same(bank, replace(bank, runs=tuple(recorded(SMALL, seed)[0] for seed in SMALL.seeds)))


def test_a_study_becomes_a_bank(killed: tuple[Path, Bank]) -> None:
    folder, bank = killed
    assert [run.seed for run in bank.runs] == [0, 1]
    assert [one.attack for one in bank.runs[0].recordings] == ["standard", "noise"]
    assert (bank.task, bank.real, bank.classes) == ("gaussian", False, 10)
    assert bank.seconds_per_query > 0
    assert bank.provenance["study"] == SMALL.id
    assert len(list(folder.iterdir())) == 4


def test_what_is_broken_is_done_again(killed: tuple[Path, Bank], monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch)
    folder, bank = killed
    second = folder / f"seed-1-{SMALL.id}.npz"
    second.write_bytes(second.read_bytes()[:2000])
    told: list[str] = []
    assert same(bank, record(SMALL, folder, workers=1, tell=told.append))
    assert len(told) == 1
    assert "seed 1 is done again" in told[0]


def test_another_study_reads_nothing_of_this_one() -> None:
    names = {SMALL.id}
    for change in ({"queries": 65}, {"steps": 6}, {"task": "digits8"}, {"attacks": ("standard",)}, {"device": "cuda"}):
        names.add(replace(SMALL, **change).id)  # type: ignore[arg-type]
    assert len(names) == 6
    assert replace(SMALL, seeds=(7,)).id == SMALL.id  # more seeds go on with those there are


def test_an_own_attack_that_changed_is_another_study(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    own = replace(SMALL, attacks=(f"{file}:Own",))
    ids = {own.id}
    for text in ("class Own: ...", "class Own: 'changed'"):
        file.write_text(text)
        ids.add(own.id)
    assert len(ids) == 3


def test_mistakes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for change, words in (
        ({"seeds": ()}, "at least one"),
        ({"seeds": (1, 1)}, "each once"),
        ({"queries": 0}, "queries = 0"),
        ({"steps": 0}, "steps = 0"),
    ):
        with pytest.raises(StudyError, match=words):
            record(replace(SMALL, **change), tmp_path)  # type: ignore[arg-type]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'powsim\[lab,report\]'"):
        record(SMALL, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_double() -> None:
    assert checkpoints(1024) == [64, 128, 256, 512, 1024]
    assert checkpoints(700) == [64, 128, 256, 512, 700]
    assert checkpoints(10) == [10]
