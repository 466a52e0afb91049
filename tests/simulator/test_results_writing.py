"""Where results are written: what is replaced, refused, cut off, or written by two at once."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from powsim import results
from powsim.cli import run
from saving import SMALL, contents, names, problem


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(SMALL)
    return tmp_path / "s.toml"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the page and the picture be a word each: drawing them takes seconds, and says nothing about folders."""

    def page(path: Path, *_: object) -> Path:
        path.write_text("drawn")
        return path

    monkeypatch.setattr("powsim.report.html.write_html", page)
    monkeypatch.setattr("powsim.report.picture.write_png", page)


@pytest.mark.usefixtures("bare")
def test_results_replace_older_results(scenario: Path) -> None:
    for seed in ("1", "2"):
        assert run(["run", "s.toml", "--seed", seed, "--out", "r"]) == 0
        assert problem(Path("r")) is None
        assert json.loads(Path("r/summary.json").read_text())["seed"] == int(seed)
    assert names(scenario.parent) == ["r", "s.toml"]


@pytest.mark.usefixtures("bare")
def test_a_file_that_the_user_put_beside_results_is_not_lost(scenario: Path) -> None:
    assert run(["run", "s.toml", "--out", "r"]) == 0
    Path("r/notes.txt").write_text("a week of work")
    assert run(["run", "s.toml", "--out", "r"]) in (0, 2)
    assert Path("r/notes.txt").read_text() == "a week of work"


def other_folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("x")


TARGETS: dict[str, Any] = {
    "a file": lambda: Path("t").write_text("x"),
    "below a file": lambda: (Path("f").write_text("x"), "f/t")[1],
    "far below a file": lambda: (Path("f").write_text("x"), "f/a/b/t")[1],
    "another folder": lambda: other_folder(Path("t")),
    "another folder with a manifest": lambda: (other_folder(Path("t")), Path("t/manifest.json").write_text("{}"))[0],
    "proc": lambda: "/proc/powsim",
    "below proc": lambda: "/proc/self/powsim/t",
    "below a device": lambda: "/dev/null/t",
    "a device": lambda: "/dev/full",
    "the folder that one is in": lambda: ".",
    "the folder above": lambda: "..",
    "the root": lambda: "/",
    "a name too long": lambda: "t" * 300,
    "a name that its temporary folder cannot have": lambda: "t" * 250,
    "a path too long": lambda: "t/" * 3000 + "t",
    "a link to nowhere": lambda: Path("t").symlink_to("nowhere"),
}


@pytest.mark.parametrize("kind", list(TARGETS))
def test_a_folder_that_cannot_take_results_is_refused_before_anything_is_done(
    kind: str, scenario: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = TARGETS[kind]()
    target = target if isinstance(target, str) else "t"
    before = sorted(str(p) for p in scenario.parent.rglob("*"))
    monkeypatch.setattr("powsim.cli.running.simulate", lambda *a, **k: pytest.fail("simulated for nothing"))
    assert run(["run", "s.toml", "--out", target]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "--out" in err
    assert sorted(str(p) for p in scenario.parent.rglob("*")) == before


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("kind", ["folder", "results"])
def test_a_link_to_a_folder_is_followed_or_refused_but_never_broken(
    kind: str, scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "results":
        assert run(["run", "s.toml", "--out", "real"]) == 0
    else:
        Path("real").mkdir()
    Path("link").symlink_to("real")
    assert run(["run", "s.toml", "--seed", "5", "--out", "link"]) in (0, 2)
    assert Path("link").is_symlink()
    assert names(scenario.parent) == ["link", "real", "s.toml"]
    if any(Path("real").iterdir()):
        assert problem(Path("real")) is None


@pytest.mark.usefixtures("bare")
def test_results_can_be_replaced_from_inside_their_folder(scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["run", "s.toml", "--out", "r"]) == 0
    monkeypatch.chdir("r")
    assert run(["run", str(scenario), "--seed", "5", "--out", "."]) in (0, 2)
    assert problem(scenario.parent / "r") is None
    assert names(scenario.parent) == ["r", "s.toml"]
    assert not [name for name in names(scenario.parent / "r") if name.startswith(".")]


@pytest.mark.parametrize("limit", [500, 20_000, 1_000_000])
def test_a_disk_that_fills_up_ends_the_run_with_words_and_keeps_what_was_there(
    limit: int, scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file may grow beyond `limit` bytes: the table, the page or the picture fails to be written."""
    assert run(["run", "s.toml", "--out", "r"]) == 0
    before = contents(Path("r"))
    capsys.readouterr()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        code = run(["run", "s.toml", "--seed", "9", "--json", "--out", "r"])
        other = run(["run", "s.toml", "--seed", "9", "--json", "--out", "new/folder"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, other) == (2, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "File too large" in err
    assert "partial" not in err  # the user knows the name that was asked for, not the temporary one
    assert contents(Path("r")) == before
    assert names(scenario.parent) == ["r", "s.toml"]


def put(folder: Path, text: str) -> None:
    """Write something that looks like results."""
    (folder / "data").write_text(text)
    (folder / "manifest.json").write_text(json.dumps({"format": results.FORMAT, "text": text, "files": {"data": {}}}))


def fails(target: Path, error: BaseException) -> None:
    """Let a block that writes fail, and see that it fails with its own error."""
    try:
        with results.staged(target) as folder:
            put(folder, "half")
            raise error
    except BaseException as caught:  # noqa: BLE001 - KeyboardInterrupt is one of them
        assert caught is error  # noqa: PT017


def test_a_block_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    for target in (tmp_path / "new", tmp_path / "a" / "b" / "new"):
        for error in (ValueError, KeyboardInterrupt, SystemExit, MemoryError):
            fails(target, error())
            assert names(tmp_path) == []
    with results.staged(tmp_path / "new") as folder:
        put(folder, "whole")
    fails(tmp_path / "new", ValueError())
    assert names(tmp_path) == ["new"]
    assert (tmp_path / "new" / "data").read_text() == "whole"


def test_runs_that_end_at_once_in_one_folder_leave_one_of_them_whole(tmp_path: Path) -> None:
    failed: list[BaseException] = []
    for target in [tmp_path / "same"] * 15:
        gate = threading.Barrier(6)

        def one(text: str, target: Path = target, gate: threading.Barrier = gate) -> None:
            try:
                with results.staged(target) as folder:
                    put(folder, text)
                    gate.wait()
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is a failure
                failed.append(error)

        threads = [threading.Thread(target=one, args=(str(i),)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert names(tmp_path) == ["same"]
        assert (target / "data").read_text() == json.loads((target / "manifest.json").read_text())["text"]


def test_a_killed_run_leaves_the_older_results_whole_and_does_not_bother_the_next(scenario: Path) -> None:
    assert run(["run", "s.toml", "--out", "r"]) == 0
    before = contents(Path("r"))
    child = subprocess.Popen(
        [sys.executable, "-m", "powsim", "run", "s.toml", "--seed", "8", "--out", "r"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(3000):  # until the first file is being written
            if any(scenario.parent.glob(".r.partial-*/*")):
                break
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL
    assert contents(Path("r")) == before
    assert [n for n in names(scenario.parent) if n.startswith(".r.partial-")]
    assert run(["run", "s.toml", "--seed", "8", "--out", "r"]) == 0
    assert problem(Path("r")) is None
