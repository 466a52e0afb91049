"""[server] and [gate.NAME]: checked at the edge, absent without a trace, shown by `powsim run` everywhere."""

from __future__ import annotations

import io
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from powsim import Scenario, ScenarioError, load_scenario, parse_scenario, simulate, simulate_gate, summarise
from powsim.cli import run
from powsim.intervals import Headline, mean
from powsim.report.console import NARROW
from powsim.report.gate import ATTACK, GATE_FOOTNOTE, HONEST, gate_section, gate_tables
from powsim.report.html import write_html
from powsim.results import document
from powsim.server.rows import HEALTHY, GateRow, gate_findings, server_of

PLAIN = """
name = "small"
[service]
dataset = "cifar10"
batch = 1
[policy]
name = "fixed"
[population.web]
identities = 50
queries = 20
devices = { "pixel-9-browser" = 1.0 }
"""
SERVED = """
[server]
arrivals = { process = "poisson", rate_hz = 40.0 }
bits = 18.0
device = "pixel-9-browser"
gate_servers = 1
seconds = 20.0
replicas = 3
expiry_s = 10.0
[gate.flood]
attack = "invalid-flood"
rate_hz = 200.0
[gate.hoard]
attack = "hoard"
at_s = 12.0
device = "laptop-m3-browser"
"""
OWN = '''
"""Solutions every half a second."""
import dataclasses
import numpy as np
from powsim.server import SOLVED, Messages

class Steady:
    device = "rtx-4090"
    identities = 1
    measure = "twice the servers"
    def __init__(self, every_s=0.5):
        self.every_s = every_s
    def without(self, server):
        return server
    def within(self, server):
        return dataclasses.replace(server, servers=2 * server.servers)
    def messages(self, server, device, draws):
        when = np.arange(0.0, server.seconds, self.every_s)
        return Messages(when, np.full(len(when), SOLVED), len(when) * 2.0**server.bits)
'''


def scenario(*overrides: str, text: str = PLAIN + SERVED, folder: Path = Path()) -> Scenario:
    return parse_scenario(tomllib.loads(text), folder=folder, overrides=list(overrides))


def mistakes(*overrides: str, text: str = PLAIN + SERVED, folder: Path = Path()) -> dict[str, str]:
    with pytest.raises(ScenarioError) as error:
        scenario(*overrides, text=text, folder=folder)
    return {m.path: m.text for m in error.value.mistakes}


def test_a_scenario_without_a_server_has_no_trace_of_one() -> None:
    plain = scenario(text=PLAIN)
    assert plain.server is None
    assert not {"server", "gate"} & set(json.loads(plain.text))
    result = simulate(plain)
    assert result.gate == ()
    assert simulate_gate(plain) == ()
    assert "gate" not in document(result, summarise(result))
    assert gate_section(result.gate) == ""
    with pytest.raises(ValueError, match=r"no \[server\] table"):
        server_of(plain)


def test_the_gate_changes_nothing_about_the_groups() -> None:
    assert summarise(simulate(scenario())) == summarise(simulate(scenario(text=PLAIN)))


def test_every_key_enters_the_content_id_and_the_order_of_keys_does_not() -> None:
    base = scenario()
    changed = [
        scenario("server.bits=18.5"),
        scenario("server.seconds=21.0"),
        scenario("server.arrivals={process='batches',rate_hz=40.0,size=2.0}"),
        scenario("gate.flood.rate_hz=201.0"),
        scenario("gate.third={attack='replays',rate_hz=1.0}"),
        scenario("server.seen_store=false"),
    ]
    assert len({s.id for s in [base, *changed]}) == len(changed) + 1
    turned = SERVED.replace('attack = "hoard"\nat_s = 12.0\n', 'at_s = 12.0\nattack = "hoard"\n')
    assert turned != SERVED
    assert scenario(text=PLAIN + turned).id == base.id


def test_all_mistakes_are_told_at_once_by_place() -> None:
    found = mistakes(
        "server.device=pixel-9-browsr",
        "server.servers=0",
        "server.arrivals={process='poisson',rate_hz=-1.0,size=3}",
        "server.time_out=3.0",
        "server.family=md5",
        "gate.flood.rate=3.0",
        "gate.hoard.attack=horde",
        "gate.two={rate_hz=1.0}",
        "gate.three={attack='replays',rate_hz=1.0,device='md5-miner'}",
    )
    assert "did you mean pixel-9-browser" in found["server.device"]
    assert found["server.servers"].endswith("(got 0)")
    assert found["server.arrivals.rate_hz"].endswith("(got -1.0)")
    assert found["server.arrivals.size"] == "unknown key (got 3)"
    assert found["server.time_out"] == "unknown key (got 3.0)"
    assert "no costs of family 'md5': choose one of sha256-hashcash," in found["server.family"]
    assert "unknown key" in found["gate.flood.rate"]
    assert "unknown attack 'horde' (did you mean hoard?): choose one of invalid-flood," in found["gate.hoard.attack"]
    assert found["gate.two.attack"].startswith("is missing: choose one of invalid-flood,")
    assert "'md5-miner' solves no sha256-hashcash puzzles" in found["gate.three"]


@pytest.mark.parametrize(
    ("override", "path", "text"),
    [
        (
            "server.arrivals={process='weekly'}",
            "server.arrivals",
            "`process` is missing or unknown: choose one of poiss",
        ),
        ("server.arrivals={rate_hz=1.0}", "server.arrivals", "`process` is missing or unknown"),
        ("server.arrivals=3", "server.arrivals", "`process` is missing or unknown"),
        ("server.arrivals={process='log',file='none.csv'}", "server.arrivals", "cannot read 'none.csv'"),
        ("server.warm_up_s=20.0", "server", "warm_up_s 20 leaves nothing of seconds 20: lower it"),
        ("server.retries=99", "server", "the last of 99 back-offs takes"),
        ("server.replicas=1", "server.replicas", "greater than or equal to 2"),
        ("gate.flood=3", "gate.flood", "dictionary"),
        ("gate.flood.identities=0", "gate.flood.identities", "greater than or equal to 1"),
        ("gate.flood.device=pixel-9-browsr", "gate.flood", "solves no sha256-hashcash puzzles"),
        ("gate.Flood={attack='replays',rate_hz=1.0}", "gate.Flood", "match pattern"),
    ],
)
def test_each_mistake_has_its_place_and_reason(override: str, path: str, text: str) -> None:
    assert text in mistakes(override)[path]


def test_attacks_without_a_server_are_refused() -> None:
    alone = PLAIN + "[gate.flood]\nattack = 'invalid-flood'\nrate_hz = 1.0\n"
    assert "and there is none: give it" in mistakes(text=alone)[""]


def test_a_log_is_replayed_and_its_content_enters_the_id(tmp_path: Path) -> None:
    times = np.sort(np.random.default_rng(1).uniform(1e9, 1e9 + 18, 500))
    (tmp_path / "requests.csv").write_text("when\n" + "\n".join(f"{t:.6f}" for t in times) + "\n")
    change = "server.arrivals={process='log',file='requests.csv',column='when'}"
    one = scenario(change, folder=tmp_path)
    before = one.id
    assert before == scenario(change, folder=tmp_path).id
    here = server_of(one)
    assert len(here.arrivals.times(None, 20.0)) == 500  # type: ignore[arg-type]
    rows = simulate_gate(one)
    assert rows[0].served.value > 0.9
    (tmp_path / "requests.csv").write_text("when\n1\n2\n")
    assert scenario(change, folder=tmp_path).id != before
    bad = mistakes("server.arrivals={process='log',file='requests.csv'}", folder=tmp_path)
    assert "no column 'timestamp', only 'when'" in bad["server.arrivals"]


def test_an_attack_of_ones_own_comes_through_the_same_door(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    change = "gate={mine={attack='own.py:Steady',every_s=0.25}}"
    one = scenario(change, "server.service='constant'", folder=tmp_path)
    before, rows = one.id, simulate_gate(one)
    assert [(row.name, row.taken) for row in rows] == [(HEALTHY, None), ("mine", False), ("mine", True)]
    assert rows[1].measure == "twice the servers"
    assert rows[1].attack_hz.value == 4.0
    assert rows[2].busy.value < 0.7 * rows[1].busy.value
    (tmp_path / "own.py").write_text(OWN + "\n")
    assert scenario(change, folder=tmp_path).id != before


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("identities = 1\n", "identities = 0\n", "identities is 0: a whole number, 1 or more"),
        ('measure = "twice the servers"', "measure = 2", "a text `measure` and methods"),
        ("def within", "def beyond", "a text `measure` and methods"),
        ('device = "rtx-4090"', 'device = "abacus"', "device 'abacus' solves no sha256-hashcash"),
        ("import numpy as np", "import nampy as np", "cannot load 'own.py:Steady': ModuleNotFoundError"),
        ("self.every_s = every_s", "raise RuntimeError('no')", "cannot build 'own.py:Steady': RuntimeError: no"),
    ],
)
def test_an_attack_that_is_none_is_told_before_anything_runs(old: str, new: str, text: str, tmp_path: Path) -> None:
    assert old in OWN
    (tmp_path / "own.py").write_text(OWN.replace(old, new))
    found = mistakes("gate={mine={attack='own.py:Steady'}}", folder=tmp_path)
    assert text in " ".join(found.values())
    assert all(path.startswith("gate.mine") for path in found)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("return server\n", "return None\n", "gate.mine: without and within must return the server"),
        (
            "return Messages(when,",
            "return Messages(when[::-1],",
            "gate.mine failed: ValueError: messages need one finite",
        ),
        ("np.full(len(when), SOLVED)", "np.full(len(when), 9)", "kinds of messages are whole numbers from 0 to 4"),
        ("np.full(len(when), SOLVED)", "np.zeros(3, int)", "one kind each"),
        ("len(when) * 2.0**server.bits", "np.nan", "hashes is nan"),
        ("return Messages(", "return list(", "gate.mine failed: TypeError"),
    ],
)
def test_an_attack_that_misbehaves_is_told_by_name(old: str, new: str, text: str, tmp_path: Path) -> None:
    assert old in OWN
    (tmp_path / "own.py").write_text(OWN.replace(old, new))
    with pytest.raises(ValueError, match=text.replace("[", r"\[")):
        simulate_gate(scenario("gate={mine={attack='own.py:Steady'}}", folder=tmp_path))


def test_rows_depend_on_scenario_and_seed_alone() -> None:
    one = scenario()
    rows = simulate_gate(one)
    assert rows == simulate_gate(one, threads=2, seed=one.seed)
    assert rows == simulate(one).gate
    assert simulate_gate(one, seed=9) != rows
    # Another attack changes no other row: every attack has draws of its own.
    more = simulate_gate(scenario("gate.third={attack='replays',rate_hz=1.0}"))
    assert more[: len(rows)] == rows


def test_progress_rises_to_the_end_over_groups_and_gate() -> None:
    seen: list[tuple[str, float]] = []
    simulate(scenario(), progress=lambda name, part: seen.append((name, part)))
    parts = [part for _, part in seen]
    assert parts == sorted(parts)
    assert parts[-1] == pytest.approx(1.0)
    assert {name for name, _ in seen} == {"web", f"gate: {HEALTHY}", "gate: flood", "gate: hoard"}


def test_headlines_are_ordered_and_shares_are_shares() -> None:
    for row in simulate_gate(scenario("server.servers=1", "server.waiting_room=3", "server.time_out_s=1.0")):
        for name in row.__dataclass_fields__:
            headline = getattr(row, name)
            if isinstance(headline, Headline):
                assert 0 <= headline.low <= headline.value <= headline.high, name
        parts = row.served.value + row.refused.value + row.gave_up.value + row.expired.value + row.no_challenge.value
        assert parts == pytest.approx(1.0)
        assert row.served.high <= 1
        assert row.wait_p50_s.value <= row.wait_p95_s.value <= row.wait_p99_s.value


def test_means_have_students_interval() -> None:
    sample = np.array([3.0, 5.0, 4.0, 9.0])
    low, high = stats.t.interval(0.95, 3, loc=sample.mean(), scale=stats.sem(sample))
    got = mean(np.append(sample, np.nan))
    assert (got.value, got.low, got.high) == pytest.approx((5.25, low, high))
    assert mean(np.array([2.0])).as_dict() == {"value": 2.0, "low": None, "high": None}
    assert mean(np.array([np.nan])).as_dict() == {"value": None, "low": None, "high": None}


def starved() -> tuple[GateRow, ...]:
    """Return rows in which an attack leaves nobody served."""
    return simulate_gate(scenario("gate.flood.rate_hz=20000.0", "gate.flood.limit_hz=1e7", "server.time_out_s=0.001"))


def test_a_gate_that_serves_nobody_is_shown_as_such(tmp_path: Path) -> None:
    rows = starved()
    assert rows[1].served.value < 0.05
    lines = gate_findings(rows)
    assert len(lines) == 2
    assert json.dumps([row.as_dict() for row in rows], allow_nan=False)
    assert gate_section(rows).count("<tr>") == 1 + len(rows)


@pytest.mark.parametrize("width", [20, 80, 118, 170, 250])
def test_no_table_loses_a_number_at_any_width(width: int) -> None:
    rows = simulate_gate(scenario())
    console = Console(file=io.StringIO(), width=max(width, NARROW), force_terminal=True, color_system=None)
    for table in gate_tables(rows, console.width):
        console.print(table)
    stream = console.file
    assert isinstance(stream, io.StringIO)
    text = stream.getvalue()
    assert "…" not in text
    for row in rows:
        assert row.name in text
        for name, show in (HONEST | ATTACK).values():
            value = getattr(row, name).value
            assert show(value) in text or (row.taken is None and name.startswith("attack"))


def test_run_shows_the_gate_in_the_terminal_the_page_and_the_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(PLAIN + SERVED)
    assert run(["run", "s.toml", "--out", "results"]) == 0
    shown = capsys.readouterr().out
    value = json.loads((tmp_path / "results" / "summary.json").read_text())
    assert [(row["name"], row["taken"]) for row in value["gate"]["rows"]] == [
        (HEALTHY, None),
        ("flood", False),
        ("flood", True),
        ("hoard", False),
        ("hoard", True),
    ]
    assert value["gate"]["interval"].startswith("95 %: Student's")
    flat = " ".join(shown.split())
    page = (tmp_path / "results" / "report.html").read_text()
    for sentence in value["gate"]["findings"]:
        assert " ".join(sentence.split()) in flat
        assert sentence in page.replace("&#x27;", "'")
    assert " ".join(GATE_FOOTNOTE.split()) in flat
    assert "<h2>The gate</h2>" in page
    before = {path.name: path.read_bytes() for path in (tmp_path / "results").iterdir()}
    assert run(["run", "s.toml", "--out", "results", "--threads", "1"]) == 0
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "results").iterdir()}


def test_what_cannot_be_simulated_ends_with_words_and_nothing_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text((PLAIN + SERVED).replace("rate_hz = 40.0", "rate_hz = 9e6"))
    assert run(["run", "s.toml"]) == 2
    assert "lower the rate or the seconds" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.toml"]


def test_names_of_the_users_own_do_not_steer_page_or_terminal(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("twice the servers", "<b>\\x1b[31m"))
    one = scenario("gate={mine={attack='own.py:Steady'}}", folder=tmp_path)
    result = simulate(one)
    assert "<b>\x1b" not in write_html(tmp_path / "r.html", result, summarise(result)).read_text()
    console = Console(file=io.StringIO(), width=170)
    for table in gate_tables(result.gate, 170):
        console.print(table)
    stream: Any = console.file
    assert "\x1b" not in stream.getvalue()


def test_the_shipped_gate_shows_what_each_attack_does_and_what_the_measure_undoes() -> None:
    rows = simulate_gate(load_scenario("gate"))
    well = rows[0]
    assert well.served.low > 0.999
    assert well.wait_p95_s.high < 0.1
    for bare, guarded in zip(rows[1::2], rows[2::2], strict=True):
        assert bare.served.high < 0.95 or bare.wait_p95_s.low > 1.0, bare.name
        assert guarded.served.low > 0.999, guarded.name
        assert guarded.wait_p95_s.high < 0.2, guarded.name
        assert bare.attack_usd_per_h.high < 1.0, bare.name  # none of them costs its sender a dollar an hour
