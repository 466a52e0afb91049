"""Scenario files: TOML checked by pydantic at this edge only, all mistakes at once, nothing written before."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from powsim import study
from powsim.devices import Device, catalogue, closest
from powsim.edge import NAME, Edge, Mistake, ScenarioError, read_toml, told
from powsim.own_devices import DeviceFiles, Devices, families_of, read_device_files
from powsim.plugin import PluginMistake, build_policy, read_trace
from powsim.policy import Policy
from powsim.server.attacks import GateAttack
from powsim.server.spec import ServerSpec, build_attacks
from powsim.text import shown

Share = Annotated[float, Field(gt=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=1e6)]
Identities = Annotated[int, Field(ge=1, le=100_000_000)]
Queries = Annotated[int, Field(ge=1, le=1_000_000_000)]
Item = TypeVar("Item", str, int)


class ServiceSpec(Edge):
    """The defended API. Times are per request of `batch` queries and default to the paper's table 5."""

    dataset: Literal["mnist", "svhn", "cifar10"]
    batch: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    inference_s: Annotated[float, Field(ge=1e-9, le=1e6)] | None = None
    metering_s: Seconds | None = None


class PuzzleSpec(Edge):
    """The puzzle family and into how many independent sub-puzzles each puzzle is cut."""

    family: Literal["sha256-hashcash"] = "sha256-hashcash"
    sub_puzzles: Annotated[int, Field(ge=1, le=1024)] = 1


class PricesSpec(Edge):
    """What owned devices pay for energy; rented ones pay their rent instead."""

    electricity_usd_per_kwh: Annotated[float, Field(ge=0, le=100)] = 0.15


class VolumeSpec(Edge):
    """Queries per user: log-normal with this median and deviation of ln(queries), cut to 1..max."""

    median: Annotated[float, Field(gt=0, le=1e9)]
    sigma: Annotated[float, Field(ge=0, le=10)] = 0.0
    max: Queries = 1_000_000


def _shape(value: Any) -> str:
    """Return which of two forms a value has, so that its mistakes are told for that form alone."""
    return "<number>" if not isinstance(value, dict | list | VolumeSpec) else "<more>"


Volumes = Annotated[Annotated[Queries, Tag("<number>")] | Annotated[VolumeSpec, Tag("<more>")], Discriminator(_shape)]
Accounts = Annotated[int, Field(ge=1, le=1_000_000)]
Splits = Annotated[
    Annotated[Accounts, Tag("<number>")] | Annotated[list[Accounts], Field(min_length=1), Tag("<more>")],
    Discriminator(_shape),
]


def _check_device(name: str, info: ValidationInfo) -> str:
    known: dict[str, str] = info.context["devices"] if info.context else {}
    if name not in known:
        if info.context and info.context["unread"]:
            return name  # it may well be in the file that could not be read; that is told once, for the file
        fine = [other for other, of in known.items() if of == "sha256-hashcash" and re.fullmatch(NAME, other)]
        near = closest(name, fine)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown device {shown(name)}{hint} (`powsim devices` lists them all)")
    if known[name] != "sha256-hashcash":
        raise ValueError(f"device {shown(name)} solves {known[name]} puzzles, the scenario's are sha256-hashcash")
    return name


def _once(values: list[Item]) -> list[Item]:
    """Return the values, or raise ValueError if one stands twice: two groups would have one name."""
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value} stands twice")
    return values


class _Traced(Edge):
    trace: str

    @field_validator("trace")
    @classmethod
    def _known_trace(cls, value: str, info: ValidationInfo) -> str:
        context = info.context or {}
        if value.endswith(".csv"):
            read_trace(value, context["folder"])
        elif context.get("dataset") in study.DATASETS:
            known = [n.split("/")[1] for n in study.trace_names() if n.startswith(context["dataset"] + "/")]
            if value not in known:
                raise ValueError(
                    f"no trace '{value}' was published for {context['dataset']}: choose one of {', '.join(known)}, "
                    "or name a CSV file with columns queries,cost"
                )
        return value


class PopulationSpec(_Traced):
    """Honest users: how many, on which devices, with how much to ask and how different their data is."""

    identities: Identities
    trace: str = "standard"
    queries: Volumes
    devices: Annotated[dict[str, Share], Field(min_length=1)]
    mean_shift: Annotated[float, Field(gt=-1, le=10)] = 0.0
    mean_shift_sd: Annotated[float, Field(ge=0, le=10)] = 0.0
    drift_sd: Annotated[float, Field(ge=0, le=10)] = 0.0
    request_every_s: Seconds = 0.0

    @field_validator("devices")
    @classmethod
    def _mix(cls, value: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        for name in value:
            _check_device(name, info)
        if abs(sum(value.values()) - 1) > 1e-9:
            raise ValueError(f"the shares sum to {sum(value.values()):.6g}, not 1")
        return value


class CampaignSpec(_Traced):
    """An attack: what it asks, on which devices, over how many accounts. Lists span a grid, one group a cell."""

    queries: Queries
    devices: Annotated[list[str], Field(min_length=1)]
    identities: Splits = 1
    replicas: Annotated[int, Field(ge=2, le=100_000)] = 200
    request_every_s: Seconds = 0.0

    @field_validator("devices")
    @classmethod
    def _known(cls, value: list[str], info: ValidationInfo) -> list[str]:
        return [_check_device(name, info) for name in _once(value)]

    @field_validator("identities")
    @classmethod
    def _different(cls, value: int | list[int]) -> int | list[int]:
        return _once(value) if isinstance(value, list) else value

    @property
    def splits(self) -> list[int]:
        """Return the numbers of accounts to try."""
        return self.identities if isinstance(self.identities, list) else [self.identities]

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if max(self.splits) > self.queries:
            raise ValueError(f"{max(self.splits)} identities cannot share {self.queries} queries: lower identities")
        return self


class Scenario(Edge):
    """A whole scenario, as checked. `policy_object` is what its [policy] table builds."""

    name: Annotated[str, Field(pattern=NAME, max_length=64)]
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    service: ServiceSpec
    policy: dict[str, Any]
    puzzle: PuzzleSpec = PuzzleSpec()
    prices: PricesSpec = PricesSpec()
    device_files: list[str] = Field(default_factory=list)
    devices: Devices = Field(default_factory=dict)
    population: dict[Annotated[str, Field(pattern=NAME)], PopulationSpec] = Field(default_factory=dict)
    campaign: dict[Annotated[str, Field(pattern=NAME)], CampaignSpec] = Field(default_factory=dict)
    server: ServerSpec | None = None
    gate: dict[Annotated[str, Field(pattern=NAME)], dict[str, Any]] = Field(default_factory=dict)

    _folder: Path = Path()
    _policy: Policy | None = None
    _device_files: DeviceFiles = DeviceFiles()
    _attacks: dict[str, GateAttack] | None = None

    @field_validator("device_files")
    @classmethod
    def _different(cls, value: list[str]) -> list[str]:
        return _once(value)

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.population and not self.campaign:
            raise ValueError("nobody calls: give at least one [population.NAME] or [campaign.NAME]")
        both = set(self.population) & set(self.campaign)
        if both:
            raise ValueError(f"'{min(both)}' names a population and a campaign: names are used once")
        if self.gate and self.server is None:
            raise ValueError("[gate.NAME] tables attack a [server], and there is none: give it")
        return self

    @property
    def policy_object(self) -> Policy:
        """Return the policy."""
        return build_policy(self.policy, self._folder) if self._policy is None else self._policy

    @property
    def attacks(self) -> dict[str, GateAttack]:
        """Return the attacks on the gate, by name."""
        if self._attacks is not None:
            return self._attacks
        known = {name: device.family for name, device in catalogue().items()}
        return build_attacks(self.gate, self._folder, {**known, **families_of(self.devices)})[0]

    @property
    def folder(self) -> Path:
        """Return the folder that relative file names are meant from."""
        return self._folder

    def device(self, name: str) -> Device:
        """Return a device of the scenario's own, of its device files, or of the catalogue."""
        if name in self.devices:
            return self.devices[name].device(name)
        return self._device_files.devices[name] if name in self._device_files.devices else catalogue()[name]

    @property
    def text(self) -> str:
        """Return the scenario as canonical JSON, defaults filled in, without the seed; files by their SHA-256."""
        value = self.model_dump(mode="json", exclude={"seed"})
        files = {spec["trace"] for spec in [*value["population"].values(), *value["campaign"].values()]} | {
            str(value["policy"].get("name", "")).rpartition(":")[0]
        }
        logs: list[str] = []
        if self.server is None:  # scenarios without one keep the ids that they had before there were servers
            del value["server"], value["gate"]
        else:
            logs = self.server.files
            files |= {*logs, *(str(table.get("attack", "")).rpartition(":")[0] for table in self.gate.values())}
            value["gate"] = {name: dict(sorted(table.items())) for name, table in self.gate.items()}
        value["files"] = {
            name: hashlib.sha256((self._folder / name).read_bytes()).hexdigest()
            for name in sorted(files)
            if name.endswith((".csv", ".py")) or name in logs
        }
        if value["device_files"]:  # scenarios without any keep the ids that they had before there were such files
            value["files"] = dict(sorted({**value["files"], **self._device_files.sha256}.items()))
            value["device_files"] = sorted(value["device_files"])
        else:
            del value["device_files"]
        # Sorted where the order in the file changes nothing; groups keep theirs, results list them in it.
        value["policy"] = dict(sorted(value["policy"].items()))
        for spec in (value, *value["population"].values()):
            spec["devices"] = dict(sorted(spec["devices"].items()))
        return json.dumps(value, separators=(",", ":"))

    @property
    def id(self) -> str:
        """Return the content id: 16 hex digits of the SHA-256 of `text`."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def shipped() -> dict[str, str]:
    """Return the shipped scenarios: name -> TOML text."""
    folder = resources.files("powsim.scenarios")
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda e: e.name)
        if entry.name.endswith(".toml")
    }


def load_scenario(source: str | Path | None = None, overrides: list[str] | None = None) -> Scenario:
    """Return the scenario in a TOML file, or a shipped one by name; None is the default one.

    overrides: "key.path=value" strings, values in TOML, as `powsim run --set` takes them.
    Raises ScenarioError with every mistake and its path.
    """
    known = shipped()
    if source is None or (str(source) in known and not Path(source).is_file()):
        where, folder = f"scenario '{source or 'default'}'", Path()
        raw = tomllib.loads(known[str(source or "default")])
    else:
        path = Path(source)
        where, folder = str(path), path.parent
        try:
            raw, _ = read_toml(path, f"; shipped scenarios: {', '.join(known)}", piped=True)
        except ValueError as error:
            raise ScenarioError(where, [Mistake("", str(error))]) from None
    return parse_scenario(raw, where=where, folder=folder, overrides=overrides)


def parse_scenario(
    raw: dict[str, Any], *, where: str = "scenario", folder: Path = Path(), overrides: list[str] | None = None
) -> Scenario:
    """Return the scenario that a parsed TOML table describes. Raises ScenarioError."""
    raw = copy.deepcopy(raw)
    for text in overrides or []:
        _override(raw, text, where)
    own = raw.get("devices")
    families = {name: device.family for name, device in catalogue().items()}
    files = read_device_files(raw.get("device_files", []), folder, own if isinstance(own, dict) else ())
    families |= {**files.families, **families_of(own)}
    service = raw.get("service")
    context = {
        "devices": families,
        "unread": files.unread,
        "dataset": service.get("dataset") if isinstance(service, dict) else None,
        "folder": folder,
        "check_device": _check_device,
    }
    mistakes, scenario, policy = list(files.mistakes), None, None
    try:
        scenario = Scenario.model_validate(raw, context=context)
    except ValidationError as error:
        mistakes += told(error)
    if isinstance(raw.get("policy"), dict):
        try:
            policy = build_policy(raw["policy"], folder)
        except PluginMistake as error:
            mistakes += [Mistake(path, text) for path, text in error.mistakes]
    gate = raw.get("gate")
    attacks, wrong = build_attacks(gate if isinstance(gate, dict) else {}, folder, families)
    mistakes += wrong
    if scenario is None or mistakes:
        raise ScenarioError(where, mistakes)
    scenario._folder, scenario._policy, scenario._device_files = folder, policy, files
    scenario._attacks = attacks
    return scenario


def _override(raw: dict[str, Any], text: str, where: str) -> None:
    """Set one "key.path=value" in a parsed table."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ScenarioError(where, [Mistake("", f"--set {text}: write key.path=value")])
    try:
        tables = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        tables = {"value": value}  # a bare word is taken as text, so that --set policy.name=fixed needs no quotes
    if set(tables) != {"value"}:
        raise ScenarioError(where, [Mistake("", f"--set {text}: one value is needed")])
    table = raw
    *parents, last = [part.strip() for part in key.split(".")]
    for part in parents:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ScenarioError(where, [Mistake("", f"--set {text}: '{part}' is not a table")])
    table[last] = tables["value"]
