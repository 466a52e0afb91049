"""95 % intervals for the headlines. Only those of sums, of ratios of sums and of means assume a bell curve."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrik, betaincinv, stdtrit

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
NORMAL = 1.959963984540054  # the normal quantile of 1 - TAIL


@dataclass(frozen=True)
class Headline:
    """A number with its 95 % interval; an end is infinite where so few users bound nothing."""

    value: float
    low: float
    high: float

    def at_least(self, least: float) -> Headline:
        """Return the headline with its lower end not below what can be, such as a slowdown of 1."""
        return replace(self, low=max(self.low, least))

    def as_dict(self) -> dict[str, float | None]:
        """Return {"value", "low", "high"}; JSON knows no infinity, so an unbounded end is None."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {name: end if math.isfinite(end) else None for name, end in ends.items()}


def quantile(sample: NDArray[np.float64], q: float) -> Headline:
    """Return a sample quantile with the order statistics that enclose the true one in at least 95 % of samples.

    The number of values below the true quantile is binomial, whatever the law (David & Nagaraja, section 7.1). An
    end for which the sample is too small is infinite.
    """
    ordered = np.sort(sample)
    n = len(ordered)
    low = int(np.ceil(bdtrik(TAIL, n, q))) - 1
    high = int(np.ceil(bdtrik(1 - TAIL, n, q)))
    value = float(np.quantile(ordered, q))
    return Headline(
        value,
        # The value lies between two order statistics and may pass an end by less than their distance.
        min(float(ordered[low]), value) if low >= 0 else -math.inf,
        max(float(ordered[high]), value) if high < n else math.inf,
    )


def share(hits: int, n: int) -> Headline:
    """Return hits / n with the Clopper-Pearson interval."""
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, TAIL))
    high = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1 - TAIL))
    return Headline(hits / n, low, high)


def total(sample: NDArray[np.float64]) -> Headline:
    """Return the sum over a sampled population, with the normal interval of the sum of n independent users."""
    value = float(np.sum(sample))
    half = NORMAL * float(np.std(sample)) * len(sample) ** 0.5 if len(sample) > 1 else math.inf
    return Headline(value, max(value - half, 0.0), value + half)


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> Headline:
    """Return sum(numerator) / sum(denominator) over users, with the delta-method interval."""
    if len(numerator) < 2:
        return Headline(float(numerator[0] / denominator[0]), -math.inf, math.inf)
    below = float(np.sum(denominator))
    value = float(np.sum(numerator)) / below
    half = NORMAL * float(np.sqrt(np.sum((numerator - value * denominator) ** 2))) / below
    return Headline(value, value - half, value + half)


def replicas(sample: NDArray[np.float64]) -> Headline:
    """Return the median over repetitions, and the range in which the central 95 % of them fall."""
    low, middle, high = np.quantile(sample, (TAIL, 0.5, 1 - TAIL))
    return Headline(float(middle), float(low), float(high))


def mean(sample: NDArray[np.float64]) -> Headline:
    """Return the mean of independent replicas with Student's interval; NaN where no replica has a number."""
    known = sample[~np.isnan(sample)]
    if len(known) == 0:
        return Headline(math.nan, math.nan, math.nan)
    value = float(np.mean(known))
    if len(known) == 1:
        return Headline(value, -math.inf, math.inf)
    half = float(stdtrit(len(known) - 1, 1 - TAIL)) * float(np.std(known, ddof=1)) / len(known) ** 0.5
    return Headline(value, value - half, value + half)
