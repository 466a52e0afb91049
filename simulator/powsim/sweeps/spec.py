"""Sweep files: TOML checked at this edge, all mistakes at once, and the points that one describes."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from powsim.edge import NAME, Edge, Mistake, ScenarioError, read_toml, told
from powsim.scenario import Scenario, parse_scenario, put, read_scenario, shipped
from powsim.text import shown
from powsim_kernels import uniform

MOST_POINTS = 10_000
MOST_TOLD = 20  # mistakes of single points that a message lists
FORMAT = "powsim-sweep-3"
"""Part of every point's id: totals of another shape, or counted otherwise, are other points."""

Key = Annotated[str, Field(min_length=1)]
Pair = Annotated[list[float | int], Field(min_length=2, max_length=2)]


class RangeSpec(Edge):
    """Where a random point's value comes from: one of the three; `whole` rounds to an integer."""

    uniform: Pair | None = None
    log_uniform: Pair | None = None
    choice: Annotated[list[Any], Field(min_length=1)] | None = None
    whole: bool = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(given is not None for given in (self.uniform, self.log_uniform, self.choice)) != 1:
            raise ValueError("give one of uniform = [low, high], log_uniform = [low, high], choice = [values]")
        for low, high in filter(None, (self.uniform, self.log_uniform)):
            if not low < high or (self.log_uniform and low <= 0):
                raise ValueError(f"[{low:g}, {high:g}] is no range: low < high is needed, above 0 for log_uniform")
        return self

    def value(self, u: float) -> Any:
        """Return the value that a uniform number in (0, 1] stands for."""
        if self.choice is not None:
            return self.choice[min(int((1.0 - u) * len(self.choice)), len(self.choice) - 1)]
        if self.log_uniform is not None:
            low, high = self.log_uniform
            x = low * math.exp(math.log(high / low) * u)
        else:
            low, high = self.uniform or [0.0, 1.0]  # one of the three is given
            x = low + (high - low) * u
        x = min(max(x, low), high)  # not past an end by rounding
        return round(x) if self.whole else x


class RandomSpec(Edge):
    """Points at random: how many, drawn from which seed, over which keys."""

    points: Annotated[int, Field(ge=1, le=MOST_POINTS)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    ranges: Annotated[dict[Key, RangeSpec], Field(min_length=1)]


class SweepSpec(Edge):
    """A sweep file, as checked."""

    name: Annotated[str, Field(pattern=NAME, max_length=64)]
    description: str = ""
    scenario: str = "default"
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None  # for every point: the same users and luck in each
    shards: Annotated[int, Field(ge=1, le=10_000)] = 4
    replicas: Annotated[int, Field(ge=2, le=100_000)] | None = None
    set: dict[Key, Any] = Field(default_factory=dict)
    grid: dict[Key, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    random: RandomSpec | None = None

    @model_validator(mode="after")
    def _keys(self) -> Self:
        tables = [set(self.set), set(self.grid), set(self.random.ranges) if self.random else set()]
        twice = sorted(key for one, two in itertools.combinations(tables, 2) for key in one & two)
        if twice:
            raise ValueError(f"'{twice[0]}' stands in two of [set], [grid] and [random.ranges]")
        if "seed" in set.union(*tables):
            raise ValueError("'seed' is no key of a sweep: points are compared on the same draws; give `seed` once")
        swept = {*self.grid, *(self.random.ranges if self.random else ())}
        gate = sorted(key for key in swept if key.split(".")[0].strip() in ("server", "gate"))
        if gate:
            raise ValueError(
                f"'{gate[0]}' would change nothing: sweeps leave [server] and [gate] out; use `powsim run --set`"
            )
        sizes = math.prod(map(len, self.grid.values())) * (self.random.points if self.random else 1)
        if sizes > MOST_POINTS:
            raise ValueError(f"{sizes:,} points exceed {MOST_POINTS:,}: shorten the lists of [grid]")
        return self


@dataclass(frozen=True)
class Point:
    """One scenario of a sweep."""

    id: str
    values: dict[str, Any]  # what was swept, key -> value
    raw: str  # the scenario's tables as JSON
    folder: Path  # that its file names are meant from
    seed: int
    scenario: Scenario

    @property
    def title(self) -> str:
        """Return what makes this point differ: "policy.base=1.01 ..."."""
        return ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in self.values.items())


@dataclass(frozen=True)
class Plan:
    """The points of a sweep, in order, and into how many shards the scenario of each is cut."""

    name: str
    description: str
    shards: int
    points: tuple[Point, ...]
    text: str  # the sweep file, as it stands


def point_id(scenario: Scenario, seed: int) -> str:
    """Return the content id: 16 hex digits of the SHA-256 of format, seed and the scenario's text, files included."""
    return hashlib.sha256(f"{FORMAT}\n{seed}\n{scenario.text}".encode()).hexdigest()[:16]


def shipped_sweeps() -> dict[str, str]:
    """Return the shipped sweeps: name -> TOML text."""
    folder = resources.files("powsim.sweeps")
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda e: e.name)
    return {entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8") for entry in files}


def load_sweep(source: str | Path) -> Plan:
    """Return the plan of a sweep file, or of a shipped one by name. Raises ScenarioError with every mistake."""
    known = shipped_sweeps()
    if str(source) in known and not Path(source).is_file():
        text = known[str(source)]
        return _plan(tomllib.loads(text), text, f"sweep '{source}'", Path())
    path = Path(source)
    try:
        raw, content = read_toml(path, f"; shipped sweeps: {', '.join(known)}", piped=True)
    except ValueError as error:
        raise ScenarioError(str(path), [Mistake("", str(error))]) from None
    return _plan(raw, content.decode("utf-8-sig"), str(path), path.parent)


def _plan(raw: dict[str, Any], text: str, where: str, folder: Path) -> Plan:
    try:
        spec = SweepSpec.model_validate(raw)
    except ValidationError as error:
        raise ScenarioError(where, told(error)) from None
    named = spec.scenario if spec.scenario in shipped() and not (folder / spec.scenario).is_file() else None
    base, _, home = read_scenario(named or folder / spec.scenario)
    points: dict[str, Point] = {}
    mistakes: list[Mistake] = []
    for values in _values(spec):
        try:
            point = _point(spec, base, home, values)
        except ScenarioError as error:
            at = ", ".join(f"{key}={shown(value)}" for key, value in values.items())
            mistakes += [Mistake(f"point {at}: {m.path}" if at else m.path, m.text) for m in error.mistakes]
        else:
            points.setdefault(point.id, point)  # values may round to the same
    if mistakes:
        more = [Mistake("", f"and {len(mistakes) - MOST_TOLD} more")] if len(mistakes) > MOST_TOLD else []
        raise ScenarioError(where, mistakes[:MOST_TOLD] + more)
    return Plan(spec.name, spec.description, spec.shards, tuple(points.values()), text)


def _values(spec: SweepSpec) -> list[dict[str, Any]]:
    """Return the swept values of every point: each cell of the grid with each random draw."""
    cells = [dict(zip(spec.grid, cell, strict=True)) for cell in itertools.product(*spec.grid.values())]
    if spec.random is None:
        return cells
    draws: list[dict[str, Any]] = [{} for _ in range(spec.random.points)]
    for key, range_ in spec.random.ranges.items():
        # One stream a key, named by the key: another key more or less leaves the draws of this one as they are.
        own = int.from_bytes(hashlib.sha256(f"powsim-sweep/{spec.random.seed}/{key}".encode()).digest()[:8], "big")
        u = uniform(np.arange(spec.random.points), key=own, stream=0, backend="reference")
        for draw, x in zip(draws, u, strict=True):
            draw[key] = range_.value(float(x))
    return [{**cell, **draw} for cell in cells for draw in draws]


def _point(spec: SweepSpec, base: dict[str, Any], home: Path, values: dict[str, Any]) -> Point:
    raw = copy.deepcopy(base)
    if spec.replicas is not None and isinstance(raw.get("campaign"), dict):
        for name in raw["campaign"]:
            put(raw, f"campaign.{name}.replicas", spec.replicas)
    for key, value in {**spec.set, **values}.items():
        try:
            put(raw, key, copy.deepcopy(value))
        except ValueError as error:
            raise ScenarioError("", [Mistake(key, str(error))]) from None
    scenario = parse_scenario(raw, folder=home)
    seed = scenario.seed if spec.seed is None else spec.seed
    return Point(point_id(scenario, seed), values, json.dumps(raw), home, seed, scenario)
