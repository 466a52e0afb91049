"""Who calls: arrays of identities drawn from populations and campaigns.

Every number is drawn by address (key of the group, identity, replica), so that it does not depend on how many
identities there are, in which chunks they are simulated, or which other groups the scenario has. The arithmetic is that
of `simulate_ledgers`, operation by operation: the same callers, to the last bit.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powsim.devices import Device
from powsim_kernels import uniform
from powsim_kernels.realmath.arrays import over

# Streams of a group's key: one per quantity.
VOLUME, DEVICE, RATE, SHIFT, DRIFT, TRIES = range(6)


@dataclass(frozen=True)
class Volume:
    """Queries per user: log-normal, cut to 1..maximum."""

    median: float
    sigma: float  # standard deviation of ln(queries)
    maximum: int

    @property
    def mean(self) -> float:
        """Return about how many queries a user asks: the log-normal mean, cut."""
        return float(min(self.median * math.exp(self.sigma**2 / 2), self.maximum))


@dataclass(frozen=True)
class Identities:
    """Accounts of one group, one row each."""

    identity: NDArray[np.int64]  # [A] number within the group (within the campaign)
    replica: NDArray[np.int64]  # [A] which repetition of the campaign; 0 for a population
    queries: NDArray[np.int64]  # [A]
    device: NDArray[np.int64]  # [A] index into the group's devices
    rate_hz: NDArray[np.float64]  # [A] hash rate of this identity's device
    shift: NDArray[np.float64]  # [A] relative difference of this user's costs from the trace
    drift: NDArray[np.float64]  # [A] relative change of cost per 10,000 queries

    def rows(self, index: NDArray[np.int64]) -> Identities:
        """Return the given rows."""
        return Identities(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def group_key(seed: int, group: str) -> int:
    """Return the 64-bit Philox key of a group: the head of SHA-256("powsim/<seed>/<group>")."""
    return int.from_bytes(hashlib.sha256(f"powsim/{seed}/{group}".encode()).digest()[:8], "big")


def _rates(
    devices: list[Device], device: NDArray[np.int64], u: NDArray[np.float64], backend: str
) -> NDArray[np.float64]:
    """Return rates drawn log-uniformly between a device's low and high."""
    low = np.array([d.rate_low_hz for d in devices])
    ratio = over("log", np.array([d.rate_high_hz for d in devices]) / low, backend=backend)
    return np.asarray(low[device] * over("exp", u * ratio[device], backend=backend))


def draw_population(
    key: int,
    identities: int,
    devices: list[Device],
    shares: list[float],
    volume: Volume,
    *,
    first: int = 0,
    mean_shift: float,
    mean_shift_sd: float,
    drift_sd: float,
    backend: str = "auto",
) -> Identities:
    """Return `identities` users from number `first` on: device by share, rate within its range, volume, spread."""
    who = np.arange(first, first + identities, dtype=np.int64)

    def u(stream: int) -> NDArray[np.float64]:
        return uniform(who, key=key, stream=stream, backend=backend)

    def normal(stream: int) -> NDArray[np.float64]:
        # u is in (0, 1]; half a step down centres it, and the last step is kept off 1, where the quantile is infinite.
        return over("normal_quantile", np.minimum(u(stream) - 2.0**-54, 1.0 - 2.0**-53), backend=backend)

    edges = np.cumsum(shares)
    device = np.minimum(np.searchsorted(edges, u(DEVICE) * edges[-1]), len(devices) - 1)
    size = np.rint(volume.median * over("exp", volume.sigma * normal(VOLUME), backend=backend))
    return Identities(
        identity=who,
        replica=np.zeros_like(who),
        queries=np.clip(size, 1, volume.maximum).astype(np.int64),
        device=device.astype(np.int64),
        rate_hz=_rates(devices, device, u(RATE), backend),
        shift=mean_shift + mean_shift_sd * normal(SHIFT),
        drift=drift_sd * normal(DRIFT),
    )


def draw_campaign(
    key: int, queries: int, accounts: int, replicas: int, device: Device, *, first: int = 0, backend: str = "auto"
) -> Identities:
    """Return repetitions of a campaign, from number `first` on, whose accounts share its queries as evenly as can be.

    The accounts of one repetition share one device, so its rate is drawn once per repetition.
    """
    numbers = np.arange(first, first + replicas, dtype=np.int64)
    replica = np.repeat(numbers, accounts)
    account = np.tile(np.arange(accounts, dtype=np.int64), replicas)
    one = np.zeros(replicas, np.int64)
    rate = _rates([device], one, uniform(one, key=key, stream=RATE, replica=numbers, backend=backend), backend)
    zeros = np.zeros(len(replica))
    return Identities(
        identity=account,
        replica=replica,
        queries=queries // accounts + (account < queries % accounts),
        device=np.zeros(len(replica), np.int64),
        rate_hz=np.repeat(rate, accounts),
        shift=zeros,
        drift=zeros,
    )
