"""Where the costs of a scenario's groups come from: a published curve, a CSV file, or a bank of recorded queries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from powsim.meter import PER_DRIFT_UNIT, CostCurve, cost_bounds, curve_of, published_curve
from powsim.plugin import read_trace
from powsim.population import Identities
from powsim.scenario import Scenario
from powsim_kernels import philox
from powsim_kernels.ledgers import Bank
from powsim_kernels.ledgers.layout import COST


def curve_for(scenario: Scenario, trace: str) -> CostCurve:
    """Return the cost curve of a published attack, of a CSV file, or the mean one of a bank's recordings."""
    if trace.endswith(".csv"):
        return curve_of(*read_trace(trace, scenario.folder))
    bank = scenario.service.priced_bank
    return published_curve(scenario.service.name, trace) if bank is None else bank.curve(trace)


def source_for(scenario: Scenario, trace: str) -> CostCurve | Bank:
    """Return what a group's queries cost: a curve, or a bank from which every identity draws its own."""
    bank = scenario.service.priced_bank
    return curve_for(scenario, trace) if bank is None or trace.endswith(".csv") else bank.source(trace)


def bounds_for(scenario: Scenario) -> tuple[float, float]:
    """Return the least and the greatest cost that the service's meter gives a query."""
    bank = scenario.service.priced_bank
    return cost_bounds(scenario.service.name) if bank is None else bank.bounds


def drawn_costs(
    bank: Bank,
    identities: Identities,
    queries: NDArray[np.int64],
    *,
    key: int,
    bounds: tuple[float, float] | None,
    backend: str,
) -> NDArray[np.float64]:
    """Return summed costs after `queries` [A, P] of identities that draw from a bank, rounded as the kernel does.

    bounds: least and greatest cost of a query, for identities with shift and drift; None for those without.
    """
    recordings, length, block, period = bank.shape
    longest = int(queries.max())
    asked = np.arange(longest, dtype=np.int64)
    past = np.maximum((asked - length) // period + 1, 0)
    position, number = asked - past * period, asked // block
    count = len(identities.identity)
    counters = np.empty((count, (int(number[-1]) >> 2) + 1, 4), np.uint32)
    counters[:, :, 0] = np.arange(counters.shape[1])
    counters[:, :, 1] = COST
    counters[:, :, 2] = identities.identity[:, None]
    counters[:, :, 3] = identities.replica[:, None]
    words = philox(counters.reshape(-1, 4), key, backend=backend).reshape(count, -1)[:, number]
    chosen = (words.astype(np.uint64) * np.uint64(recordings) >> np.uint64(32)).astype(np.int64)
    cost = bank.cost[chosen * length + position]
    if bounds is not None:
        factor = (1.0 + identities.shift)[:, None] + identities.drift[:, None] * ((asked + 1) * PER_DRIFT_UNIT)
        cost = np.minimum(np.maximum(cost * np.maximum(factor, 0.0), bounds[0]), bounds[1])
    return np.asarray(np.take_along_axis(np.cumsum(cost, axis=1), queries - 1, axis=1))
