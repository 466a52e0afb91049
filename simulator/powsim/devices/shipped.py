"""The shipped devices, read from the TOML files beside this one."""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any

KINDS = (
    "phone",
    "tablet",
    "browser",
    "laptop",
    "desktop",
    "script",
    "cloud-function",
    "server-cpu",
    "gpu-consumer",
    "gpu-datacentre",
    "gpu-node",
    "botnet",
)
PROVENANCE = ("measured", "derived", "vendor", "assumed")


@dataclass(frozen=True)
class Device:
    """A solver: its hash rate as a range, what it draws and what it costs to rent."""

    name: str
    title: str
    kind: str
    family: str  # puzzle family that the rate is for
    rate_low_hz: float
    rate_high_hz: float
    rate_from: str  # one of PROVENANCE
    watts: float  # while solving
    watts_from: str
    source: str  # key of a citation, see source_text
    date: str
    usd_per_h: float | None = None  # rent; None: owned, so only its electricity is paid
    usd_from: str | None = None
    note: str | None = None

    @property
    def rate_hz(self) -> float:
        """Return the geometric middle of the range."""
        return float((self.rate_low_hz * self.rate_high_hz) ** 0.5)


@functools.cache
def _files() -> tuple[dict[str, Any], ...]:
    folder = resources.files("powsim.devices")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return tuple(tomllib.loads(folder.joinpath(name).read_text(encoding="utf-8")) for name in names)


@functools.cache
def catalogue() -> Mapping[str, Device]:
    """Return every shipped device by name, in the order of the catalogue."""
    devices = {}
    for parsed in _files():
        for name, fields in parsed["device"].items():
            devices[name] = Device(name=name, **fields)
    return MappingProxyType(devices)


def source_text(key: str) -> str:
    """Return the citation that `key` stands for, or the key itself where it is no key of the shipped files."""
    for parsed in _files():
        if key in parsed["sources"]:
            return str(parsed["sources"][key])
    return key


def closest(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three of `known` that look like `name`: by spelling, then by shared words."""
    names = list(known)
    bare = {other.replace("-", ""): other for other in reversed(names)}  # people forget hyphens
    plain = name.lower().replace("-", "").replace("_", "").replace(" ", "")
    near = [bare[match] for match in difflib.get_close_matches(plain, bare, n=3, cutoff=0.6)]
    words = set(name.lower().replace("_", "-").split("-"))
    shared = sorted(names, key=lambda other: -len(words & set(other.split("-"))))
    near += [other for other in shared if words & set(other.split("-")) and other not in near]
    return near[:3]
