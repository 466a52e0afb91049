"""Where --save writes: asked before anything is measured, links followed, one winner of two, nothing but files."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from powsim import target
from powsim.results import OutputError


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path, what in (
        (tmp_path / "pipe", "a pipe"),
        (tmp_path / "link", "a pipe"),
        (Path("/dev/null"), "a device"),
        (tmp_path, "a folder"),
    ):
        for force in (False, True):
            with pytest.raises(OutputError, match=f"is {what}: choose another --save"):
                target.write(path, b"x", force)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name, old in (("old", b"old"), ("new", None)):
        if old:
            (tmp_path / "there" / name).write_bytes(old)
        (tmp_path / f"{name}.link").symlink_to(f"there/{name}")
        target.write(tmp_path / f"{name}.link", b"new", True)
        assert (tmp_path / f"{name}.link").is_symlink()
        assert (tmp_path / "there" / name).read_bytes() == b"new"
    assert len(list((tmp_path / "there").iterdir())) == 2


def test_the_file_that_stdout_goes_to_is_not_replaced(tmp_path: Path) -> None:
    code = "from powsim.target import check; from pathlib import Path; check(Path('/dev/stdout'), True)"
    with (tmp_path / "out").open("w") as out:
        done = subprocess.run([sys.executable, "-c", code], stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert "where this command prints" in done.stderr


@pytest.mark.parametrize("name", ["n" * 300, "漢" * 200, "loop", "a\0b", "file/x"])
def test_names_that_cannot_be_are_refused_in_words(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    for force in (False, True):
        with pytest.raises(OutputError, match=r"cannot write .*(choose another --save|make it first)"):
            target.check(tmp_path / name, force)


def test_a_long_name_that_the_system_takes_is_written(tmp_path: Path) -> None:
    name = "漢" * 80 + ".toml"  # 245 bytes
    target.write(tmp_path / name, b"x", False)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_folder_that_takes_no_file_is_found_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/proc/self").exists():
        with pytest.raises(OutputError, match=r"cannot write '/proc/x\.toml'"):
            target.check(Path("/proc/x.toml"), False)

    def refuse(**named: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(target.tempfile, "mkstemp", refuse)
    with pytest.raises(OutputError, match="Permission denied; choose another --save"):
        target.check(tmp_path / "x.toml", False)


def test_asking_leaves_nothing(tmp_path: Path) -> None:
    assert target.check(tmp_path / "x.toml", False) == Path(os.path.realpath(tmp_path / "x.toml"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_of_two_runs_one_writes_and_the_other_is_told(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run's file comes after this one's last look."""

    def no_links(*arguments: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    target.write(tmp_path / "alone.toml", b"mine", False)
    assert (tmp_path / "alone.toml").read_bytes() == b"mine"
    flush = os.fsync

    def meanwhile(handle: int) -> None:
        (tmp_path / "x.toml").write_bytes(b"theirs")
        flush(handle)

    monkeypatch.setattr(os, "fsync", meanwhile)
    with pytest.raises(OutputError, match="came while this run went on"):
        target.write(tmp_path / "x.toml", b"mine", False)
    assert (tmp_path / "x.toml").read_bytes() == b"theirs"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["alone.toml", "x.toml"]
