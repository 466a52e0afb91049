"""`powsim lab`: its output, its files, and what it says of mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from powsim.bank.files import read_bank

Done = Callable[..., tuple[int, str, str]]
SMALL = ("--task", "gaussian", "--attack", "standard", "--attack", "copycat", "--queries", "64", "--steps", "5")


def test_a_small_study(done: Done, tmp_path: Path) -> None:
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
    code, text, words = done("lab", *SMALL, "--seeds", "0,", "--out", str(out))  # nothing is trained again
    assert code == 0, words
    assert "Mined beside expected" in text
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("seed-*")} == kept


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--task", "nonsense"), "nonsense"),
        (("--seeds", "x"), "neither a number of seeds"),
        (("--seeds", "0"), "neither a number of seeds"),
        (("--seeds", "-1"), "neither a number of seeds"),
        (("--seeds", "1,1"), "each once"),
        (("--queries", "0"), "queries"),
        (("--workers", "0"), "workers"),
    ],
)
def test_mistakes(done: Done, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    code, text, said = done("lab", *arguments, "--out", str(tmp_path / "out"))
    assert code == 2
    assert words in said
    assert text == ""
    assert not (tmp_path / "out").exists()


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
