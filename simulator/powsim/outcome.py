"""What became of each identity."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Outcome:
    """One row per identity of a group; outcomes of parts of a group add up to that of the whole."""

    identity: NDArray[np.int64]  # [A]
    replica: NDArray[np.int64]  # [A]
    device: NDArray[np.int64]  # [A] index into the group's devices
    rate_hz: NDArray[np.float64]  # [A]
    queries: NDArray[np.int64]  # [A]
    cost: NDArray[np.float64]  # [A] privacy cost at the end
    puzzles: NDArray[np.int64]  # [A]
    work: NDArray[np.float64]  # [A] expected hashes
    hashes: NDArray[np.uint64]  # [A] hashes really needed
    inference_s: NDArray[np.float64]  # [A]
    service_s: NDArray[np.float64]  # [A] inference and metering
    solve_s: NDArray[np.float64]  # [A] spent on puzzles
    elapsed_s: NDArray[np.float64]  # [A] from the first request to the last answer
    energy_j: NDArray[np.float64]  # [A] of solving alone
    cost_usd: NDArray[np.float64]  # [A] of solving alone: rent, or energy on owned devices

    def __add__(self, other: Outcome) -> Outcome:
        """Return the outcome of both parts, in order."""
        return Outcome(*(np.concatenate((getattr(self, f.name), getattr(other, f.name))) for f in fields(self)))

    @property
    def slowdown(self) -> NDArray[np.float64]:
        """Return [A] time with puzzles over time without, as the paper counts: metering is in both."""
        return 1.0 + self.solve_s / self.service_s

    @property
    def slowdown_undefended(self) -> NDArray[np.float64]:
        """Return [A] time with puzzles over bare inference: what the whole defence costs."""
        return (self.service_s + self.solve_s) / self.inference_s


def nobody() -> Outcome:
    """Return the outcome of no identity at all."""
    types: dict[str, Any] = dict.fromkeys(("identity", "replica", "device", "queries", "puzzles"), np.int64)
    types["hashes"] = np.uint64
    return Outcome(*(np.empty(0, types.get(f.name, np.float64)) for f in fields(Outcome)))
