"""Tables of `powsim cost`."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from powsim.costs import CostlyRow, CostSummary, IdentityCost
from powsim.text import percent, printable, share


def eps_text(value: float) -> str:
    """Return an eps with four digits."""
    return f"{value:,.0f}" if value >= 99_995 else f"{value:.4g}"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for index, title in enumerate(columns):
        table.add_column(title, justify="right" if index else "left", no_wrap=True)
    return table


def costs_table(summary: CostSummary, delta: float) -> Table:
    """Return what all queries cost, and how the costs of single ones are spread."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("queries", f"{summary.rows:,}")
    if summary.share_answered < 1.0:
        table.add_row("answered, expected", percent(summary.share_answered))
    spread = [f"p{100 * level:g} {eps_text(eps)}" for level, eps in summary.quantiles.items()]
    table.add_row(
        "eps of a query alone",
        f"{eps_text(summary.least)} to {eps_text(summary.largest)}; {', '.join(spread)}",
    )
    table.add_row("sum of these", Text(f"{eps_text(summary.sum_epsilon)}  (sum-epsilon)"))
    composed = f"{eps_text(summary.composed_eps)} at delta {delta:g}, order {summary.order:g}  (composed-rdp)"
    table.add_row("eps of all together", Text(composed, "bold"))
    return table


def dearest_table(rows: Sequence[CostlyRow]) -> Table:
    """Return the queries that cost most alone."""
    whose = any(row.identity is not None for row in rows)
    table = _table("dearest rows", "eps", *(["identity"] if whose else []), "votes")
    for row in rows:
        votes = " ".join(f"{count:g}" for count in row.votes[:12]) + (" ..." if len(row.votes) > 12 else "")
        name = [_named(row.identity)] if whose else []
        table.add_row(f"{row.row:,}", eps_text(row.eps), *name, votes)
    return table


def identities_table(dearest: Sequence[IdentityCost], known: int) -> Table:
    """Return the identities whose queries cost most together."""
    title = f"dearest of {known:,} identities" if known > len(dearest) else "identity"
    table = _table(title, "queries", "share of the dearest", "sum-epsilon", "composed-rdp")
    most = dearest[0].composed_eps if dearest else 0.0
    for one in dearest:
        table.add_row(
            _named(one.identity),
            f"{one.queries:,}",
            share(one.composed_eps / most) if most > 0 else "",
            eps_text(one.sum_epsilon),
            eps_text(one.composed_eps),
        )
    return table


def _named(identity: int | str | None) -> Text:
    text = printable(str(identity))
    return Text(text if len(text) <= 40 else f"{text[:39]}…")
