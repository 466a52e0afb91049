"""hashcat's benchmark output read: what people print with `hashcat -b`, of versions 4 to 7, for people or machines."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from powsim.edge import Mistake, ScenarioError
from powsim.files import read_file, reason

MODES = {1400: "sha256-hashcash", 100: "sha1-hashcash"}
"""Modes that are worth having -> the puzzle family whose tries they are."""
NEEDED = "hashcat's benchmark of mode 1400 (SHA2-256) or 100 (SHA1) is needed: `hashcat -b -m 1400 > hashcat.txt`"
LARGEST = 64 << 20

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15}
VERSION = re.compile(r"^(?:hashcat \(|# version: )(v[\w.+-]+)")
# Digits are bounded everywhere: Python refuses to convert more than 4,300 of them.
# v4 to v6.1 "Hashmode: 1400 - SHA2-256"; since v6.2 "* Hash-Mode 1400 (SHA2-256)"; a Markdown quote or list before it.
HEADER = re.compile(r"^[\s>*-]*Hash-?mode:?\s+(\d{1,9})\b", re.IGNORECASE)
# v4 "Speed.Dev.#1.....:", v5 and v6 "Speed.#1.........:", v7 "Speed.#01........:"; #* is all devices together.
SPEED = re.compile(
    r"^[\s>]*Speed\.(?:Dev\.)?#(\*|\d{1,9})\.*:\s*(\d{1,18}(?:\.\d{1,18})?)\s*([kMGTP]?)H/s", re.IGNORECASE
)
# "* Device #1: NAME, 24209/24217 MB, 128MCU", "... (4095 MB allocatable)", v7 "* Device #01 -> #02: NAME, ...";
# names have commas themselves, so the memory ends them.
DEVICE = re.compile(r"^[\s>]*\* Device #(\d{1,9})(?:\s*->\s*#\d+)?:\s*(.*?),\s*(?:(skipped)|\d+/\d+ MB)")
# The head of a status screen: a real attack follows, whose speed is no benchmark.
ATTACK = re.compile(r"^[\s>]*(?:Session|Status|Hash\.Mode|Hash\.Type)\.*:")
# device:mode:core clock:memory clock:milliseconds:hashes per second; v3 had fewer, what follows may have more.
MACHINE = re.compile(r"^(\d{1,9}):(\d{1,9})(?::-?\d+(?:\.\d+)?){1,6}:(\d{1,18})$")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Speed:
    """What one device, or all together, does in one mode: least and greatest of the runs in the file."""

    mode: int
    device: str  # its model
    low_hz: float
    high_hz: float
    count: int  # devices behind it
    summed: bool = False  # added up here, where hashcat printed no total


@dataclass
class _Reading:
    version: str | None = None
    names: dict[int, str] = field(default_factory=dict)
    active: set[int] = field(default_factory=set)
    headers: Counter[int] = field(default_factory=Counter)
    rates: dict[tuple[int, int], list[float]] = field(default_factory=dict)  # (mode, device) -> hashes per second
    totals: dict[int, list[float]] = field(default_factory=dict)
    clashes: list[str] = field(default_factory=list)
    mode: int | None = None


@dataclass(frozen=True)
class Benchmark:
    """One file: its speeds by mode and device, each mode's whole last, and what is odd about it."""

    version: str | None
    speeds: tuple[Speed, ...]
    warnings: tuple[str, ...]


def read(path: Path) -> Benchmark:
    """Return the benchmark in a file. Raises ScenarioError naming what was found and what is needed."""
    try:
        content = read_file(path, LARGEST)
    except OSError as error:
        raise _refused(path, f"cannot be read: {reason(error)}") from None
    except ValueError as error:
        raise _refused(path, f"{error}; {NEEDED}") from None
    if not content.strip():
        raise _refused(path, f"is empty: {NEEDED}")
    text = decoded(content)
    if text is None:
        raise _refused(path, f"is not text: {NEEDED}")
    return parse(text, path)


def decoded(content: bytes) -> str | None:
    """Return a file's text, UTF-16 of PowerShell's `>` among them; None for binary content."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    if b"\0" in content:
        return None
    return content.decode("utf-8-sig", "replace")


def parse(text: str, path: Path = Path("hashcat.txt")) -> Benchmark:
    """Return the benchmark in hashcat's output. Raises ScenarioError."""
    found = _Reading()
    for line in ESCAPES.sub("", text).splitlines():
        _take(found, line.rstrip())
    if found.clashes:
        raise _refused(path, f"is of more than one machine ({found.clashes[0][:200]}): give each a file of its own")
    speeds: list[Speed] = []
    warnings: list[str] = []
    for mode in MODES:
        speeds += _speeds(found, mode, warnings)
    if not speeds:
        raise _refused(path, f"{_what(found)}: {NEEDED}")
    return Benchmark(found.version, tuple(speeds), tuple(warnings))


def _take(found: _Reading, line: str) -> None:
    """Note what one line says."""
    if match := SPEED.match(line):
        if found.mode in MODES:
            rate = float(match[2]) * UNITS[match[3].lower()]
            if match[1] == "*":
                found.totals.setdefault(found.mode, []).append(rate)
            else:
                found.rates.setdefault((found.mode, int(match[1])), []).append(rate)
    elif match := MACHINE.match(line):
        mode = int(match[2])
        found.headers[mode] += 1
        if mode in MODES:
            found.rates.setdefault((mode, int(match[1])), []).append(float(match[3]))
    elif match := HEADER.match(line):
        found.mode = int(match[1])
        found.headers[found.mode] += 1
    elif match := DEVICE.match(line):
        # CUDA and OpenCL list one card twice, the second time as skipped: it keeps its first name and number.
        number = int(match[1])
        if match[3] is None:
            name = match[2].strip() or f"device {number}"
            if found.names.setdefault(number, name) != name:
                found.clashes.append(f"device {number} is '{found.names[number]}' and '{name}'")
            found.active.add(number)
    elif match := VERSION.match(line):
        found.version = match[1]
    elif ATTACK.match(line):
        found.mode = None


def _speeds(found: _Reading, mode: int, warnings: list[str]) -> list[Speed]:
    """Return the speeds of one mode: of each device, and of all together where there are several."""
    rates = {device: hz for (of, device), hz in sorted(found.rates.items()) if of == mode}
    for device in [device for device, hz in rates.items() if min(hz) <= 0]:
        warnings.append(f"mode {mode}: device {device} reached 0 H/s and is left out")
        del rates[device]
    lost = sorted(found.active - {device for of, device in found.rates if of == mode})
    if rates and lost:
        warnings.append(f"mode {mode}: no speed of device {', '.join(map(str, lost))}: is the file cut off?")
    if not rates and found.headers[mode]:
        warnings.append(f"mode {mode} has no speed: it failed, or the file is cut off")
    speeds = [
        Speed(mode, found.names.get(device, f"device {device}"), min(hz), max(hz), 1) for device, hz in rates.items()
    ]
    if len(speeds) < 2:
        return speeds
    models = Counter(speed.device for speed in speeds)
    all_of_them = " + ".join(f"{count}x {model}" if count > 1 else model for model, count in models.items())
    totals = found.totals.get(mode, [])
    low = min(totals) if totals else sum(speed.low_hz for speed in speeds)
    high = max(totals) if totals else sum(speed.high_hz for speed in speeds)
    return [*speeds, Speed(mode, all_of_them, low, high, len(speeds), not totals)]


def _what(found: _Reading) -> str:
    """Return what a file without speeds has instead."""
    wanted = [mode for mode in MODES if found.headers[mode]]
    if wanted:
        return f"names mode {wanted[0]} but no speed above 0 for it: the benchmark failed, or the file is cut off"
    if found.headers:
        modes = sorted(found.headers)
        more = f" and {len(modes) - 8} more" if len(modes) > 8 else ""
        return f"holds only mode {', '.join(map(str, modes[:8]))}{more}"
    if found.version:
        return f"is output of hashcat {found.version}, but of no benchmark"
    return "holds no line of a hashcat benchmark"


def _refused(path: Path, text: str) -> ScenarioError:
    return ScenarioError(str(path), [Mistake("", text)])
