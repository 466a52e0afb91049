"""Foreign files and texts: nothing is waited for, nothing fills the memory, nothing steers the terminal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from powsim import ScenarioError, edge, load_scenario
from powsim.bench import hashcat
from powsim.cli import run
from powsim.files import read_file
from powsim.own_devices import load_devices

DEVICE = "rate_low_hz = 1e6\nrate_high_hz = 1e6\nwatts = 1.0\n"


def test_a_pipe_is_refused_at_once_where_a_file_is_needed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "s.toml").write_text('device_files = ["pipe"]\n')
    for read in (load_devices, hashcat.read):
        with pytest.raises(ScenarioError, match="is a pipe, not a file: write what it holds into a file"):
            read(tmp_path / "pipe")
    with pytest.raises(ScenarioError, match="'pipe' is a pipe"):
        load_scenario(tmp_path / "s.toml")
    with pytest.raises(ValueError, match="is a device"):
        read_file(Path("/dev/zero"), 1 << 20)


def test_a_scenario_may_come_through_a_pipe(tmp_path: Path) -> None:
    from powsim.scenario import shipped

    read, write = os.pipe()
    os.write(write, shipped()["policies"].encode())
    os.close(write)
    try:
        assert load_scenario(f"/dev/fd/{read}").id == load_scenario("policies").id
    finally:
        os.close(read)


def test_files_are_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "LARGEST", 1 << 20)
    (tmp_path / "x.toml").write_text("[devices.a]\n" + DEVICE + "#" * (1 << 20))
    with pytest.raises(ScenarioError, match="longer than 1 MiB"):
        load_devices(tmp_path / "x.toml")
    (tmp_path / "x.toml").write_text("[devices.a]\n" + DEVICE)
    assert list(load_devices(tmp_path / "x.toml")) == ["a"]


HUGE = "9" * 5000
SPEED = "* Hash-Mode 1400 (x)\nSpeed.#{}.: {} MH/s (1.0ms)"
ENDLESS = [
    f"{HUGE}:1400:1:1:1:55",
    f"1:{HUGE}:1:1:1:55",
    f"1:1400:1:1:1:{HUGE}",
    f"* Hash-Mode {HUGE} (x)",
    SPEED.format(HUGE, "1.0"),
    SPEED.format(1, HUGE),
    f"* Device #{HUGE}: Foo, 1/2 MB",
]


@pytest.mark.parametrize("text", ENDLESS, ids=[text.replace(HUGE, "9...")[:40] for text in ENDLESS])
def test_numbers_of_thousands_of_digits_are_no_benchmark(text: str) -> None:
    with pytest.raises(ScenarioError, match="is needed"):
        hashcat.parse(text)
    good = "1:1400:1:1:1:55\n"
    if "Hash-Mode" not in text or "Speed" in text:
        assert [speed.high_hz for speed in hashcat.parse(good + text).speeds] == [55.0]


def test_names_with_control_characters_are_shown_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(
        'device_files = ["f\\n.toml"]\n[service]\ndataset = "mnist"\n[policy]\nname = "fixed"\nbits = 1.0\n'
        '[devices."a\\n"]\n'
        + DEVICE
        + '[population.web]\nidentities = 5\nqueries = 5\ndevices = {"a\\n\\u001b" = 1.0}\n'
    )
    for arguments in (["run", "s.toml"], ["devices", "a\n\x1b"], ["init", "..\n\x1b", "--from", "x\n"]):
        assert run(arguments) == 2
        err = capsys.readouterr().err
        assert "\x1b" not in err
        assert "a\n" not in err.replace("Traceback", "")
        assert "\\n" in err
        assert all(line.startswith((" ", "Usage", "Try", "Error")) or not line for line in err.splitlines())


TITLES = ["x[/red]", "[bold]x[/bold]", ":smile: [/]", "\x1b[2Jx"]


@pytest.mark.parametrize("title", TITLES)
def test_no_text_of_a_user_is_markup(title: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    texts = "".join(f"{key} = {json.dumps(title)}\n" for key in ("title", "source", "note", "usd_from", "date"))
    (tmp_path / "x.toml").write_text("[devices.a]\n" + DEVICE + texts + "usd_per_h = 1.0\n")
    for arguments in (["a"], []):
        assert run(["devices", "--file", str(tmp_path / "x.toml"), *arguments]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert out.count(title.replace("\x1b", "\\x1b")) == (5 if arguments else 1)
    (tmp_path / "h.txt").write_text(
        f"* Device #1: Foo {title} bar, 1/2 MB\n* Hash-Mode 1400 (x)\nSpeed.#1.: 5.0 GH/s (1.0ms)\n"
    )
    saved = str(tmp_path / "h.toml")
    assert run(["bench", "--import", str(tmp_path / "h.txt"), "--save", saved, "--name", "a"]) == 0
    assert run(["devices", "--file", saved, "a"]) == 0
    assert "Foo" in capsys.readouterr().out
