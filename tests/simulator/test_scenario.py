"""Scenario files: what is wrong is told at once, with its place; what is right runs; the id follows the content."""

from __future__ import annotations

import copy
import datetime
import json
import math
from pathlib import Path
from typing import Any

import pytest

from powsim import ScenarioError, load_scenario, parse_scenario, simulate
from powsim.cli import run
from scenarios import SMALL, listing, mistakes, table


def test_five_mistakes_are_told_together_with_their_paths_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = SMALL.replace('"cifar10"', '"imagenet"').replace("max_bits = 30.0", "max_bits = nan")
    text = (
        text.replace("own = 0.5", "own = 0.4")
        .replace("replicas = 5", "replicas = 0")
        .replace('"rtx-4090"', '"rtx4090"')
    )
    (tmp_path / "five.toml").write_text(text)
    before = listing(tmp_path)
    assert run(["run", "five.toml", "--out", "a/b/results"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert "5 mistakes" in lines[0]
    assert "five.toml" in lines[0]
    paths = {line.strip().split(":")[0] for line in lines[1:]}
    assert paths == {
        "service.dataset",
        "policy.max_bits",
        "population.web.devices",
        "campaign.theft.replicas",
        "campaign.theft.devices",
    }
    assert listing(tmp_path) == before


BAD = [
    ("seed=-1", "seed", "greater than or equal to 0"),
    ("seed=9223372036854775808", "seed", "9223372036854775808"),
    ("seed=1.5", "seed", "integer"),
    ("seed=true", "seed", "integer"),
    ("seed=2026-01-01", "seed", "integer"),
    ("seed=", "seed", "integer"),
    ('name=""', "name", "match"),
    ("name=../up", "name", "match"),
    ("name=5", "name", "string"),
    (f"name={'a' * 65}", "name", "64"),
    ("service.batch=0", "service.batch", "1"),
    ("service.batch=nan", "service.batch", "integer"),
    ("service.inference_s=0", "service.inference_s", "greater than or equal to 0.000000001"),
    ("service.inference_s=inf", "service.inference_s", "finite"),
    ("service.metering_s=-0.1", "service.metering_s", "0"),
    ("service.speed=3", "service.speed", "unknown key"),
    ("colour=3", "colour", "unknown key"),
    ("puzzle.sub_puzzles=0", "puzzle.sub_puzzles", "1"),
    ("puzzle.sub_puzzles=100000", "puzzle.sub_puzzles", "1024"),
    ('puzzle.family="md5"', "puzzle.family", "sha256-hashcash"),
    ("prices.electricity_usd_per_kwh=nan", "prices.electricity_usd_per_kwh", "finite"),
    ("prices.electricity_usd_per_kwh=-1", "prices.electricity_usd_per_kwh", "0"),
    ("policy=5", "policy", "dictionary"),
    ("policy={}", "policy.name", "as-published"),
    ("policy.name=calibrate", "policy.name", "calibrated"),
    ("policy.max_bits=99", "policy.max_bits", "58"),
    ("policy.target_slowdown=1.0", "policy.target_slowdown", "1"),
    ("policy.target_slow=2", "policy.target_slow", "did you mean target_slowdown"),
    ("policy.partial_puzzle=1", "policy.partial_puzzle", "boolean"),
    ("population.web.identities=0", "population.web.identities", "1"),
    ("population.web.identities=-3", "population.web.identities", "1"),
    ("population.web.identities=1e5", "population.web.identities", "integer"),
    ("population.web.identities=1000000000000", "population.web.identities", "100000000"),
    ("population.web.queries=0", "population.web.queries", "1"),
    ("population.web.queries=many", "population.web.queries", "many"),
    ("population.web.queries=2026-01-01", "population.web.queries", "integer"),
    ("population.web.queries=[1]", "population.web.queries", ""),
    ("population.web.queries.sigma=-1", "population.web.queries.sigma", "0"),
    ("population.web.queries.median=inf", "population.web.queries.median", "finite"),
    ("population.web.queries.max=0", "population.web.queries.max", "1"),
    ("population.web.queries.mean=5", "population.web.queries.mean", "unknown key"),
    ("population.web.devices={}", "population.web.devices", "at least 1"),
    ("population.web.devices={own=0.7}", "population.web.devices", "0.7"),
    ("population.web.devices={own=0.5,galaxy-a34-browser=0.6}", "population.web.devices", "1.1"),
    ("population.web.devices={own=0.0,rtx-4090=1.0}", "population.web.devices.own", "0"),
    ("population.web.devices={own=nan}", "population.web.devices.own", "finite"),
    ("population.web.devices={nokia=1.0}", "population.web.devices", "nokia"),
    ("population.web.mean_shift=-1", "population.web.mean_shift", "-1"),
    ("population.web.drift_sd=1e9", "population.web.drift_sd", "10"),
    ("population.web.request_every_s=-1", "population.web.request_every_s", "0"),
    ("population.web.trace=copy", "population.web.trace", "copycat"),
    ("population=5", "population", "dictionary"),
    ("campaign=[]", "campaign", "dictionary"),
    ("campaign.theft.identities=0", "campaign.theft.identities", "1"),
    ("campaign.theft.identities=[]", "campaign.theft.identities", "at least 1"),
    ("campaign.theft.identities=[1,0]", "campaign.theft.identities.1", "1"),
    ("campaign.theft.identities=x", "campaign.theft.identities", "x"),
    ("campaign.theft.identities=1001", "campaign.theft", "1001 identities cannot share 1000 queries"),
    ("campaign.theft.replicas=1", "campaign.theft.replicas", "2"),
    ("campaign.theft.queries=0", "campaign.theft.queries", "1"),
    ("campaign.theft.devices=[]", "campaign.theft.devices", "at least 1"),
    ("campaign.theft.devices=rtx-4090", "campaign.theft.devices", "list"),
    ('campaign.theft.devices=["equix-desktop"]', "campaign.theft.devices", "equix"),
    ("campaign.theft.trace=no.csv", "campaign.theft.trace", "no.csv"),
    ("campaign.theft.speed=1", "campaign.theft.speed", "unknown key"),
    ("devices.own.watts=-1", "devices.own.watts", "0"),
    ("devices.own.rate_high_hz=1.0", "devices.own", "below"),
    ("devices.own.kind=toaster", "devices.own.kind", "phone"),
    ("devices.own.rate_low_hz=nan", "devices.own.rate_low_hz", "finite"),
]


@pytest.mark.parametrize(("override", "path", "text"), BAD, ids=[b[0][:60] for b in BAD])
def test_one_mistake_is_told_once_at_its_place(override: str, path: str, text: str) -> None:
    found = mistakes(table(), [override])
    assert [p for p, _ in found] == [path]
    assert text in found[0][1]


@pytest.mark.parametrize("key", ["name", "service", "policy", "service.dataset", "population.web.identities"])
def test_what_is_missing_is_named(key: str) -> None:
    raw = table()
    *parents, last = key.split(".")
    inner = raw
    for parent in parents:
        inner = inner[parent]
    del inner[last]
    assert mistakes(raw) == [(key, "is missing")]


def test_somebody_must_call_and_names_are_used_once() -> None:
    raw = table()
    both = copy.deepcopy(raw)
    both["campaign"]["web"] = both["campaign"].pop("theft")
    assert "'web'" in mistakes(both)[0][1]
    del raw["population"], raw["campaign"]
    assert "nobody" in mistakes(raw)[0][1]


def test_no_group_is_simulated_twice_under_one_name() -> None:
    for override in ("campaign.theft.identities=[4,4]", 'campaign.theft.devices=["rtx-4090","rtx-4090"]'):
        try:
            scenario = parse_scenario(table(), overrides=[override])
        except ScenarioError:
            continue
        names = [group.name for group in simulate(scenario).groups]
        assert len(names) == len(set(names)), override


LEAVES = [
    "name",
    "seed",
    "description",
    "service",
    "service.batch",
    "service.inference_s",
    "policy",
    "policy.name",
    "policy.max_bits",
    "policy.queries_per_puzzle",
    "puzzle",
    "prices.electricity_usd_per_kwh",
    "devices",
    "devices.own",
    "devices.own.rate_low_hz",
    "devices.own.family",
    "devices.own.title",
    "population",
    "population.web",
    "population.web.queries",
    "population.web.queries.median",
    "population.web.devices",
    "population.web.devices.own",
    "population.web.trace",
    "campaign.theft",
    "campaign.theft.identities",
    "campaign.theft.devices",
    "campaign.theft.trace",
]
NASTY: list[Any] = [
    math.nan,
    -math.inf,
    -1,
    0,
    5e-324,
    10**30,
    True,
    "",
    "x" * 5000,
    "\0",
    "\0.csv",
    "a\nb:c",
    ":",
    ".py:",
    [],
    [[]],
    [{}],
    {},
    {"": ""},
    datetime.date(2026, 1, 1),
    datetime.time(1, 2),
]


@pytest.mark.parametrize("leaf", LEAVES)
def test_any_value_anywhere_is_taken_or_refused_with_a_message(leaf: str) -> None:
    for value in NASTY:
        raw = table()
        *parents, last = leaf.split(".")
        inner = raw
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
        for path, text in mistakes(raw):
            assert text, (leaf, value, path)


def bad_files() -> dict[str, bytes]:
    return {
        "empty": b"",
        "truncated": SMALL.encode()[:40],
        "binary": bytes(range(256)) * 4,
        "latin-1": 'name = "é"'.encode("latin-1"),
        "utf-16": SMALL.encode("utf-16"),
        "nul": SMALL.encode() + b"\0",
        "not toml": b"<html></html>",
        "twice": SMALL.encode() + b"\n[policy]\nname = 'none'\n",
        "deep list": b"a = " + b"[" * 5000 + b"]" * 5000,
        "deep table": b"a = " + b"{a=" * 3000 + b"1" + b"}" * 3000,
        "5,000 digits": b"seed = " + b"9" * 5000 + SMALL.encode(),
        "10,000 hex digits": b"seed = 0x" + b"f" * 10_000 + SMALL.encode(),
        "no such day": b"seed = 2026-02-31" + SMALL.encode(),
    }


@pytest.mark.parametrize("kind", list(bad_files()))
def test_a_file_that_is_no_scenario_is_refused_with_its_name(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "some.toml"
    file.write_bytes(bad_files()[kind])
    assert run(["run", str(file), "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert str(file) in err
    assert len(err) < 2000
    assert [p.name for p in tmp_path.iterdir()] == ["some.toml"]


def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    for source, reason in (
        (tmp_path, "is a folder"),
        (tmp_path / "none.toml", "default"),  # names the shipped ones
        (tmp_path / "none.toml" / "x", "No such file"),
        (tmp_path / ("n" * 300), "too long"),
    ):
        with pytest.raises(ScenarioError, match=reason):
            load_scenario(source)


@pytest.mark.parametrize("kind", ["line ends", "byte order mark"])
def test_files_that_windows_editors_write_are_read(kind: str, tmp_path: Path) -> None:
    content = SMALL.replace("\n", "\r\n").encode() if kind == "line ends" else b"\xef\xbb\xbf" + SMALL.encode()
    (tmp_path / "windows.toml").write_bytes(content)
    assert load_scenario(tmp_path / "windows.toml").id == parse_scenario(table()).id


@pytest.mark.parametrize("name", ["rtx4090", "RTX 4090", "rtx_4090", "rtx-4O90"])
def test_an_unknown_device_comes_with_the_nearest_names(name: str) -> None:
    for override in (f'campaign.theft.devices=["{name}"]', f'population.web.devices={{"{name}"=1.0}}'):
        [(path, text)] = mistakes(table(), [override])
        assert path.endswith("devices")
        assert f"unknown device '{name}'" in text
        assert "rtx-4090" in text


def test_shares_may_miss_one_by_rounding_only() -> None:
    thirds = "population.web.devices={own=0.333333333333,rtx-4090=0.333333333333,h100-sxm=0.333333333334}"
    assert mistakes(table(), [thirds]) == []
    assert mistakes(table(), ["population.web.devices={own=0.33,rtx-4090=0.33,h100-sxm=0.33}"]) != []


def test_overrides_set_what_they_say_and_leave_the_callers_table_alone() -> None:
    raw = table()
    before = json.dumps(raw)
    scenario = parse_scenario(
        raw,
        overrides=["seed=9", " puzzle.sub_puzzles = 2", "description=plain words", 'campaign.theft.devices=["own"]'],
    )
    assert scenario.seed == 9
    assert scenario.puzzle.sub_puzzles == 2
    assert scenario.description == "plain words"
    assert scenario.campaign["theft"].devices == ["own"]
    assert json.dumps(raw) == before


@pytest.mark.parametrize("text", ["", "=", "=5", "policy", "seed.x=1", "seed=1\nname='other'", ".seed=1", "seed.=1"])
def test_an_override_that_says_nothing_is_refused(text: str) -> None:
    assert mistakes(table(), [text]) != []
