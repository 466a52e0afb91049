"""Files of a user's own devices: known like the scenario's, every mistake told with file and place, part of the id."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from powsim import ScenarioError, load_scenario, parse_scenario, simulate, summarise
from powsim.cli import run
from powsim.own_devices import load_devices

MINE = '[devices.my-machine]\nrate_low_hz = 1e6\nrate_high_hz = 4e6\nwatts = 30.0\nrate_from = "measured"\n'
OTHER = '[devices.my-gpu]\nrate_low_hz = 1e9\nrate_high_hz = 1e9\nwatts = 200.0\nkind = "gpu-consumer"\n'
SCENARIO = """
name = "own"
device_files = ["my-machine.toml"]
[service]
dataset = "mnist"
[policy]
name = "fixed"
bits = 16.0
[campaign.theft]
trace = "copycat"
queries = 1000
devices = ["my-machine"]
replicas = 5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my-machine.toml").write_text(MINE)
    (tmp_path / "my-gpu.toml").write_text(OTHER)
    (tmp_path / "own.toml").write_text(SCENARIO)
    return tmp_path


def mistakes(folder: Path, *overrides: str) -> list[tuple[str, str]]:
    try:
        load_scenario(folder / "own.toml", list(overrides))
    except ScenarioError as error:
        return [(mistake.path, mistake.text) for mistake in error.mistakes]
    return []


def test_a_device_of_a_file_is_found_from_any_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    device = load_scenario("../own.toml").device("my-machine")
    assert (device.name, device.title, device.rate_hz, device.watts) == ("my-machine", "my-machine", 2e6, 30.0)
    assert load_scenario(folder / "own.toml").device("rtx-4090").kind == "gpu-consumer"  # the catalogue stays


def test_the_files_are_read_once_so_that_what_runs_is_what_the_id_names(folder: Path) -> None:
    scenario = load_scenario(folder / "own.toml")
    before = scenario.id
    (folder / "my-machine.toml").unlink()
    assert scenario.id == before
    assert scenario.device("my-machine").rate_hz == 2e6


def test_the_id_follows_the_content_and_neither_the_order_nor_the_place(folder: Path, tmp_path: Path) -> None:
    both = 'device_files=["my-machine.toml", "my-gpu.toml"]'
    turned = 'device_files=["my-gpu.toml", "my-machine.toml"]'
    base = load_scenario(folder / "own.toml", [both])
    assert load_scenario(folder / "own.toml", [turned]).id == base.id
    assert load_scenario(folder / "own.toml").id != base.id
    digest = hashlib.sha256(MINE.encode()).hexdigest()
    assert json.loads(base.text)["files"]["my-machine.toml"] == digest
    copy = folder / "copy"
    copy.mkdir()
    for name in ("own.toml", "my-machine.toml", "my-gpu.toml"):
        (copy / name).write_text((folder / name).read_text())
    assert load_scenario(copy / "own.toml", [both]).id == base.id
    (copy / "my-machine.toml").write_text(MINE.replace("4e6", "5e6"))
    assert load_scenario(copy / "own.toml", [both]).id != base.id


def test_a_scenario_without_such_files_keeps_the_id_that_it_had_before_there_were_any() -> None:
    assert "device_files" not in json.loads(load_scenario("default").text)
    assert load_scenario("default", ["device_files=[]"]).id == load_scenario("default").id


GOOD_TWO = 'device_files=["my-machine.toml","my-gpu.toml"]'
BAD_FILES: list[tuple[str, list[tuple[str, str]]]] = [
    ("", [("bad.toml: devices", "at least one [devices.NAME]")]),
    ("[devices]\n", [("bad.toml: devices", "at least one [devices.NAME]")]),
    ("devices = 5\n", [("bad.toml: devices", "dictionary")]),
    (MINE + "colour = 3\n", [("bad.toml: devices.my-machine.colour", "unknown key")]),
    (MINE + "[sources]\na = 'b'\n", [("bad.toml: sources", "unknown key")]),
    (MINE.replace("30.0", "nan"), [("bad.toml: devices.my-machine.watts", "finite")]),
    (MINE.replace("watts = 30.0\n", ""), [("bad.toml: devices.my-machine.watts", "is missing")]),
    (MINE.replace("4e6", "4e5"), [("bad.toml: devices.my-machine", "below")]),
    (MINE.replace("measured", "guessed"), [("bad.toml: devices.my-machine.rate_from", "guessed")]),
    (MINE.replace("my-machine", '"My Machine"'), [("bad.toml: devices.My Machine", "pattern")]),
    (
        MINE.replace("1e6", "-1.0") + 'kind = "toaster"\n' + "[devices.b]\nwatts = 1.0\n",
        [
            ("bad.toml: devices.my-machine.rate_low_hz", "greater"),
            ("bad.toml: devices.my-machine.kind", "toaster"),
            ("bad.toml: devices.b.rate_low_hz", "is missing"),
            ("bad.toml: devices.b.rate_high_hz", "is missing"),
        ],
    ),
    ("[devices.x\n", [("device_files", "'bad.toml' is not valid TOML")]),
    ("n = " + "9" * 5000, [("device_files", "'bad.toml' is not valid TOML")]),
]


@pytest.mark.parametrize(("content", "expected"), BAD_FILES, ids=[repr(b[0])[:40] for b in BAD_FILES])
def test_every_mistake_of_a_file_is_told_at_once_with_file_and_place(
    content: str, expected: list[tuple[str, str]], folder: Path
) -> None:
    (folder / "bad.toml").write_text(content)
    found = mistakes(folder, 'device_files=["bad.toml"]', 'campaign.theft.devices=["rtx-4090"]')
    assert [path for path, _ in found] == [path for path, _ in expected]
    for (_, text), (_, part) in zip(found, expected, strict=True):
        assert part in text


def test_a_file_that_cannot_be_read_is_told_once_and_not_again_for_each_of_its_devices(folder: Path) -> None:
    (folder / "binary.toml").write_bytes(bytes(range(256)))
    (folder / "folder.toml").mkdir()
    for name, reason in (("none.toml", "No such file"), ("binary.toml", "UTF-8"), ("folder.toml", "is a folder")):
        [(path, text)] = mistakes(folder, f'device_files=["{name}"]')
        assert path == "device_files"
        assert name in text
        assert reason in text
    [(path, text)] = mistakes(folder, 'device_files=["\\u0000"]')
    assert path == "device_files"


def test_a_broken_device_is_told_once_and_not_again_where_it_is_used(folder: Path) -> None:
    (folder / "my-machine.toml").write_text(MINE.replace("30.0", "-3.0"))
    assert [path for path, _ in mistakes(folder)] == ["my-machine.toml: devices.my-machine.watts"]


def test_mistakes_of_scenario_and_files_come_together(folder: Path) -> None:
    (folder / "my-machine.toml").write_text(MINE + "x = 1\n")
    found = mistakes(folder, "seed=-1", "campaign.theft.replicas=0", "policy.bits=99.0")
    assert {path for path, _ in found} == {
        "my-machine.toml: devices.my-machine.x",
        "seed",
        "campaign.theft.replicas",
        "policy.bits",
    }


def test_a_name_is_used_once_among_files_and_the_scenario(folder: Path) -> None:
    (folder / "again.toml").write_text(MINE)
    [(path, text)] = mistakes(folder, 'device_files=["my-machine.toml","again.toml"]')
    assert path == "device_files"
    for part in ("my-machine", "'again.toml'", "'my-machine.toml'", "rename"):
        assert part in text
    own = "devices.my-machine={rate_low_hz=1.0,rate_high_hz=1.0,watts=1.0}"
    [(path, text)] = mistakes(folder, own)
    assert path == "device_files"
    assert "the scenario itself" in text
    [(path, text)] = mistakes(folder, 'device_files=["my-machine.toml","my-machine.toml"]')
    assert path == "device_files"
    assert "stands twice" in text


@pytest.mark.parametrize("value", ["5", '"my-machine.toml"', "[5]", "[[]]", "{}", "[true]", "2026-01-01"])
def test_what_is_no_list_of_names_is_refused(value: str, folder: Path) -> None:
    found = mistakes(folder, f"device_files={value}", 'campaign.theft.devices=["rtx-4090"]')
    assert len(found) == 1
    assert found[0][0].startswith("device_files")


def test_a_device_of_another_family_is_no_solver_of_this_puzzle(folder: Path) -> None:
    (folder / "my-machine.toml").write_text(MINE + 'family = "sha1-hashcash"\n')
    [(path, text)] = mistakes(folder)
    assert path == "campaign.theft.devices"
    assert "sha1-hashcash" in text


def test_an_unknown_device_is_answered_with_names_from_the_files(folder: Path) -> None:
    [(path, text)] = mistakes(folder, 'campaign.theft.devices=["my-machin"]')
    assert path == "campaign.theft.devices"
    assert "my-machine" in text


def test_results_are_written_with_the_devices_of_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    files = 'device_files=["my-machine.toml","my-gpu.toml"]'
    devices = 'campaign.theft.devices=["my-machine","my-gpu"]'
    assert run(["run", "own.toml", "--json", "--out", "r", "--set", files, "--set", devices]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [group["name"] for group in printed["groups"]] == ["theft/my-machine/x1", "theft/my-gpu/x1"]
    assert json.loads(Path("r/summary.json").read_text()) == printed
    text = json.loads(json.loads(Path("r/manifest.json").read_text())["scenario"])
    assert set(text["files"]) == {"my-gpu.toml", "my-machine.toml"}
    import pyarrow.parquet as pq

    assert set(pq.read_table("r/identities.parquet")["device"].to_pylist()) == {"my-machine", "my-gpu"}


def test_a_shipped_scenario_takes_files_of_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    scenario = load_scenario(
        None,
        ['device_files=["my-machine.toml"]', 'campaign.copycat.devices=["my-machine"]', "population={}"],
    )
    assert scenario.device("my-machine").rate_hz == 2e6


def test_a_machine_twice_as_fast_halves_the_hours_of_solving(folder: Path) -> None:
    """The rate of the file is what the clock uses: the same draws, so that seconds go exactly as 1 / rate."""
    solving = []
    for low, high in ((1e6, 1e6), (2e6, 2e6)):
        (folder / "my-machine.toml").write_text(MINE.replace("1e6", str(low)).replace("4e6", str(high)))
        outcome = simulate(load_scenario(folder / "own.toml")).outcomes[0]
        solving.append((outcome.hashes / outcome.rate_hz).sum())
    assert solving[0] == pytest.approx(2 * solving[1], rel=1e-12)


def test_one_file_alone_is_loaded_or_every_mistake_told(folder: Path) -> None:
    assert list(load_devices(folder / "my-gpu.toml")) == ["my-gpu"]
    (folder / "bad.toml").write_text("[devices.a]\nwatts = 1.0\n[devices.b]\nx = 1\n")
    with pytest.raises(ScenarioError) as caught:
        load_devices(folder / "bad.toml")
    assert [m.path for m in caught.value.mistakes][:2] == ["devices.a.rate_low_hz", "devices.a.rate_high_hz"]
    assert str(folder / "bad.toml") in str(caught.value)
    with pytest.raises(ScenarioError, match="No such file"):
        load_devices(folder / "none.toml")


def test_a_raw_table_of_scenario_and_files_is_left_alone(folder: Path) -> None:
    raw: dict[str, Any] = {
        "name": "raw",
        "device_files": ["my-machine.toml"],
        "service": {"dataset": "mnist"},
        "policy": {"name": "none"},
        "population": {"people": {"identities": 5, "queries": 10, "devices": {"my-machine": 1.0}}},
    }
    before = json.dumps(raw)
    groups = summarise(simulate(parse_scenario(raw, folder=folder)))
    assert groups[0].by_device == () or groups[0].by_device[0].device == "my-machine"
    assert json.dumps(raw) == before
