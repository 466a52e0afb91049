"""The other commands: init, devices, paper, mine."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from powsim import catalogue, study
from powsim.scenario import shipped
from small import SMALL, names


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(SMALL)
    return tmp_path


def test_init_writes_the_shipped_text_once(done: Any, here: Path) -> None:
    code, out, err = done("init")
    assert (code, out) == (0, "")
    assert "my-scenario.toml" in err
    assert Path("my-scenario.toml").read_text() == shipped()["default"]
    Path("my-scenario.toml").write_text("mine")
    code, _, err = done("init")
    assert code == 2
    assert "exists" in err
    assert Path("my-scenario.toml").read_text() == "mine"
    assert names(here) == ["my-scenario.toml", "s.toml"]


def test_init_takes_any_shipped_scenario_and_refuses_whatever_has_the_name(done: Any) -> None:
    for name, text in shipped().items():
        assert done("init", name)[0] == 0
        assert Path(f"{name}.toml").read_text() == text
        assert "# " in text
        assert tomllib.loads(text)["name"] == name
    assert done("init", "other.toml", "--from", "web")[0] == 0
    assert Path("other.toml").read_text() == shipped()["web"]
    Path("folder.toml").mkdir()
    Path("link.toml").symlink_to("nowhere")
    assert done("init", "folder")[0] == 2
    assert done("init", "link")[0] == 2
    assert not Path("nowhere").exists()


def test_init_leaves_no_half_scenario_on_a_full_disk(done: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        code, _, err = done("init", "mine")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2
    assert "too large" in err
    assert not Path("mine.toml").exists()


def test_init_list_names_every_shipped_scenario(done: Any) -> None:
    code, out, _ = done("init", "--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == sorted(shipped())
    for line, text in zip(out.splitlines(), (shipped()[name] for name in sorted(shipped())), strict=True):
        assert tomllib.loads(text)["description"] in line


def test_devices_lists_filters_and_explains(done: Any) -> None:
    known = catalogue()
    out = done("devices")[1]
    assert all(name in out for name in known)
    listed = json.loads(done("devices", "--json")[1])
    assert [d["name"] for d in listed] == list(known)
    assert all(d["rate_low_hz"] <= d["rate_high_hz"] and d["citation"] for d in listed)
    phones = json.loads(done("devices", "--json", "--kind", "phone")[1])
    assert [d["name"] for d in phones] == [d.name for d in known.values() if d.kind == "phone"]
    families = {d["family"] for d in json.loads(done("devices", "--json", "--family", "equix")[1])}
    assert families == {"equix"}
    found = json.loads(done("devices", "--json", "--search", "iPhone")[1])
    assert found
    assert all("iphone" in f"{d['name']} {d['title']} {d['note']}".lower() for d in found)
    assert json.loads(done("devices", "--json", "--search", "[/]")[1]) == []
    code, out, _ = done("devices", "rtx-4090", "pixel-9-browser")
    assert code == 0
    for name in ("rtx-4090", "pixel-9-browser"):
        assert name in out
        assert known[name].title in out


def test_devices_suggests_the_nearest_names(done: Any) -> None:
    err = done("devices", "rtx4090")[2]
    assert "unknown device 'rtx4090'" in err
    assert "rtx-4090" in err


def test_paper_prints_every_row_and_its_json_says_what_reproduces(done: Any) -> None:
    code, out, err = done("paper", "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)
    table = study.table2()
    assert [(r["dataset"], r["attack"], r["queries"]) for r in rows] == [
        (r.dataset, r.attack, r.queries) for r in table
    ]
    for row, printed in zip(rows, table, strict=True):
        assert row["published_s"] == float(printed.pow_time_s)
        assert row["corrected_s"] > 0
        assert row["reproducible"] == (row["why_not"] is None)
        mantissa, _, exponent = printed.pow_time_s.partition("E")
        digits = len(mantissa.partition(".")[2])
        step = 10.0 ** (int(exponent or 0) - digits)
        assert row["reproducible"] == (abs(row["recomputed_s"] - row["published_s"]) <= 0.5 * step)
    code, out, err = done("paper")
    assert (code, err) == (0, "")
    for row in table:
        assert row.pow_time_s in out
    for name in ("queries", "published", "recomputed", "corrected", "check of the published policy"):
        assert name in out
    assert "…" not in out


def lowest_nonce(challenge: bytes, bits: int, start: int = 0) -> int:
    nonce = start
    while int.from_bytes(hashlib.sha256(challenge + nonce.to_bytes(8, "big")).digest(), "big") >> (256 - bits):
        nonce += 1
    return nonce


@pytest.mark.parametrize("challenge", ["", "abc", "ünï", "a" * 47, "b" * 64, "c" * 111])
def test_mine_finds_the_lowest_nonce_and_verify_confirms_it(challenge: str, done: Any) -> None:
    truth = lowest_nonce(challenge.encode(), 8)
    code, out, _ = done("mine", challenge, "--bits", "8", "--json")
    found = json.loads(out)
    assert (code, found["found"], found["nonce"], found["tries"]) == (0, True, truth, truth + 1)
    assert found["digest"] == hashlib.sha256(challenge.encode() + truth.to_bytes(8, "big")).hexdigest()
    code, out, err = done("mine", challenge, "--bits", "8")
    assert (code, out.split()[:2]) == (0, ["nonce", str(truth)])
    assert f"{truth + 1:,} hashes" in err
    assert done("mine", challenge, "--bits", "8", "--verify", str(truth))[0] == 0
    code, out, _ = done("mine", challenge, "--bits", "30", "--verify", str(truth), "--json")
    assert (code, json.loads(out)["valid"]) == (1, False)


def test_mine_takes_bytes_starts_anywhere_and_stops_at_the_limit(done: Any) -> None:
    truth = lowest_nonce(b"\xff\x00", 8)
    assert json.loads(done("mine", "ff00", "--hex", "--bits", "8", "--json")[1])["nonce"] == truth
    code, out, err = done("mine", "ff00", "--hex", "--bits", "8", "--limit", str(truth))
    assert (code, out) == (1, "")
    assert f"--start {truth}" in err
    code, out, _ = done("mine", "ff00", "--hex", "--bits", "8", "--start", str(truth), "--limit", "1", "--json")
    assert (code, json.loads(out)["nonce"]) == (0, truth)
    following = lowest_nonce(b"\xff\x00", 8, truth + 1)
    assert (
        json.loads(done("mine", "ff00", "--hex", "--bits", "8", "--start", str(truth + 1), "--json")[1])["nonce"]
        == following
    )


def test_mine_at_the_end_of_all_nonces_does_not_advise_one_that_does_not_exist(done: Any) -> None:
    code, out, err = done("mine", "abc", "--bits", "64", "--start", str(2**64 - 3))
    assert (code, out) == (1, "")
    assert "3 tries" in err
    assert str(2**64) not in err
