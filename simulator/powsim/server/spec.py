"""The [server] and [gate.NAME] tables of a scenario, as pydantic checks them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from powsim.arrivals import Arrivals, Batches, Bursts, Log, Poisson, read_log
from powsim.edge import Edge, Mistake
from powsim.plugin import PluginMistake, build_part
from powsim.server.attacks import SHIPPED, GateAttack
from powsim.server.costs import families
from powsim.text import shown

Rate = Annotated[float, Field(gt=0, le=1e7)]
Seconds = Annotated[float, Field(ge=0, le=1e6)]
Length = Annotated[float, Field(gt=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]


class PoissonSpec(Edge):
    """Independent requests."""

    process: Literal["poisson"]
    rate_hz: Rate

    def arrivals(self, folder: Path) -> Arrivals:
        """Return the process."""
        return Poisson(self.rate_hz)


class BurstsSpec(Edge):
    """Quiet and busy spells of exponential length."""

    process: Literal["bursts"]
    quiet_hz: Annotated[float, Field(ge=0, le=1e7)]
    busy_hz: Rate
    quiet_s: Length
    busy_s: Length

    def arrivals(self, folder: Path) -> Arrivals:
        """Return the process."""
        return Bursts(self.quiet_hz, self.busy_hz, self.quiet_s, self.busy_s)


class BatchesSpec(Edge):
    """Batches of geometric size at Poisson instants."""

    process: Literal["batches"]
    rate_hz: Rate
    size: Annotated[float, Field(ge=1, le=1e6)]

    def arrivals(self, folder: Path) -> Arrivals:
        """Return the process."""
        return Batches(self.rate_hz, self.size)


class LogSpec(Edge):
    """The times of a log: a CSV or Parquet file."""

    process: Literal["log"]
    file: str
    column: str = "timestamp"
    speed: Annotated[float, Field(gt=0, le=1e6)] = 1.0

    @model_validator(mode="after")
    def _readable(self, info: ValidationInfo) -> Self:
        read_log(self.file, info.context["folder"] if info.context else Path(), self.column)
        return self

    def arrivals(self, folder: Path) -> Arrivals:
        """Return the process."""
        return Log(read_log(self.file, folder, self.column), self.speed)


PROCESSES = ("poisson", "bursts", "batches", "log")


def _process(value: Any) -> str | None:
    """Return whose mistakes are to be told."""
    name = value.get("process") if isinstance(value, dict) else getattr(value, "process", None)
    return f"<{name}>" if name in PROCESSES else None


ArrivalsSpec = Annotated[
    Annotated[PoissonSpec, Tag("<poisson>")]
    | Annotated[BurstsSpec, Tag("<bursts>")]
    | Annotated[BatchesSpec, Tag("<batches>")]
    | Annotated[LogSpec, Tag("<log>")],
    Discriminator(
        _process,
        custom_error_type="process",
        custom_error_message=f"`process` is missing or unknown: choose one of {', '.join(PROCESSES)}",
    ),
]


class ServerSpec(Edge):
    """What stands in front of the model and how it is asked. Absent costs are those of costs.toml."""

    arrivals: ArrivalsSpec
    bits: Annotated[float, Field(ge=0, le=58)]  # of every request's puzzle
    device: str  # of the honest
    servers: Annotated[int, Field(ge=1, le=100_000)] = 1
    gate_servers: Annotated[int, Field(ge=1, le=100_000)] | None = None
    waiting_room: Annotated[int, Field(ge=0, le=10**9)] | None = None
    time_out_s: Length | None = None
    retries: Annotated[int, Field(ge=0, le=100)] = 0
    back_off_s: Seconds = 1.0
    back_off_growth: Annotated[float, Field(ge=1, le=10)] = 2.0
    service: Literal["constant", "exponential"] = "constant"
    seconds: Length = 600.0
    warm_up_s: Seconds = 0.0
    replicas: Annotated[int, Field(ge=2, le=10_000)] = 20
    expiry_s: Length = 300.0
    challenge_table: Count = 100_000
    family: str | None = None
    handling_s: Seconds | None = None
    mint_s: Seconds | None = None
    check_s: Seconds | None = None
    verify_s: Seconds | None = None
    drop_s: Seconds | None = None
    entry_bytes: Annotated[float, Field(gt=0, le=1e6)] | None = None
    check_first: bool = True
    signed: bool = True
    seen_store: bool = True
    outstanding: Count | None = None
    limit_hz: Rate | None = None

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str, info: ValidationInfo) -> str:
        if info.context:
            info.context["check_device"](value, info)
        return value

    @field_validator("family")
    @classmethod
    def _known_family(cls, value: str | None) -> str | None:
        if value is not None and value not in families():
            raise ValueError(f"no costs of family {shown(value)}: choose one of {', '.join(families())}")
        return value

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if self.warm_up_s >= self.seconds:
            raise ValueError(f"warm_up_s {self.warm_up_s:g} leaves nothing of seconds {self.seconds:g}: lower it")
        last = self.back_off_s * self.back_off_growth ** max(self.retries - 1, 0)
        if last > 1e9 or not math.isfinite(last):
            raise ValueError(f"the last of {self.retries} back-offs takes {last:g} s: lower retries or back_off_growth")
        return self

    @property
    def files(self) -> list[str]:
        """Return the files that the table names."""
        return [self.arrivals.file] if isinstance(self.arrivals, LogSpec) else []


NEEDED = ("device", "identities", "measure", "without", "within", "messages")


def build_attacks(
    tables: dict[str, Any], folder: Path, devices: dict[str, str]
) -> tuple[dict[str, GateAttack], list[Mistake]]:
    """Return the attacks of the [gate.NAME] tables, and every mistake in them. devices: name -> family."""
    built: dict[str, GateAttack] = {}
    mistakes: list[Mistake] = []
    for name, table in tables.items():
        where = f"gate.{name}"
        if not isinstance(table, dict):
            continue  # pydantic tells that
        try:
            attack, found = build_part(table, folder, SHIPPED, NEEDED, kind="attack", where=where, key="attack")
        except PluginMistake as error:
            mistakes += [Mistake(path, text) for path, text in error.mistakes]
            continue
        text = _unfit(dict(zip(NEEDED, found, strict=True)), devices)
        if text:
            mistakes.append(Mistake(where, text))
        else:
            built[name] = attack
    return built, mistakes


def _unfit(found: dict[str, Any], devices: dict[str, str]) -> str | None:
    """Return what an attack lacks."""
    if devices.get(found["device"]) != "sha256-hashcash":
        return (
            f"device {shown(found['device'])} solves no sha256-hashcash puzzles (`powsim devices` lists those that do)"
        )
    if not isinstance(found["identities"], int) or found["identities"] < 1:
        return f"identities is {shown(found['identities'])}: a whole number, 1 or more, is needed"
    if not isinstance(found["measure"], str) or not all(map(callable, (found[name] for name in NEEDED[3:]))):
        return "a text `measure` and methods without, within and messages are needed: see powsim.server.GateAttack"
    return None
