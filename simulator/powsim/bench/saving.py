"""Measured rates as catalogue entries, and the TOML file of them that a scenario names in `device_files`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from pydantic import ValidationError

from powsim.bench.machine import kind_of
from powsim.bench.measuring import Spread
from powsim.bench.nearest import assumed_watts
from powsim.bench.outcome import FAMILY, Outcome, Prices
from powsim.devices import Device
from powsim.edge import NAME, told
from powsim.own_devices import DeviceSpec
from powsim.results import OutputError
from powsim.target import write
from powsim.text import shown


def entries(outcome: Outcome, name: str, prices: Prices) -> list[Device]:
    """Return a device for every solver worth having: the best CPU path whole and on one thread, loops, GPUs."""
    threads = outcome.machine.threads
    about = f"powsim bench, {outcome.machine.cpu}, {outcome.machine.versions}, {outcome.machine.system}"
    found = []

    def add(
        suffix: str, title: str, kind: str, rate: Spread, watts: tuple[float, str, str | None], rented: bool
    ) -> None:
        measured_w, watts_from, note = watts
        rent = prices.usd_per_hour if rented else None
        found.append(
            Device(
                name=f"{name}{suffix}",
                title=title,
                kind=kind,
                family=FAMILY,
                rate_low_hz=_digits(rate.low),
                rate_high_hz=_digits(rate.high),
                rate_from="measured",
                watts=_digits(measured_w),
                watts_from=watts_from,
                source=about,
                date=outcome.date,
                usd_per_h=rent,
                usd_from=None if rent is None else "--usd-per-hour",
                note=note,
            )
        )

    cpu = outcome.machine.cpu
    for m, suffix in ((outcome.best_cpu(whole=True), ""), (outcome.best_cpu(whole=False), "-thread")):
        if m is None or m.single_short is None or (suffix and threads == 1):
            continue
        given = prices.watts if not suffix else _share(prices.watts, threads)
        where = f"{m.solver.backend.removeprefix('cpu:')}, {m.solver.threads} of {threads} threads"
        watts = _watts(m.watts, given, cpu, kind_of(cpu), m.rate_hz, _how(suffix, threads))
        add(suffix, f"{cpu}, powsim {where}", kind_of(cpu), m.single_short, watts, not suffix)
    for loop in outcome.honest:
        if loop.rate is not None:
            kind = "browser" if loop.name == "webcrypto" else "script"
            watts = _watts(None, _share(prices.watts, threads), "", kind, loop.rate.median, _how("-", threads))
            add(f"-{loop.name}", f"{cpu}, {loop.version}, {loop.name} loop, one core", kind, loop.rate, watts, False)
    models = outcome.machine.gpus
    for m in outcome.measured:
        if m.solver.gpu and m.single_short is not None:
            number = m.solver.backend.partition(":")[2]
            if number:
                model = models[int(number)] if int(number) < len(models) else f"GPU {number}"
                kind = kind_of(model) if int(number) < len(models) else "gpu-datacentre"
            else:  # "cuda", all of them
                model, kind = " + ".join(models) or "all GPUs", "gpu-node"
            watts = _watts(m.watts, None, "" if kind == "gpu-node" else model, kind, m.rate_hz, None)
            suffix = f"-gpu{number}" if number else "-gpus"
            add(suffix, f"{model}, powsim CUDA", kind, m.single_short, watts, True)
    return found


def _digits(value: float) -> float:
    """Return a measured value with the digits that mean something."""
    return float(f"{value:.4g}")


def _share(watts: float | None, threads: int) -> float | None:
    return None if watts is None else watts / threads


def _how(suffix: str, threads: int) -> str:
    return "watts as given by --watts" + (f", over {threads} threads" if suffix and threads > 1 else "")


def _watts(
    measured: float | None, given: float | None, model: str, kind: str, rate_hz: float, how: str | None
) -> tuple[float, str, str | None]:
    """Return (watts, where they come from, note): measured, else given, else assumed from the catalogue."""
    if measured is not None:
        return (
            measured,
            "measured",
            "watts of the processor's or card's own counter; the rest of the machine is not in it",
        )
    if given is not None:
        return given, "assumed", how
    near = assumed_watts(model, kind, rate_hz, FAMILY)
    return (0.0, "assumed", "no watts known") if near is None else (near[0], "assumed", near[1])


def toml(devices: Sequence[Device], comment: str) -> str:
    """Return [devices.NAME] tables as a scenario has them."""
    lines = [f"# {''.join(c if c.isprintable() else ' ' for c in comment)}"]
    for device in devices:
        lines += ["", f"[devices.{_key(device.name)}]"]
        for field in fields(device):
            value = getattr(device, field.name)
            if field.name != "name" and value is not None:
                lines.append(f"{field.name} = {_text(value) if isinstance(value, str) else repr(float(value))}")
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return _text(name) if "." in name else name


def _text(value: str) -> str:
    """Return a TOML basic string; JSON's is one, but for what has no UTF-8 and the delete character."""
    clean = value.encode("utf-8", "replace").decode()
    return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007f")


def save(target: Path, devices: Sequence[Device], comment: str, force: bool) -> None:
    """Write the devices; the file is whole or not there. Raises OutputError."""
    for device in devices:
        _check(device)
    write(target, toml(devices, comment).encode("utf-8"), force)


def _check(device: Device) -> None:
    """Raise OutputError if `powsim run` would not take the device."""
    if not re.fullmatch(NAME, device.name):
        raise OutputError(f"{shown(device.name)} is no name for a device: small letters, digits, '-', '_' and '.' are")
    values = {field.name: getattr(device, field.name) for field in fields(device) if field.name != "name"}
    try:
        DeviceSpec.model_validate(values)
    except ValidationError as error:
        reasons = "; ".join(f"{mistake.path}: {mistake.text}" for mistake in told(error))
        raise OutputError(f"the entry {device.name} would not be taken by `powsim run`: {reasons}") from None
