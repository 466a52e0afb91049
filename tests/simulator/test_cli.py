"""The command: data on stdout, words on stderr, an exit code that says which, and never a traceback."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from powsim import load_scenario
from powsim.cli.commands import cli
from small import SMALL, names


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(SMALL)
    return tmp_path


HEADLINES = (
    "hashes",
    "slowdown",
    "slowdown_p50",
    "slowdown_p95",
    "slowdown_p99",
    "share_above_2x",
    "hours",
    "energy_kwh",
    "cost_usd",
)


def test_json_is_one_object_with_every_group_and_its_headlines(done: Any) -> None:
    code, out, err = done("run", "s.toml", "--json", "--no-save", "--seed", "5")
    assert code == 0
    value = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert value["scenario_id"] == load_scenario("s.toml").id
    assert value["seed"] == 5
    assert [(g["name"], g["role"], g["identities"]) for g in value["groups"]] == [
        ("web", "honest", 400),
        ("theft/rtx-4090/x1", "campaign", 1),
        ("theft/rtx-4090/x4", "campaign", 4),
    ]
    assert [g["queries"] for g in value["groups"][1:]] == [1000, 1000]
    for group in value["groups"]:
        for name in HEADLINES:
            headline = group[name]
            assert set(headline) == {"value", "low", "high"}
            assert headline["low"] <= headline["value"] <= headline["high"], (group["name"], name)
    assert [s.split(":")[0] for s in value["findings"]] == ["What holds", "What does not", "For whom"]
    assert "simulated in" in err


def test_headlines_of_few_users_are_numbers_or_openly_unbounded(done: Any) -> None:
    """The promise to whoever reads the JSON: low <= value <= high, and null where 50 users bound nothing above."""
    code, out, _ = done("run", "s.toml", "--json", "--no-save", "--set", "population.web.identities=50")
    assert code == 0
    for group in json.loads(out)["groups"]:
        for name in HEADLINES:
            ends = [group[name][end] for end in ("low", "value", "high")]
            if ends[2] is None:
                assert name in ("slowdown_p95", "slowdown_p99"), (group["name"], name)
                assert group["role"] == "honest"
                del ends[2]
            assert all(isinstance(end, int | float) for end in ends), (group["name"], name, ends)
            assert ends == sorted(ends)


def test_the_tables_show_every_group_and_end_with_three_sentences(done: Any) -> None:
    code, out, _ = done("run", "s.toml", "--no-save")
    assert code == 0
    _, text, _ = done("run", "s.toml", "--no-save", "--json")
    value = json.loads(text)
    for group in value["groups"]:
        assert group["name"] in out
    for title in ("identities", "queries", "hashes", "p50", "p95", "p99", "above 2x", "hours", "kWh", "$"):
        assert title in out
    flat = " ".join(out.split())
    places = [flat.index(" ".join(sentence.split())) for sentence in value["findings"]]
    assert places == sorted(places)
    assert "…" not in out


def test_the_default_scenario_runs_without_any_argument_and_saves(done: Any, here: Path) -> None:
    code, out, err = done("run", "--json")
    assert code == 0
    value = json.loads(out)
    assert value["scenario"] == "default"
    assert value["scenario_id"] == load_scenario().id
    assert {c["name"]: c["holds"] for c in value["checks"]} == {
        "gpu-reprices-copycat": True,
        "sixteen-accounts": True,
        "two-percent-harder": True,
    }
    [folder] = names(here / "powsim-results")
    assert folder in err
    assert json.loads((here / "powsim-results" / folder / "summary.json").read_text()) == value


def test_set_changes_the_scenario_and_seed_only_the_draws(done: Any) -> None:
    base = json.loads(done("run", "s.toml", "--no-save", "--json")[1])
    seeded = json.loads(done("run", "s.toml", "--no-save", "--json", "--seed", "2")[1])
    changed = json.loads(done("run", "s.toml", "--no-save", "--json", "--set", "policy.bits=8.0")[1])
    bare = json.loads(done("run", "s.toml", "--no-save", "--json", "--set", "policy={name='none'}")[1])
    assert seeded["scenario_id"] == base["scenario_id"]
    assert seeded["groups"] != base["groups"]
    assert changed["scenario_id"] != base["scenario_id"]
    assert changed["groups"][1]["hashes"]["value"] == pytest.approx(
        base["groups"][1]["hashes"]["value"] / 2**12, rel=0.3
    )
    assert bare["groups"][0]["hashes"] == {"value": 0.0, "low": 0.0, "high": 0.0}


WRONG_USE = [
    ["run", "s.toml", "extra"],
    ["run", "none.toml"],
    ["run", ""],
    ["run", "."],
    ["run", "s.toml", "--seed", "-1"],
    ["run", "s.toml", "--seed", "1.5"],
    ["run", "s.toml", "--seed", str(2**63)],
    ["run", "s.toml", "--threads", "0"],
    ["run", "s.toml", "--threads", "many"],
    ["run", "s.toml", "--backend", "gpu"],
    ["run", "s.toml", "--no-save", "--out", "x"],
    ["run", "s.toml", "--out"],
    ["run", "s.toml", "--set"],
    ["run", "s.toml", "--set", "policy.bits"],
    ["run", "s.toml", "--set", "policy.bits=nan"],
    ["run", "s.toml", "--set", "policy.bits=58.0"],  # too much work for one identity
    ["devices", "rtx4090"],
    ["devices", "rtx-4090", "no-such-thing"],
    ["devices", "--kind", "toaster"],
    ["devices", "--family", "md5"],
    ["init", "a/b/c"],
    ["init", "x", "--from", "nothing"],
    ["init", "n" * 300],
    ["init", "one", "two"],
    ["mine", "abc"],
    ["mine", "abc", "--bits", "nan"],
    ["mine", "abc", "--bits", "-1"],
    ["mine", "abc", "--bits", "64.5"],
    ["mine", "abc", "--bits", "many"],
    ["mine", "a" * 48, "--bits", "4"],
    ["mine", "a" * 63, "--bits", "4"],
    ["mine", "zz", "--hex", "--bits", "4"],
    ["mine", "fff", "--hex", "--bits", "4"],
    ["mine", "abc", "--bits", "4", "--limit", "0"],
    ["mine", "abc", "--bits", "4", "--limit", str(2**64 + 1)],
    ["mine", "abc", "--bits", "4", "--start", str(2**64)],
    ["mine", "abc", "--bits", "4", "--verify", "-1"],
    ["mine", "abc", "--bits", "4", "--verify", str(2**64)],
    ["mine", "abc", "--bits", "4", "--backend", "gpu"],
    ["mine", "abc", "--bits", "4", "--threads", "0"],
    ["paper", "extra"],
    ["nothing"],
    ["--nothing"],
    [],
]


@pytest.mark.parametrize(
    "arguments", WRONG_USE, ids=[" ".join(a)[:50].encode(errors="replace").decode() for a in WRONG_USE]
)
def test_wrong_use_ends_with_2_and_words_and_changes_nothing(arguments: list[str], done: Any, here: Path) -> None:
    code, out, err = done(*arguments)
    assert code == 2
    assert out == ""
    assert len(err) > 20
    assert names(here) == ["s.toml"]


@pytest.mark.parametrize("command", [["run", b"\xff.toml"], ["mine", b"\xff", "--bits", "4"], ["devices", b"\xff"]])
def test_arguments_that_are_no_text_are_refused_for_what_they_are(command: list[str | bytes]) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "powsim", *command], capture_output=True, text=True, errors="replace", check=False
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert "Traceback" not in process.stderr
    assert "hexadecimal" not in process.stderr  # nobody said --hex


def test_a_backend_that_cannot_run_says_what_to_install_and_leaves_no_folders(
    done: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from powsim_kernels import why_not

    if why_not("cuda") is None:
        pytest.skip("CUDA runs here")
    code, out, err = done("run", "s.toml", "--backend", "cuda", "--out", "a/b/c")
    assert (code, out) == (2, "")
    assert "cuda" in err
    assert names(here) == ["s.toml"]


@pytest.mark.parametrize("target", ["x[/]y", "x[red]y", "[bold]", "[/bold]"])
def test_the_name_of_the_results_folder_is_printed_as_it_is(target: str, done: Any, here: Path) -> None:
    code, _, err = done("run", "s.toml", "--json", "--out", target)
    assert code == 0
    assert f"results in {target}" in err
    assert (here / target / "manifest.json").is_file()


@pytest.mark.parametrize("text", ["[red]x[/red] [/]", "[", "\\", ":smile:", "[link=http://x.y]z[/link]", "ü–漢"])
def test_a_description_is_printed_as_it_is(text: str, done: Any) -> None:
    code, out, _ = done("run", "s.toml", "--no-save", "--set", f"description={json.dumps(text, ensure_ascii=False)}")
    assert code == 0
    assert text in out.splitlines()[0]


def test_a_description_cannot_steer_the_terminal(done: Any) -> None:
    code, out, _ = done("run", "s.toml", "--no-save", "--set", 'description="a\\u001b]0;title\\u0007b\\u001b[2Jc"')
    assert code == 0
    assert "\x1b" not in out


def test_without_report_packages_the_message_names_the_extra(done: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    missing = ("plotly", "matplotlib")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in missing else found(name, *a))
    code, _, err = done("run", "s.toml", "--json", "--out", "r")
    assert code == 0
    assert "powsim[report]" in err
    assert names(Path("r")) == ["identities.parquet", "manifest.json", "summary.json"]


def test_every_command_and_option_has_help(done: Any) -> None:
    code, out, err = done("--help")
    assert (code, err) == (0, "")
    assert set(cli.commands) >= {"run", "init", "paper", "devices", "mine"}
    for name, command in cli.commands.items():
        assert name in out
        assert command.help
        code, text, err = done(name, "--help")
        assert (code, err) == (0, "")
        assert done(name, "-h")[1] == text
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (name, parameter.name)
                assert parameter.opts[0] in text
