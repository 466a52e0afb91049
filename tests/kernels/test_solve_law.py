"""What the simulator samples against what really mined puzzles need."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import stats

from powsim_kernels import geometric, mine, target_limit, verify

PUZZLES = 2000
# A correct law is rejected with this chance; challenges and keys are fixed, so that no test flickers.
LEVEL = 1e-3
BITS = (8.0, 7.3)


@cache
def mined(bits: float, parts: int = 1) -> np.ndarray:
    """Return the tries that really mined puzzles took; `parts` sub-puzzles of a puzzle are added up."""
    challenges = [f"solve law, {bits} bits, puzzle {number:06d}".encode() for number in range(PUZZLES * parts)]
    result = mine(challenges, bits)
    assert result.found.all()
    assert verify(challenges, result.nonce, bits).all()
    return result.tries.reshape(PUZZLES, parts).sum(axis=1).astype(np.float64)


@cache
def sampled(bits: float, parts: int = 1) -> np.ndarray:
    p = (int(target_limit(bits)[0]) + 1) / 2**64
    return geometric(np.full((PUZZLES, 1), p), key=8, stream=0, identity=np.arange(PUZZLES), draws=parts).ravel() * 1.0


def exact(bits: float, parts: int = 1) -> stats.rv_discrete:
    p = (int(target_limit(bits)[0]) + 1) / 2**64
    return stats.nbinom(parts, p, loc=parts)


def counts(sample: np.ndarray, law: stats.rv_discrete, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Return observed and expected counts in cells of about equal probability."""
    edges = np.unique(law.ppf(np.arange(1, cells) / cells))
    observed = np.bincount(np.searchsorted(edges, sample), minlength=len(edges) + 1)
    return observed, np.diff(np.concatenate(([0.0], law.cdf(edges), [1.0]))) * len(sample)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("source", [mined, sampled], ids=["mined", "sampled"])
@pytest.mark.parametrize("parts", [1, 3], ids=["whole", "three sub-puzzles"])
def test_tries_follow_the_exact_law(source: object, bits: float, parts: int) -> None:
    sample, law = source(bits, parts), exact(bits, parts)  # type: ignore[operator]
    observed, expected = counts(sample, law, cells=40)
    assert stats.chisquare(observed, expected).pvalue > LEVEL
    assert abs(sample.mean() - law.mean()) < 4 * law.std() / PUZZLES**0.5
    # Kolmogorov's test takes a continuous law: spreading each count over its unit makes the discrete one so.
    spread = sample - np.random.default_rng(1).random(PUZZLES)
    assert stats.kstest(spread, lambda x: smooth(law, x)).pvalue > LEVEL


def smooth(law: stats.rv_discrete, x: np.ndarray) -> np.ndarray:
    """Return the distribution function with each value's probability spread evenly over the unit below it."""
    below = np.floor(x)
    return law.cdf(below) + (x - below) * law.pmf(below + 1)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("parts", [1, 3], ids=["whole", "three sub-puzzles"])
def test_mined_and_sampled_tries_cannot_be_told_apart(bits: float, parts: int) -> None:
    left, right = mined(bits, parts), sampled(bits, parts)
    assert stats.ks_2samp(left, right, method="asymp").pvalue > LEVEL
    edges = np.unique(exact(bits, parts).ppf(np.arange(1, 20) / 20))
    table = [np.bincount(np.searchsorted(edges, sample), minlength=len(edges) + 1) for sample in (left, right)]
    assert stats.chi2_contingency(table).pvalue > LEVEL


def test_the_tests_see_a_law_that_is_off_by_a_fifth() -> None:
    wrong = exact(8.0 + np.log2(1.2))
    observed, expected = counts(mined(8.0), wrong, cells=40)
    assert stats.chisquare(observed, expected).pvalue < LEVEL
