"""How the command ends: signals early, twice and swallowed; streams that are closed, full, or left by their reader."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

MINE = """
import os
from powsim.cli import main
os.write(1, b"r")
main()
"""
COMMAND = [sys.executable, "-m", "powsim"]


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.06, 0.15, 0.4, 1.0])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_two_signals_at_any_time_end_it_with_the_code_of_the_first(number: int, code: int, after_s: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", MINE, "mine", "abc", "--bits", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.read(1)
    time.sleep(0.005 + after_s)
    for _ in range(4):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        time.sleep(0.01)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, b"Traceback" in err) == (code, False)


SWALLOWED = """
import os, signal, sys
from powsim.cli import main, mining

def swallows(*arguments, cancel, **named):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            pass
    except KeyboardInterrupt:
        assert cancel.is_set()

mining.mine_puzzles = swallows
sys.argv = ["powsim", "mine", "abc", "--bits", "8"]
main()
"""


def test_a_signal_that_a_callback_swallows_ends_mining() -> None:
    done = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (143, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("command", [["mine", "abc", "--bits", "8"], ["devices"], ["init", "x"]], ids=" ".join)
def test_closed_streams_are_written_to_in_vain(closed: tuple[int, ...], command: list[str], tmp_path: Path) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    streams: Any = {"stdin": None, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    done = subprocess.run([*COMMAND, *command], **streams, preexec_fn=close, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Error" not in done.stderr
    if command == ["init", "x"]:  # nobody's words went into the file
        assert b"wrote" not in (tmp_path / "x.toml").read_bytes()


@pytest.mark.parametrize(
    "command", ["devices", "devices --json", "paper", "init --list", "--help", "bench -h", "bench --import h.txt"]
)
def test_a_reader_that_leaves_is_a_good_end_and_what_was_to_be_saved_is(command: str, tmp_path: Path) -> None:
    (tmp_path / "h.txt").write_text("* Device #1: Foo, 1/2 MB\n* Hash-Mode 1400 (x)\nSpeed.#1.: 5.0 GH/s (1.0ms)\n")
    arguments = command.split() + (["--save", "x.toml"] if "--import" in command else [])
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 0, err
    assert "Error" not in err
    assert (tmp_path / "x.toml").exists() == ("--import" in command)


def test_what_was_measured_is_saved_on_a_full_stdout(tmp_path: Path) -> None:
    (tmp_path / "h.txt").write_text("* Device #1: Foo, 1/2 MB\n* Hash-Mode 1400 (x)\nSpeed.#1.: 5.0 GH/s (1.0ms)\n")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "bench", "--import", "h.txt", "--save", "x.toml"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert (tmp_path / "x.toml").exists()


CALLED_BACK = """
import ctypes, os, signal, sys
from powsim.cli import main, mining

@ctypes.CFUNCTYPE(None)
def callback():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        pass

def swallows(*arguments, cancel, **named):
    callback()
    assert cancel.is_set()

mining.mine_puzzles = swallows
sys.argv = ["powsim", "mine", "abc", "--bits", "8"]
main()
"""


def test_a_signal_inside_a_callback_of_c_code_is_not_printed() -> None:
    done = subprocess.run([sys.executable, "-c", CALLED_BACK], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (130, "interrupted; nothing half-written is left")
