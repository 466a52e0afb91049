"""The engine against a scalar walk through the same stages, and what its results may not depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from powsim import engine, stages
from powsim.engine import Result, simulate
from powsim.groups import service_of
from powsim.ledger import Ledger
from powsim.meter import cost_bounds, published_curve
from powsim.outcome import Outcome
from powsim.population import TRIES, group_key
from powsim.scenario import Scenario, parse_scenario
from powsim_kernels import uniform


def scenario(policy: dict[str, object] | None = None, sub_puzzles: int = 3, **more: object) -> Scenario:
    table: dict[str, object] = {
        "name": "small",
        "seed": 7,
        "service": {"dataset": "cifar10"},
        "policy": policy or {"name": "calibrated", "max_bits": 30.0},
        "puzzle": {"sub_puzzles": sub_puzzles},
        "population": {
            "people": {
                "identities": 40,
                "queries": {"median": 300.0, "sigma": 1.0, "max": 2000},
                "devices": {"galaxy-a34-browser": 0.5, "rtx-4090": 0.5},
                "mean_shift_sd": 0.05,
                "drift_sd": 0.5,
            }
        },
        "campaign": {
            "theft": {"trace": "copycat", "queries": 1001, "devices": ["rtx-4090"], "identities": 3, "replicas": 5}
        },
    }
    return parse_scenario({**table, **more})


def walk(result: Result, group: int, row: int) -> dict[str, float]:
    """Return hashes, work, cost, seconds of one identity, puzzle by puzzle in plain Python."""
    spec, outcome = result.groups[group], result.outcomes[group]
    who, replica, queries = (int(getattr(outcome, name)[row]) for name in ("identity", "replica", "queries"))
    key, identities = spec.draw(result.seed)
    shift, drift = float(identities.shift[row]), float(identities.drift[row])
    curve, (least, most) = published_curve("cifar10", spec.trace), cost_bounds("cifar10")
    service, policy = service_of(result.scenario.service), result.scenario.policy_object
    every, draws = policy.queries_per_puzzle or service.batch, result.scenario.puzzle.sub_puzzles
    asked_so_far, hashes, work_sum, cost, number = 0, 0, 0.0, 0.0, 0
    while asked_so_far < queries:
        asked = min(every, queries - asked_so_far)
        asked_so_far += asked
        cost_here = float(curve(np.array([asked_so_far]))[0])
        if spec.role == "honest":
            cost_here *= 1 + shift + drift * asked_so_far / 10_000
            cost_here = min(max(cost_here, least * asked_so_far), most * asked_so_far)
        cost = max(cost, cost_here)
        if asked == every or policy.partial_puzzle:
            cells = [np.array([[value]]) for value in (asked_so_far, asked, cost, True)]
            work = float(policy.price(Ledger(*cells), service)[0, 0])
            work_sum += work
            chance = round(2**64 / max(work / draws, 1.0)) / 2**64
            for draw in range(number * draws, (number + 1) * draws):
                u = uniform([who], key=key, stream=TRIES, index=draw, replica=replica, backend="reference")[0]
                hashes += 1 if chance >= 1 else math.floor(math.log(u) / math.log1p(-chance)) + 1
        number += 1
    solve_s = hashes / float(outcome.rate_hz[row])
    service_s = queries * (0.249 + 0.782) / 64
    return {"hashes": hashes, "work": work_sum, "cost": cost, "solve_s": solve_s, "service_s": service_s}


@pytest.mark.parametrize(
    "policy",
    [
        {"name": "calibrated", "max_bits": 30.0},
        {"name": "as-published"},
        {"name": "as-published", "queries_per_puzzle": 64, "partial_puzzle": True, "truncate_bits": False},
        {"name": "fixed", "bits": 12.5},
    ],
    ids=["calibrated", "as-published", "per-request", "fixed"],
)
def test_every_identity_equals_a_scalar_walk_through_the_stages(policy: dict[str, object]) -> None:
    result = simulate(scenario(policy))
    for group, rows in ((0, range(0, 40, 3)), (1, range(15))):
        for row in rows:
            truth = walk(result, group, row)
            outcome = result.outcomes[group]
            assert int(outcome.hashes[row]) == truth.pop("hashes")
            for name, value in truth.items():
                assert float(getattr(outcome, name)[row]) == pytest.approx(value, rel=1e-12), name


def same(a: Outcome, b: Outcome) -> None:
    """Integers equal bit for bit, floats to 1e-12."""
    for name in Outcome.__dataclass_fields__:
        left, right = getattr(a, name), getattr(b, name)
        if left.dtype.kind == "f":
            np.testing.assert_allclose(left, right, rtol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(left, right, err_msg=name)


@pytest.mark.parametrize("cells", [1, 37, 500])
def test_results_do_not_depend_on_the_chunk_size(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = simulate(scenario())
    monkeypatch.setattr(stages, "CELLS", cells)
    monkeypatch.setattr(engine, "PIECE", 10 * cells)
    for policy in ("calibrated", "own_policies:OwnCalibrated"):
        cut = simulate(scenario({"name": policy, "max_bits": 30.0}), threads=1)
        for a, b in zip(whole.outcomes, cut.outcomes, strict=True):
            same(a, b)


def test_threads_and_backend_change_nothing() -> None:
    small = scenario(sub_puzzles=1, policy={"name": "as-published"})
    one = simulate(small, threads=1)
    for other in (simulate(small, threads=2), simulate(small, backend="reference")):
        for a, b in zip(one.outcomes, other.outcomes, strict=True):
            same(a, b)


def test_groups_do_not_influence_each_other() -> None:
    both = simulate(scenario())
    same(simulate(scenario(campaign={})).outcomes[0], both.outcomes[0])
    same(simulate(scenario(population={})).outcomes[0], both.outcomes[1])


def test_more_identities_and_replicas_keep_the_first_ones() -> None:
    table = scenario().model_dump()
    table["population"]["people"]["identities"] = 90
    table["campaign"]["theft"]["replicas"] = 9
    more = simulate(parse_scenario(table))
    for small, large in zip(simulate(scenario()).outcomes, more.outcomes, strict=True):
        n = len(small.queries)
        same(small, Outcome(*(getattr(large, name)[:n] for name in Outcome.__dataclass_fields__)))


def test_another_seed_is_another_draw() -> None:
    a, b = simulate(scenario()).outcomes[0], simulate(scenario(), seed=8).outcomes[0]
    assert not np.array_equal(a.hashes, b.hashes)
    assert group_key(7, "people") != group_key(8, "people") != group_key(8, "theft")


def test_parts_add_up_to_the_whole() -> None:
    whole = simulate(scenario()).outcomes[0]
    names = Outcome.__dataclass_fields__
    head = Outcome(*(getattr(whole, name)[:13] for name in names))
    tail = Outcome(*(getattr(whole, name)[13:] for name in names))
    same(head + tail, whole)


def test_work_is_what_the_solver_needs_on_average() -> None:
    result = simulate(
        scenario(
            {"name": "fixed", "bits": 10.0},
            population={
                "people": {"identities": 4000, "queries": 640, "devices": {"rtx-4090": 1.0}},
            },
            campaign={},
        )
    )
    outcome = result.outcomes[0]
    assert np.all(outcome.work == 10 * 1024)
    # 4,000 users x 10 puzzles x 3 sub-puzzles: the mean's standard error is 1 / sqrt(120,000) = 0.29 %.
    assert outcome.hashes.mean() / (10 * 1024) == pytest.approx(1, abs=4 * 0.0029)
    # m sub-puzzles: relative variance of a puzzle is (1 - p) / m, of ten puzzles a tenth of it.
    assert outcome.hashes.std() / outcome.hashes.mean() == pytest.approx((1 / 30) ** 0.5, rel=0.05)


def test_no_puzzles_cost_nothing_and_take_no_time() -> None:
    for outcome in simulate(scenario({"name": "none"})).outcomes:
        assert not outcome.hashes.any()
        assert not outcome.solve_s.any()
        assert np.all(outcome.slowdown == 1.0)
        assert not outcome.puzzles.any()


def test_the_papers_solver_takes_the_price_when_bits_are_exact() -> None:
    # The engine's own way to Table 2's number: aligned counts, one puzzle per 1,000 queries, seconds as hashes.
    # Independent value, paper.md 7.3 B3: 22,770 s for CIFAR-10 CopyCat after 9,000 queries.
    theft = {"trace": "copycat", "queries": 9000, "devices": ["exact"], "replicas": 400}
    exact = {"rate_low_hz": 0.44e6, "rate_high_hz": 0.44e6, "watts": 1.0}
    outcome = simulate(
        scenario(
            {"name": "as-published", "truncate_bits": False},
            sub_puzzles=1,
            population={},
            campaign={"theft": theft},
            devices={"exact": exact},
        )
    ).outcomes[0]
    assert float(outcome.work[0]) / 0.44e6 == pytest.approx(22769.605 - 148.32 - 0.41023, abs=0.01)
    # One seventh of the total sits in each of the last puzzles: standard error 0.37 / sqrt(400) = 1.9 %.
    assert float(outcome.solve_s.mean()) == pytest.approx(22621, rel=4 * 0.019)


def test_pauses_let_the_clock_run_but_do_not_slow_down() -> None:
    campaign = {"trace": "copycat", "queries": 640, "devices": ["rtx-4090"], "replicas": 2}
    busy = simulate(scenario(population={}, campaign={"theft": campaign})).outcomes[0]
    paced = simulate(scenario(population={}, campaign={"theft": {**campaign, "request_every_s": 100.0}})).outcomes[0]
    np.testing.assert_array_equal(busy.hashes, paced.hashes)
    np.testing.assert_array_equal(busy.elapsed_s, busy.service_s + busy.solve_s)
    # Ten requests, 100 s apart, each done long before the next: nine pauses and the last request's own time.
    assert np.all((paced.elapsed_s > 900) & (paced.elapsed_s < 900 + busy.elapsed_s))


def test_rent_and_energy() -> None:
    outcome = simulate(scenario()).outcomes[0]
    phone = outcome.device == 0
    np.testing.assert_allclose(outcome.energy_j[phone], 3.0 * outcome.solve_s[phone])
    np.testing.assert_allclose(outcome.cost_usd[phone], outcome.energy_j[phone] / 3.6e6 * 0.15)
    np.testing.assert_allclose(outcome.cost_usd[~phone], outcome.solve_s[~phone] / 3600 * 0.34)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_does_not_fit_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=r"seed=.* does not fit"):
        simulate(scenario(), seed=seed)


def test_progress_rises_to_one() -> None:
    seen: list[tuple[str, float]] = []
    simulate(scenario(), progress=lambda name, share: seen.append((name, share)))
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert {name for name, _ in seen} == {"people", "theft/rtx-4090/x3"}
