"""The shards of a sweep as one table over its points, and differences between points on common random numbers."""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from powsim.edge import ScenarioError
from powsim.groups import Group, groups_of
from powsim.results import OutputError
from powsim.scenario import parse_scenario
from powsim.sweeps.estimates import Estimate, estimates
from powsim.sweeps.shard import ShardError
from powsim.sweeps.spec import Point, point_id
from powsim.sweeps.store import MERGED, Store, write_whole
from powsim.sweeps.until import Prefix, parse_until

FORMAT = "powsim-merged-1"


@dataclass(frozen=True)
class GroupResult:
    """One group of a point."""

    name: str
    role: str
    devices: tuple[str, ...]
    identities: int  # of the scenario's population, or of one campaign
    simulated: int  # users, or repetitions of the campaign
    counts: dict[str, int]  # exact, over all that was simulated
    headlines: dict[str, Estimate]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "headlines": {name: one.as_dict() for name, one in self.headlines.items()}}


@dataclass(frozen=True)
class PointResult:
    """One point, merged."""

    id: str
    title: str
    values: dict[str, Any]
    scenario: str
    scenario_id: str
    seed: int
    shards: int
    goal_reached: bool
    groups: tuple[GroupResult, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**self.__dict__, "groups": [group.as_dict() for group in self.groups]}


@dataclass(frozen=True)
class Merged:
    """A sweep's points, and those of which shards are missing."""

    name: str
    description: str
    until: str | None
    points: tuple[PointResult, ...]
    missing: dict[str, str]  # point's title or id -> what is missing

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"format": FORMAT, **self.__dict__, "points": [point.as_dict() for point in self.points]}


def points_of(manifest: dict[str, Any], where: str) -> list[Point]:
    """Return the points that a manifest lists. Raises OutputError where one is not what it was any more."""
    points = []
    for row in manifest["points"]:
        raw, folder = json.dumps(row["scenario"]), Path(row["folder"])
        try:
            scenario = parse_scenario(row["scenario"], where=f"{where}: point {row['id']}", folder=folder)
        except ScenarioError as error:
            raise OutputError(f"{error}\n  run the same `powsim sweep` again") from None
        if point_id(scenario, row["seed"]) != row["id"]:
            raise OutputError(
                f"{where}: point {row['id']} names a file that has changed since, or is of another version of powsim: "
                "run the same `powsim sweep` again"
            )
        points.append(Point(row["id"], row["values"], raw, folder, row["seed"], scenario))
    return points


def merge(folder: str | Path, *, tell: Callable[[str], None] | None = None) -> Merged:
    """Return the headlines of every point whose shards are whole, and write merged.parquet and merged.json.

    tell: called with a sentence about each shard that is missing or cannot be used [warnings.warn]. The bytes written
    depend on the sweep alone: not on who simulated it, in which order, or how often it was killed.
    Raises OutputError for a folder that is no sweep's or cannot be written.
    """
    store = Store(Path(folder))
    manifest = store.manifest()
    say = tell or (lambda text: warnings.warn(text, stacklevel=3))
    return merge_points(store, manifest, points_of(manifest, str(store.folder)), say)


def merge_points(store: Store, manifest: dict[str, Any], points: Iterable[Point], say: Callable[[str], None]) -> Merged:
    """Return what `merge` does, for the points that the manifest lists."""
    found: list[PointResult] = []
    missing: dict[str, str] = {}
    for point in points:
        try:
            prefix = _merged(store, manifest, point)
        except ShardError as error:
            say(f"{error}")
            missing[point.title or point.id] = str(error)
            continue
        found.append(_result(point, prefix))
    merged = Merged(manifest["name"], manifest["description"], manifest["until"], tuple(found), missing)
    write_whole(store.folder / "merged.parquet", _parquet(merged))
    write_whole(store.folder / MERGED, (json.dumps(merged.as_dict(), indent=1) + "\n").encode())
    return merged


def _merged(store: Store, manifest: dict[str, Any], point: Point) -> Prefix:
    """Return a point's shards merged. Raises ShardError for the first that is not to be had."""
    until = parse_until(manifest["until"]) if manifest["until"] else None
    prefix = Prefix(until, groups_of(point.scenario), manifest["shards"], manifest["max_shards"])
    while prefix.have < prefix.need:
        prefix.add(store.read(point, prefix.have, manifest["shards"]))
    return prefix


def _result(point: Point, prefix: Prefix) -> PointResult:
    groups = tuple(
        GroupResult(
            name=group.name,
            role=group.role,
            devices=tuple(device.name for device in group.devices),
            identities=group.accounts,
            simulated=totals.counts["replicas" if group.role == "campaign" else "identities"],
            counts=totals.counts,
            headlines=estimates(group, totals),
        )
        for group in prefix.groups
        for totals in [prefix.totals[group.name]]
    )
    return PointResult(
        point.id,
        point.title,
        point.values,
        point.scenario.name,
        point.scenario.id,
        point.seed,
        prefix.have,
        prefix.reached,
        groups,
    )


def _parquet(merged: Merged) -> bytes:
    """Return one row per point, group (or device of a population) and headline; swept keys are columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from powsim import __version__

    keys = list(dict.fromkeys(key for point in merged.points for key in point.values))
    rows: list[dict[str, Any]] = []
    for point in merged.points:
        for group in point.groups:
            for name, one in group.headlines.items():
                headline, _, device = name.partition("/")
                row = {"point": point.id, **{key: point.values.get(key) for key in keys}}
                row |= {"group": group.name, "role": group.role, "device": device or None, "headline": headline}
                rows.append({**row, **one.as_dict(), "simulated": group.simulated, "shards": point.shards})
    columns = {name: _column(pa, [row[name] for row in rows]) for name in rows[0]} if rows else {}
    about = {"format": FORMAT, "powsim": __version__, "name": merged.name}
    table = pa.table(columns).replace_schema_metadata({key: value.encode() for key, value in about.items()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _column(pa: Any, values: list[Any]) -> Any:
    """Return a column; values of several kinds, or tables, as JSON."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pa.array([None if value is None else float(value) for value in values])
    if len(kinds) > 1 or kinds & {dict, list}:
        return pa.array([None if value is None else json.dumps(value) for value in values])
    return pa.array(values)


@dataclass(frozen=True)
class Difference:
    """A headline of one point less that of another, on the same users and luck."""

    point: str
    against: str
    group: str
    headline: str
    value: float
    low: float
    high: float
    kind: str
    unpaired_half_width: float  # what the same shards give where their pairs are not used

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = asdict(self)
        return {k: v if isinstance(v, str) or math.isfinite(v) else None for k, v in values.items()}


def differences(folder: str | Path, against: str) -> list[Difference]:
    """Return what every other point has more than the one called `against`, by group and headline.

    against: the beginning of a point's id. The points of a sweep share seed and addresses, so shard k holds the same
    users and the same luck in each: the interval is Student's over the shards' own differences (sectioning: Asmussen
    & Glynn, Stochastic Simulation, section III.5), which what both points share does not widen.
    Raises ValueError for no such point or for fewer than two shards, OutputError, ShardError.
    """
    store = Store(Path(folder))
    manifest = store.manifest()
    points = points_of(manifest, str(store.folder))
    chosen = [point for point in points if against and point.id.startswith(against)]
    if len(chosen) != 1:
        known = ", ".join(point.id for point in points[:5])
        raise ValueError(f"{len(chosen)} points have an id that begins with {against!r}: they are {known}, ..")
    base = _merged(store, manifest, chosen[0])
    found: list[Difference] = []
    for point in points:
        if point.id != chosen[0].id:
            m = min(base.have, _merged(store, manifest, point).have)
            if m < 2:
                raise ValueError("one shard a point has no spread: give the sweep file shards = 2 or more, better 10")
            one, two = (_sections(store, p, manifest["shards"], m) for p in (point, chosen[0]))
            for group, headline in one:
                if (group, headline) in two:
                    parts = (one[group, headline], two[group, headline])
                    found.append(_difference(point.id, chosen[0].id, group, headline, *parts))
    return found


def _sections(store: Store, point: Point, shards: int, m: int) -> dict[tuple[str, str], list[float]]:
    """Return each headline over the first m shards together, and then of every one of them alone."""
    groups: list[Group] = groups_of(point.scenario)
    parts = [store.read(point, shard, shards) for shard in range(m)]
    whole = Prefix(None, groups, m, m)
    for part in parts:
        whole.add(part)
    values: dict[tuple[str, str], list[float]] = {}
    for totals in (whole.totals, *parts):
        for group in groups:
            if totals[group.name].counts["identities"]:
                for name, one in estimates(group, totals[group.name]).items():
                    values.setdefault((group.name, name), []).append(one.value)
    # A headline that a shard without anybody in the group, or on the device, lacks has no sections to compare.
    return {key: all_ for key, all_ in values.items() if len(all_) == m + 1}


def _difference(point: str, against: str, group: str, headline: str, one: list[float], two: list[float]) -> Difference:
    from scipy.special import stdtrit

    from powsim.intervals import TAIL

    m = len(one) - 1
    student = float(stdtrit(m - 1, 1 - TAIL)) / math.sqrt(m * (m - 1))

    def spread(values: list[float]) -> float:
        return math.fsum((value - values[0]) ** 2 for value in values[1:])

    paired = [a - b for a, b in zip(one, two, strict=True)]
    half = student * math.sqrt(spread(paired))
    unpaired = student * math.sqrt(spread(one) + spread(two))
    kind = f"sectioning over {m} paired shards (Student)"
    return Difference(point, against, group, headline, paired[0], paired[0] - half, paired[0] + half, kind, unpaired)
