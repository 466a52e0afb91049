"""A study in the terminal: the health line first, readable in 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from powsim.bank.verdict import Verdict
from powsim.report.lab_sentences import about, health_line, lab_findings, mined_line
from powsim.report.lab_sheets import Cell, Sheet, sheets
from powsim.report.terminal import fits
from powsim.text import printable

NAME = 14  # characters of a name that stand on one line: six numbers beside it still fit 80 columns


def lab_report(verdict: Verdict, width: int = 80, brief: bool = False) -> list[RenderableType]:
    """Return what to print: what was studied, its health, sentences, and tables in pieces that fit the width.

    brief: only the tables that nobody should miss, and one line for the puzzles mined.
    """
    health = verdict.health
    style = "green" if health.separates and not health.saturated else "bold red"
    parts: list[RenderableType] = [Text(printable(about(verdict)), style="" if verdict.real else "bold red")]
    parts.append(Text.assemble(("health: ", "bold"), (printable(health_line(verdict)), style)))
    for sentence in lab_findings(verdict):
        warned = sentence.rstrip(".").lower() in {warning.lower() for warning in health.warnings}
        parts.append(Text(f"• {printable(sentence)}", style="bold red" if warned else ""))
    for sheet in (sheet for sheet in sheets(verdict) if sheet.brief or not brief):
        parts.append(Text(""))
        parts += [_table(piece) for piece in _pieces(sheet, width)]
        parts.append(Text(sheet.note, style="dim"))
    if brief and verdict.mined:
        parts += [Text(""), Text.assemble(("mined: ", "bold"), printable(mined_line(verdict)))]
    return parts


def _pieces(sheet: Sheet, width: int) -> Iterator[Sheet]:
    """Yield the sheet, its columns cut into as few groups as fit the width; every group repeats the names."""
    begin = sheet.names
    while begin < len(sheet.columns):
        end = len(sheet.columns)
        while end > begin + 1 and not fits(_table(_cut(sheet, begin, end)), width):
            end -= 1
        yield _cut(sheet, begin, end)
        begin = end


def _cut(sheet: Sheet, begin: int, end: int) -> Sheet:
    def kept(row: tuple, /) -> tuple:  # type: ignore[type-arg]
        return (*row[: sheet.names], *row[begin:end])

    title = sheet.title if begin == sheet.names else f"{sheet.title}, continued"
    return replace(sheet, title=title, columns=kept(sheet.columns), rows=tuple(map(kept, sheet.rows)))


def _table(sheet: Sheet) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        title=Text(printable(sheet.title), style="bold"),
        title_justify="left",
    )
    for index, title in enumerate(sheet.columns):
        named = index < sheet.names
        table.add_column(printable(title).replace(" ", "\n", 1), justify="left" if named else "right", no_wrap=True)
    for row in sheet.rows:
        table.add_row(*(_shown(cell, index < sheet.names) for index, cell in enumerate(row)))
    return table


def _shown(cell: Cell, named: bool) -> Text:
    text = "\n".join(_broken(printable(cell.text))) if named else printable(cell.text)
    return Text.assemble(text, ("\n" + printable(cell.below), "dim")) if cell.below else Text(text)


def _broken(name: str) -> list[str]:
    """Return a long name as two lines or more, broken after a blank or a hyphen where there is one."""
    if len(name) <= NAME:
        return [name]
    at = max(name.rfind(mark, 1, NAME) for mark in " -") + 1 or NAME
    return [name[:at].rstrip(), *_broken(name[at:])]
