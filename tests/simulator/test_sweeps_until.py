"""Goals, bounds, intervals, and differences on common random numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import powsim
from powsim.edge import ScenarioError
from powsim.engine import simulate
from powsim.sweeps.merge import _difference
from powsim.sweeps.run import sweep
from powsim.sweeps.until import parse_until
from sweeping import SWEEP, merged_bytes, shard_files, write

GOAL = "p95_slowdown@web ±6%"
DEAR = SWEEP.replace("[16.0, 20.0]", "[19.0, 21.0]")


@pytest.mark.parametrize(
    ("text", "headline", "group", "tolerance", "relative"),
    [
        ("p95_slowdown ±2%", "slowdown_p95", None, 0.02, True),
        ("slowdown_p95 +-2%", "slowdown_p95", None, 0.02, True),
        ("share_above_2x@web +/- 0.01", "share_above_2x", "web", 0.01, False),
        (" hours @ theft/rtx-4090/x1 ± 1e1 % ", "hours", "theft/rtx-4090/x1", 0.1, True),
    ],
)
def test_goals_are_read(text: str, headline: str, group: str | None, tolerance: float, relative: bool) -> None:
    found = parse_until(text)
    assert (found.headline, found.group, found.relative) == (headline, group, relative)
    assert found.tolerance == pytest.approx(tolerance)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no goal"),
        ("p95_slowdown 2%", "is no goal"),
        ("p95_slowdown ±0%", "is no goal"),
        ("p95_slowdown ±-1%", "is no goal"),
        ("p95_slowdown ±1e999%", "is no goal"),
        ("p95_slowdown ±1.2.3%", "is no goal"),
        ("speed ±1%", "unknown headline"),
        ("p95_slowdown ±0.1%", "finer than the histograms"),
    ],
)
def test_what_is_no_goal_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_until(text)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"until": "hours@nobody ±1%"}, "no group of the sweep"),
        ({"until": "user_hours_p95@theft/rtx-4090/x1 ±1%"}, "no group of the sweep"),
        ({"max_shards": 8}, "needs --until"),
        ({"until": GOAL, "max_shards": 3}, "4 at least"),
    ],
)
def test_goals_that_no_sweep_can_have_change_nothing(more: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=why):
        sweep(write(tmp_path), tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_until_adds_shards_up_to_the_goal_and_no_further(tmp_path: Path) -> None:
    few = sweep(write(tmp_path, DEAR), tmp_path / "out")
    before = {path: path.read_bytes() for path in shard_files(tmp_path / "out")}
    many = sweep(tmp_path / "sweep.toml", tmp_path / "out", until=GOAL)
    assert {path: path.read_bytes() for path in before} == before
    for one, other in zip(few.points, many.points, strict=True):
        a, b = (point.groups[0].headlines["slowdown_p95"] for point in (one, other))
        assert a.half_width > 0.06 * a.value
        assert b.half_width <= 0.06 * b.value
        assert b.half_width > 0.02 * b.value  # not many times too many
        assert other.shards > one.shards == 4
        assert other.goal_reached
        # Further users are users as the scenario has them, so its totals stay what they are for.
        assert other.groups[0].simulated == 203 * other.shards // 4
        assert other.groups[0].headlines["hours"].value == pytest.approx(
            one.groups[0].headlines["hours"].value, rel=0.5
        )
    again = sweep(tmp_path / "sweep.toml", tmp_path / "out")  # without the goal: as at first
    assert again == few


def test_a_sweep_with_a_goal_is_done_only_once_its_last_shard_is_there(tmp_path: Path) -> None:
    sweep(write(tmp_path, DEAR), tmp_path / "out", until=GOAL)
    assert powsim.status(tmp_path / "out").state == "done"
    shard_files(tmp_path / "out")[-1].unlink()
    said: list[str] = []
    assert len(powsim.merge(tmp_path / "out", tell=said.append).points) == 1
    assert len(said) == 1
    assert powsim.status(tmp_path / "out").state == "stopped"


def test_the_bound_ends_it_and_a_point_that_is_good_enough_gets_no_more(tmp_path: Path) -> None:
    merged = sweep(write(tmp_path), tmp_path / "out", until=GOAL, max_shards=6)
    assert [point.shards for point in merged.points] == [4, 6]
    assert [point.goal_reached for point in merged.points] == [True, False]


@pytest.mark.parametrize("kept", [0, 5])
def test_a_sweep_with_a_goal_ends_with_the_same_bytes_however_it_was_cut_short(kept: int, tmp_path: Path) -> None:
    sweep(write(tmp_path), tmp_path / "one", until=GOAL)
    sweep(tmp_path / "sweep.toml", tmp_path / "two", until=GOAL)
    for path in shard_files(tmp_path / "two")[kept::3]:
        path.unlink()
    sweep(tmp_path / "sweep.toml", tmp_path / "two", until=GOAL, workers=2)
    assert merged_bytes(tmp_path / "one") == merged_bytes(tmp_path / "two")


def test_every_headline_names_its_interval(tmp_path: Path) -> None:
    sweep(write(tmp_path), tmp_path / "out")
    document = json.loads((tmp_path / "out" / "merged.json").read_text())
    kinds = {
        (group["role"], headline["kind"])
        for point in document["points"]
        for group in point["groups"]
        for headline in group["headlines"].values()
    }
    assert kinds == {
        ("honest", "binomial order statistics"),
        ("honest", "Clopper-Pearson"),
        ("honest", "normal"),
        ("honest", "delta method"),
        ("campaign", "binomial order statistics of the median over repetitions"),
    }


def test_common_random_numbers_make_differences_narrower_and_right(tmp_path: Path) -> None:
    """Two prices a tenth of a bit apart: the users' own spread, which both points share, drops out."""
    text = SWEEP.replace("[16.0, 20.0]", "[20.0, 20.1]").replace("shards = 4", "shards = 10")
    merged = sweep(write(tmp_path, text), tmp_path / "out")
    base, other = merged.points
    found = {(one.group, one.headline): one for one in powsim.differences(tmp_path / "out", base.id[:8])}
    outcomes = [
        simulate(powsim.load_scenario(tmp_path / "s.toml", [f"policy.bits={bits}"])).outcomes[0]
        for bits in (20.0, 20.1)
    ]
    means = [1 + o.solve_s.sum() / o.service_s.sum() for o in outcomes]
    for headline in ("slowdown", "puzzle_hours", "hashes", "cost_usd"):
        one = found["web", headline]
        assert one.point == other.id
        values = [point.groups[0].headlines[headline].value for point in (base, other)]
        assert one.value == pytest.approx(values[1] - values[0])
        half = (one.high - one.low) / 2
        assert half < one.unpaired_half_width / 3
        assert one.low < one.value < one.high
        assert one.low > 0  # seen, though the unpaired interval holds zero for the totals
    assert found["web", "slowdown"].value == pytest.approx(means[1] - means[0], rel=1e-9)
    assert found["web", "puzzle_hours"].unpaired_half_width > found["web", "puzzle_hours"].value


def test_intervals_of_differences_hold_the_truth_19_times_in_20() -> None:
    random = np.random.default_rng(5)
    hits = 0
    for _ in range(4000):
        shared, own = random.normal(size=10), random.normal(size=(2, 10)) / 5
        one, two = 1.0 + shared + own[0], shared + own[1]
        found = _difference("a", "b", "g", "h", [one.mean(), *one], [two.mean(), *two])
        hits += found.low <= 1.0 <= found.high
    assert 0.94 < hits / 4000 < 0.96


def test_differences_need_two_shards_and_a_point_that_there_is(tmp_path: Path) -> None:
    sweep(write(tmp_path, SWEEP.replace("shards = 4", "shards = 1")), tmp_path / "out")
    with pytest.raises(ValueError, match="one shard a point has no spread"):
        powsim.differences(tmp_path / "out", json.loads((tmp_path / "out/merged.json").read_text())["points"][0]["id"])
    for wrong in ("", "zz"):
        with pytest.raises(ValueError, match="0 points have an id that begins with"):
            powsim.differences(tmp_path / "out", wrong)
