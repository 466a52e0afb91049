"""Costs of a file of votes, in pieces, against the reference plan over all rows at once."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from powsim import costs
from powsim.costs import CostSummary, price
from powsim.votes import Piece, VotesError
from powsim_kernels import OrderGridWarning, PatePlan, rdp_to_eps

MEI = json.loads((Path(__file__).parents[1] / "data" / "vectors_mei.json").read_text())["composition"]


@dataclass(frozen=True)
class Held:
    """Votes in memory, as a file has them."""

    votes: np.ndarray
    who: np.ndarray | None = None
    about: str = "test"

    @property
    def rows(self) -> int:
        return len(self.votes)

    @property
    def classes(self) -> int:
        return self.votes.shape[1]

    def pieces(self, most: int) -> Iterator[Piece]:
        for at in range(0, len(self.votes), most):
            yield Piece(at, self.votes[at : at + most], None if self.who is None else self.who[at : at + most])


def priced(source: Held, plan: PatePlan, delta: float, **more: Any) -> tuple[CostSummary, dict[str, np.ndarray]]:
    pieces: list[dict[str, np.ndarray]] = []
    summary = price(source, plan, delta, sink=pieces.append, **more)
    return summary, {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def votes_of(rows: int, dtype: Any = np.int16) -> np.ndarray:
    rng = np.random.default_rng(rows)
    return rng.multinomial(50, rng.dirichlet(np.full(10, 0.2), rows)).astype(dtype)


ORDERS = (1.25, 1.5, 2, 3, 4.5, 8, 16, 32)
PLANS: dict[str, dict[str, Any]] = {
    "gnmax": {"sigma": 2.0},
    "confident": {"sigma": 4.0, "threshold": 30.0, "sigma1": 10.0},
    "lnmax": {"sigma": 5.0, "mechanism": "lnmax"},
    "unclipped": {"sigma": 2.0, "clip": False},
}


@pytest.mark.parametrize("conversion", ["classic", "improved"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint64, np.float16, np.float32])
@pytest.mark.parametrize("name", PLANS)
def test_all_at_once_gives_the_same(name: str, dtype: Any, conversion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "MOST_ROWS", 37)
    votes = votes_of(150, dtype)
    who = np.random.default_rng(1).integers(0, 4, 150)
    slow = PatePlan(50, 10, orders=ORDERS, backend="reference", **PLANS[name])
    rdp = slow.rdp(votes.astype(np.float64))
    summary, columns = priced(Held(votes), PatePlan(50, 10, orders=ORDERS, **PLANS[name]), 1e-5, conversion=conversion)
    with pytest.warns(OrderGridWarning) if summary.at_edge else contextlib.nullcontext():
        together, index = rdp_to_eps(np.cumsum(rdp, axis=0)[-1], ORDERS, 1e-5, conversion)
    alone = np.array([_eps(cost, conversion) for cost in rdp])
    assert columns["row"].tolist() == list(range(150))
    assert columns["eps"] == pytest.approx(alone, rel=1e-10)
    assert columns["log_q"] == pytest.approx(slow.logq(votes.astype(np.float64)), rel=1e-12)
    so_far = [_eps(cost, conversion) for cost in np.cumsum(rdp, axis=0)]
    assert columns["eps_so_far"] == pytest.approx(so_far, rel=1e-10)
    assert set(columns["order"]) <= set(ORDERS)
    assert summary.composed_eps == pytest.approx(float(together), rel=1e-10)
    assert (summary.order, summary.at_edge) == (ORDERS[int(index)], int(index) in (0, 7))
    assert summary.sum_epsilon == pytest.approx(math.fsum(alone), rel=1e-10)
    assert (summary.least, summary.largest) == pytest.approx((alone.min(), alone.max()), rel=1e-10)
    best = sorted(range(150), key=lambda row: (-columns["eps"][row], row))[:5]
    assert [row.row for row in summary.dearest] == best
    assert summary.dearest[0].votes == tuple(votes[best[0]].tolist())
    if name == "confident":
        answered = np.exp(slow.log_pr_answered(votes.astype(np.float64)))
        assert columns["answered"] == pytest.approx(answered, rel=1e-12)
        assert summary.share_answered == pytest.approx(answered.mean(), rel=1e-12)
    else:
        assert summary.share_answered == 1.0

    of_each, mine = priced(
        Held(votes, who),
        PatePlan(50, 10, orders=ORDERS, **PLANS[name]),
        1e-5,
        conversion=conversion,
        identities=True,
    )
    assert mine["identity"].tolist() == who.tolist()
    assert of_each.composed_eps == pytest.approx(summary.composed_eps, rel=1e-12)
    assert of_each.identities is not None
    assert sorted(one.identity for one in of_each.identities) == [0, 1, 2, 3]
    for one in of_each.identities:
        rows = who == one.identity
        assert one.queries == rows.sum()
        assert one.sum_epsilon == pytest.approx(math.fsum(alone[rows]), rel=1e-10)
        path = [_eps(cost, conversion) for cost in np.cumsum(rdp[rows], axis=0)]
        assert mine["eps_so_far"][rows] == pytest.approx(path, rel=1e-10)
        assert one.composed_eps == pytest.approx(path[-1], rel=1e-10)
    spent = [one.composed_eps for one in of_each.identities]
    assert spent == sorted(spent, reverse=True)


def _eps(cost: np.ndarray, conversion: str) -> float:
    """One conversion, by the formulas of `rdp_to_eps`."""
    found = []
    for order, rdp in zip(ORDERS, cost, strict=True):
        if conversion == "classic":
            found.append(rdp + math.log(1e5) / (order - 1))
        else:
            found.append(rdp + math.log(1 - 1 / order) - (math.log(1e-5) + math.log(order)) / (order - 1))
    return max(min(found), 0.0)


def test_the_published_composition() -> None:
    case = MEI[0]
    plan = PatePlan(case["num_teachers"], case["num_classes"], case["sigma"])
    summary, columns = priced(Held(np.array(case["votes"])), plan, case["delta"], conversion="classic")
    assert columns["eps"] == pytest.approx(case["per_query_eps"], rel=1e-12)
    assert columns["eps_so_far"] == pytest.approx(case["analyze_multiclass_gnmax_dp_eps"], rel=1e-12)
    assert summary.sum_epsilon == pytest.approx(case["sum_per_query_eps"], rel=1e-12)
    assert summary.order == case["order_opt"][-1]


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    votes, who = votes_of(1000), np.arange(1000) % 90
    plan = PatePlan(50, 10, 2.0, ORDERS)
    whole, columns = priced(Held(votes, who), plan, 1e-5, identities=True)
    monkeypatch.setattr(costs, "MOST_ROWS", 77)
    cut, same = priced(Held(votes, who), plan, 1e-5, identities=True)
    assert cut.quantiles == whole.quantiles
    assert cut.dearest == whole.dearest
    for name, values in columns.items():
        assert same[name] == pytest.approx(values, rel=1e-13)


@pytest.mark.parametrize("values", [np.random.default_rng(0).lognormal(0, 3, 20001), np.full(7, 3.25), np.zeros(3)])
def test_quantiles_are_right_to_a_thousandth(values: np.ndarray) -> None:
    found = costs._Quantiles()
    for part in np.array_split(values, 13):
        found.add(part)
    for level in costs.LEVELS:
        exact = float(np.quantile(values, level, method="inverted_cdf"))
        assert found.at(level) == pytest.approx(exact, rel=1e-3, abs=1.1e-12)


@pytest.mark.parametrize("bad", [-1.0, 51.0, np.nan, np.inf, -np.inf])
def test_the_first_bad_row_of_the_file_is_named(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "MOST_ROWS", 64)
    votes = votes_of(500, np.float64)
    votes[321, 2] = votes[400, 0] = bad
    with pytest.raises(
        VotesError, match=r"row 321: \[.* holds a negative, NaN or infinite count, or one above --teach"
    ):
        price(Held(votes), PatePlan(50, 10, 2.0, ORDERS), 1e-5)


def test_rows_that_do_not_add_up_are_counted() -> None:
    votes = votes_of(100)
    votes[3, 0] += 0 if votes[3, 0] == 50 else 1
    votes[9] = 0
    assert price(Held(votes), PatePlan(50, 10, 2.0, ORDERS), 1e-5).other_sums == 2
    shares = np.full((4, 10), np.float32(5.0)) * np.float32(1 + 1e-7)
    assert price(Held(shares), PatePlan(50, 10, 2.0, ORDERS), 1e-5).other_sums == 0
