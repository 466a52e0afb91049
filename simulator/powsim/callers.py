"""What a scenario's [population.NAME] and [campaign.NAME] tables may say."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self, TypeVar

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from powsim import study
from powsim.devices import closest
from powsim.edge import NAME, Edge
from powsim.plugin import read_trace
from powsim.population import Volume
from powsim.text import shown

Share = Annotated[float, Field(gt=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=1e6)]
Identities = Annotated[int, Field(ge=1, le=100_000_000)]
Queries = Annotated[int, Field(ge=1, le=1_000_000_000)]
Item = TypeVar("Item", str, int)


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


def check_device(name: str, info: ValidationInfo) -> str:
    """Return a device's name. Raises ValueError for one that there is not, or that solves other puzzles."""
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


def once(values: list[Item]) -> list[Item]:
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
        elif context.get("bank") is not None:
            known = context["bank"].traces
            if value not in known:
                raise ValueError(
                    f"no attack {shown(value)} was recorded in the bank: choose one of {', '.join(known)}, or name "
                    "a CSV file with columns queries,cost"
                )
        elif context.get("dataset") in study.DATASETS:
            known = [n.split("/")[1] for n in study.trace_names() if n.startswith(context["dataset"] + "/")]
            if value not in known:
                raise ValueError(
                    f"no trace '{value}' was published for {context['dataset']}: choose one of {', '.join(known)}, "
                    "or name a CSV file with columns queries,cost"
                )
        return value


class PopulationSpec(_Traced):
    """Honest users: how many, on which devices, with how much to ask and how different their data is.

    A request comes every request_every_s, or think_s after the answer before it, whichever is later; callers begin at a
    time drawn evenly from the first starts_within_s.
    """

    identities: Identities
    trace: str = "standard"
    queries: Volumes
    devices: Annotated[dict[str, Share], Field(min_length=1)]
    mean_shift: Annotated[float, Field(gt=-1, le=10)] = 0.0
    mean_shift_sd: Annotated[float, Field(ge=0, le=10)] = 0.0
    drift_sd: Annotated[float, Field(ge=0, le=10)] = 0.0
    request_every_s: Seconds = 0.0
    think_s: Seconds = 0.0
    starts_within_s: Seconds = 0.0

    @property
    def volume(self) -> Volume:
        """Return how many queries its users ask."""
        asked = self.queries
        return Volume(asked, 0.0, asked) if isinstance(asked, int) else Volume(asked.median, asked.sigma, asked.max)

    @field_validator("devices")
    @classmethod
    def _mix(cls, value: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        for name in value:
            check_device(name, info)
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
    think_s: Seconds = 0.0
    starts_within_s: Seconds = 0.0

    @field_validator("devices")
    @classmethod
    def _known(cls, value: list[str], info: ValidationInfo) -> list[str]:
        return [check_device(name, info) for name in once(value)]

    @field_validator("identities")
    @classmethod
    def _different(cls, value: int | list[int]) -> int | list[int]:
        return once(value) if isinstance(value, list) else value

    @property
    def splits(self) -> list[int]:
        """Return the numbers of accounts to try."""
        return self.identities if isinstance(self.identities, list) else [self.identities]

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if max(self.splits) > self.queries:
            raise ValueError(f"{max(self.splits)} identities cannot share {self.queries} queries: lower identities")
        return self
