"""A user's own devices: [devices.NAME] tables of a scenario, or of files that a scenario names in `device_files`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from powsim.devices import KINDS, PROVENANCE, Device
from powsim.edge import NAME, Edge, Mistake, ScenarioError, read_toml, told
from powsim.text import shown


class DeviceSpec(Edge):
    """A device of the user's own, beside the catalogue."""

    rate_low_hz: Annotated[float, Field(ge=1e-3, le=1e18)]
    rate_high_hz: Annotated[float, Field(ge=1e-3, le=1e18)]
    title: str = ""
    kind: str = "desktop"
    family: str = "sha256-hashcash"
    rate_from: str = "assumed"
    watts: Annotated[float, Field(ge=0, le=1e9)]
    watts_from: str = "assumed"
    usd_per_h: Annotated[float, Field(ge=0, le=1e9)] | None = None
    usd_from: str | None = None
    source: str = "this scenario"
    date: str = ""
    note: str | None = None

    @field_validator("kind", "rate_from")
    @classmethod
    def _known_word(cls, value: str, info: ValidationInfo) -> str:
        known = KINDS if info.field_name == "kind" else PROVENANCE
        if value not in known:
            raise ValueError(f"'{value}' is not one of {', '.join(known)}")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.rate_high_hz < self.rate_low_hz:
            raise ValueError(f"rate_high_hz {self.rate_high_hz:g} is below rate_low_hz {self.rate_low_hz:g}")
        return self

    def device(self, name: str) -> Device:
        """Return the device that this table describes."""
        fields = self.model_dump()
        return Device(name=name, **{**fields, "title": self.title or name})


Devices = dict[Annotated[str, Field(pattern=NAME)], DeviceSpec]


class _DeviceFile(Edge):
    devices: Annotated[Devices, Field(min_length=1)]


@dataclass(frozen=True)
class DeviceFiles:
    """What the files of one scenario hold: devices by name, and what identifies and fails."""

    devices: Mapping[str, Device] = field(default_factory=dict)
    families: Mapping[str, str] = field(default_factory=dict)  # of every name seen, in broken tables too
    sha256: Mapping[str, str] = field(default_factory=dict)  # of each file, as read
    unread: bool = False  # some file could not be read at all: what it holds is not known
    mistakes: tuple[Mistake, ...] = ()


def families_of(devices: object) -> dict[str, str]:
    """Return name -> puzzle family of a raw `devices` table, whatever else is wrong with it."""
    if not isinstance(devices, dict):
        return {}
    return {
        name: str(spec.get("family", "sha256-hashcash")) for name, spec in devices.items() if isinstance(spec, dict)
    }


def read_device_files(names: object, folder: Path, own: Iterable[str] = ()) -> DeviceFiles:
    """Return what the TOML files `names`, relative to `folder`, hold; `own` are names that are taken already.

    Raises nothing: every mistake is in the answer, with the file and its place in it.
    """
    mistakes: list[Mistake] = []
    devices: dict[str, Device] = {}
    families: dict[str, str] = {}
    digests: dict[str, str] = {}
    holders = dict.fromkeys(own, "the scenario itself")
    unread = False
    files = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    for name in dict.fromkeys(files):  # one that stands twice is told by the scenario's own check
        try:
            raw, content = read_toml(folder / name)
        except ValueError as error:
            mistakes.append(Mistake("device_files", f"{shown(name)} {error}"))
            unread = True
            continue
        digests[name] = hashlib.sha256(content).hexdigest()
        try:
            specs = _DeviceFile.model_validate(raw).devices
        except ValidationError as error:
            mistakes += [Mistake(f"{name}: {found.path}", _cured(found)) for found in told(error)]
            specs = {}
        found_families = families_of(raw.get("devices"))
        for taken in [key for key in found_families if key in holders]:
            both = f"{shown(taken)} is in {shown(name)} and in {holders[taken]}"
            mistakes.append(Mistake("device_files", f"{both}: rename one, names are used once"))
        holders |= dict.fromkeys(found_families, shown(name))
        families |= found_families
        devices |= {key: spec.device(key) for key, spec in specs.items()}
    return DeviceFiles(devices, families, digests, unread, tuple(mistakes))


def load_devices(path: Path) -> dict[str, Device]:
    """Return the devices of one file by name. Raises ScenarioError with every mistake."""
    found = read_device_files([path.name], path.parent)
    if found.mistakes:
        bare = [
            Mistake(m.path.removeprefix(f"{path.name}: "), m.text)
            if m.path != "device_files"
            else Mistake("", m.text.removeprefix(f"{shown(path.name)} "))
            for m in found.mistakes
        ]
        raise ScenarioError(str(path), bare)
    return dict(found.devices)


def _cured(mistake: Mistake) -> str:
    """Return the text of a mistake; what the file needs, where it has no device at all."""
    if mistake.path == "devices" and (mistake.text == "is missing" or "at least 1" in mistake.text):
        return "is missing: the file needs at least one [devices.NAME] table"
    return mistake.text
