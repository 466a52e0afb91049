"""A verdict's numbers recomputed another way: loops, pair counting, and banks whose answer is known beforehand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from statistics import mean, median, stdev

import numpy as np
import pytest
from scipy.stats import t as student

from banks import AGREEMENT, made_bank
from powsim import catalogue
from powsim.bank import Bank
from powsim.bank.costs import all_costs, cost_range, costs, running_eps
from powsim.bank.evaluate import MIX, evaluate
from powsim.bank.health import auc, outside_attack, plain_name, top_share
from powsim.bank.mapping import MAPPINGS, calibrate
from powsim.bank.scenarios import laundered
from powsim.bank.users import Half
from powsim.bank.verdict import AttackRow, Settings, Spread, Verdict, spread

ASKED = Settings(users=100)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return made_bank(3, originals=120, copies=5, teachers=12)  # few different histograms, so soon priced


@pytest.fixture(scope="module")
def verdict(bank: Bank) -> Verdict:
    return evaluate(bank, ASKED)


def near(found: Spread, truth: Spread) -> bool:
    """Return whether two spreads differ by rounding alone: sums were made in another order."""
    return found.seeds == truth.seeds and np.allclose(
        (found.median, found.low, found.high), (truth.median, truth.low, truth.high), rtol=1e-12
    )


def row(verdict: Verdict, attack: str, queries: int) -> AttackRow:
    return next(one for one in verdict.attacks if (one.attack, one.queries) == (attack, queries))


def test_auc_counts_pairs_and_halves_ties() -> None:
    rng = np.random.default_rng(3)
    for many in (1, 4, 30):
        high, low = rng.integers(0, many, 57).astype(float), rng.integers(0, many, 43).astype(float) - 0.2 * many
        low = np.round(low)
        pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in high for b in low]
        assert auc(high, low) == pytest.approx(mean(pairs), abs=1e-15)
        assert auc(high, low) + auc(low, high) == pytest.approx(1)
    assert math.isnan(auc(high, low[:0]))


def test_all_costs_are_the_costs_of_each() -> None:
    bank = made_bank(2, queries=120, originals=20, copies=2, agreement={"standard": 0.82, "copycat": 0.5})
    for meter in ("gnmax", "pknn", "gap"):
        for run, found in zip(bank.runs, all_costs(bank, meter), strict=True):
            np.testing.assert_allclose(found.pool, costs(bank, run.pool, meter), rtol=1e-13)
            for one in run.recordings:
                np.testing.assert_allclose(found.recordings[one.attack], costs(bank, one, meter), rtol=1e-13)
            if meter != "gap":
                together = running_eps(bank, run.recordings[1], meter, every=40)
                assert found.composed("copycat", 80) == pytest.approx(together[1], rel=1e-12)
            else:
                assert math.isnan(found.composed("copycat", 1024))


def test_cost_ratio_auc_and_students_of_a_row(bank: Bank, verdict: Verdict) -> None:
    found = row(verdict, "copycat", 256)
    pairs = [(costs(bank, run.recordings[1])[:256], costs(bank, run.recordings[0])[:256]) for run in bank.runs]
    ratios = [float(own.mean() / standard.mean()) for own, standard in pairs]
    half = student.ppf(0.975, 2) * stdev(ratios) / 3**0.5
    assert found.cost_ratio.value == pytest.approx(mean(ratios), rel=1e-12)
    assert found.cost_ratio.low == pytest.approx(mean(ratios) - half, rel=1e-9)
    areas = [mean(1.0 if a > b else 0.5 * (a == b) for a in own for b in standard) for own, standard in pairs]
    assert (found.auc.median, found.auc.low, found.auc.high) == pytest.approx((median(areas), min(areas), max(areas)))
    accuracies = [float(run.recordings[1].accuracy[2]) for run in bank.runs]  # the checkpoint at 256
    assert found.accuracy.median == median(accuracies)
    assert row(verdict, "standard", 1024).cost_ratio.value == 1.0
    assert row(verdict, "standard", 1024).auc.median == 0.5
    together = row(verdict, "copycat", 1024).composed_ratio
    assert together is not None
    assert together.value > row(verdict, "copycat", 1024).cost_ratio.value


def test_prices_follow_from_the_calibrating_half_alone(bank: Bank, verdict: Verdict) -> None:
    ratios: dict[str, list[float]] = {kind: [] for kind in MAPPINGS}
    for run in bank.runs:
        cost = costs(bank, run.pool)
        rng = np.random.default_rng([ASKED.seed, run.seed, 0])
        half = Half(run.pool, False)
        users = cost[half.draw(half.mixes(100, rng), 1024, rng)]
        for kind in MAPPINGS:
            mapping = calibrate(kind, users, 32, mean(cost[~run.pool.user].tolist()))
            assert (mapping.ratios(users)[:, -1] > 2).mean() <= 0.05
            ratios[kind].append(float(mapping.ratios(costs(bank, run.recordings[1])[:1024])[-1]))
    for kind in MAPPINGS:
        found = row(verdict, "copycat", 1024).prices[kind].ratio
        assert (found.median, found.low, found.high) == pytest.approx(
            (median(ratios[kind]), min(ratios[kind]), max(ratios[kind]))
        )


def test_attacks_do_not_influence_each_other(bank: Bank, verdict: Verdict) -> None:
    """Another attack, another order of attacks, another seed beside it: a row stays what it was."""
    turned = replace(
        bank,
        runs=tuple(
            replace(run, recordings=(run.recordings[0], run.recordings[3], run.recordings[1])) for run in bank.runs
        ),
    )
    again = evaluate(turned, ASKED)
    for attack in ("standard", "jacobian", "copycat"):
        now, before = row(again, attack, 1024), row(verdict, attack, 1024)
        assert replace(now, composed_ratio=None) == replace(before, composed_ratio=None)
        assert now.composed_ratio is not None  # its Renyi costs are added up in another order
        assert before.composed_ratio is not None
        assert now.composed_ratio.value == pytest.approx(before.composed_ratio.value, rel=1e-12)
        assert [one for one in again.sybil if one.attack == attack] == [
            one for one in verdict.sybil if one.attack == attack
        ]
    assert again.honest == verdict.honest
    assert again.health == verdict.health


def test_rows_of_the_users_half_do_not_enter_calibration(bank: Bank, verdict: Verdict) -> None:
    def shuffled(run):  # type: ignore[no-untyped-def]
        votes = run.pool.votes.copy()
        votes[run.pool.user] = 0
        votes[run.pool.user, 0] = 12  # every user becomes as cheap as can be
        return replace(run, pool=replace(run.pool, votes=votes))

    changed = evaluate(replace(bank, runs=tuple(map(shuffled, bank.runs))), ASKED)
    assert changed.calibrations == verdict.calibrations
    assert [one.prices for one in changed.attacks] == [one.prices for one in verdict.attacks]
    assert changed.honest != verdict.honest
    assert changed.laundering != verdict.laundering


def test_honest_users_of_the_other_half(bank: Bank, verdict: Verdict) -> None:
    kinds = {one.users for one in verdict.honest}
    assert {f"only class {name}" for name in range(10)} < kinds
    assert {"class mix as calibrated", "every class alike", "two classes"} < kinds
    at = {(one.users, one.mapping, one.queries): one for one in verdict.honest}
    mixed = at[MIX, "cumulative", 1024]
    assert 1.25 <= mixed.p50.median < 2
    assert mixed.p50.median < mixed.p95.median
    assert at[MIX, "cumulative", 2048].above_promise.median > mixed.above_promise.median  # longer sessions break it
    curve = next(one for one in verdict.honest_curves if (one.users, one.mapping) == (MIX, "cumulative"))
    assert all(a <= b for a, b in zip(curve.ratio, curve.ratio[1:], strict=False))
    assert curve.share_above[0] == 1


def test_puzzles_of_single_queries_hold_nobody_up(verdict: Verdict) -> None:
    """e2e.md section 4: a batch's mean separates, a single query does not."""
    by_n = {
        one.queries_per_puzzle: one.price.ratio.median
        for one in verdict.granularity
        if (one.attack, one.mapping) == ("copycat", "batch")
    }
    assert list(by_n) == [1, 8, 32, 64, 128]
    assert by_n[1] < 10 < 100 < by_n[32]
    same = next(
        one
        for one in verdict.granularity
        if (one.attack, one.mapping, one.queries_per_puzzle) == ("copycat", "batch", 32)
    )
    assert same.price == row(verdict, "copycat", 1024).prices["batch"]


def test_accounts(bank: Bank, verdict: Verdict) -> None:
    found = {(one.mapping, one.accounts): one.ratio for one in verdict.sybil if one.attack == "copycat"}
    assert found["cumulative", 1].median > 100
    assert found["cumulative", 16].median < 4
    assert found["batch", 16].median == pytest.approx(found["batch", 1].median, rel=0.1)
    whole = row(verdict, "copycat", 2048).prices["cumulative"].ratio
    assert near(found["cumulative", 1], whole)


def test_laundering_hides_strange_queries_among_the_cheapest() -> None:
    mixed = laundered(np.array([9.0, 8.0, 7.0]), np.array([3.0, 1.0, 2.0, 5.0, 4.0, 6.0, *range(7, 13)]), 8, 0.25)
    assert mixed.tolist() == [1, 2, 3, 9, 4, 5, 6, 8]
    again = laundered(np.array([9.0, 8.0]), np.array([3.0, 1.0, 5.0]), 8, 0.25)
    assert again.tolist() == [1, 3, 1, 9, 3, 1, 3, 8]


def test_laundering_is_cheap_and_its_useful_share_is_said(verdict: Verdict) -> None:
    for one in verdict.laundering:
        assert one.ratio.median < row(verdict, "copycat", 1024).prices[one.mapping].ratio.median / 50
        assert one.ratio_per_strange.median == pytest.approx(4 * one.ratio.median)


def test_devices_scale_the_puzzle_and_not_the_answer(verdict: Verdict) -> None:
    phone, gpu = (catalogue()[name].rate_hz for name in ("galaxy-a34-browser", "8x-h100-sxm"))
    rows = {(one.calibrated_on, one.solved_by): one for one in verdict.devices if one.mapping == "batch"}
    own = rows["galaxy-a34-browser", "galaxy-a34-browser"]
    assert own.rate_ratio == 1
    assert own.strange.median == pytest.approx(row(verdict, "copycat", 1024).prices["batch"].ratio.median)
    fast = rows["galaxy-a34-browser", "8x-h100-sxm"]
    assert fast.strange.median == pytest.approx(1 + (own.strange.median - 1) * phone / gpu)
    assert fast.strange.median < 1.1  # the honest finding: eight H100s do not notice
    back = rows["8x-h100-sxm", "galaxy-a34-browser"]
    assert back.honest_p50.median > 1000
    with pytest.raises(ValueError, match=r"unknown device 'abacus': see `powsim devices`"):
        evaluate(made_bank(1, queries=64, originals=20), replace(ASKED, users=20, devices=("abacus",)))


def test_time_to_a_target(bank: Bank, verdict: Verdict) -> None:
    found = {(one.target, one.attack): one for one in verdict.targets}
    standard = found[0.9, "standard"]
    assert standard.undefended.median == 1
    assert standard.undefended.seeds == 3
    assert found[0.9, "noise"].undefended.seeds == 0
    assert math.isnan(found[0.9, "noise"].by_mapping["batch"].median)
    truth = []
    for run in bank.runs:
        to = [
            next(int(q) for q, a in zip(one.checkpoints, one.accuracy, strict=True) if a >= 0.8)
            for one in run.recordings[:2]
        ]
        truth.append(to[1] / to[0])
    assert found[0.8, "copycat"].undefended.median == median(truth)
    by_row = {q: row(verdict, "standard", q).prices["cumulative"].ratio for q in (256, 1024)}
    queries = {int(run.recordings[0].checkpoints[np.argmax(run.recordings[0].accuracy >= 0.9)]) for run in bank.runs}
    if queries == {256}:
        assert near(standard.by_mapping["cumulative"], by_row[256])


def test_curves_join_accuracy_and_time(bank: Bank, verdict: Verdict) -> None:
    curve = next(one for one in verdict.curves if one.attack == "copycat")
    assert curve.queries == (64, 128, 256, 512, 1024, 2048)
    assert curve.undefended_s[2] == 256 * bank.seconds_per_query
    ratio = row(verdict, "copycat", 1024).prices["batch"].ratio
    assert curve.time_s["batch"][4].median == pytest.approx(ratio.median * 1024 * bank.seconds_per_query)
    assert curve.accuracy[4] == row(verdict, "copycat", 1024).accuracy
    line = next(one for one in verdict.lines if (one.attack, one.mapping) == ("copycat", "batch"))
    assert (line.queries[0], line.queries[-1]) == (32, 2048)
    assert near(line.ratio[-1], row(verdict, "copycat", 2048).prices["batch"].ratio)


def test_health_of_a_good_task(bank: Bank, verdict: Verdict) -> None:
    found = verdict.health
    assert found.separates
    assert not found.saturated
    assert found.warnings == ()
    assert found.outside_attack == "copycat"
    assert found.victim_accuracy == spread([0.99] * 3)
    votes = bank.runs[0].pool.votes[bank.runs[0].pool.user]
    assert top_share(votes) == pytest.approx(mean(max(one) / 12 for one in votes.tolist()))
    assert found.top_share_in.low <= top_share(votes) <= found.top_share_in.high
    inside = [float(costs(bank, run.pool)[run.pool.user].mean()) for run in bank.runs]
    assert found.cost_in == spread(inside)
    low, high = cost_range(bank)
    assert (found.cost_floor, found.cost_ceiling) == (low, high)
    assert found.position.median == pytest.approx((median(inside) - low) / (high - low), rel=1e-12)


def test_a_task_without_separation_says_so() -> None:
    blind = evaluate(
        made_bank(2, originals=40, teachers=12, agreement={"standard": 0.82, "copycat": 0.82}), replace(ASKED, users=40)
    )
    assert not blind.health.separates
    assert blind.health.warnings[0].startswith("no separation on this task: AUC 0.")
    weak = evaluate(
        made_bank(1, originals=40, teachers=12, agreement={"standard": 0.25, "noise": 0.2}), replace(ASKED, users=40)
    )
    assert weak.health.saturated
    assert "% of the way from floor to ceiling" in weak.health.warnings[-1]
    alone = evaluate(made_bank(1, originals=40, teachers=12, agreement={"standard": 0.8}), replace(ASKED, users=40))
    assert not alone.health.separates
    assert "record copycat or noise" in alone.health.warnings[0]
    assert alone.laundering == ()
    json.dumps(alone.as_dict(), allow_nan=False)


@pytest.mark.parametrize("meter", ["pknn", "entropy", "gap", "count"])
def test_other_meters(bank: Bank, meter: str) -> None:
    found = evaluate(bank, replace(ASKED, meter=meter, users=60, per_puzzle=(32,)))
    copycat = row(found, "copycat", 1024)
    if meter == "count":
        assert copycat.cost_ratio.value == 1
        assert copycat.auc.median == 0.5
        assert copycat.prices["cumulative"].ratio.high == 1.25
        assert not found.health.separates
    else:
        assert copycat.auc.median > 0.7
        assert copycat.prices["batch"].ratio.median > 2
    assert (copycat.composed_ratio is None) == (meter != "pknn")


def test_short_and_empty_recordings() -> None:
    def cut(bank: Bank, attack: str, queries: int) -> Bank:
        def one(recording):  # type: ignore[no-untyped-def]
            if recording.attack != attack:
                return recording
            keep = recording.checkpoints <= queries
            shorter = {name: getattr(recording, name)[:queries] for name in ("votes", "knn", "entropy", "gap")}
            students = {name: getattr(recording, name)[keep] for name in ("checkpoints", "accuracy", "fidelity")}
            return replace(recording, **shorter, **students)

        return replace(bank, runs=tuple(replace(run, recordings=tuple(map(one, run.recordings))) for run in bank.runs))

    bank = cut(cut(made_bank(2, originals=40, teachers=12), "mixmatch", 64), "noise", 0)
    found = evaluate(cut(bank, "worst-case", 20), replace(ASKED, users=40))
    assert [one.queries for one in found.attacks if one.attack == "mixmatch"] == [64]
    assert [one for one in found.attacks if one.attack == "noise"] == []
    short = row(found, "worst-case", 20)
    assert math.isnan(short.prices["batch"].ratio.median)
    assert short.prices["batch"].ratio.seeds == 0
    assert math.isnan(short.accuracy.median)
    assert next(one for one in found.curves if one.attack == "noise").queries == ()
    assert next(one for one in found.lines if one.attack == "worst-case").queries == ()
    json.dumps(found.as_dict(), allow_nan=False)


def test_longer_recordings_are_also_judged_at_their_end() -> None:
    found = evaluate(made_bank(1, queries=3000, originals=40, teachers=12), replace(ASKED, users=40))
    assert [one.queries for one in found.attacks if one.attack == "copycat"] == [256, 1024, 2048, 3000]


def test_the_same_bank_gives_the_same_verdict(bank: Bank, verdict: Verdict) -> None:
    assert json.dumps(evaluate(bank, ASKED).as_dict()) == json.dumps(verdict.as_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": 5}, "users = 5: at least 20"),
        ({"horizon_queries": 100}, "horizon_queries = 100"),
        ({"accounts": (0,)}, "whole numbers from 1 up"),
        ({"laundered": 1.0}, "laundered = 1.0"),
        ({"meter": "x"}, "unknown meter 'x'"),
    ],
)
def test_impossible_settings_are_refused(bank: Bank, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(bank, replace(ASKED, **change))  # type: ignore[arg-type]


def test_names_are_known_however_they_are_written(bank: Bank) -> None:
    assert plain_name("Worst-Case") == plain_name("worst_case") == "worstcase"
    assert outside_attack(bank) == "copycat"
    assert set(AGREEMENT) == {one.attack for one in bank.runs[0].recordings}
