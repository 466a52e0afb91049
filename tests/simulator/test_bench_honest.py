"""The honest loops: they find hashlib's nonce, and a Node that is missing, old or broken is told in a line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from powsim.bench import honest
from powsim.bench.children import held_back, output_of
from powsim.bench.measuring import SHORT, challenge, lowest_nonce

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not on the PATH")


def test_the_hashlib_loop_finds_what_the_oracle_finds() -> None:
    for number in range(5):
        message = challenge(number, SHORT)
        assert honest.solve_hashlib(message, 0, 1 << 20, 8) == lowest_nonce(message, 8)
    first = lowest_nonce(challenge(0, SHORT), 8)
    assert honest.solve_hashlib(challenge(0, SHORT), 0, first, 8) == -1
    assert honest.solve_hashlib(challenge(0, SHORT), first, 1, 8) == first
    assert honest.solve_hashlib(challenge(0, SHORT), 3, 10, 0) == 3


def test_the_hashlib_loop_counts_its_tries_by_the_clock() -> None:
    ticks = iter(range(1000))
    sample = honest.time_hashlib(5.0, lambda: float(next(ticks)))
    assert (sample.hashes, sample.seconds) == (4 * honest.GRAIN, 5.0)


@needs_node
@pytest.mark.parametrize("loop", ["webcrypto", "node-crypto"])
def test_a_node_loop_is_checked_and_timed(loop: str) -> None:
    found = honest.node(loop)
    assert found.why_not is None
    assert found.version is not None
    assert found.version.startswith("Node ")
    assert found.job is not None
    sample = found.job(0.05)
    assert sample.seconds >= 0.05
    assert sample.hashes > 0
    assert sample.puzzles == 0


@needs_node
@pytest.mark.parametrize("loop", ["webcrypto", "node-crypto"])
def test_the_javascript_loops_find_hashlibs_nonces(loop: str) -> None:
    assert NODE is not None
    for number, bits in ((0, 0), (1, 5), (2, 10)):
        for length in (SHORT, 45, 3):
            message = challenge(number, length)
            assert honest._call(NODE, loop, message, bits, 0.0)["nonce"] == lowest_nonce(message, bits)


def fake(folder: Path, body: str) -> str:
    program = folder / "node"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return str(program)


BROKEN = [
    ("exit 1", "node failed (exit 1"),
    ("echo 'ReferenceError: crypto is not defined' >&2; exit 1", "ReferenceError: crypto is not defined"),
    ("echo 'node: bad option: --eval' >&2; exit 9", "exit 9"),
    ("echo nonsense", "something else"),
    ("echo '[]'", "something else"),
    ("echo '{}'", "something else"),
    ("""echo '{"nonce": "5", "version": "v20"}'""", "something else"),
    ("""echo '{"nonce": 5, "version": 20}'""", "something else"),
    ("""echo '{"nonce": 5, "version": "v20.1"}'""", "finds nonce 5 where hashlib finds"),
    ("printf '\\377\\376'", "something else"),
    ("kill -9 $$", "node failed (exit -9"),
    ("sleep 60", "no answer within"),
]


@pytest.mark.parametrize(("body", "reason"), BROKEN, ids=[b[0][:40] for b in BROKEN])
def test_a_broken_node_is_told_in_a_line(
    body: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(honest, "TIMEOUT_S", 0.5 if "sleep" in body else 20.0)
    found = honest.node("webcrypto", fake(tmp_path, body))
    assert found.job is None
    assert found.why_not is not None
    assert reason in found.why_not
    assert len(found.why_not.splitlines()) == 1


def test_no_node_is_told_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = honest.node("webcrypto")
    assert found.job is None
    assert "install Node.js" in str(found.why_not)
    folder = tmp_path / "node"
    folder.mkdir()
    assert "cannot be started" in str(honest.node("webcrypto", str(folder)).why_not)


def test_a_node_that_fails_only_later_fails_in_words(tmp_path: Path) -> None:
    right = json.dumps({"nonce": lowest_nonce(challenge(1, SHORT), honest.CHECK_BITS), "version": "v20.1.0"})
    program = fake(tmp_path, f"if [ -e {tmp_path}/seen ]; then exit 3; fi\ntouch {tmp_path}/seen\necho '{right}'")
    found = honest.node("webcrypto", program)
    assert (found.why_not, found.version) == (None, "Node 20.1.0")
    assert found.job is not None
    with pytest.raises(honest.LoopFailed, match="exit 3"):
        found.job(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_no_node_and_no_file(number: int, tmp_path: Path) -> None:
    """The command, ended while a Node that never answers runs."""
    bin_folder, work = tmp_path / "bin", tmp_path / "work"
    bin_folder.mkdir()
    work.mkdir()
    fake(bin_folder, f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 300")
    process = subprocess.Popen(
        [sys.executable, "-m", "powsim", "bench", "--quick", "--save", "x.toml"],
        cwd=work,
        env={**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    pid = int((tmp_path / "pid").read_text())
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert out == ""
    assert "interrupted" in err
    assert "Traceback" not in err
    assert list(work.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_signal_while_a_child_is_born_is_kept_until_it_can_be_killed() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            assert seen == []
        assert seen == [signal.SIGINT]
        with pytest.raises(RuntimeError), held_back():
            raise RuntimeError
        signal.raise_signal(signal.SIGINT)
        assert seen == [signal.SIGINT] * 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_child_that_takes_too_long_is_gone(tmp_path: Path) -> None:
    program = fake(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 300")
    with pytest.raises(subprocess.TimeoutExpired):
        output_of([program], 1.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
