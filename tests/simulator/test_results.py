"""Results on disk: whole or not there, the same bytes for the same seed, and numbers that plain NumPy finds again."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from powsim import Scenario, load_scenario, parse_scenario, results, simulate, summarise
from powsim.cli import run
from saving import SMALL, contents, names, problem


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(SMALL)
    return tmp_path / "s.toml"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a results folder that `powsim run` wrote."""
    folder = tmp_path_factory.mktemp("saved")
    (folder / "s.toml").write_text(SMALL)
    assert run(["run", str(folder / "s.toml"), "--seed", "3", "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_a_run_writes_five_files_that_the_manifest_lists_and_leaves_nothing_else(saved: Path) -> None:
    assert names(saved) == ["identities.parquet", "manifest.json", "report.html", "report.png", "summary.json"]
    assert problem(saved) is None
    assert names(saved.parent) == ["out", "s.toml"]
    assert saved.stat().st_mode & 0o777 == 0o755


def test_the_manifest_and_the_table_say_what_was_run(saved: Path) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    scenario = load_scenario(saved.parent / "s.toml")
    about = pq.read_schema(saved / "identities.parquet").metadata
    assert manifest["scenario_id"] == scenario.id
    assert manifest["seed"] == "3"
    assert manifest["identities"] == 500 + 2 * 20 * (1 + 3)
    for key in ("format", "powsim", "scenario_id", "scenario", "seed"):
        assert about[key.encode()].decode() == manifest[key]
    assert hashlib.sha256(manifest["scenario"].encode()).hexdigest()[:16] == scenario.id


def columns(saved: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(saved / "identities.parquet")
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def sample_quantile(values: np.ndarray, q: float) -> float:
    """Return the quantile by its definition: straight lines between order statistics (Hyndman and Fan, type 7)."""
    ordered = sorted(float(v) for v in values)
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def close(headline: dict[str, float], value: float) -> None:
    assert headline["value"] == pytest.approx(value, rel=1e-9)


def test_the_summary_of_a_population_is_found_again_in_the_table(saved: Path) -> None:
    summary = json.loads((saved / "summary.json").read_text())
    table = columns(saved)
    [group] = [g for g in summary["groups"] if g["role"] == "honest"]
    mine = {name: column[table["group"] == group["name"]] for name, column in table.items()}
    assert group["identities"] == len(mine["queries"]) == 500
    assert group["queries"] == sum(int(q) for q in mine["queries"])
    slow = (mine["service_s"] + mine["solve_s"]) / mine["service_s"]
    np.testing.assert_allclose(slow, mine["slowdown"], rtol=1e-12)
    np.testing.assert_allclose(mine["solve_s"], mine["hashes"] / mine["rate_hz"], rtol=1e-12)
    for name, q in (("slowdown_p50", 0.5), ("slowdown_p95", 0.95), ("slowdown_p99", 0.99)):
        close(group[name], sample_quantile(slow, q))
    close(group["hashes"], float(sum(int(h) for h in mine["hashes"])))
    close(group["share_above_2x"], sum(s > 2 for s in slow) / 500)
    close(group["slowdown"], math.fsum(mine["service_s"] + mine["solve_s"]) / math.fsum(mine["service_s"]))
    close(group["slowdown_undefended"], math.fsum(mine["service_s"] + mine["solve_s"]) / math.fsum(mine["inference_s"]))
    close(group["hours"], math.fsum(mine["elapsed_s"]) / 3600)
    close(group["puzzle_hours"], math.fsum(mine["solve_s"]) / 3600)
    close(group["energy_kwh"], math.fsum(mine["energy_j"]) / 3.6e6)
    close(group["cost_usd"], math.fsum(mine["cost_usd"]))
    assert sum(d["identities"] for d in group["by_device"]) == 500
    for device in group["by_device"]:
        theirs = slow[mine["device"] == device["device"]]
        assert device["identities"] == len(theirs)
        close(device["slowdown_p50"], sample_quantile(theirs, 0.5))
        close(device["slowdown_p95"], sample_quantile(theirs, 0.95))
        close(device["share_above_2x"], sum(s > 2 for s in theirs) / len(theirs))


def test_the_summary_of_a_campaign_is_found_again_in_the_table(saved: Path) -> None:
    summary = json.loads((saved / "summary.json").read_text())
    table = columns(saved)
    campaigns = [g for g in summary["groups"] if g["role"] == "campaign"]
    assert [g["name"] for g in campaigns] == [
        f"theft/{device}/x{n}" for device in ("rtx-4090", "laptop-native") for n in (1, 3)
    ]
    for group in campaigns:
        mine = {name: column[table["group"] == group["name"]] for name, column in table.items()}
        assert set(mine["device"]) == set(group["devices"])
        per: dict[str, list[float]] = {
            name: [] for name in ("hashes", "slowdown", "hours", "usd", "kwh", "p95", "above")
        }
        for replica in range(20):
            one = {name: column[mine["replica"] == replica] for name, column in mine.items()}
            assert sorted(one["identity"]) == list(range(group["identities"]))
            assert sum(int(q) for q in one["queries"]) == group["queries"] == 1001
            assert max(one["queries"]) - min(one["queries"]) <= 1
            assert len(set(one["rate_hz"])) == 1
            per["hashes"].append(float(sum(int(h) for h in one["hashes"])))
            per["slowdown"].append(1 + math.fsum(one["solve_s"]) / math.fsum(one["service_s"]))
            per["hours"].append(math.fsum(one["elapsed_s"]) / 3600)
            per["usd"].append(math.fsum(one["cost_usd"]))
            per["kwh"].append(math.fsum(one["energy_j"]) / 3.6e6)
            slow = 1 + one["solve_s"] / one["service_s"]
            per["p95"].append(sample_quantile(slow, 0.95))
            per["above"].append(float(np.mean(slow > 2)))
        for name, key in (
            ("hashes", "hashes"),
            ("slowdown", "slowdown"),
            ("hours", "hours"),
            ("cost_usd", "usd"),
            ("energy_kwh", "kwh"),
            ("slowdown_p95", "p95"),
            ("share_above_2x", "above"),
        ):
            for end, q in (("low", 0.025), ("value", 0.5), ("high", 0.975)):
                assert group[name][end] == pytest.approx(sample_quantile(np.array(per[key]), q), rel=1e-9), (name, end)


def headlines(value: Any, path: str = "") -> list[tuple[str, dict[str, float]]]:
    if isinstance(value, dict):
        if set(value) == {"value", "low", "high"}:
            return [(path, value)]
        return [found for key, inner in value.items() for found in headlines(inner, f"{path}.{key}")]
    if isinstance(value, list):
        return [found for index, inner in enumerate(value) for found in headlines(inner, f"{path}[{index}]")]
    return []


@pytest.mark.parametrize("identities", [1, 2, 3, 10, 50, 500])
def test_every_headline_is_inside_its_interval_however_few_users_there_are(identities: int) -> None:
    raw = SMALL.replace("identities = 500", f"identities = {identities}")
    scenario = load_scenario_text(raw)
    result = simulate(scenario)
    document = json.loads(json.dumps(results.document(result, summarise(result))))
    found = headlines(document)
    assert len(found) > 5 * 11
    for path, headline in found:
        if headline["high"] is None:
            # So few users bound a quantile or a sum from below alone: null, since JSON knows no infinity.
            assert identities < 500 or ".by_device" in path, path
            headline = {**headline, "high": headline["value"]}
        ends = [headline["low"], headline["value"], headline["high"]]
        assert all(isinstance(end, float | int) and math.isfinite(end) for end in ends), (path, headline)
        assert ends == sorted(ends), (path, headline)


@pytest.mark.parametrize("identities", [3, 50, 500])
def test_no_end_of_an_interval_is_a_number_that_cannot_be(identities: int) -> None:
    """No slowdown is below 1, no share outside 0..1, no amount below 0."""
    scenario = load_scenario_text(SMALL.replace("identities = 500", f"identities = {identities}"))
    result = simulate(scenario)
    for path, headline in headlines([group.as_dict() for group in summarise(result)]):
        least = 1.0 if ".slowdown" in path else 0.0
        most = 1.0 if "share" in path else math.inf
        for end in ("low", "value", "high"):
            assert headline[end] is None or least <= headline[end] <= most, (path, headline)


def load_scenario_text(text: str) -> Scenario:
    return parse_scenario(tomllib.loads(text))


def test_the_same_seed_gives_the_same_bytes_whatever_threads_and_backend(scenario: Path, saved: Path) -> None:
    truth = contents(saved)
    for name, arguments in (
        ("one", ["--threads", "1"]),
        ("two", ["--threads", "2"]),
        ("ref", ["--backend", "reference"]),
    ):
        assert run(["run", "s.toml", "--seed", "3", "--out", name, *arguments]) == 0
        assert contents(scenario.parent / name) == truth, name


def test_the_picture_does_not_depend_on_the_users_matplotlib_settings(scenario: Path, saved: Path) -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 25, "axes.grid": True, "savefig.dpi": 40}):
        assert run(["run", "s.toml", "--seed", "3", "--out", "rc"]) == 0
    assert contents(scenario.parent / "rc")["report.png"] == contents(saved)["report.png"]


def test_another_seed_gives_other_bytes_in_every_file_under_the_same_id(scenario: Path, saved: Path) -> None:
    assert run(["run", "s.toml", "--seed", "4", "--out", "other"]) == 0
    other = contents(scenario.parent / "other")
    for name, content in contents(saved).items():
        assert other[name] != content, name
    ids = [json.loads(c["summary.json"])["scenario_id"] for c in (other, contents(saved))]
    assert ids[0] == ids[1]


def test_without_out_the_folder_is_named_after_scenario_id_and_seed(scenario: Path) -> None:
    assert run(["run", "s.toml", "--seed", "7"]) == 0
    expected = f"small-{load_scenario(scenario).id}-s7"
    assert names(scenario.parent / "powsim-results") == [expected]
    assert problem(scenario.parent / "powsim-results" / expected) is None
