"""The command as a process: interrupted, its reader gone, no disk or memory left, on narrow terminals."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from small import SMALL, names

LONG = ["default", "--set", "campaign.datafree.replicas=100000", "--set", "population={}"]
"""A run of minutes, for tests that end it."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(SMALL)
    return tmp_path


def child(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "powsim", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def wait_for(found: Any, process: subprocess.Popen[str]) -> None:
    for _ in range(3000):
        if found() or process.poll() is not None:
            return
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_run_says_so_and_leaves_nothing(name: str, here: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup themselves
    try:
        process = child("run", *LONG, "--out", "deep/r")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(lambda: any((here / "deep").glob(".r.partial-*")), process)
    time.sleep(0.5)
    process.send_signal(getattr(signal, name))
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert names(here) == ["s.toml"]
    assert "Traceback" not in err
    assert out == ""
    if name == "SIGINT":
        assert process.returncode == 130
        assert "interrupted" in err


def test_a_hangup_that_nohup_ignores_ends_nothing(here: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = child("mine", "abc", "--bits", "60", "--limit", "300000000")
    finally:
        signal.signal(signal.SIGHUP, before)
    time.sleep(1.5)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert "no nonce in 300,000,000 tries" in err


def test_an_interrupt_while_mining_ends_it(here: Path) -> None:
    process = child("mine", "abc", "--bits", "60")
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "interrupted" in err
    assert "Traceback" not in err


SWALLOWED = """
import os, signal, sys, time
from powsim.cli import main, running

def interrupted(*arguments, **named):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    except KeyboardInterrupt as error:
        {answer}

running.{where} = interrupted
sys.argv = ["powsim", "run", "s.toml", "--json", "--out", "r"]
main()
"""


@pytest.mark.parametrize(
    ("where", "answer"),
    [
        (
            "summarise",
            "raise RuntimeError('Error calling __set_name__') from error",
        ),  # Python 3.11 importing matplotlib
        ("load_scenario", "from powsim import load_scenario; return load_scenario('s.toml')"),  # Numba's callbacks
    ],
    ids=["turned into another error", "printed and forgotten"],
)
def test_an_interrupt_that_another_package_swallows_still_ends_the_run(where: str, answer: str, here: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", SWALLOWED.format(where=where, answer=answer)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stdout) == (130, "")
    assert "interrupted" in process.stderr
    assert "Traceback" not in process.stderr
    assert names(here) == ["s.toml"]


def test_an_interrupt_after_the_results_were_written_does_not_deny_them(
    done: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("powsim.cli.running._show", interrupted)
    code, _, err = done("run", "s.toml", "--out", "r")
    assert code == 130
    assert (here / "r" / "manifest.json").is_file()
    assert "nothing was written" not in err


PIPED = [
    "run s.toml --json --no-save",
    "run s.toml --no-save",
    "run s.toml --json --out r",
    "devices",
    "devices --json",
    "paper",
]


@pytest.mark.parametrize("command", PIPED)
def test_a_reader_that_leaves_is_no_error(command: str) -> None:
    process = child(*command.split())
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) in (0, 1, 141)
    assert "Traceback" not in err
    assert "Error" not in err
    if "--out" in command:
        assert Path("r/manifest.json").is_file()


@pytest.mark.parametrize("command", ["run s.toml --json --no-save", "run s.toml --no-save", "devices", "--help"])
def test_a_full_disk_behind_stdout_is_told(command: str) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "powsim", *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode != 0
    assert "Traceback" not in process.stderr
    assert "No space left" in process.stderr


@pytest.mark.parametrize("command", ["run s.toml --no-save", "devices"])
def test_a_terminal_without_unicode_gets_its_tables(command: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "powsim", *command.split()],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr.decode()
    assert b"rtx-4090" in process.stdout


def test_more_work_than_memory_is_told_in_words(here: Path) -> None:
    """A hundred thousand repetitions over a million accounts are some terabytes."""
    big = ["--set", "campaign.theft.queries=1000000000", "--set", "campaign.theft.identities=1000000"]
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "powsim",
            "run",
            "s.toml",
            *big,
            "--set",
            "campaign.theft.replicas=100000",
            "--out",
            "r",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert "memory" in process.stderr.lower()
    assert names(here) == ["s.toml"]


LIMITED = """
import resource, sys
from powsim.cli import main
from powsim_kernels import geometric, uniform
uniform(range(3), key=1, stream=0)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
sys.argv = ["powsim", "run", "s.toml", "--json", "--out", "r", "--set", "population.web.identities=3000000"]
main()
"""


def test_memory_that_runs_out_on_the_way_is_told_in_words(here: Path) -> None:
    process = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert "Traceback" not in process.stderr
    assert "memory" in process.stderr.lower()
    assert names(here) == ["s.toml"]


@contextlib.contextmanager
def terminal(columns: int) -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    try:
        yield master, slave
    finally:
        os.close(master)


def read_all(master: int) -> str:
    content = b""
    while True:
        try:
            more = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        content += more
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", content.decode())


def test_a_long_run_shows_its_progress_on_the_terminal_and_keeps_stdout_for_data() -> None:
    """DataFree 2,000 times takes some seconds; the bar goes to the terminal, the object into the pipe.

    Both are read at once: a terminal that nobody reads is full after some seconds of bars, and the command waits.
    """
    with terminal(100) as (master, slave), ThreadPoolExecutor(1) as reader:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "powsim",
                "run",
                *LONG[:2],
                "campaign.datafree.replicas=2000",
                "--json",
                "--no-save",
            ],
            stdout=subprocess.PIPE,
            stderr=slave,
            text=True,
        )
        os.close(slave)
        reading = reader.submit(read_all, master)
        try:
            out, _ = process.communicate(timeout=120)
        finally:
            process.kill()  # the reader waits for its end
        shown = reading.result()
    assert process.returncode == 0
    assert json.loads(out)["scenario"] == "default"
    assert re.search(r"datafree\S* .*\d+ %", shown)


@pytest.mark.parametrize("command", ["run s.toml --no-save", "devices", "paper"])
def test_a_narrow_terminal_loses_no_number(command: str) -> None:
    with terminal(80) as (master, slave):
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        process = subprocess.Popen(
            [sys.executable, "-m", "powsim", *command.split()],
            stdout=slave,
            stderr=subprocess.DEVNULL,
            env={**environment, "TERM": "xterm", "COLUMNS": "80"},
        )
        os.close(slave)
        shown = read_all(master)
        assert process.wait(timeout=60) == 0
    assert "…" not in shown
    assert "..." not in shown
