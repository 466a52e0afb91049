"""A study's report: every number reaches the reader, bad health is red, made-up data is called so everywhere."""

from __future__ import annotations

import html
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from banks import AGREEMENT, made_bank
from powsim.bank import Bank
from powsim.bank.evaluate import MIX, evaluate
from powsim.bank.verdict import Mined, Settings, Spread, Verdict
from powsim.report.lab import lab_report
from powsim.report.lab_html import write_lab_html
from powsim.report.lab_picture import write_lab_png
from powsim.report.lab_sentences import about, health_line, lab_findings, mined_line
from powsim.report.lab_series import MOST, accuracy_lines, emphasised, honest_lines, ratio_lines
from powsim.report.lab_sheets import (
    EXPONENT,
    MARK,
    attacks_sheet,
    not_stopped_sheet,
    ranged,
    ratio,
    sheets,
    targets_sheet,
)

ASKED = Settings(users=80, per_puzzle=(1, 32))
MINED = (Mined("copycat", "batch", 32, 1.2e6, 1_300_000, 9e5, 1.6e6, 0.61, 0.66),)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return made_bank(3, originals=60, copies=5, teachers=12, agreement=AGREEMENT | {"noise": 0.1})


@pytest.fixture(scope="module")
def verdict(bank: Bank) -> Verdict:
    return evaluate(bank, ASKED, MINED)


@pytest.fixture(scope="module")
def page(verdict: Verdict, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_lab_html(tmp_path_factory.mktemp("page") / "lab.html", verdict).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def blind() -> Verdict:
    return evaluate(made_bank(2, originals=40, teachers=12, agreement={"standard": 0.3, "copycat": 0.3}), ASKED)


def printed(verdict: Verdict, brief: bool = False, colours: bool = False, width: int = 80) -> str:
    file = io.StringIO()
    system = "standard" if colours else None
    console = Console(width=width, file=file, markup=False, force_terminal=colours, color_system=system)  # type: ignore[arg-type]
    for part in lab_report(verdict, width, brief):
        console.print(part)
    return file.getvalue()


def shown(page: str) -> str:
    """Return the page's text without scripts and styles, blanks as one."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


def test_every_number_of_every_table_is_on_the_page_and_in_the_terminal(verdict: Verdict, page: str) -> None:
    text, terminal = shown(page), printed(verdict)
    for sheet in sheets(verdict):
        assert sheet.title in text
        assert " ".join(sheet.note.split()) in text
        for row in sheet.rows:
            assert len(row) == len(sheet.columns)
            for cell in row[sheet.names :]:
                assert cell.text in terminal
                assert cell.below in terminal
            assert " ".join(f"{cell.text} {cell.below}".strip() for cell in row) in text
    for sentence in (*lab_findings(verdict), health_line(verdict), about(verdict)):
        assert " ".join(sentence.split()) in text
        assert " ".join(sentence.split()) in " ".join(terminal.split())


@pytest.mark.parametrize("brief", [True, False])
def test_the_terminal_needs_no_more_than_80_columns(verdict: Verdict, brief: bool) -> None:
    lines = printed(verdict, brief).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)  # nothing was cut off
    assert len(printed(verdict, True)) < len(printed(verdict, False))


def test_the_page_loads_nothing_and_draws_all_figures(page: str) -> None:
    tags = re.sub(r"<script\b.*?</script>", "", page, flags=re.S)
    assert not re.search(r"<(link|img|iframe|object|embed|base|form)\b", tags)
    assert not re.search(r"\s(src|href)=", tags)
    for index in range(8):
        assert f'id="figure-{index}"' in page


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>[red]x"
    bank = made_bank(1, queries=300, originals=20, agreement={"standard": 0.8, evil: 0.5})
    page = write_lab_html(tmp_path / "lab.html", evaluate(replace(bank, task=evil, outside=evil), ASKED)).read_text()
    assert "<script>alert(1)" not in page
    assert evil in shown(page)


def test_the_exponent_is_named_where_the_ratio_stands(verdict: Verdict, page: str) -> None:
    said = next(sentence for sentence in lab_findings(verdict) if EXPONENT in sentence)
    row = next(one for one in verdict.attacks if (one.attack, one.queries) == ("copycat", 1024))
    assert f"{ratio(row.cost_ratio.value)} times the standard user's" in said
    assert f"{ratio(row.prices['cumulative'].ratio.median)}x" in said
    assert EXPONENT in shown(page)
    assert f"{EXPONENT}." in " ".join(printed(verdict, brief=True).split())


def test_made_up_data_is_called_so_everywhere(verdict: Verdict, bank: Bank, page: str) -> None:
    assert all("(synthetic data)" in sheet.title for sheet in sheets(verdict))
    titles = re.findall(r"<h[12]>(.*?)</h[12]>", page)
    assert titles
    assert all("(synthetic data)" in title for title in titles)
    assert "SYNTHETIC" in printed(verdict, brief=True).splitlines()[0]
    assert lab_findings(verdict)[0] == "made-up is synthetic: what follows says nothing about real data."
    real = evaluate(replace(bank, real=True), ASKED)
    assert "synthetic" not in printed(real).lower()


def test_bad_health_is_red(blind: Verdict, verdict: Verdict, tmp_path: Path) -> None:
    assert not blind.health.separates
    assert any("no separation on this task" in line.lower() for line in printed(blind).splitlines())
    assert re.search(r"\x1b\[1;31m[^\x1b]*o separation on this task", printed(blind, colours=True))
    assert "\x1b[1;31mvictim" in printed(blind, colours=True)
    assert "\x1b[32mvictim" in printed(verdict, colours=True)
    page = write_lab_html(tmp_path / "blind.html", blind).read_text()
    assert re.search(r"<p style='color:#B00020[^>]*><b>Health", page)
    assert re.search(r"<p style='color:#B00020[^>]*>No separation on this task", page)
    assert re.search(r"<p style='color:#B00020[^>]*>Honest queries cost", page)


def test_the_group_that_is_not_stopped_is_fixed(verdict: Verdict) -> None:
    names = [row[0].text for row in not_stopped_sheet(verdict).rows]
    assert names == [
        *("standard", "mixmatch", "jacobian", "worst-case"),
        *("copycat, 16 accounts", "copycat, laundered", "for each strange one"),
    ]
    bank = made_bank(1, originals=20, agreement={"Worst_Case": 0.97, "noise": 0.4})
    names = [(row[0].text, row[0].below) for row in not_stopped_sheet(evaluate(bank, ASKED)).rows]
    assert names[:4] == [
        *(("standard", "not recorded"), ("mixmatch", "not recorded")),
        *(("jacobian", "not recorded"), ("Worst_Case", "")),
    ]
    assert names[4][0] == "noise, 16 accounts"


def test_ratios_at_the_ceiling_are_marked(verdict: Verdict) -> None:
    rows = {row[0].text: row for row in attacks_sheet(verdict).rows}
    prices = {one.attack: one.prices["batch"] for one in verdict.attacks if one.queries == 1024}
    for attack, row in rows.items():
        assert (MARK in row[-1].text) == (prices[attack].at_ceiling.median >= 0.5)
    assert MARK in rows["noise"][-1].text
    assert MARK not in rows["standard"][-1].text


def test_who_never_gets_there_is_named(verdict: Verdict) -> None:
    sheet = targets_sheet(verdict)
    assert "noise" not in [row[0].text for row in sheet.rows]
    assert "Never at 0.8: noise" in sheet.note


def test_numbers_have_three_digits_and_unknown_ones_a_dash() -> None:
    assert [ratio(value) for value in (1.254, 9.994, 9.996, 99.94, 401.2, 1234.0)] == [
        *("1.25", "9.99", "10.0", "99.9", "401", "1,234"),
    ]
    assert ranged(Spread(float("nan"), float("nan"), float("nan"), 0)).text == "–"
    assert ranged(Spread(2.0, 1.0, 3.0, 3)).below == "1.00–3.00"
    assert ranged(Spread(2.0, 2.0, 2.0, 1)).below == "2.00"


def test_figures_show_the_verdict(verdict: Verdict) -> None:
    free, paid = accuracy_lines(verdict, None), accuracy_lines(verdict, "batch")
    assert [line.name for line in free] == list(AGREEMENT)
    for line, other, curve in zip(free, paid, verdict.curves, strict=True):
        assert line.x == curve.undefended_s
        assert line.y == tuple(100 * one.median for one in curve.accuracy)
        assert other.x == tuple(one.median for one in curve.time_s["batch"])
        assert all(a < b for a, b in zip(line.x, other.x, strict=True))
    lines = {line.name: line for line in ratio_lines(verdict, "cumulative")}
    last = next(one for one in verdict.attacks if (one.attack, one.queries) == ("copycat", 2048))
    assert lines["copycat"].y[-1] == pytest.approx(last.prices["cumulative"].ratio.median)
    honest = honest_lines(verdict, "batch")
    assert honest[0].name == MIX
    assert honest[-1].name.startswith("only class")
    assert np.all(np.diff(honest[-1].y) <= 0)


def test_the_never_stopped_and_the_strange_have_their_colours() -> None:
    many = {f"a{index}": 0.8 for index in range(12)} | AGREEMENT
    found = emphasised(evaluate(made_bank(1, queries=64, originals=20, agreement=many), ASKED))
    assert found[:5] == ["standard", "mixmatch", "jacobian", "worst-case", "copycat"]
    assert len(found) == MOST


def test_mined_puzzles_stand_beside_what_was_expected(verdict: Verdict, page: str) -> None:
    assert "copycat batch 32 1.2M 1.3M 900k–1.6M 0.61 0.66 yes" in shown(page)
    assert not any("Mined" in sheet.title for sheet in sheets(replace(verdict, mined=())))


def test_one_line_tells_what_was_mined(verdict: Verdict) -> None:
    rows = (*MINED, Mined("noise", "batch", 8, 8e5, 500_000, 6e5, 9e5, 0.39, 0.34))
    line = mined_line(replace(verdict, mined=rows))
    assert line == (
        "40 puzzles solved: 1.8M tries, expected 2M (-10.0%); 1.00 s, expected 1.00 s (+0.0%); tries of 1 of 2 attacks "
        "lie in their 95 % interval"
    )
    assert mined_line(replace(verdict, mined=())) == ""
    assert "32 puzzles solved" in printed(verdict, brief=True)
    assert "Mined beside" not in printed(verdict, brief=True)


def test_the_short_form_is_short(verdict: Verdict) -> None:
    titles = [sheet.title for sheet in sheets(verdict) if sheet.brief]
    assert titles == ["Not stopped (synthetic data)", "Attacks after 1,024 queries (synthetic data)"]
    text = printed(verdict, brief=True)
    assert all(title in text for title in titles)
    assert len(text) < len(printed(verdict)) / 2


def test_a_page_is_the_same_for_the_same_verdict(verdict: Verdict, page: str, tmp_path: Path) -> None:
    assert write_lab_html(tmp_path / "again.html", verdict).read_text(encoding="utf-8") == page


def test_a_study_that_hardly_began_can_be_shown(tmp_path: Path) -> None:
    """No query of the attack yet, a single seed, no student, no puzzle."""
    empty = evaluate(made_bank(1, queries=0, originals=20, agreement={"standard": 0.8, "copycat": 0.5}), ASKED)
    assert "not recorded" in printed(empty)
    assert "record copycat or noise" in " ".join(printed(empty).split())
    write_lab_html(tmp_path / "empty.html", empty)
    first, second = (write_lab_png(tmp_path / name, empty).read_bytes() for name in ("a.png", "b.png"))
    assert first.startswith(b"\x89PNG")
    assert first == second
