"""A plan as three flat arrays, which every twin reads by the same names; CUDA gets the names as an enumeration."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.ledgers.plan import Bank, LedgerPlan, Users
from powsim_kernels.realmath import reference as real
from powsim_kernels.realmath.coefficients import LOG2_E

VOLUME, DEVICE, RATE, SHIFT, DRIFT, TRIES, COST, START = range(8)
"""Streams of a group's key: one per quantity. Block j of a bank's queries draws word j % 4 of COST's block j // 4."""

PER_DRIFT_UNIT = 1e-4
"""Drift is the relative change of cost per 10,000 queries."""

FEWEST_BITS, MOST_BITS = -1000.0, 1000.0
"""Difficulties are cut to this range, in which 2^bits is a normal number; at its lower end there is no puzzle."""

BLOCK = 64
"""Identities whose numbers are summed in order; sums of blocks are added in order. Blocks begin at multiples of it."""

NUMBERS = (
    *("base_bits", "slope", "expected_slope", "expected_intercept", "low", "high", "every", "every_bits"),
    *("load_step_s", "decay_rate", "seconds_per_query", "batch", "request_every_s", "think_s", "verify_s"),
    *("starts_within_s", "usd_per_kwh", "median", "sigma", "maximum", "one_shift", "shift_sd", "drift_sd"),
    *("least_cost", "greatest_cost"),
)
INTEGERS = (
    *("key", "sub_puzzles", "accounts", "share_queries", "share_rest"),
    *("per_query", "two_sided", "whole", "partial", "timed", "decays", "clocked", "parallel", "spread", "banked"),
    *("points", "recordings", "recorded", "bank_block", "period", "orders", "bands", "loads", "devices"),
    *("at_curve", "at_bank", "at_surcharge", "at_edges", "at_bits", "at_loads", "at_devices"),
)
"""Names that begin with `at_` are places in the table."""

DEVICE_COLUMNS = ("edge", "low_hz", "ln_ratio", "watts", "usd_per_h")
CURVE_COLUMNS = ("queries", "cost", "slope")

SUMS = ("work", "hashes", "cost", "service_s", "solve_s", "elapsed_s", "energy_j", "cost_usd", "overhead")
"""Per-identity numbers whose sums, and sums of squares, are kept; histograms may be asked of each."""


class Packed(NamedTuple):
    """A plan, flat."""

    numbers: NDArray[np.float64]
    integers: NDArray[np.uint64]
    table: NDArray[np.float64]


def pack(plan: LedgerPlan) -> Packed:
    """Return the arrays of a plan. Logarithms are `realmath`'s, so that every machine packs the same bits."""
    price, clock, devices, who, source = plan.price, plan.clock, plan.devices, plan.who, plan.source
    users = who if isinstance(who, Users) else Users(1.0)
    numbers = {
        "base_bits": price.base_bits,
        "slope": price.slope,
        "expected_slope": price.expected_slope,
        "expected_intercept": price.expected_intercept,
        "low": max(price.low, FEWEST_BITS),
        "high": min(price.high, MOST_BITS),
        "every": float(price.every),
        "every_bits": real.log2(float(price.every)),
        "load_step_s": price.load_step_s,
        "decay_rate": LOG2_E / price.decay_s,
        "seconds_per_query": clock.seconds_per_query,
        "batch": float(clock.batch),
        "request_every_s": clock.request_every_s,
        "think_s": clock.think_s,
        "verify_s": clock.verify_s,
        "starts_within_s": clock.starts_within_s,
        "usd_per_kwh": devices.usd_per_kwh,
        "median": users.median,
        "sigma": users.sigma,
        "maximum": float(users.maximum),
        "one_shift": users.mean_shift,
        "shift_sd": users.shift_sd,
        "drift_sd": users.drift_sd,
        "least_cost": users.low,
        "greatest_cost": users.high,
    }
    edges = np.cumsum(devices.share)
    ratio = np.array([real.log(value) for value in (devices.high_hz / devices.low_hz).tolist()])
    parts: dict[str, NDArray[np.float64]] = {
        "at_devices": np.stack([edges, devices.low_hz, ratio, devices.watts, devices.usd_per_h], axis=1),
        "at_edges": price.band_edges,
        "at_bits": price.band_bits,
        "at_loads": price.load_bits,
    }
    banked = isinstance(source, Bank)
    if isinstance(source, Bank):
        parts |= {"at_bank": source.cost, "at_surcharge": source.surcharge}
    else:
        slope = np.append(np.diff(source.cost) / np.diff(source.queries), source.rate)
        parts["at_curve"] = np.stack([source.queries, source.cost, slope], axis=1)
    recordings, recorded, length, period = source.shape if isinstance(source, Bank) else (0, 0, 0, 0)
    campaign = not isinstance(who, Users)
    accounts, queries = (0, 0) if isinstance(who, Users) else (who.accounts, who.queries)
    integers = {
        "key": plan.key,
        "sub_puzzles": plan.sub_puzzles,
        "accounts": accounts,
        "share_queries": queries // accounts if campaign else 0,
        "share_rest": queries % accounts if campaign else 0,
        "per_query": price.per_query,
        "two_sided": price.two_sided,
        "whole": price.whole,
        "partial": price.partial,
        "timed": price.timed,
        "decays": math.isfinite(price.decay_s),
        "clocked": plan.clocked,
        "parallel": clock.parallel,
        "spread": users.spread,
        "banked": banked,
        "points": 0 if isinstance(source, Bank) else len(source.queries),
        "recordings": recordings,
        "recorded": recorded,
        "bank_block": length,
        "period": period,
        "orders": len(source.surcharge) if isinstance(source, Bank) else 0,
        "bands": len(price.band_edges),
        "loads": len(price.load_bits),
        "devices": len(devices.share),
    }
    flat, at = [], 0
    for name in INTEGERS[-7:]:
        part = parts.get(name, np.empty(0)).ravel()
        integers[name] = at
        flat.append(part)
        at += part.size
    return Packed(
        np.array([numbers[name] for name in NUMBERS]),
        np.array([int(integers[name]) for name in INTEGERS], np.uint64),
        np.concatenate(flat),
    )
