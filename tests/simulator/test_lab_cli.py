"""`powsim lab`: its output, its files, and what it says of mistakes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from banks import made_bank
from powsim.bank.files import read_bank
from powsim.cli import studying
from powsim.lab.study import Progress, Study
from powsim.report.console import words as console
from powsim.sweeps.executors import Serial
from powsim.sweeps.store import Store

Done = Callable[..., tuple[int, str, str]]
SMALL = ("--task", "gaussian", "--attack", "standard", "--attack", "copycat", "--queries", "64", "--steps", "5")


def test_a_small_study(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "study"
    code, text, words = done("lab", *SMALL, "--seeds", "1", "--out", str(out), "--json")
    assert code == 0, words
    found = json.loads(text)
    assert (found["task"], found["seeds"]) == ("gaussian", [0])
    assert [row["attack"] for row in found["mined"]] == ["standard", "copycat"]
    assert found["mining"]["hashes_per_s"] > 0
    assert read_bank(out / "bank.npz").runs[0].seed == 0
    assert json.loads((out / "verdict.json").read_text(encoding="utf-8")) == found
    assert (out / "report.html").stat().st_size > 0
    assert (out / "report.png").stat().st_size > 0
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("seed-*")}
    monkeypatch.setattr(studying, "_pages", lambda *what: None)  # written once is enough
    code, text, words = done("lab", *SMALL, "--seeds", "0,", "--out", str(out), "--full")  # nothing is trained again
    assert code == 0, words
    assert "Mined beside expected" in text
    assert not (out / "running.json").exists()
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("seed-*")} == kept


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--task", "digits61"), "did you mean digits16?"),
        (("--seeds", "x"), "neither a number of seeds"),
        (("--seeds", "0"), "neither a number of seeds"),
        (("--seeds", "-1"), "neither a number of seeds"),
        (("--seeds", "1,1"), "each once"),
        (("--queries", "0"), "queries"),
        (("--workers", "0"), "workers"),
    ],
)
def test_mistakes(done: Done, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    code, text, said = done("lab", *arguments, "--out", str(tmp_path / "new" / "out"))
    assert code == 2
    assert words in said
    assert text == ""
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_attack_is_told(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker finds it out; here this process is one, which spares loading torch again."""
    monkeypatch.setattr("powsim.lab.study._pool", lambda workers: contextlib.nullcontext(Serial()))
    code, text, said = done("lab", *SMALL, "--attack", "copycta", "--out", str(tmp_path / "new" / "out"))
    assert (code, text) == (2, "")
    assert "did you mean copycat?" in said
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way(done: Done, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    code, _, said = done("lab", *SMALL, "--out", str(tmp_path / "out"))
    assert code == 2
    assert "is a file: choose another --out" in said


def test_without_torch(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("powsim.lab.study.importlib.util.find_spec", lambda name: None)
    code, _, said = done("lab", *SMALL, "--out", str(tmp_path / "out"))
    assert code == 2
    assert "pip install 'powsim[lab,report]'" in said


def test_a_folder_that_cannot_be_written(done: Done, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    code, _, said = done("lab", *SMALL, "--out", str(tmp_path / "file" / "out"))
    assert code == 2
    assert "cannot write" in said
    assert "Traceback" not in said


def test_two_at_once_keep_apart(done: Done, tmp_path: Path) -> None:
    with Store(tmp_path).lock():
        code, _, said = done("lab", *SMALL, "--out", str(tmp_path))
        assert code == 2
        assert f"is in use by process {os.getpid()}" in said
    assert list(tmp_path.iterdir()) == []


def workers() -> list[psutil.Process]:
    """Return this process's workers."""
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def test_a_killed_worker_is_told_with_the_cure(done: Done, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + 60
        while not killed and time.monotonic() < end:
            for worker in workers():
                worker.kill()
                killed.append(worker.pid)
            time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    code, text, said = done("lab", *SMALL, "--seeds", "1", "--out", str(tmp_path / "out"))
    thread.join()
    assert killed
    assert (code, text) == (1, "")
    assert "a worker process was killed" in said
    assert "run the same command to go on, with --workers 1 if memory is short" in said
    assert "Traceback" not in said
    assert workers() == []
    assert not (tmp_path / "out").exists()


def test_an_interrupt_keeps_what_is_done_and_leaves_no_process(tmp_path: Path) -> None:
    """Ctrl-C goes to the whole group, as on a terminal, while the second seed is under way."""
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from powsim.cli import main; main()", "lab", *SMALL]
    job = subprocess.Popen(
        [*command, "--seeds", "2", "--workers", "1", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 240
    while not list(out.glob("seed-0-*.npz")) and time.monotonic() < end and job.poll() is None:
        time.sleep(0.05)
    children = psutil.Process(job.pid).children(recursive=True)
    os.killpg(job.pid, signal.SIGINT)
    text, said = job.communicate(timeout=60)
    assert (job.returncode, text) == (130, "")
    assert "seeds that are done are kept in" in said
    assert "Traceback" not in said
    assert len(list(out.glob("seed-0-*"))) == 2
    assert not list(out.glob("seed-1-*.npz"))
    assert not list(out.glob("running.json"))
    assert not psutil.wait_procs(children, timeout=20)[1]


def test_fewer_queries_than_asked_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    bank = made_bank(1, queries=300, originals=20)
    studying._tell_of_less(console(), Study(queries=300), bank)
    assert capsys.readouterr().err == ""
    studying._tell_of_less(console(), Study(queries=1000), bank)
    assert "standard 300" in capsys.readouterr().err


def test_progress_off_a_terminal_repeats_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(studying.time, "monotonic", lambda: now[0])
    with studying._reporter(console()) as report:
        for second in range(300):
            now[0] = float(second)
            report(Progress(0, 5, 0.1 * (second // 100), None))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["0 of 5 seeds, 0%", "0 of 5 seeds, 10%", "0 of 5 seeds, 20%"]
