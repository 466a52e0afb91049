"""Scenario files: TOML checked by pydantic at this edge only, all mistakes at once, nothing written before."""

from __future__ import annotations

import copy
import hashlib
import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from powsim import study
from powsim.callers import CampaignSpec as CampaignSpec
from powsim.callers import PopulationSpec as PopulationSpec
from powsim.callers import Seconds, check_device, once
from powsim.devices import Device, catalogue
from powsim.edge import NAME, Edge, Mistake, ScenarioError, read_toml, told
from powsim.own_devices import DeviceFiles, Devices, families_of, read_device_files
from powsim.plugin import PluginMistake, build_policy
from powsim.policy import AnyPolicy
from powsim.server.attacks import GateAttack
from powsim.server.spec import ServerSpec, build_attacks
from powsim.text import shown

if TYPE_CHECKING:
    from powsim.bank.priced import PricedBank

LATER = ("bank", "meter", "parallel", "think_s", "starts_within_s")
"""Keys that scenarios did not always have; left at nothing, they do not enter the text."""


class ServiceSpec(Edge):
    """The defended API: a dataset of the paper, or a shipped or own bank of queries whose votes were recorded.

    Times are per request of `batch` queries and default to the paper's table 5, or to those that the bank measured.
    """

    meter: str | None = None  # of a bank's queries: gnmax, pknn, entropy, gap or count [gnmax]
    bank: str | None = None  # an .npz file, as `powsim lab` writes it
    dataset: Annotated[str | None, Field(validate_default=True)] = None
    batch: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    inference_s: Annotated[float, Field(ge=1e-9, le=1e6)] | None = None
    metering_s: Seconds | None = None

    _bank: PricedBank | None = None

    @field_validator("meter")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        from powsim.bank.costs import METERS

        if value is not None and value not in METERS:
            raise ValueError(f"unknown meter {shown(value)}: choose one of {', '.join(METERS)}")
        return value

    @field_validator("dataset", "bank")
    @classmethod
    def _can_be_had(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            _bank_of(value, info.field_name == "bank", info.data.get("meter"), info)
        elif info.field_name == "dataset" and info.data.get("bank", "") is None:
            raise ValueError("is missing")
        return value

    @model_validator(mode="after")
    def _one(self, info: ValidationInfo) -> Self:
        if self.dataset is not None and self.bank is not None:
            raise ValueError("dataset and bank exclude each other: leave one out")
        self._bank = _bank_of(self.dataset or self.bank or "", self.dataset is None, self.meter, info)
        if self.meter is not None and self._bank is None:
            raise ValueError(
                f"meter {shown(self.meter)} needs recorded votes, and {self.dataset} is published sums of gnmax: leave "
                "it out, or give a bank"
            )
        if info.context:
            info.context["bank"] = self._bank  # callers, which come after, name its traces
        return self

    @property
    def name(self) -> str:
        """Return the dataset's name, or that of the bank's task."""
        return self.dataset or (self._bank.bank.task if self._bank else "")

    @property
    def priced_bank(self) -> PricedBank | None:
        """Return the bank that costs are drawn from, None for a dataset of the paper."""
        return self._bank


def _bank_of(name: str, own: bool, meter: str | None, info: ValidationInfo) -> PricedBank | None:
    """Return the bank in a user's own file, or of a dataset; None for one of the paper's. Raises ValueError."""
    from powsim.bank.files import shipped_names
    from powsim.bank.priced import read_priced, shipped_priced

    meter = meter or "gnmax"
    if own:
        return read_priced((info.context["folder"] if info.context else Path()) / name, meter)
    if name in study.DATASETS:
        return None
    known = (*study.DATASETS, *shipped_names())
    if name not in known:
        raise ValueError(f"unknown dataset {shown(name)}: choose one of {', '.join(known)}, or give a bank")
    return shipped_priced(name, meter)


class PuzzleSpec(Edge):
    """The puzzle family, and into how many independent sub-puzzles, in turn or side by side, a puzzle is cut."""

    family: Literal["sha256-hashcash"] = "sha256-hashcash"
    sub_puzzles: Annotated[int, Field(ge=1, le=1024)] = 1
    parallel: bool = False  # each sub-puzzle on a device of its own: the slowest counts, energy and rent are of all


class PricesSpec(Edge):
    """What owned devices pay for energy; rented ones pay their rent instead."""

    electricity_usd_per_kwh: Annotated[float, Field(ge=0, le=100)] = 0.15


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
    _policy: AnyPolicy | None = None
    _device_files: DeviceFiles = DeviceFiles()
    _attacks: dict[str, GateAttack] | None = None

    @field_validator("device_files")
    @classmethod
    def _different(cls, value: list[str]) -> list[str]:
        return once(value)

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
    def policy_object(self) -> AnyPolicy:
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
        bank = self.service.priced_bank
        if bank is not None:
            value["files"] = dict(sorted({**value["files"], f"{self.service.name}, bank": bank.sha256}.items()))
        _drop_defaults(value)
        # Sorted where the order in the file changes nothing; groups keep theirs, results list them in it.
        value["policy"] = dict(sorted(value["policy"].items()))
        for spec in (value, *value["population"].values()):
            spec["devices"] = dict(sorted(spec["devices"].items()))
        return json.dumps(value, separators=(",", ":"))

    @property
    def id(self) -> str:
        """Return the content id: 16 hex digits of the SHA-256 of `text`."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def _drop_defaults(value: dict[str, Any]) -> None:
    """Take keys that came later out of a scenario that does not use them: it keeps the id that it had before."""
    tables = [value["service"], value["puzzle"], *value["population"].values(), *value["campaign"].values()]
    for table in tables:
        for key in LATER:
            if not table.get(key, True):
                del table[key]


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
    raw, where, folder = read_scenario(source)
    return parse_scenario(raw, where=where, folder=folder, overrides=overrides)


def read_scenario(source: str | Path | None) -> tuple[dict[str, Any], str, Path]:
    """Return a scenario as its TOML stands, its name in messages, and the folder that file names are meant from.

    source is as `load_scenario` takes it. Raises ScenarioError.
    """
    known = shipped()
    if source is None or (str(source) in known and not Path(source).is_file()):
        return tomllib.loads(known[str(source or "default")]), f"scenario '{source or 'default'}'", Path()
    path = Path(source)
    try:
        raw, _ = read_toml(path, f"; shipped scenarios: {', '.join(known)}", piped=True)
    except ValueError as error:
        raise ScenarioError(str(path), [Mistake("", str(error))]) from None
    return raw, str(path), path.parent


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
        "check_device": check_device,
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
    try:
        put(raw, key, tables["value"])
    except ValueError as error:
        raise ScenarioError(where, [Mistake("", f"--set {text}: {error}")]) from None


def put(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set the value at "key.path" in a parsed table. Raises ValueError where the path leads through no table."""
    table = raw
    *parents, last = [part.strip() for part in key.split(".")]
    for part in parents:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ValueError(f"'{part}' is not a table")
    table[last] = value
