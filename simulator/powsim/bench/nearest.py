"""The catalogue's entries nearest to a measured rate, and what they say where nothing was measured."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from powsim.devices import Device, catalogue

CLASSES = {
    "cpu": ("server-cpu", "desktop", "laptop"),
    "gpu": ("gpu-consumer", "gpu-datacentre", "gpu-node"),
    "script": ("script",),
    "browser": ("browser", "script"),
}
"""What is compared with what."""
FORMS = {"sxm", "pcie"}
"""Words of an entry's name that drivers spell otherwise or not at all."""


@dataclass(frozen=True)
class Near:
    """A catalogue entry beside a measured rate."""

    name: str
    rate_hz: float
    ratio: float  # measured over the entry's


def class_of(kind: str) -> str:
    """Return the class of CLASSES that a kind of device is compared in."""
    return next((name for name, kinds in CLASSES.items() if kind in kinds), "cpu")


def by_rate(rate_hz: float, kinds: Iterable[str], family: str, count: int = 2) -> list[Near]:
    """Return up to `count` entries of these kinds, the nearest by factor first."""
    wanted = set(kinds)
    known = [device for device in catalogue().values() if device.kind in wanted and device.family == family]
    known.sort(key=lambda device: abs(math.log(rate_hz / device.rate_hz)))
    return [Near(device.name, device.rate_hz, rate_hz / device.rate_hz) for device in known[:count]]


def by_model(model: str, kinds: Iterable[str]) -> Device | None:
    """Return the entry whose name's every word is in the model's, as "rtx-4090" in "NVIDIA GeForce RTX 4090"."""
    wanted = set(kinds)
    words = set(re.findall(r"[a-z0-9]+", model.lower()))
    fits = []
    for device in catalogue().values():
        own = set(device.name.split("-"))
        if device.kind in wanted and own - FORMS <= words and any(map(_digit, own)):
            fits.append((len(own & words), device))
    return max(fits, key=lambda fit: fit[0])[1] if fits else None


def _digit(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


def assumed_watts(model: str, kind: str, rate_hz: float, family: str) -> tuple[float, str] | None:
    """Return (watts, where they come from) of the same model or else of the nearest rate; None if nothing is near.

    rate_hz: 0 where no rate of the family is known.
    """
    kinds = CLASSES[class_of(kind)]
    same = by_model(model, kinds)
    if same is not None:
        return same.watts, f"watts of the catalogue's {same.name}, the same model"
    near = by_rate(rate_hz, kinds, family, 1) if rate_hz > 0 else []
    if not near:
        return None
    return catalogue()[near[0].name].watts, f"watts of the catalogue's {near[0].name}, the nearest rate"
