"""The table on top of the README, made from the default scenario: `python tests/readme_table.py` prints it."""

from __future__ import annotations

from powsim import GroupSummary, load_scenario, simulate, summarise
from powsim.intervals import Headline
from powsim.text import dollars, percent, times

CAMPAIGNS = {
    "copycat/laptop-native/x1": "CopyCat, 1,024 queries, one laptop",
    "copycat/laptop-native/x16": "the same over 16 accounts",
    "copycat/8x-h100-sxm/x1": "CopyCat, 8x H100",
    "gap/laptop-native/x1": "gap, 1,024 ordinary queries, one laptop",
    "worst-case/laptop-native/x1": "WorstCase, who knows every cost, one laptop",
    "jacobian/laptop-native/x1": "Jacobian, one laptop",
    "mixmatch/laptop-native/x1": "MixMatch, one laptop",
    "datafree/rtx-4090/x1": "DataFree, 20,000 queries, one RTX 4090",
}
DEVICES = {
    "browser-fallback": "on a browser without WASM or JIT",
    "aws-lambda-1gb-webcrypto": "on a 1 GB cloud function",
}


def table(groups: list[GroupSummary]) -> str:
    """Return the Markdown table."""
    rows = [
        "| who | slowdown, median [95 %] | one in twenty, at least | above 2x | puzzles cost |",
        "|---|---|---|---|---|",
    ]
    for g in groups:
        if g.role == "honest":
            everybody = f"{dollars(g.cost_usd.value)} for all"
            rows.append(_row(f"**{g.identities:,} honest {g.name} users**", g, everybody))
            rows += [_row(f"{g.name} users {DEVICES[d.device]}", d, "") for d in g.by_device if d.device in DEVICES]
    by_name = {g.name: g for g in groups}
    rows += [_row(text, by_name[name], dollars(by_name[name].cost_usd.value)) for name, text in CAMPAIGNS.items()]
    return "\n".join(rows)


def _row(who: str, g: object, cost: str) -> str:
    p50: Headline = g.slowdown_p50  # type: ignore[attr-defined]
    p95: Headline = g.slowdown_p95  # type: ignore[attr-defined]
    above: Headline = g.share_above_2x  # type: ignore[attr-defined]
    interval = f"[{times(p50.low)[:-1]}, {times(p50.high)[:-1]}]"
    return f"| {who} | {times(p50.value)} {interval} | {times(p95.value)} | {percent(above.value)} | {cost} |"


if __name__ == "__main__":
    print(table(summarise(simulate(load_scenario("default")))))
