"""The monitor: one long computation, however batches are cut, mixed, saved or merged; nobody pays for another."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powsim import Monitor
from powsim.results import OutputError
from powsim_kernels import PatePlan, rdp_to_eps

ORDERS = (1.5, 2, 3, 4.5, 8, 16, 32, 64)
PLANS = {
    "gnmax": PatePlan(50, 10, 2.0),
    "confident": PatePlan(50, 10, 4.0, ORDERS, threshold=30.0, sigma1=10.0, backend="reference"),
    "unclipped": PatePlan(50, 10, 2.0, ORDERS, clip=False),
    "lnmax": PatePlan(50, 10, 5.0, ORDERS, mechanism="lnmax"),
}
MEI = json.loads((Path(__file__).parents[1] / "data" / "vectors_mei.json").read_text())["composition"]


def votes_of(rows: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.multinomial(50, rng.dirichlet(np.full(10, 0.15), rows)).astype(np.int16)


def long_way(plan: PatePlan, delta: float, accounting: str, who: list, votes: np.ndarray) -> tuple[list, dict]:
    """Return eps after each query and at the end, by one reference plan and a loop over rows."""
    named = {n: getattr(plan, n) for n in ("threshold", "sigma1", "mechanism", "clip")}
    slow = PatePlan(plan.num_voters, plan.num_classes, plan.sigma, plan.orders, backend="reference", **named)
    spent: dict[Any, Any] = {}
    after = []
    for name, cost in zip(who, slow.rdp(votes), strict=True):
        if accounting == "sum-epsilon":
            spent[name] = spent.get(name, 0.0) + float(rdp_to_eps(cost, slow.grid, delta)[0])
            after.append(spent[name])
        else:
            spent[name] = spent.get(name, 0.0) + cost
            after.append(float(rdp_to_eps(spent[name], slow.grid, delta)[0]))
    return after, {name: after[len(who) - 1 - who[::-1].index(name)] for name in spent}


pytestmark = pytest.mark.filterwarnings("ignore::powsim_kernels.OrderGridWarning")


@pytest.mark.parametrize("accounting", ["composed-rdp", "sum-epsilon"])
@pytest.mark.parametrize("name", PLANS)
def test_one_long_computation_gives_the_same(name: str, accounting: str) -> None:
    votes = votes_of(120)
    who = [("ada", 7, "7", "grace")[i] for i in np.random.default_rng(1).integers(0, 4, 120)]
    after, end = long_way(PLANS[name], 1e-5, accounting, who, votes)
    monitor = Monitor(PLANS[name], 1e-5, accounting=accounting)
    assert monitor.add(who, votes) == pytest.approx(after, rel=1e-12)
    assert dict(zip(monitor.identities, monitor.eps(), strict=True)) == pytest.approx(end, rel=1e-12)
    assert monitor.queries.tolist() == [who.count(name) for name in monitor.identities]
    assert monitor.eps(["7", "nobody", 7]) == pytest.approx([end["7"], 0.0, end[7]], rel=1e-12)


@pytest.mark.parametrize("case", MEI, ids=lambda case: case["id"])
def test_the_published_numbers_of_both_accountings(case: dict) -> None:
    votes, delta = np.array(case["votes"]), case["delta"]
    published = case["id"] != "comp-pknn"
    plan = PatePlan(case["num_teachers"], case["num_classes"], case["sigma"], clip=published)
    composed = Monitor(plan, delta, conversion="classic")
    summed = Monitor(
        PatePlan(case["num_teachers"], case["num_classes"], case["sigma"]),
        delta,
        accounting="sum-epsilon",
        conversion="classic",
    )
    running = np.concatenate([composed.add("u", piece) for piece in np.split(votes, range(5, 64, 9))])
    kind = "cumulative_rdp_eps_every_8_" + ("data_dependent_min" if published else "no_upper_bound")
    assert running[7::8] == pytest.approx(case[kind], rel=1e-12)
    each = np.diff(summed.add("u", votes), prepend=0.0)
    assert each == pytest.approx(case["per_query_eps"], rel=1e-10)
    assert summed.eps("u") == pytest.approx(case["sum_per_query_eps"], rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 300), max_size=8),
    who=st.lists(st.integers(0, 5), min_size=300, max_size=300),
    accounting=st.sampled_from(["composed-rdp", "sum-epsilon"]),
)
def test_cuts_change_nothing_not_even_a_bit(cuts: list[int], who: list[int], accounting: str) -> None:
    votes, names = votes_of(300), np.array([f"user {i}" for i in who])
    whole, pieces = (Monitor(PLANS["gnmax"], 1e-5, accounting=accounting) for _ in range(2))
    expected = whole.add(names, votes)
    bounds = [0, *sorted(cuts), 300]
    got = [pieces.add(names[a:b], votes[a:b]) for a, b in itertools.pairwise(bounds)]
    assert np.concatenate(got) == pytest.approx(expected, rel=1e-12)
    assert pieces.identities == whole.identities
    assert pieces.spent == pytest.approx(whole.spent, rel=1e-12)


def test_identities_do_not_influence_each_other() -> None:
    votes = votes_of(4000)
    who = np.random.default_rng(3).integers(0, 700, 4000).astype(np.uint32)
    together = Monitor(PLANS["gnmax"], 1e-6)
    eps = together.add(who, votes)
    for name in (0, 99, 699):
        alone = Monitor(PLANS["gnmax"], 1e-6)
        assert alone.add(name, votes[who == name]) == pytest.approx(eps[who == name], rel=1e-13)
        assert together.eps(name) == pytest.approx(alone.eps(name), rel=1e-13)


def test_realised_answers_and_single_rows() -> None:
    plan = PLANS["confident"]
    votes, told = votes_of(30), np.arange(30) % 3 > 0
    monitor = Monitor(plan, 1e-5)
    eps = [float(monitor.add("a", row, realised=[bool(flag)])[0]) for row, flag in zip(votes, told, strict=True)]
    total = np.cumsum(plan.rdp(votes, realised=told), axis=0)
    assert eps == pytest.approx(rdp_to_eps(total, plan.grid, 1e-5)[0], rel=1e-12)


def test_bad_input_changes_nothing() -> None:
    monitor = Monitor(PLANS["confident"], 1e-5)
    monitor.add(["a", "b"], votes_of(2))
    before = monitor.spent.tolist(), monitor.identities, monitor.queries.tolist()
    bad = votes_of(2000).astype(np.float64)
    bad[1999, 3] = np.nan
    for identities, votes, message in (
        (["c"] * 2000, bad, r"votes\[1999\]"),
        (["c"], votes_of(2), "1 identities for 2 rows"),
        (["c", "d"], votes_of(2)[:, :9], "num_classes=10"),
        (np.array([["c"], ["d"]]), votes_of(2), "one per row"),
    ):
        with pytest.raises(ValueError, match=message):
            monitor.add(identities, votes)
    for identities in (["c", 1.5], ["c", True], ["c", None], np.array([1.0, 2.0])):
        with pytest.raises(TypeError, match=r"identities\[[01]\] = .* is neither an integer nor a text"):
            monitor.add(identities, votes_of(2))
    for told, error in (([1, 0], TypeError), ([True], ValueError)):
        with pytest.raises(error, match="realised"):
            monitor.add(["a", "c"], votes_of(2), realised=told)
    assert (monitor.spent.tolist(), monitor.identities, monitor.queries.tolist()) == before
    assert monitor.add([], votes_of(0)).shape == (0,)
    for wrong in ({"accounting": "sum"}, {"conversion": "tight"}, {"delta": 1.0}):
        with pytest.raises(ValueError, match=r"choose one of|delta=1\.0"):
            Monitor(PLANS["gnmax"], **{"delta": 0.1, **wrong})


NAMES = ["", "a\0", "a", "漢字", "\ud800", "x" * 3000, "1", 1, -5, 2**80]


@pytest.mark.parametrize("accounting", ["composed-rdp", "sum-epsilon"])
def test_a_saved_monitor_goes_on_as_if_nothing_had_happened(accounting: str, tmp_path: Path) -> None:
    votes, plan = votes_of(60), PLANS["confident"]
    through = Monitor(plan, 1e-5, accounting=accounting, conversion="classic")
    first = Monitor(plan, 1e-5, accounting=accounting, conversion="classic")
    expected = np.concatenate([through.add(NAMES * 3, votes[:30]), through.add(NAMES * 3, votes[30:])])
    first.add(NAMES * 3, votes[:30])
    file = tmp_path / "state.npz"
    first.save(file)
    first.save(file)  # a checkpoint replaces the one before
    loaded = Monitor.load(file, backend="reference")
    assert loaded.settings() == first.settings()
    assert loaded.add(NAMES * 3, votes[30:]).tolist() == expected[30:].tolist()
    assert loaded.identities == NAMES
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.npz"]
    Monitor(plan, 1e-5).save(tmp_path / "empty.npz")
    assert len(Monitor.load(tmp_path / "empty.npz")) == 0
    with pytest.raises(OutputError, match="no folder"):
        first.save(tmp_path / "none" / "state.npz")


def test_what_is_no_saved_monitor_is_refused(tmp_path: Path) -> None:
    good = Monitor(PLANS["gnmax"], 1e-5)
    good.add(["a", "b"], votes_of(2))
    good.save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as held:
        parts = dict(held)
    text = json.loads(parts["settings"].tobytes())

    def coded(value: object) -> np.ndarray:
        return np.frombuffer(json.dumps(value).encode(), np.uint8)

    wrong = [
        {"queries": parts["queries"][:1]},
        {"queries": parts["queries"] * 0},
        {"queries": parts["queries"].astype(float)},
        {"spent": -parts["spent"]},
        {"spent": parts["spent"][:, 1:]},
        {"identities": coded(["a", "a"])},
        {"identities": coded([1.5, "a"])},
        {"identities": coded("ab")},
        {"settings": coded({**text, "format": "other"})},
        {"settings": coded({**text, "sigma": -1.0})},
        {"settings": coded({k: v for k, v in text.items() if k != "delta"})},
        {"settings": coded({**text, "more": 1})},
        {"settings": coded([1])},
        {"settings": np.frombuffer(b"{", np.uint8)},
        {"queries": np.array(["x", None], object)},
    ]
    for change in wrong:
        np.savez(tmp_path / "bad.npz", **{**parts, **change})
        with pytest.raises(ValueError, match="is no saved monitor"):
            Monitor.load(tmp_path / "bad.npz")
    whole = (tmp_path / "good.npz").read_bytes()
    for content in (b"", b"x", whole[: len(whole) // 2], whole.replace(b"PK\x03\x04", b"PK\x03\x05")):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(ValueError, match="is no saved monitor"):
            Monitor.load(tmp_path / "bad.npz")
    with pytest.raises(FileNotFoundError):
        Monitor.load(tmp_path / "none.npz")


@pytest.mark.parametrize("accounting", ["composed-rdp", "sum-epsilon"])
def test_monitors_of_two_servers_merge(accounting: str) -> None:
    votes, who = votes_of(500), np.random.default_rng(2).integers(0, 30, 500)
    whole, left, right = (Monitor(PLANS["unclipped"], 1e-5, accounting=accounting) for _ in range(3))
    whole.add(who, votes)
    left.add(who[:200], votes[:200])
    right.add(who[200:], votes[200:])
    both = left + right
    assert both.identities == whole.identities
    assert both.queries.tolist() == whole.queries.tolist()
    assert both.eps() == pytest.approx(whole.eps(), rel=1e-12)
    with pytest.raises(ValueError, match=r"different sigma do not merge: 2\.0 and 3\.0"):
        _ = left + Monitor(PatePlan(50, 10, 3.0, ORDERS, clip=False), 1e-5, accounting=accounting)
    with pytest.raises(ValueError, match="different delta"):
        _ = left + Monitor(PLANS["unclipped"], 1e-6, accounting=accounting)
