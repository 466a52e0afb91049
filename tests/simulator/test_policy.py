"""Policies against scalar oracles, what they may not do, and proof that they cannot know who is honest."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import powsim
from oracles import CAP_S, least_squares, price_s, server_bits, vectors
from powsim.groups import service_of
from powsim.ledger import Ledger, Service, due_points, puzzle_counts
from powsim.policy import (
    PAPER_SOLVER_HZ,
    SHIPPED,
    AsPublished,
    Banded,
    Calibrated,
    Decay,
    Fixed,
    Load,
    NoPuzzle,
    Policy,
)
from powsim.scenario import parse_scenario

SECONDS_PER_QUERY = (0.249 + 0.782) / 64  # table 5, CIFAR-10


def service(dataset: str = "cifar10") -> Service:
    table = {"name": "x", "service": {"dataset": dataset}, "policy": {"name": "none"}}
    caller = {"queries": 1, "devices": ["rtx-4090"], "trace": "standard"}
    return service_of(parse_scenario({**table, "campaign": {"a": caller}}).service)


def fit(dataset: str = "cifar10") -> tuple[float, float]:
    rows = vectors()["calibration"]["datasets"][dataset]["calibration_rows"]
    return least_squares(rows["queries"], rows["privacy"])


def ledger_of(queries: Any, cost: Any, asked: Any = None) -> Ledger:
    """Return a ledger of the given cells, all due."""
    n, c = np.atleast_2d(np.asarray(queries, np.int64)), np.atleast_2d(np.asarray(cost, np.float64))
    asked = np.diff(n, axis=1, prepend=0) if asked is None else np.atleast_2d(np.asarray(asked, np.int64))
    return Ledger(n, asked, c, np.ones(n.shape, bool))


def random_ledger(rows: int = 6, columns: int = 12, seed: int = 1) -> Ledger:
    rng = np.random.default_rng(seed)
    queries = 64 * np.arange(1, columns + 1) + rng.integers(0, 30, (rows, 1))
    cost = np.cumsum(rng.uniform(0.9, 3.7, (rows, columns)) * 64, axis=1)
    return ledger_of(queries, cost)


POLICIES: dict[str, Policy] = {
    "as-published": AsPublished(),
    "as-published, exact": AsPublished(truncate_bits=False, base=1.02),
    "calibrated": Calibrated(),
    "calibrated, tolerant": Calibrated(tolerance=0.1, target_slowdown=1.5, base=1.01, max_bits=28.5),
    "fixed": Fixed(bits=17.25),
    "banded": Banded(edges=[5.0, 60.0], bits=[10.0, 12.5, 20.0]),
    "none": NoPuzzle(),
}
every = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)


def test_the_shipped_policies_are_seven_and_each_is_the_class_of_its_name() -> None:
    priced = {"as-published": AsPublished, "calibrated": Calibrated, "fixed": Fixed, "none": NoPuzzle, "banded": Banded}
    assert dict(SHIPPED) == {**priced, "load": Load, "decay": Decay}


@pytest.mark.parametrize("base", [1.0075, 1.18])
@pytest.mark.parametrize("dataset", ["mnist", "svhn", "cifar10"])
def test_as_published_is_the_servers_rule_in_plain_python(dataset: str, base: float) -> None:
    slope, intercept = fit(dataset)
    queries = [64, 128, 1000, 1000, 5000, 5000, 9000, 9000]
    offsets = [0.0, 20.5, -20.5, 300.0, -300.0, 1070.0, -5000.0, 1e7]
    cost = [slope * n + intercept + x for n, x in zip(queries, offsets, strict=True)]
    ledger = ledger_of([queries], [cost])
    whole = AsPublished(base=base).price(ledger, service(dataset))
    exact = AsPublished(base=base, truncate_bits=False, solver_hz=1e6).price(ledger, service(dataset))
    for j, x in enumerate(offsets):
        seconds = price_s(x, base)
        assert float(whole[0, j]) == 2.0 ** server_bits(seconds)
        assert float(exact[0, j]) == pytest.approx(1e6 * seconds, rel=1e-8)


def test_as_published_asks_for_18_bits_at_the_expected_cost_and_30_at_the_cap() -> None:
    slope, intercept = fit()
    costs = [slope * 1000 + intercept, slope * 2000 + intercept + 1e9]
    assert AsPublished().price(ledger_of([1000, 2000], costs), service()).tolist() == [[2.0**18, 2.0**30]]


def test_as_published_punishes_cheap_users_and_calibrated_does_not() -> None:
    slope, intercept = fit()
    mean = service().mean_cost
    cheap, usual, dear = 0.5, 1.0, 1.5
    two_sided = AsPublished(truncate_bits=False).price(
        ledger_of([[1000]] * 3, [[(slope * 1000 + intercept) * s] for s in (cheap, usual, dear)]), service()
    )
    assert two_sided[0, 0] > two_sided[1, 0] < two_sided[2, 0]
    one_sided = Calibrated().price(
        ledger_of([[1000]] * 3, [[mean * 1000 * s] for s in (cheap, usual, dear)]), service()
    )
    assert one_sided[0, 0] == pytest.approx(one_sided[1, 0], rel=1e-12)
    assert one_sided[2, 0] > 100 * one_sided[1, 0]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_slowdown": 1.25, "reference_hz": 1e5, "base": 1.05, "tolerance": 0.2, "max_bits": 31.5},
        {"target_slowdown": 3.0, "tolerance": 0.02, "max_bits": 58.0},
    ],
    ids=str,
)
def test_calibrated_is_its_formula_in_plain_python(settings: dict[str, float]) -> None:
    policy = Calibrated(**settings)  # type: ignore[arg-type]
    rows = vectors()["calibration"]["datasets"]["cifar10"]["calibration_rows"]
    pairs = list(zip(rows["queries"], rows["privacy"], strict=True))
    mean = math.fsum(n * c for n, c in pairs) / math.fsum(n * n for n, _ in pairs)
    ledger = random_ledger()
    got = policy.price(ledger, service())
    for (row, column), work in np.ndenumerate(got):
        n, asked = int(ledger.queries[row, column]), int(ledger.asked[row, column])
        excess = float(ledger.cost[row, column]) - (1 + policy.tolerance) * mean * n
        honest = (policy.target_slowdown - 1) * SECONDS_PER_QUERY * asked * policy.reference_hz
        assert float(work) == pytest.approx(min(honest * policy.base ** max(excess, 0.0), 2**policy.max_bits), rel=1e-9)


@pytest.mark.parametrize("target", [1.1, 2.0, 5.0])
@pytest.mark.parametrize("queries", [64, 640, 1000, 1])
def test_calibrated_slows_an_average_user_at_the_reference_rate_by_exactly_the_target(
    queries: int, target: float
) -> None:
    policy, known = Calibrated(target_slowdown=target, reference_hz=3e6), service()
    asked_so_far, asked, due = due_points(np.array([queries]), known.batch, policy.partial_puzzle, -(-queries // 64))
    assert asked.sum() == queries
    work = policy.price(Ledger(asked_so_far, asked, known.mean_cost * asked_so_far, due), known)
    seconds = float(work[due].sum()) / 3e6
    assert 1 + seconds / (queries * SECONDS_PER_QUERY) == pytest.approx(target, rel=1e-9)


def test_calibrated_slows_an_average_user_by_the_target_through_the_whole_engine(tmp_path: Path) -> None:
    mean = service().mean_cost
    (tmp_path / "average.csv").write_text(f"queries,cost\n0,0\n1000,{1000 * mean!r}\n2000,{2000 * mean!r}\n")
    device = {"rate_low_hz": 4e6, "rate_high_hz": 4e6, "watts": 1.0}
    table = {
        "name": "average",
        "service": {"dataset": "cifar10"},
        "policy": {"name": "calibrated", "target_slowdown": 1.75},
        "devices": {"reference": device},
        "population": {
            "users": {"identities": 500, "trace": "average.csv", "queries": 1000, "devices": {"reference": 1.0}}
        },
    }
    outcome = powsim.simulate(parse_scenario(table, folder=tmp_path)).outcomes[0]
    np.testing.assert_allclose(1 + outcome.work / 4e6 / outcome.service_s, 1.75, rtol=1e-8)
    # 500 users of 16 puzzles each, each exponential: the mean is off by 0.75 / sqrt(8,000) at one deviation.
    assert float(outcome.slowdown.mean()) == pytest.approx(1.75, abs=4 * 0.75 / 8000**0.5)


def test_calibrated_never_passes_its_cap_nor_overflows() -> None:
    costs = [[0.0, 1e3, 1e5, 1e10, 1e308]]
    got = Calibrated(max_bits=40.0).price(ledger_of([[64, 128, 192, 256, 320]], costs), service())
    assert np.isfinite(got).all()
    assert np.all(got <= 2.0**40)
    assert np.all(got[0, 2:] == 2.0**40)
    # The cap binds honest work as well.
    low = Calibrated(max_bits=5.0).price(ledger_of([[64]], [[0.0]]), service())
    assert low.tolist() == [[32.0]]


def test_fixed_is_the_same_for_everybody_and_none_is_nothing() -> None:
    ledger = random_ledger()
    assert np.all(Fixed(bits=10.5).price(ledger, service()) == 2.0**10.5)
    assert not NoPuzzle().price(ledger, service()).any()


@every
def test_work_is_finite_and_not_negative_and_has_the_shape_of_the_ledger(policy: Policy) -> None:
    ledger = random_ledger()
    work = policy.price(ledger, service())
    assert work.shape == ledger.cost.shape
    assert work.dtype == np.float64
    assert np.isfinite(work).all()
    assert np.all(work >= 0)


@every
def test_no_column_depends_on_later_ones(policy: Policy) -> None:
    ledger = random_ledger()
    whole = policy.price(ledger, service())
    for end in (1, 2, 7, 11):
        head = Ledger(*(getattr(ledger, field.name)[:, :end] for field in dataclasses.fields(Ledger)))
        np.testing.assert_array_equal(policy.price(head, service()), whole[:, :end])
    spoilt = dataclasses.replace(ledger, cost=ledger.cost.copy())
    spoilt.cost[:, 6:] *= 3
    np.testing.assert_array_equal(policy.price(spoilt, service())[:, :6], whole[:, :6])


@every
def test_no_identity_depends_on_others(policy: Policy) -> None:
    ledger = random_ledger()
    whole = policy.price(ledger, service())
    for rows in ([3], [5, 0, 0], [1, 2]):
        some = Ledger(*(getattr(ledger, field.name)[rows] for field in dataclasses.fields(Ledger)))
        np.testing.assert_array_equal(policy.price(some, service()), whole[rows])


@every
def test_a_policy_changes_neither_ledger_nor_itself(policy: Policy) -> None:
    ledger = random_ledger()
    before = {field.name: getattr(ledger, field.name).copy() for field in dataclasses.fields(Ledger)}
    first = policy.price(ledger, service())
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(ledger, name), value)
    np.testing.assert_array_equal(policy.price(ledger, service()), first)


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize("block", [1, 64, 1000])
def test_puzzles_fall_due_per_block_and_for_the_rest_where_asked(block: int, partial: bool) -> None:
    totals = [1, 63, 64, 65, 999, 1000, 1001, 2500]
    columns = -(-max(totals) // block)
    queries, asked, due = due_points(np.array(totals), block, partial, columns)
    for row, total in enumerate(totals):
        points: list[int] = []
        while (points[-1] if points else 0) < total:
            points.append(min((points[-1] if points else 0) + block, total))
        parts = [b - a for a, b in zip([0, *points], points, strict=False)]
        assert queries[row, : len(points)].tolist() == points
        assert asked[row, : len(points)].tolist() == parts
        assert asked[row, len(points) :].sum() == 0
        whole = [part == block for part in parts]
        assert due[row].tolist() == [partial or full for full in whole] + [False] * (columns - len(points))
        assert int(puzzle_counts(np.array([total]), block, partial)[0]) == int(due[row].sum())


# Blindness.


def test_the_facts_a_policy_gets_have_no_place_for_a_label() -> None:
    assert [field.name for field in dataclasses.fields(Ledger)] == ["queries", "asked", "cost", "due"]
    names = {field.name for kind in (Ledger, Service) for field in dataclasses.fields(kind)}
    for word in ("role", "name", "group", "device", "label", "honest", "attack", "campaign", "population", "trace"):
        assert not [name for name in names if word in name]
    assert [field.name for field in dataclasses.fields(Service) if field.type == "str"] == ["dataset"]


SPY = """
class Spy:
    queries_per_puzzle = 64
    partial_puzzle = True
    seen = []

    def price(self, *args, **kwargs):
        Spy.seen.append((args, kwargs))
        return args[0].cost * 0 + 1000.0
"""
SECRETS = (
    "honest",
    "campaign",
    "population",
    "villains",
    "citizens",
    "secret-phone",
    "secret-gpu",
    "copycat",
    "standard",
)


def table(policy: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "blind",
        "service": {"dataset": "cifar10"},
        "policy": policy,
        "devices": {
            name: {"rate_low_hz": 1e6, "rate_high_hz": 2e6, "watts": 1.0} for name in ("secret-phone", "secret-gpu")
        },
        "population": {
            "citizens": {
                "identities": 30,
                "queries": {"median": 300.0, "sigma": 1.0, "max": 2000},
                "devices": {"secret-phone": 1.0},
                "mean_shift_sd": 0.02,
            }
        },
        "campaign": {"villains": {"trace": "copycat", "queries": 900, "devices": ["secret-gpu"], "replicas": 2}},
    }


def reachable(*roots: Any) -> list[Any]:
    """Return every value that can be reached from `roots` by attributes, items and array bases."""
    found: list[Any] = []
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        found.append(value)
        if isinstance(value, dict):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            todo += list(value)
        elif isinstance(value, np.ndarray):
            todo += [value.base, value.dtype.names, value.dtype.metadata]
            todo += value.ravel().tolist() if value.dtype.kind not in "biuf" else []
        elif not isinstance(value, (type, str, bytes, int, float, type(None))):
            todo += list(vars(value).values()) if hasattr(value, "__dict__") else []
            todo += [getattr(value, name, None) for name in getattr(type(value), "__slots__", ())]
    return found


def texts_in(*roots: Any) -> list[str]:
    return [str(value) for value in reachable(*roots) if isinstance(value, (str, bytes))]


def test_the_walk_finds_what_is_hidden() -> None:
    @dataclasses.dataclass
    class Box:
        inside: Any

    hidden = np.array([None, {"deep": [Box(("villains",))]}], dtype=object)
    assert "villains" in texts_in(Box(hidden[:1]))
    assert "villains" in texts_in(np.array(["villains"])[:0])


def test_nothing_that_reaches_a_policy_tells_who_is_honest(tmp_path: Path) -> None:
    (tmp_path / "spy.py").write_text(SPY)
    scenario = parse_scenario(table({"name": "spy.py:Spy"}), folder=tmp_path)
    result = powsim.simulate(scenario)
    seen = type(scenario.policy_object).seen  # type: ignore[attr-defined]
    assert {group.role for group in result.groups} == {"honest", "campaign"}
    assert len(seen) >= 2  # it was asked about both
    for args, kwargs in seen:
        assert [type(arg) for arg in args] == [Ledger, Service]
        assert not kwargs
        texts = texts_in(*args)
        assert "cifar10" in texts
        for secret in SECRETS:
            assert not [text for text in texts if secret in text], secret


@pytest.mark.parametrize("name", ["as-published", "calibrated", "fixed"])
def test_an_honest_user_and_an_attacker_who_do_the_same_get_the_same_work(name: str) -> None:
    for trace in ("standard", "copycat"):
        same: dict[str, Any] = {
            **table({"name": name}),
            "population": {
                "citizens": {"identities": 3, "trace": trace, "queries": 2050, "devices": {"secret-gpu": 1.0}}
            },
            "campaign": {"villains": {"trace": trace, "queries": 2050, "devices": ["secret-gpu"], "replicas": 3}},
        }
        honest, attack = powsim.simulate(parse_scenario(same)).outcomes
        for field in ("work", "puzzles", "cost", "service_s", "queries"):
            np.testing.assert_array_equal(getattr(honest, field), getattr(attack, field), err_msg=field)


def test_the_papers_solver_is_the_middle_of_its_own_timing_table() -> None:
    table = vectors()["calibration"]["bits_timing_table"]
    rates = sorted(2.0 ** int(bits) / seconds for bits, seconds in table.items() if int(bits) >= 1)
    assert rates[len(rates) // 4] < PAPER_SOLVER_HZ < rates[3 * len(rates) // 4]
    assert table["32"] == CAP_S
