"""The command: data on stdout, words on stderr, an exit code that says which, and never a traceback."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import pytest

from powsim import catalogue, load_scenario, study
from powsim.cli.commands import cli
from powsim.scenario import shipped

SMALL = """
name = "small"
description = "a description"
[service]
dataset = "cifar10"
[policy]
name = "fixed"
bits = 20.0
[population.web]
identities = 400
queries = { median = 300.0, sigma = 1.0, max = 2000 }
[population.web.devices]
galaxy-a34-browser = 0.5
python-hashlib = 0.5
[campaign.theft]
trace = "copycat"
queries = 1000
devices = ["rtx-4090"]
identities = [1, 4]
replicas = 10
"""
LONG = ["default", "--set", "campaign.datafree.replicas=100000", "--set", "population={}"]
"""A run of minutes, for tests that end it."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(SMALL)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


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


def test_init_writes_the_shipped_text_once(done: Any, here: Path) -> None:
    code, out, err = done("init")
    assert (code, out) == (0, "")
    assert "my-scenario.toml" in err
    assert Path("my-scenario.toml").read_text() == shipped()["default"]
    Path("my-scenario.toml").write_text("mine")
    code, _, err = done("init")
    assert code == 2
    assert "exists" in err
    assert Path("my-scenario.toml").read_text() == "mine"
    assert names(here) == ["my-scenario.toml", "s.toml"]


def test_init_takes_any_shipped_scenario_and_refuses_whatever_has_the_name(done: Any) -> None:
    for name, text in shipped().items():
        assert done("init", name)[0] == 0
        assert Path(f"{name}.toml").read_text() == text
        assert "# " in text
        assert tomllib.loads(text)["name"] == name
    assert done("init", "other.toml", "--from", "web")[0] == 0
    assert Path("other.toml").read_text() == shipped()["web"]
    Path("folder.toml").mkdir()
    Path("link.toml").symlink_to("nowhere")
    assert done("init", "folder")[0] == 2
    assert done("init", "link")[0] == 2
    assert not Path("nowhere").exists()


def test_init_leaves_no_half_scenario_on_a_full_disk(done: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        code, _, err = done("init", "mine")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2
    assert "too large" in err
    assert not Path("mine.toml").exists()


def test_init_list_names_every_shipped_scenario(done: Any) -> None:
    code, out, _ = done("init", "--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == sorted(shipped())
    for line, text in zip(out.splitlines(), (shipped()[name] for name in sorted(shipped())), strict=True):
        assert tomllib.loads(text)["description"] in line


def test_devices_lists_filters_and_explains(done: Any) -> None:
    known = catalogue()
    out = done("devices")[1]
    assert all(name in out for name in known)
    listed = json.loads(done("devices", "--json")[1])
    assert [d["name"] for d in listed] == list(known)
    assert all(d["rate_low_hz"] <= d["rate_high_hz"] and d["citation"] for d in listed)
    phones = json.loads(done("devices", "--json", "--kind", "phone")[1])
    assert [d["name"] for d in phones] == [d.name for d in known.values() if d.kind == "phone"]
    families = {d["family"] for d in json.loads(done("devices", "--json", "--family", "equix")[1])}
    assert families == {"equix"}
    found = json.loads(done("devices", "--json", "--search", "iPhone")[1])
    assert found
    assert all("iphone" in f"{d['name']} {d['title']} {d['note']}".lower() for d in found)
    assert json.loads(done("devices", "--json", "--search", "[/]")[1]) == []
    code, out, _ = done("devices", "rtx-4090", "pixel-9-browser")
    assert code == 0
    for name in ("rtx-4090", "pixel-9-browser"):
        assert name in out
        assert known[name].title in out


def test_devices_suggests_the_nearest_names(done: Any) -> None:
    err = done("devices", "rtx4090")[2]
    assert "unknown device 'rtx4090'" in err
    assert "rtx-4090" in err


def test_paper_prints_every_row_and_its_json_says_what_reproduces(done: Any) -> None:
    code, out, err = done("paper", "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)
    table = study.table2()
    assert [(r["dataset"], r["attack"], r["queries"]) for r in rows] == [
        (r.dataset, r.attack, r.queries) for r in table
    ]
    for row, printed in zip(rows, table, strict=True):
        assert row["published_s"] == float(printed.pow_time_s)
        assert row["corrected_s"] > 0
        assert row["reproducible"] == (row["why_not"] is None)
        mantissa, _, exponent = printed.pow_time_s.partition("E")
        digits = len(mantissa.partition(".")[2])
        step = 10.0 ** (int(exponent or 0) - digits)
        assert row["reproducible"] == (abs(row["recomputed_s"] - row["published_s"]) <= 0.5 * step)
    code, out, err = done("paper")
    assert (code, err) == (0, "")
    for row in table:
        assert row.pow_time_s in out
    for name in ("queries", "published", "recomputed", "corrected", "check of the published policy"):
        assert name in out
    assert "…" not in out


def lowest_nonce(challenge: bytes, bits: int, start: int = 0) -> int:
    nonce = start
    while int.from_bytes(hashlib.sha256(challenge + nonce.to_bytes(8, "big")).digest(), "big") >> (256 - bits):
        nonce += 1
    return nonce


@pytest.mark.parametrize("challenge", ["", "abc", "ünï", "a" * 47, "b" * 64, "c" * 111])
def test_mine_finds_the_lowest_nonce_and_verify_confirms_it(challenge: str, done: Any) -> None:
    truth = lowest_nonce(challenge.encode(), 8)
    code, out, _ = done("mine", challenge, "--bits", "8", "--json")
    found = json.loads(out)
    assert (code, found["found"], found["nonce"], found["tries"]) == (0, True, truth, truth + 1)
    assert found["digest"] == hashlib.sha256(challenge.encode() + truth.to_bytes(8, "big")).hexdigest()
    code, out, err = done("mine", challenge, "--bits", "8")
    assert (code, out.split()[:2]) == (0, ["nonce", str(truth)])
    assert f"{truth + 1:,} hashes" in err
    assert done("mine", challenge, "--bits", "8", "--verify", str(truth))[0] == 0
    code, out, _ = done("mine", challenge, "--bits", "30", "--verify", str(truth), "--json")
    assert (code, json.loads(out)["valid"]) == (1, False)


def test_mine_takes_bytes_starts_anywhere_and_stops_at_the_limit(done: Any) -> None:
    truth = lowest_nonce(b"\xff\x00", 8)
    assert json.loads(done("mine", "ff00", "--hex", "--bits", "8", "--json")[1])["nonce"] == truth
    code, out, err = done("mine", "ff00", "--hex", "--bits", "8", "--limit", str(truth))
    assert (code, out) == (1, "")
    assert f"--start {truth}" in err
    code, out, _ = done("mine", "ff00", "--hex", "--bits", "8", "--start", str(truth), "--limit", "1", "--json")
    assert (code, json.loads(out)["nonce"]) == (0, truth)
    following = lowest_nonce(b"\xff\x00", 8, truth + 1)
    assert (
        json.loads(done("mine", "ff00", "--hex", "--bits", "8", "--start", str(truth + 1), "--json")[1])["nonce"]
        == following
    )


def test_mine_at_the_end_of_all_nonces_does_not_advise_one_that_does_not_exist(done: Any) -> None:
    code, out, err = done("mine", "abc", "--bits", "64", "--start", str(2**64 - 3))
    assert (code, out) == (1, "")
    assert "3 tries" in err
    assert str(2**64) not in err


def child(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "powsim", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def wait_for(found: Any, process: subprocess.Popen[str]) -> None:
    for _ in range(3000):
        if found() or process.poll() is not None:
            return
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_run_says_so_and_leaves_nothing(name: str, here: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup themselves
    try:
        process = child("run", *LONG, "--out", "deep/r")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(lambda: any((here / "deep").glob(".r.partial-*")), process)
    time.sleep(0.5)
    process.send_signal(getattr(signal, name))
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert names(here) == ["s.toml"]
    assert "Traceback" not in err
    assert out == ""
    if name == "SIGINT":
        assert process.returncode == 130
        assert "interrupted" in err


def test_a_hangup_that_nohup_ignores_ends_nothing(here: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = child("mine", "abc", "--bits", "60", "--limit", "300000000")
    finally:
        signal.signal(signal.SIGHUP, before)
    time.sleep(1.5)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert "no nonce in 300,000,000 tries" in err


def test_an_interrupt_while_mining_ends_it(here: Path) -> None:
    process = child("mine", "abc", "--bits", "60")
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "interrupted" in err
    assert "Traceback" not in err


SWALLOWED = """
import os, signal, sys, time
from powsim.cli import main, running

def interrupted(*arguments, **named):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    except KeyboardInterrupt as error:
        {answer}

running.{where} = interrupted
sys.argv = ["powsim", "run", "s.toml", "--json", "--out", "r"]
main()
"""


@pytest.mark.parametrize(
    ("where", "answer"),
    [
        (
            "summarise",
            "raise RuntimeError('Error calling __set_name__') from error",
        ),  # Python 3.11 importing matplotlib
        ("load_scenario", "from powsim import load_scenario; return load_scenario('s.toml')"),  # Numba's callbacks
    ],
    ids=["turned into another error", "printed and forgotten"],
)
def test_an_interrupt_that_another_package_swallows_still_ends_the_run(where: str, answer: str, here: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", SWALLOWED.format(where=where, answer=answer)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stdout) == (130, "")
    assert "interrupted" in process.stderr
    assert "Traceback" not in process.stderr
    assert names(here) == ["s.toml"]


def test_an_interrupt_after_the_results_were_written_does_not_deny_them(
    done: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("powsim.cli.running._show", interrupted)
    code, _, err = done("run", "s.toml", "--out", "r")
    assert code == 130
    assert (here / "r" / "manifest.json").is_file()
    assert "nothing was written" not in err


PIPED = [
    "run s.toml --json --no-save",
    "run s.toml --no-save",
    "run --json --out r",
    "devices",
    "devices --json",
    "paper",
]


@pytest.mark.parametrize("command", PIPED)
def test_a_reader_that_leaves_is_no_error(command: str) -> None:
    process = child(*command.split())
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) in (0, 1, 141)
    assert "Traceback" not in err
    assert "Error" not in err
    if "--out" in command:
        assert Path("r/manifest.json").is_file()


@pytest.mark.parametrize("command", ["run s.toml --json --no-save", "run s.toml --no-save", "devices", "--help"])
def test_a_full_disk_behind_stdout_is_told(command: str) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "powsim", *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode != 0
    assert "Traceback" not in process.stderr
    assert "No space left" in process.stderr


@pytest.mark.parametrize("command", ["run s.toml --no-save", "devices"])
def test_a_terminal_without_unicode_gets_its_tables(command: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "powsim", *command.split()],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr.decode()
    assert b"rtx-4090" in process.stdout


def test_more_work_than_memory_is_told_in_words(here: Path) -> None:
    """A hundred thousand repetitions over a million accounts are some terabytes."""
    big = ["--set", "campaign.theft.queries=1000000000", "--set", "campaign.theft.identities=1000000"]
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "powsim",
            "run",
            "s.toml",
            *big,
            "--set",
            "campaign.theft.replicas=100000",
            "--out",
            "r",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert "memory" in process.stderr.lower()
    assert names(here) == ["s.toml"]


LIMITED = """
import resource, sys
from powsim.cli import main
from powsim_kernels import geometric, uniform
uniform(range(3), key=1, stream=0)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
sys.argv = ["powsim", "run", "s.toml", "--json", "--out", "r", "--set", "population.web.identities=3000000"]
main()
"""


def test_memory_that_runs_out_on_the_way_is_told_in_words(here: Path) -> None:
    process = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert "Traceback" not in process.stderr
    assert "memory" in process.stderr.lower()
    assert names(here) == ["s.toml"]


@contextlib.contextmanager
def terminal(columns: int) -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    try:
        yield master, slave
    finally:
        os.close(master)


def read_all(master: int) -> str:
    content = b""
    while True:
        try:
            more = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        content += more
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", content.decode())


def test_a_long_run_shows_its_progress_on_the_terminal_and_keeps_stdout_for_data() -> None:
    """DataFree 2,000 times takes some seconds; the bar goes to the terminal, the object into the pipe.

    Both are read at once: a terminal that nobody reads is full after some seconds of bars, and the command waits.
    """
    with terminal(100) as (master, slave), ThreadPoolExecutor(1) as reader:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "powsim",
                "run",
                *LONG[:2],
                "campaign.datafree.replicas=2000",
                "--json",
                "--no-save",
            ],
            stdout=subprocess.PIPE,
            stderr=slave,
            text=True,
        )
        os.close(slave)
        reading = reader.submit(read_all, master)
        try:
            out, _ = process.communicate(timeout=120)
        finally:
            process.kill()  # the reader waits for its end
        shown = reading.result()
    assert process.returncode == 0
    assert json.loads(out)["scenario"] == "default"
    assert re.search(r"datafree\S* .*\d+ %", shown)


@pytest.mark.parametrize("command", ["run s.toml --no-save", "devices", "paper"])
def test_a_narrow_terminal_loses_no_number(command: str) -> None:
    with terminal(80) as (master, slave):
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        process = subprocess.Popen(
            [sys.executable, "-m", "powsim", *command.split()],
            stdout=slave,
            stderr=subprocess.DEVNULL,
            env={**environment, "TERM": "xterm", "COLUMNS": "80"},
        )
        os.close(slave)
        shown = read_all(master)
        assert process.wait(timeout=60) == 0
    assert "…" not in shown
    assert "..." not in shown
