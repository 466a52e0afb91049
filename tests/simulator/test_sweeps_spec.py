"""Sweep files: every mistake at once, and the points that they describe."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from powsim.edge import ScenarioError
from powsim.sweeps.spec import load_sweep, shipped_sweeps
from sweeping import SCENARIO, write


def plan(folder: Path, text: str) -> Any:
    return load_sweep(write(folder, f'name = "x"\nscenario = "s.toml"\n{text}'))


def mistakes(folder: Path, text: str) -> dict[str, str]:
    with pytest.raises(ScenarioError) as caught:
        plan(folder, text)
    return {m.path: m.text for m in caught.value.mistakes}


def test_a_grid_is_every_combination_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = plan(tmp_path, '[grid]\n"policy.bits" = [8.0, 9.0]\n"population.web.identities" = [10, 20, 30]')
    assert [tuple(point.values.values()) for point in found.points] == [
        (bits, people) for bits in (8.0, 9.0) for people in (10, 20, 30)
    ]
    for point in found.points:
        assert point.scenario.policy["bits"] == point.values["policy.bits"]
        assert point.scenario.population["web"].identities == point.values["population.web.identities"]
        assert json.loads(point.raw)["campaign"]["theft"]["queries"] == 1000
    assert len({point.id for point in found.points}) == 6
    assert found.points[1].title == "policy.bits=8.0, population.web.identities=20"


def test_a_sweep_of_nothing_is_one_point_and_equal_points_are_one(tmp_path: Path) -> None:
    assert [point.values for point in plan(tmp_path, "").points] == [{}]
    assert len(plan(tmp_path, '[grid]\n"policy.bits" = [8.0, 8.0]').points) == 1


def test_set_replicas_and_seed_reach_every_point(tmp_path: Path) -> None:
    text = 'replicas = 7\nseed = 5\n[set]\n"population.web.identities" = 11\n[grid]\n"policy.bits" = [8.0, 9.0]'
    for point in plan(tmp_path, text).points:
        assert point.seed == 5
        assert point.scenario.campaign["theft"].replicas == 7
        assert point.scenario.population["web"].identities == 11


RANDOM = """
[random]
points = {points}
seed = {seed}
[random.ranges]
"policy.bits" = {{ uniform = [4.0, 12.0] }}
"population.web.identities" = {{ log_uniform = [10, 1000], whole = true }}
"policy.queries_per_puzzle" = {{ choice = [64, 100, 1000] }}
"""


def test_random_points_lie_in_their_ranges_and_follow_their_laws(tmp_path: Path) -> None:
    found = plan(tmp_path, RANDOM.format(points=300, seed=3))
    bits, people, every = zip(*(point.values.values() for point in found.points), strict=True)
    assert min(bits) >= 4
    assert max(bits) <= 12
    assert np.mean(bits) == pytest.approx(8, abs=4 * 8 / math.sqrt(12 * 300))
    assert all(isinstance(n, int) and 10 <= n <= 1000 for n in people)
    assert np.mean(np.log10(people)) == pytest.approx(2, abs=4 * 2 / math.sqrt(12 * 300))
    assert {every.count(n) > 60 for n in (64, 100, 1000)} == {True}


def test_random_points_follow_from_the_seed_and_a_range_more_leaves_the_others(tmp_path: Path) -> None:
    one, same, other = (plan(tmp_path, RANDOM.format(points=5, seed=seed)) for seed in (3, 3, 4))
    assert [point.id for point in one.points] == [point.id for point in same.points]
    assert not {point.id for point in one.points} & {point.id for point in other.points}
    less = plan(tmp_path, "\n".join(RANDOM.format(points=7, seed=3).splitlines()[:-1]))
    for a, b in zip(one.points, less.points, strict=False):
        assert {**a.values, **b.values} == a.values


def test_random_points_stand_in_every_cell_of_a_grid(tmp_path: Path) -> None:
    found = plan(tmp_path, '[grid]\n"puzzle.sub_puzzles" = [1, 2]\n' + RANDOM.format(points=3, seed=1))
    assert len(found.points) == 6
    assert found.points[0].values["policy.bits"] == found.points[3].values["policy.bits"]


def test_every_mistake_of_the_file_is_told_at_once(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        'shards = 0\nshard = 3\n[grid]\n"policy.bits" = []\n[random]\npoints = 0\n[random.ranges]\n'
        "a = { uniform = [2, 1] }\nb = { choice = [1], uniform = [1, 2] }\nc = { log_uniform = [0, 1] }",
    )
    assert set(found) == {
        "shards",
        "shard",
        "grid.policy.bits",
        "random.points",
        "random.ranges.a",
        "random.ranges.b",
        "random.ranges.c",
    }
    assert "low < high" in found["random.ranges.a"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[set]\n"policy.bits" = 1.0\n[grid]\n"policy.bits" = [2.0]', "stands in two of"),
        ('[grid]\n"seed" = [1, 2]', "'seed' is no key of a sweep"),
        ('[grid]\n"server.servers" = [1, 4]', "'server.servers' would change nothing"),
        ('[random]\npoints = 2\n[random.ranges]\n"gate.x.rate_hz" = { uniform = [1, 2] }', "'gate.x.rate_hz' would"),
        (
            '[grid]\n"policy.bits" = [1.0, 2.0]\n[random]\npoints = 6000\n[random.ranges]\na = { uniform = [1, 2] }',
            "12,000",
        ),
    ],
)
def test_files_that_contradict_themselves_are_refused(text: str, why: str, tmp_path: Path) -> None:
    assert any(why in one for one in mistakes(tmp_path, text).values())


def test_every_mistake_of_every_point_is_told_at_once(tmp_path: Path) -> None:
    found = mistakes(tmp_path, '[grid]\n"policy.bits" = [8.0, 99.0, -1.0]\n"name.x" = [1]')
    assert len(found) == 3
    assert all("'name' is not a table" in text for text in found.values())
    found = mistakes(tmp_path, '[grid]\n"policy.bits" = [8.0, 99.0, -1.0]')
    assert list(found) == ["point policy.bits=99.0: policy.bits", "point policy.bits=-1.0: policy.bits"]
    many = mistakes(tmp_path, f'[grid]\n"policy.bits" = {[100.0 + n for n in range(50)]}')
    assert many[""] == "and 30 more"


@pytest.mark.parametrize("text", ["", "= 1", 'name = "x"\nscenario = "nowhere.toml"', 'name = "no spaces"'])
def test_what_is_no_sweep_is_refused_with_words(text: str, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError):
        load_sweep(write(tmp_path, text))
    with pytest.raises(ScenarioError, match=r"cannot be read: .*no such file|No such file"):
        load_sweep(tmp_path / "none.toml")


def test_the_id_of_a_point_follows_from_content_alone(tmp_path: Path) -> None:
    one = plan(tmp_path, "")
    (tmp_path / "other").mkdir()
    moved = load_sweep(write(tmp_path / "other", '# a comment\nname = "y"\nscenario = "s.toml"\nshards = 9', SCENARIO))
    assert one.points[0].id == moved.points[0].id


@pytest.mark.parametrize("name", sorted(shipped_sweeps()))
def test_shipped_sweeps_are_fine_and_described(name: str) -> None:
    found = load_sweep(name)
    assert found.name == name
    assert found.description
    assert 2 <= len(found.points) <= 50
