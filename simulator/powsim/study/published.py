"""Typed access to the two data files of the study. Every number keeps the place it was published in."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATASETS = ("mnist", "svhn", "cifar10")
ATTACKS = ("standard", "mixmatch", "knockoff-random", "knockoff-adaptive", "copycat", "jacobian", "datafree")
SAME_QUERIES = {"mixmatch": "standard", "knockoff-random": "copycat"}
"""Attacks without a series of their own, and the one whose queries, cost and time they share (paper section 4)."""

RELEASED_QUERIES_PER_BATCH = 62.5  # code pow/proof_of_work.py:516: 1000 / 16, although batches hold 64


@dataclass(frozen=True)
class Trace:
    """One released series; row i of each array is a point in time."""

    dataset: str
    attack: str
    queries: NDArray[np.float64]  # [R] cumulative queries really asked
    released_queries: NDArray[np.float64]  # [R] the count that the released replay uses
    time_s: NDArray[np.float64]  # [R] cumulative seconds without puzzles
    cost: NDArray[np.float64]  # [R] cumulative privacy cost
    accuracy_pct: NDArray[np.float64]  # [R] accuracy of the stolen model
    quality: str  # logged | interpolated | constant
    source: str


@dataclass(frozen=True)
class Calibration:
    """What a standard user is expected to cost after n queries: slope * n + intercept."""

    dataset: str
    slope: float
    intercept: float
    mean_per_query: float  # the fit through the origin
    source: str

    def expected(self, queries: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the expected cumulative cost after `queries`."""
        return self.slope * queries + self.intercept


@dataclass(frozen=True)
class PriceRule:
    """The released price rule and its translation to bits."""

    base: float
    min_price_s: float
    max_price_s: float
    min_bits: int
    bits_per_decade: float  # slope of bits on log10(seconds)
    bits_at_1s: float
    source: str

    def price_s(self, excess: NDArray[np.float64], base: float | None = None) -> NDArray[np.float64]:
        """Return base^|excess| seconds between the floor and the cap, for costs `excess` above expectation."""
        base = self.base if base is None else base
        # The exponent is cut off first: beyond the cap base^x would only overflow.
        largest = np.log(2 * self.max_price_s) / np.log(base)
        return np.asarray(np.clip(base ** np.minimum(np.abs(excess), largest), self.min_price_s, self.max_price_s))

    def server_bits(self, price_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the whole bits that the released server asks for: the regression, cut to an integer."""
        return np.floor(np.maximum(self.bits_per_decade * np.log10(price_s) + self.bits_at_1s, self.min_bits))


@dataclass(frozen=True)
class Table2Row:
    """One row of the paper's main table; times stay text, as printed."""

    dataset: str
    attack: str
    queries: int
    data: str
    privacy_cost: str
    time_s: str
    pow_time_s: str
    accuracy_pct: float
    fidelity_pct: float
    trace: str
    row: int
    note: str = ""


@functools.cache
def _load(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("powsim.study").joinpath(name).read_text(encoding="utf-8"))


def _fit(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Return slope and intercept of ordinary least squares."""
    dx = x - x.mean()
    slope = float(dx @ (y - y.mean()) / (dx @ dx))
    return slope, float(y.mean() - slope * x.mean())


def trace_names() -> tuple[str, ...]:
    """Return every "dataset/attack" that `trace` knows, sorted."""
    own = [f"{dataset}/{attack}" for dataset, attacks in _load("traces.toml").items() for attack in attacks]
    shared = [f"{dataset}/{attack}" for dataset in DATASETS for attack in SAME_QUERIES]
    return tuple(sorted(own + shared))


@functools.cache
def trace(dataset: str, attack: str) -> Trace:
    """Return the series of an attack; attacks that share another's queries get that one's. KeyError if unknown."""
    block = _load("traces.toml")[dataset][SAME_QUERIES.get(attack, attack)]
    released = np.array(block["batches"], dtype=np.float64)
    batches = released.copy()
    for row, right in block.get("slips", {}).items():
        batches[int(row)] = right
    # The released replay starts counting at the first row, whatever that row holds.
    counted = np.cumsum(released) - released[0]
    arrays = {
        "queries": block["queries_per_batch"] * np.cumsum(batches),
        "released_queries": RELEASED_QUERIES_PER_BATCH * counted,
        "time_s": np.array(block["time_s"]),
        "cost": np.array(block["cost"]),
        "accuracy_pct": np.array(block["accuracy_pct"]),
    }
    for array in arrays.values():
        array.setflags(write=False)  # the trace is cached and shared
    return Trace(
        dataset=dataset,
        attack=attack,
        **arrays,
        quality=block["quality"],
        source=block["source"],
    )


@functools.cache
def calibration(dataset: str) -> Calibration:
    """Return the linear model of a standard user's cost, fitted to the released rows (paper section 3.3)."""
    block = _load("tables.toml")["calibration"][dataset]
    queries, cost = np.array(block["queries"], dtype=np.float64), np.array(block["cost"])
    slope, intercept = _fit(queries, cost)
    return Calibration(dataset, slope, intercept, float(queries @ cost / (queries @ queries)), block["source"])


@functools.cache
def price_rule() -> PriceRule:
    """Return the released price rule, its bits regressed on log10 of the timing table as the code does."""
    tables = _load("tables.toml")
    table, price = tables["solve_time"], tables["price"]
    slope, intercept = _fit(np.log10(np.array(table["seconds"])), np.array(table["bits"], dtype=np.float64))
    return PriceRule(
        price["base"],
        price["min_price_s"],
        price["max_price_s"],
        price["min_bits"],
        slope,
        intercept,
        price["source"],
    )


def service_times(dataset: str) -> tuple[float, float]:
    """Return seconds of inference and of cost estimation per 64 queries (paper table 5)."""
    row = _load("tables.toml")["table5"][dataset]
    return row["inference_s"][0], row["with_privacy_s"][0] - row["inference_s"][0]


def table2() -> tuple[Table2Row, ...]:
    """Return the rows of the paper's table 2."""
    return tuple(Table2Row(**row) for row in _load("tables.toml")["table2"])


def accuracy_pct(dataset: str, attack: str, queries: float) -> float | None:
    """Return the stolen model's published accuracy after `queries`, or None where none was published.

    Table 2 where it has the very row, else the attack's own series, never beyond its end.
    """
    for row in table2():
        if (row.dataset, row.attack, row.queries) == (dataset, attack, queries):
            return row.accuracy_pct
    if attack in SAME_QUERIES:
        return None
    series = trace(dataset, attack)
    if queries > series.queries[-1]:
        return None
    return float(np.interp(queries, series.queries, series.accuracy_pct))


def meter_settings(dataset: str) -> dict[str, Any]:
    """Return teachers, sigma and delta of the dataset's PATE meter (paper section 4.2)."""
    settings: dict[str, Any] = _load("tables.toml")["meter"][dataset]
    return settings
