"""The honest side: a Python loop over hashlib, and in Node the WebCrypto loop of browsers and node:crypto's."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from powsim.bench.children import output_of
from powsim.bench.measuring import SHORT, Clock, Sample, WrongAnswer, challenge, lowest_nonce

CHECK_BITS = 9
HARD_BITS = 32  # a loop of these needs an hour for one
TIMEOUT_S = 20.0  # beyond the seconds asked for; the first start of Node can take long on a cold disk
GRAIN = 500  # tries between two looks at the clock

LOOPS = {
    "hashlib": "Python, hashlib loop",
    "webcrypto": "Node, WebCrypto loop as in browsers",
    "node-crypto": "Node, crypto.createHash loop",
}


class LoopFailed(RuntimeError):
    """A loop that ran and then failed; the text says how."""


@dataclass(frozen=True)
class Loop:
    """One honest loop that was found to give hashlib's nonce, or why there is none."""

    name: str  # one of LOOPS
    job: Callable[[float], Sample] | None
    version: str | None = None
    why_not: str | None = None


def loops() -> list[Loop]:
    """Return the loops of this machine, each checked; one that cannot run says why."""
    from platform import python_version

    check_hashlib()
    return [Loop("hashlib", time_hashlib, f"Python {python_version()}"), node("webcrypto"), node("node-crypto")]


def solve_hashlib(message: bytes, begin: int, count: int, bits: int) -> int:
    """Return the lowest solving nonce, or -1: the plain loop that a Python client would run."""
    sha256 = hashlib.sha256
    limit = ((1 << (64 - bits)) - 1).to_bytes(8, "big") + b"\xff" * 24
    for nonce in range(begin, begin + count):
        if sha256(message + nonce.to_bytes(8, "big")).digest() <= limit:
            return nonce
    return -1


def check_hashlib() -> None:
    """Return if the loop finds what the oracle finds, else raise WrongAnswer."""
    message = challenge(1, SHORT)
    found, expected = solve_hashlib(message, 0, 1 << 20, CHECK_BITS), lowest_nonce(message, CHECK_BITS)
    if found != expected:
        raise WrongAnswer(f"the hashlib loop finds nonce {found}, not {expected}")


def time_hashlib(seconds: float, clock: Clock = time.perf_counter) -> Sample:
    """Return what the loop does in about `seconds`."""
    message, tries, began = challenge(0, SHORT), 0, clock()
    while (spent := clock() - began) < seconds:
        solve_hashlib(message, tries, GRAIN, 64)
        tries += GRAIN
    return Sample(tries, 0, spent)


def node(loop: str, program: str | None = None) -> Loop:
    """Return a loop of loops.js, run by `program` [node on the PATH], or why it cannot run."""
    path = program or shutil.which("node")
    if path is None:
        return Loop(loop, None, why_not="node is not on the PATH: install Node.js 16 or newer")
    try:
        answer = _call(path, loop, challenge(1, SHORT), CHECK_BITS, 0.0)
        nonce, version = answer["nonce"], f"Node {answer['version'].lstrip('v')}"
    except LoopFailed as error:
        return Loop(loop, None, why_not=str(error))
    expected = lowest_nonce(challenge(1, SHORT), CHECK_BITS)
    if nonce != expected:
        return Loop(loop, None, version, f"finds nonce {nonce} where hashlib finds {expected}: not timed")

    def job(seconds: float) -> Sample:
        timed = _call(path, loop, challenge(0, SHORT), HARD_BITS, seconds)
        return Sample(timed["tries"], 0, timed["seconds"])

    return Loop(loop, job, version)


def _call(path: str, loop: str, message: bytes, bits: int, seconds: float) -> dict[str, Any]:
    """Return what loops.js prints. The process is killed at its time-out and on any interruption."""
    script = resources.files("powsim.bench").joinpath("loops.js").read_text(encoding="utf-8")
    command = [path, "--eval", script, loop, message.hex(), str(bits), f"{seconds:.6f}"]
    try:
        printed = output_of(command, TIMEOUT_S + 3 * seconds)
        answer: dict[str, Any] = json.loads(printed)
        fine = answer["tries"] > 0 < answer["seconds"] if seconds else answer["nonce"] >= 0 < len(answer["version"])
        if not fine:
            raise ValueError(printed)
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError) as error:
        raise LoopFailed(_reason(error)) from None
    return answer


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"node gave no answer within {error.timeout:.0f} s"
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line.strip() for line in str(error.stderr).splitlines() if "Error" in line] or ["no message"]
        return f"node failed (exit {error.returncode}; Node.js 16 or newer is needed): {lines[0][:200]}"
    if isinstance(error, OSError):
        return f"node cannot be started: {error.strerror or error}"
    return f"node answered something else than a result: {str(error)[:100]}"
