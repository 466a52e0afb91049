"""A hashcat benchmark as catalogue entries."""

from __future__ import annotations

import datetime
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from powsim.bench.hashcat import MODES, Benchmark, Speed
from powsim.bench.machine import kind_of, slug
from powsim.bench.nearest import CLASSES, Near, assumed_watts, by_rate, class_of
from powsim.bench.outcome import FAMILY
from powsim.devices import Device, catalogue
from powsim.edge import Mistake, ScenarioError

SEVERAL = "gpu-node"


def entries(
    benchmark: Benchmark, path: Path, name: str | None, watts: float | None, usd_per_h: float | None
) -> list[Device]:
    """Return a device per speed. name: the base of their names [the model]; watts, usd_per_h: of one device.

    Raises ScenarioError where watts are neither given nor known of anything near.
    """
    try:
        date = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC).date().isoformat()
    except OSError:
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
    tool = f"hashcat {benchmark.version}" if benchmark.version else "hashcat"
    names = _names(benchmark.speeds, name)
    found: list[Device] = []
    for speed, own in zip(benchmark.speeds, names, strict=True):
        kind = SEVERAL if speed.count > 1 else kind_of(speed.device)
        drawn, note = _watts(speed, kind, watts, benchmark.speeds, path)
        if speed.summed:
            note += "; hashcat printed no total: the devices' rates added up"
        found.append(
            Device(
                name=own,
                title=f"{speed.device}, hashcat mode {speed.mode}",
                kind=kind,
                family=MODES[speed.mode],
                rate_low_hz=speed.low_hz,
                rate_high_hz=speed.high_hz,
                rate_from="measured",
                watts=drawn,
                watts_from="assumed",
                source=f"{tool} benchmark, mode {speed.mode}, from the file {path.name}",
                date=date,
                usd_per_h=None if usd_per_h is None else usd_per_h * speed.count,
                usd_from=None if usd_per_h is None else "--usd-per-hour",
                note=note,
            )
        )
    return found


def near(device: Device) -> list[Near]:
    """Return the catalogue's entries beside a device; none for a family that the catalogue lacks."""
    return by_rate(device.rate_hz, CLASSES[class_of(device.kind)], device.family)


def _names(speeds: Sequence[Speed], base: str | None) -> list[str]:
    """Return a name for each speed, no two alike."""
    names: list[str] = []
    for mode in MODES:
        own = [speed for speed in speeds if speed.mode == mode]
        tail = "" if MODES[mode] == FAMILY else "-sha1"
        alone = Counter(speed.device for speed in own if speed.count == 1)
        seen: Counter[str] = Counter()
        for place, speed in enumerate(own, 1):
            if base is not None:
                stem = base if len(own) == 1 or speed.count > 1 else f"{base}-{place}"
            elif speed.count > 1:
                stem = f"{speed.count}x-{slug(own[0].device) or 'device'}" if len(alone) == 1 else "all-devices"
            else:
                seen[speed.device] += 1
                stem = slug(speed.device) or f"device-{place}"
                stem += f"-{seen[speed.device]}" if alone[speed.device] > 1 else ""
            if base is None and f"{stem}{tail}" in catalogue():  # a device of one's own goes before the catalogue's
                stem += "-hashcat"
            spellings = (stem if taken == 1 else f"{stem}-{taken}" for taken in itertools.count(1))
            names.append(
                next(one for spelt in spellings if (one := spelt + tail) not in names)
            )  # models may read alike
    return names


def _watts(speed: Speed, kind: str, given: float | None, speeds: Sequence[Speed], path: Path) -> tuple[float, str]:
    """Return (watts, where they come from)."""
    if given is not None:
        return given * speed.count, "watts as given by --watts" + (f", {speed.count} times" if speed.count > 1 else "")
    if speed.count > 1:
        parts = [one for one in speeds if one.mode == speed.mode and one.count == 1]
        each = [_watts(one, kind_of(one.device), None, speeds, path) for one in parts]
        return sum(watts for watts, _ in each), f"{each[0][1]}; of {speed.count} devices together"
    # Rates of SHA-1 say nothing among rates of SHA-256: the same device's other rate does.
    twins = [one for one in speeds if MODES[one.mode] == FAMILY and one.device == speed.device and one.count == 1]
    rate = ((twins[0].low_hz * twins[0].high_hz) ** 0.5) if twins else 0.0
    assumed = assumed_watts(speed.device, kind, rate, FAMILY)
    if assumed is None:
        text = f"nothing is known of what '{speed.device}' draws: give --watts, or the benchmark of mode 1400 too"
        raise ScenarioError(str(path), [Mistake("", text)])
    return assumed
