"""Tables, page and picture: every number reaches the reader, nothing else reaches the browser or the network."""

from __future__ import annotations

import html
import io
import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from powsim import Scenario, catalogue, findings, parse_scenario, simulate, summarise
from powsim.checks import published_checks
from powsim.engine import Result
from powsim.intervals import Headline
from powsim.paper import caption_claims, table2
from powsim.report import series
from powsim.report.console import NARROW, PIPE_WIDTH, wide
from powsim.report.html import write_html
from powsim.report.picture import write_png
from powsim.report.terminal import (
    checks_table,
    devices_table,
    explain_device,
    fits,
    groups_tables,
    interval,
    paper_table,
)
from powsim.summary import GroupSummary
from powsim.text import factor, number, percent, share, times
from powsim.text import small as amount

SMALL = """
name = "small"
description = "about <b>bold</b> & \\"quoted\\" </script><script>alert(1)</script> [red]x[/red]"
[service]
dataset = "cifar10"
[policy]
name = "as-published"
[devices.own-device]
title = "<img src=x onerror=alert(2)>"
source = "<script>alert(3)</script>"
rate_low_hz = 1e6
rate_high_hz = 2e6
watts = 3.0
[population.web-users]
identities = 500
queries = { median = 1500.0, sigma = 1.0, max = 9000 }
mean_shift_sd = 0.02
[population.web-users.devices]
galaxy-a34-browser = 0.5
own-device = 0.5
[population.api-users]
identities = 400
queries = 3000
[population.api-users.devices]
python-hashlib = 1.0
[campaign.theft]
trace = "copycat"
queries = 30_000
devices = ["rtx-4090", "own-device"]
identities = [1, 4]
replicas = 20
[campaign.mix]
trace = "mixmatch"
queries = 8_000
devices = ["8x-h100-sxm"]
"""

Ran = tuple[Result, list[GroupSummary]]


def ran(scenario: Scenario) -> Ran:
    result = simulate(scenario)
    return result, summarise(result)


@pytest.fixture(scope="module")
def small() -> Ran:
    return ran(parse_scenario(tomllib.loads(SMALL)))


@pytest.fixture(scope="module")
def page(small: Ran, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_html(tmp_path_factory.mktemp("page") / "report.html", *small).read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collects tags with their attributes, the text that is shown, and the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.shown: list[str] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self.inside == "script" else self.shown).append(data)


def test_the_page_loads_nothing(page: str) -> None:
    reader = Reader(page)
    assert [tag for tag, _ in reader.tags if tag in ("link", "img", "iframe", "object", "embed", "base", "form")] == []
    for tag, attributes in reader.tags:
        assert not {"src", "href", "srcset", "data", "action", "background"} & set(attributes), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    styles = "".join(re.findall(r"<style>(.*?)</style>", page, re.S)) + "".join(
        a.get("style") or "" for _, a in reader.tags
    )
    assert "url(" not in styles
    assert "@import" not in styles


def test_the_page_shows_sentences_groups_checks_and_the_scenario(page: str, small: Ran) -> None:
    result, groups = small
    shown = " ".join(" ".join(Reader(page).shown).split())
    for sentence in findings(groups):
        assert sentence in shown
    for check in published_checks():
        assert check.text in shown
    for group in groups:
        assert group.name in shown
        for device in group.by_device:
            assert device.device in shown
        for field, show in (
            ("slowdown_p50", factor),
            ("slowdown_p99", factor),
            ("hours", amount),
            ("cost_usd", amount),
        ):
            headline = getattr(group, field)
            assert show(headline.value) in shown, (group.name, field)
            assert interval(headline, show) in shown, (group.name, field)
    for text in (result.scenario.id, f"seed {result.seed}", result.scenario.description):
        assert " ".join(text.split()) in shown


def test_the_page_escapes_what_a_scenario_brings_along(page: str) -> None:
    reader = Reader(page)
    assert not [tag for tag, _ in reader.tags if tag == "img"]
    assert not [script for script in reader.scripts if "alert(" in script]
    assert html.escape("<b>bold</b> & ") in page
    assert "<script>alert" not in page


def test_the_page_escapes_the_name_of_a_policy(tmp_path: Path) -> None:
    folder = tmp_path / "<script>alert(1)<"
    folder.mkdir(parents=True)
    (tmp_path / "<script>alert(1)<" / "p&q.py").write_text(
        "class P:\n    queries_per_puzzle, partial_puzzle = 0, True\n"
        "    def __init__(self, z=0): pass\n    def price(self, ledger, service): return 1.0 + 0 * ledger.cost\n"
    )
    raw = tomllib.loads(SMALL)
    raw["policy"] = {"name": "<script>alert(1)</p&q.py:P", "z": "</pre><script>alert(4)</script>"}
    text = write_html(tmp_path / "r.html", *ran(parse_scenario(raw, folder=tmp_path))).read_text()
    assert "<script>alert" not in text
    assert html.escape("p&q.py:P") in text


def figures(page: str) -> list[Any]:
    """Return the data of every figure on the page: the second argument of Plotly.newPlot."""
    starts = re.finditer(r'Plotly\.newPlot\(\s*"figure-\d+",\s*', page)
    return [json.JSONDecoder().raw_decode(page, start.end())[0] for start in starts]


def numbers(values: Any) -> np.ndarray:
    """Return the numbers of a plotly array, plain or base64."""
    if isinstance(values, dict):
        import base64

        return np.frombuffer(base64.b64decode(values["bdata"]), dtype=np.dtype(values["dtype"]))
    return np.array(values, dtype=float)


def test_the_figures_hold_the_numbers_of_the_result(page: str, small: Ran) -> None:
    result, groups = small
    drawn = figures(page)
    assert len(drawn) == 4
    for trace in (trace for figure in drawn for trace in figure):
        for axis in "xy":
            values = trace[axis]
            if isinstance(values, list) and values and isinstance(values[0], str):
                continue
            assert np.isfinite(numbers(values)).all(), trace.get("name")
    names = {g.name: g for g in groups if g.role == "campaign" and g.cost_usd.value > 0}
    [dollars] = [t for figure in drawn for t in figure if isinstance(t["y"], list) and t["y"] and t["y"][0] in names]
    assert set(dollars["y"]) == set(names)
    for name, value in zip(dollars["y"], numbers(dollars["x"]), strict=True):
        assert value == pytest.approx(names[name].cost_usd.value, rel=1e-12)
    for curve in series.slowdown_curves(result):
        index = [g.name for g in result.groups].index(curve.population)
        device = [d.name for d in result.groups[index].devices].index(curve.device)
        slow = result.outcomes[index].slowdown[result.outcomes[index].device == device]
        for x, y in zip(curve.slowdown[::20], curve.share_above[::20], strict=True):
            assert np.mean(slow > x) - 1.5 / len(slow) <= y <= np.mean(slow >= x) + 1.5 / len(slow)


def test_accuracy_curves_are_the_published_ones_in_expected_time(small: Ran) -> None:
    result, _ = small
    curves = series.accuracy_curves(result)
    assert {c.trace for c in curves} == {"standard", "copycat"}  # mixmatch has no accuracies of its own
    plain = {c.trace: c for c in curves if c.device is None}
    for curve in curves:
        np.testing.assert_array_equal(curve.accuracy_pct, plain[curve.trace].accuracy_pct)
        assert (curve.time_s >= plain[curve.trace].time_s).all()
        assert (np.diff(curve.time_s) > 0).all()
    solver = {c.trace: c for c in curves if c.device == series.PAPER_SOLVER}
    assert solver["copycat"].time_s[-1] > 100 * plain["copycat"].time_s[-1]


def test_accuracy_curves_of_a_price_by_the_clock_are_simulated() -> None:
    """A load that never changes is what it multiplies; one that doubles at once is twice that."""
    changes = ["policy={name='calibrated'}", "policy={name='load',multipliers=[1.0,1.0]}"]
    changes.append("policy={name='load',multipliers=[2.0,2.0],max_bits=41.0}")
    one, same, twice = (
        series.accuracy_curves(ran(parse_scenario(tomllib.loads(SMALL), overrides=[c]))[0]) for c in changes
    )
    assert len([curve for curve in same if curve.device]) == 4
    for a, b, c in zip(one, same, twice, strict=True):
        assert (a.trace, a.device) == (b.trace, b.device)
        # At the last row, a puzzle for a rest is due to the one and not yet to the other.
        np.testing.assert_allclose(b.time_s[:-1], a.time_s[:-1], rtol=1e-9)
        plain = next(d.time_s for d in one if d.device is None and d.trace == a.trace)
        np.testing.assert_allclose((c.time_s - plain)[:-1], 2 * (a.time_s - plain)[:-1], rtol=1e-6)


MIX = ",".join(f"{d.name}=0.03125" for d in [d for d in catalogue().values() if d.family == "sha256-hashcash"][:32])
MANY = list(range(1, 60))
ODD = {
    "no population": "population={}",
    "no campaign": "campaign={}",
    "no puzzle": "policy={name='none'}",
    "one user": "population={a={identities=1,queries=1,devices={rtx-4090=1.0}}}",
    "only shared traces": "campaign={m={trace='mixmatch',queries=10,devices=['rtx-4090']}}",
    "many devices": f"population={{a={{identities=60,queries=100,devices={{{MIX}}}}}}}",
    "many campaigns": "campaign.theft={trace='copycat',queries=5000,devices=['rtx-4090'],replicas=2,"
    f"identities={MANY}}}",
    "long name": f"population={{{'a' * 300}={{identities=9,queries=1000,devices={{rtx-4090=1.0}}}}}}",
    "long description": f"description={'word ' * 2000}",
}


@pytest.mark.parametrize("kind", list(ODD))
def test_odd_scenarios_are_drawn_without_a_warning(kind: str, tmp_path: Path) -> None:
    result, groups = ran(parse_scenario(tomllib.loads(SMALL), overrides=[ODD[kind]]))
    text = write_html(tmp_path / "r.html", result, groups).read_text()
    assert all(group.name in text for group in groups)
    picture = write_png(tmp_path / "r.png", result, groups).read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"


def test_only_traces_of_ones_own_are_drawn_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("queries,cost\n0,0\n1000,100\n9000,950\n")
    raw = tomllib.loads(SMALL)
    for spec in (*raw["population"].values(), *raw["campaign"].values()):
        spec["trace"] = "t.csv"
    result, groups = ran(parse_scenario(raw, folder=tmp_path))
    assert len(write_html(tmp_path / "r.html", result, groups).read_text()) > 1000
    assert write_png(tmp_path / "r.png", result, groups).stat().st_size > 1000


def printed(renderables: Any, width: int, *, terminal: bool = True) -> str:
    console = wide(Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None))
    stream = console.file
    for renderable in renderables(console) if callable(renderables) else renderables:
        console.print(renderable)
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


WIDTHS = [20, 40, 80, 100, 118, 119, 130, 170, 250]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_table_loses_a_number_at_any_width(width: int, small: Ran) -> None:
    _, groups = small
    shown = {
        "groups": printed(lambda console: groups_tables(groups, console.width), width),
        "paper": printed([paper_table(table2(), "Table 2"), paper_table(caption_claims(), "caption")], width),
        "devices": printed([devices_table(list(catalogue().values()))], width),
        "checks": printed([checks_table(published_checks())], width),
        "device": printed([explain_device(device) for device in catalogue().values()], width),
    }
    assert [name for name, text in shown.items() if "…" in text] == []
    for group in groups:
        assert group.name in shown["groups"]
        for field, show in (
            ("slowdown_p99", factor),
            ("share_above_2x", share),
            ("hashes", number),
            ("energy_kwh", amount),
        ):
            assert show(getattr(group, field).value) in shown["groups"]
            assert interval(getattr(group, field), show) in shown["groups"]
    for row in table2():
        assert row.published_text in shown["paper"]
        assert f"{row.recomputed_s:,.2f}" in shown["paper"]
    for name in catalogue():
        assert name in shown["devices"]


def test_the_tables_of_a_run_are_cut_to_a_window_of_80(small: Ran) -> None:
    _, groups = small
    tables = groups_tables(groups, NARROW)
    assert len(tables) == 3
    assert all(fits(table, NARROW) for table in tables)
    assert len(groups_tables(groups, PIPE_WIDTH)) == 1


@pytest.mark.parametrize("length", [30, 80, 200])
def test_long_names_do_not_push_numbers_out_of_the_table(length: int) -> None:
    name = "n" * length
    override = f"population={{{name}={{identities=400,queries=1000,devices={{rtx-4090=1.0}}}}}}"
    _, groups = ran(parse_scenario(tomllib.loads(SMALL), overrides=[override]))
    for terminal in (True, False):
        text = printed(lambda console: groups_tables(groups, console.width), 80, terminal=terminal)
        for group in groups:
            assert factor(group.slowdown_p99.value) in text
            assert amount(group.cost_usd.value) in text
        assert "…" not in text


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (number, 0.0, "0"),
        (number, 999.0, "999"),
        (number, 30_000, "30k"),
        (number, 3.13e10, "31.3G"),
        (number, 2.5e18, "2.5E"),
        (number, 999_999.0, "1M"),
        (factor, 1.0, "1.0000"),
        (factor, 1.00049, "1.0005"),
        (factor, 1.26, "1.26"),
        (factor, 98_294.4, "98,294"),
        (times, 2.98, "2.98x"),
        (amount, 0.0, "0"),
        (amount, 0.00012, "1e-4"),
        (amount, 0.00122, "0.00122"),
        (amount, 1826.2, "1,826"),
        (amount, 1e-12, "1e-12"),
        (share, 0.0, "0%"),
        (share, 0.021, "2.1%"),
        (share, 1.0, "100%"),
        (percent, 0.021, "2.1 %"),
        (percent, 0.5, "50 %"),
        (percent, 0.0, "0 %"),
    ],
)
def test_numbers_are_printed_as_people_read_them(show: Any, value: float, text: str) -> None:
    assert show(value) == text


@pytest.mark.parametrize("value", [0.99951, 0.9996, 0.99999])
def test_almost_all_is_not_printed_as_all(value: float) -> None:
    assert percent(value) != "100 %"
    assert share(value) != "100%"


def test_an_interval_of_equal_ends_is_printed_once() -> None:
    assert interval(Headline(1.0, 1.0, 1.0), factor) == "1.0000"
    assert interval(Headline(2.0, 1.5, 3.0), factor) == "1.50–3.00"
