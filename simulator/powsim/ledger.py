"""What the server keeps per identity: queries and summed cost at each moment a puzzle is due.

Accounting is `sum-epsilon`, as published: the plain sum of single-query costs. These are the only facts about a
caller that a policy receives; there is no field that says who is honest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ledger:
    """Rows are identities, columns the puzzles due, in order; cells after an identity's last puzzle are not `due`."""

    queries: NDArray[np.int64]  # [A, P] queries asked so far, those of this puzzle included
    asked: NDArray[np.int64]  # [A, P] queries that this puzzle stands for
    cost: NDArray[np.float64]  # [A, P] summed privacy cost of `queries`
    due: NDArray[np.bool_]  # [A, P]


@dataclass(frozen=True)
class Service:
    """What an operator knows about its own service, the same for every caller."""

    dataset: str
    batch: int  # queries in one request
    inference_s: float  # seconds per request to label it
    metering_s: float  # seconds per request to estimate what it leaks
    expected_slope: float  # published fit of a standard user's cost: slope * n + intercept
    expected_intercept: float
    mean_cost: float  # the same fit through the origin: cost per query

    @property
    def seconds_per_query(self) -> float:
        """Return seconds of service per query without a puzzle; the paper's "TIME" counts metering in."""
        return (self.inference_s + self.metering_s) / self.batch


def puzzle_counts(queries: NDArray[np.int64], every: int, partial: bool) -> NDArray[np.int64]:
    """Return how many puzzles fall due over `queries` [A]: one per `every`, and one for a rest if `partial`."""
    return -(-queries // every) if partial else queries // every


def due_points(
    queries: NDArray[np.int64], every: int, partial: bool, columns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return `queries`, `asked` and `due` of a Ledger with `columns` columns for totals `queries` [A]."""
    ends = np.minimum(every * np.arange(1, columns + 1, dtype=np.int64)[None, :], queries[:, None])
    starts = np.minimum(every * np.arange(columns, dtype=np.int64)[None, :], queries[:, None])
    due = np.arange(columns)[None, :] < puzzle_counts(queries, every, partial)[:, None]
    return ends, ends - starts, due
