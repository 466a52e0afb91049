"""Intervals: exact ones against SciPy and the binomial law, the others by how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from powsim import intervals
from powsim.intervals import Headline


@pytest.mark.parametrize("n", [1, 2, 7, 100, 100_000])
def test_shares_have_the_clopper_pearson_interval(n: int) -> None:
    for hits in sorted({0, 1, n // 3, n - 1, n}):
        got = intervals.share(hits, n)
        exact = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
        assert got.value == hits / n
        assert got.low == pytest.approx(exact.low, rel=1e-9, abs=1e-12)
        assert got.high == pytest.approx(exact.high, rel=1e-9)


def enclosed(n: int, q: float) -> float:
    """Return the exact chance that the interval for quantile q of n values holds the true one.

    Of the sample 0, 1, .., n - 1 the interval names the order statistics that it takes. The number of values
    below the true quantile is binomial; the interval holds it if that number exceeds the lower one's position
    and does not exceed the upper one's.
    """
    got = intervals.quantile(np.arange(n, dtype=np.float64), q)
    low = 0.0 if got.low == -np.inf else stats.binom.cdf(got.low, n, q)
    high = 1.0 if np.isnan(got.high) or got.high == np.inf else stats.binom.cdf(got.high, n, q)
    return float(high - low)


@pytest.mark.parametrize(("n", "q"), [(10, 0.5), (75, 0.95), (400, 0.95), (400, 0.99), (5000, 0.99), (100_000, 0.5)])
def test_quantile_intervals_hold_the_truth_in_at_least_95_of_100_samples(n: int, q: float) -> None:
    assert enclosed(n, q) >= 0.95
    assert enclosed(n, q) < (1.0 if n < 100 else 0.975)  # nor are they needlessly wide


@pytest.mark.parametrize(("n", "q"), [(1, 0.5), (5, 0.5), (20, 0.95), (20, 0.99), (200, 0.99), (20, 0.01)])
def test_a_sample_too_small_for_a_quantile_does_not_claim_to_enclose_it(n: int, q: float) -> None:
    # With 20 users the 99 % quantile lies above all of them four times in five.
    assert enclosed(n, q) >= 0.95


def test_quantile_intervals_hold_the_truth_in_simulated_samples() -> None:
    rng = np.random.default_rng(20_26)
    for q in (0.5, 0.95):
        truth = float(stats.lognorm(1.0).ppf(q))
        found = [intervals.quantile(rng.lognormal(0, 1, 300), q) for _ in range(800)]
        hits = sum(f.low <= truth <= f.high for f in found)
        # 800 trials of at least 0.95 (exactly about 0.957): below 0.925 once in a thousand at most.
        assert hits / 800 > 0.925
        assert all(f.low <= f.value <= f.high for f in found)


def test_a_quantile_is_the_one_numpy_gives_whatever_the_order_of_the_sample() -> None:
    sample = np.random.default_rng(1).normal(size=501)
    for q in (0.5, 0.95, 0.99):
        got = intervals.quantile(sample, q)
        assert got.value == float(np.quantile(sample, q))
        assert got == intervals.quantile(sample[::-1], q)
        assert got.low in sample
        assert got.high in sample


def test_totals_are_sums_with_the_normal_interval() -> None:
    sample = np.array([1.0, 2.0, 3.0, 6.0])
    got = intervals.total(sample)
    # Mean 3, squared deviations 4 + 1 + 0 + 9 = 14: the sum of n has variance n times 14 / 4 = 14.
    half = stats.norm.ppf(0.975) * 14**0.5
    assert got.value == 12
    assert got.low == pytest.approx(12 - half, rel=1e-12)
    assert got.high == pytest.approx(12 + half, rel=1e-12)


def test_a_total_of_costs_is_never_negative() -> None:
    # Sum 20, deviation of the sum 300^0.5 = 17: the normal interval would begin below nothing.
    got = intervals.total(np.array([0.0, 0.0, 0.0, 20.0]))
    assert got.low == 0.0
    assert got.high == pytest.approx(20 + stats.norm.ppf(0.975) * 300**0.5, rel=1e-12)


def test_totals_of_a_sampled_population_hold_the_truth_19_times_in_20() -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(1000):
        got = intervals.total(rng.exponential(2.0, 400))
        hits += got.low <= 800 <= got.high
    # Binomial: 950 +- 4 deviations of 6.9; skewness costs a little on the low side.
    assert 918 < hits < 978


def test_ratios_are_of_sums_and_hold_the_truth_19_times_in_20() -> None:
    got = intervals.ratio(np.array([2.0, 6.0]), np.array([1.0, 3.0]))
    assert got == Headline(2.0, 2.0, 2.0)  # everybody has the same ratio: nothing is uncertain
    rng, hits = np.random.default_rng(8), 0
    for _ in range(1000):
        size = rng.lognormal(0, 0.5, 400)
        got = intervals.ratio(size * rng.uniform(1, 3, 400), size)
        hits += got.low <= 2 <= got.high
    assert 918 < hits < 978


def test_the_interval_of_a_ratio_is_the_delta_methods_by_hand() -> None:
    # Ratio 6 / 4 = 1.5; residuals 1 - 1.5, 5 - 4.5: squares 0.25 + 0.25; half width z sqrt(0.5) / 4.
    got = intervals.ratio(np.array([1.0, 5.0]), np.array([1.0, 3.0]))
    half = stats.norm.ppf(0.975) * 0.5**0.5 / 4
    assert got.value == 1.5
    assert got.low == pytest.approx(1.5 - half, rel=1e-12)
    assert got.high == pytest.approx(1.5 + half, rel=1e-12)


def test_repetitions_give_their_median_and_central_95_percent() -> None:
    sample = np.random.default_rng(9).permutation(np.arange(1.0, 1002.0))
    got = intervals.replicas(sample)
    # 1..1001: quantile p is 1 + 1000 p.
    assert (got.value, got.low, got.high) == pytest.approx((501, 26, 976), rel=1e-12)


def test_one_repetition_is_its_own_range() -> None:
    assert intervals.replicas(np.array([3.5])) == Headline(3.5, 3.5, 3.5)


def test_a_headline_as_plain_values() -> None:
    assert Headline(2.0, 1.0, 3.0).as_dict() == {"value": 2.0, "low": 1.0, "high": 3.0}


def test_samples_are_not_written_to() -> None:
    sample = np.array([3.0, 1.0, 2.0])
    for call in (intervals.total, intervals.replicas, lambda s: intervals.quantile(s, 0.5)):
        call(sample)
    assert sample.tolist() == [3.0, 1.0, 2.0]
