"""Totals against NumPy on the whole sample, and the parts of a scenario against the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powsim import stages
from powsim.engine import simulate
from powsim.groups import groups_of
from powsim.outcome import Outcome
from powsim.scenario import Scenario, parse_scenario
from powsim.summary import summarise
from powsim.sweeps.estimates import HEADLINES, estimates
from powsim.totals import RESOLUTION, GroupTotals, Histogram, totals_of


def scenario(**more: object) -> Scenario:
    table: dict[str, object] = {
        "name": "small",
        "seed": 7,
        "service": {"dataset": "cifar10"},
        "policy": {"name": "calibrated", "max_bits": 30.0},
        "population": {
            "people": {
                "identities": 301,
                "queries": {"median": 300.0, "sigma": 1.0, "max": 2000},
                "devices": {"galaxy-a34-browser": 0.5, "rtx-4090": 0.5},
                "mean_shift_sd": 0.05,
                "drift_sd": 0.5,
            }
        },
        "campaign": {
            "theft": {"trace": "copycat", "queries": 1001, "devices": ["rtx-4090"], "identities": 3, "replicas": 25}
        },
    }
    return parse_scenario({**table, **more})


def totals(made: Scenario, parts: int, **how: object) -> dict[str, GroupTotals]:
    """Return the totals of all parts of a scenario, merged in order."""
    found: dict[str, GroupTotals] = {}
    for k in range(parts):
        result = simulate(made, part=(k, parts), **how)  # type: ignore[arg-type]
        for group, outcome in zip(result.groups, result.outcomes, strict=True):
            found[group.name] = found.get(group.name, GroupTotals()) + totals_of(group, outcome)
    return found


def same(a: GroupTotals, b: GroupTotals, rel: float = 1e-12) -> None:
    """See that counts and histograms are equal, and sums to rounding."""
    assert a.counts == b.counts
    assert a.sums == pytest.approx(b.sums, rel=rel, abs=0)
    assert set(a.histograms) == set(b.histograms)
    for name, one in a.histograms.items():
        other = b.histograms[name]
        assert np.array_equal(one.bins, other.bins)
        assert np.array_equal(one.counts, other.counts)
        assert (one.least, one.most) == (other.least, other.most)


@pytest.mark.parametrize("parts", [2, 3, 7, 400])  # 400: most of them are empty
@pytest.mark.parametrize("threads", [1, 2])
def test_any_split_on_any_threads_gives_the_same_totals(parts: int, threads: int) -> None:
    whole = totals(scenario(), 1)
    assert whole["people"].counts["identities"] == 301
    assert whole["theft/rtx-4090/x3"].counts["replicas"] == 25
    for name, one in totals(scenario(), parts, threads=threads).items():
        same(one, whole[name])


@pytest.mark.parametrize("cells", [37, 500, 100_000])
def test_the_chunk_size_does_not_matter(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = totals(scenario(), 2)
    monkeypatch.setattr(stages, "CELLS", cells)
    for policy in ("calibrated", "own_policies:OwnCalibrated"):
        for name, one in totals(scenario(policy={"name": policy, "max_bits": 30.0}), 2).items():
            same(one, whole[name])


@pytest.mark.parametrize("parts", [1, 2, 5, 60])
def test_the_outcomes_of_the_parts_are_the_outcome_of_the_whole(parts: int) -> None:
    whole = simulate(scenario())
    results = [simulate(scenario(), part=(k, parts)) for k in range(parts)]
    for number, outcome in enumerate(whole.outcomes):
        joined = results[0].outcomes[number]
        for result in results[1:]:
            joined = joined + result.outcomes[number]
        for name in Outcome.__dataclass_fields__:
            one, other = getattr(joined, name), getattr(outcome, name)
            assert one.dtype == other.dtype
            if name == "work":  # summed over rows of other lengths, so rounded otherwise
                assert one == pytest.approx(other, rel=1e-14)
            else:
                assert np.array_equal(one, other), name


def test_parts_past_the_last_are_further_identities_of_the_same_kind() -> None:
    table = scenario().model_dump()
    table["population"]["people"]["identities"], table["campaign"]["theft"]["replicas"] = 301 * 2, 50
    larger = simulate(parse_scenario(table))
    parts = [simulate(scenario(), part=(k, 1)) for k in range(2)]
    for number, outcome in enumerate(larger.outcomes):
        joined = parts[0].outcomes[number] + parts[1].outcomes[number]
        assert np.array_equal(joined.hashes, outcome.hashes)
        assert np.array_equal(joined.identity, outcome.identity)
        assert np.array_equal(joined.replica, outcome.replica)


@pytest.mark.parametrize("part", [(-1, 2), (0, 0), (1, -1)])
def test_a_part_that_cannot_be_is_refused(part: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="give \\(k, n\\)"):
        simulate(scenario(), part=part)


def test_a_part_can_be_summarised_like_a_run() -> None:
    result = simulate(scenario(), part=(1, 2))
    assert [(g.identities, g.replicas) for g in summarise(result)] == [(151, 1), (3, 13)]


positive = st.floats(0, 1e300, allow_subnormal=False)


@given(st.lists(positive, min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_of_a_histogram_is_within_its_resolution_of_numpys(values: list[float], q: float) -> None:
    exact = float(np.quantile(np.array(values), q))
    assert Histogram.of(np.array(values)).quantile(q) == pytest.approx(exact, rel=RESOLUTION * (1 + 1e-9), abs=0)


@given(st.lists(positive, max_size=40), st.lists(positive, max_size=40))
def test_histograms_add_up_to_the_histogram_of_both(one: list[float], two: list[float]) -> None:
    joined, whole = Histogram.of(np.array(one)) + Histogram.of(np.array(two)), Histogram.of(np.array(one + two))
    assert np.array_equal(joined.bins, whole.bins)
    assert np.array_equal(joined.counts, whole.counts)
    assert (joined.least, joined.most) == (whole.least, whole.most)


@given(st.lists(positive, min_size=1, max_size=60))
def test_every_rank_lies_between_the_edges_of_its_bin(values: list[float]) -> None:
    histogram = Histogram.of(np.array(values))
    assert histogram.total == len(values)
    for rank, value in enumerate(sorted(values)):
        low, high = histogram.edges(rank)
        assert low <= value <= high <= low * (1 + 2 * RESOLUTION) + 1e-307


def test_bins_are_a_128th_of_an_octave_and_zero_has_its_own() -> None:
    edges = 1.0 + np.arange(129) / 128
    assert len(Histogram.of(edges).bins) == 129
    assert np.array_equal(Histogram.of(edges[:-1]).bins, Histogram.of(np.nextafter(edges[1:], 0.0)).bins)
    assert Histogram.of(np.array([0.0, -0.0])).bins.tolist() == [0]
    assert Histogram.of(np.array([0.0, 1.0])).quantile(0.25) == 0.25


def test_equal_values_are_kept_exactly() -> None:
    assert Histogram.of(np.full(7, 1 / 3)).quantile(0.4) == 1 / 3


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_values_that_no_histogram_holds_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite values from 0"):
        Histogram.of(np.array([1.0, bad]))


def test_exact_counts_pass_64_bits() -> None:
    result = simulate(scenario())
    outcome = replace(result.outcomes[0], hashes=np.full(301, 2**63 + 3, np.uint64))
    assert totals_of(result.groups[0], outcome).counts["hashes"] == 301 * (2**63 + 3)


def test_headlines_from_totals_are_those_of_the_summary() -> None:
    """Sums and shares to rounding; quantiles, and the ends of their intervals, to the histogram's resolution."""
    made = scenario()
    result = simulate(made)
    found = totals(made, 3)
    for group, summary in zip(groups_of(made), summarise(result), strict=True):
        for name in HEADLINES:
            mine, theirs = estimates(group, found[group.name])[name], getattr(summary, name)
            assert mine.low <= mine.value <= mine.high
            if group.role == "campaign":
                ends = (mine.value, mine.spread_low, mine.spread_high)
                assert ends == pytest.approx((theirs.value, theirs.low, theirs.high), rel=RESOLUTION)
            elif name.startswith("slowdown_p"):
                assert mine.value == pytest.approx(theirs.value, rel=RESOLUTION)
                assert mine.low <= theirs.low * (1 + 1e-12)
                assert mine.low == pytest.approx(theirs.low, rel=2 * RESOLUTION)
                assert mine.high >= theirs.high * (1 - 1e-12)
                assert mine.high == pytest.approx(theirs.high, rel=2 * RESOLUTION)
            else:
                ends = (mine.value, mine.low, mine.high)
                assert ends == pytest.approx((theirs.value, theirs.low, theirs.high), rel=1e-9)
        for share in summary.by_device:
            mine = estimates(group, found[group.name])[f"share_above_2x/{share.device}"]
            assert mine.value == share.share_above_2x.value
            assert mine.high == share.share_above_2x.high


def test_more_users_than_the_scenario_has_narrow_the_interval_and_not_the_total() -> None:
    made = scenario()
    group = groups_of(made)[0]
    twice = {k: simulate(made, part=(k, 1)) for k in range(8)}
    one = totals_of(twice[0].groups[0], twice[0].outcomes[0])
    more = one
    for k in range(1, 8):
        more = more + totals_of(twice[k].groups[0], twice[k].outcomes[0])
    few, many = estimates(group, one)["hours"], estimates(group, more)["hours"]
    assert many.value == pytest.approx(more.sums["elapsed_s"] / 3600 / 8)
    assert few.low < many.value < few.high
    assert 1 / 4 < many.half_width / few.half_width < 1 / 2  # about 1 / sqrt(8)
