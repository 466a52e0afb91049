"""Plans for `simulate_ledgers` that between them use every source, price and clock."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from powsim_kernels.ledgers import (
    Accounts,
    Bank,
    Clock,
    Curve,
    Devices,
    LedgerPlan,
    LedgerRows,
    Ledgers,
    LedgerTotals,
    Price,
    Users,
)

MACHINES = Devices([0.5, 0.3, 0.2], [1e5, 1e6, 1e7], [2e5, 1e6, 1e8], [5.0, 10.0, 300.0], [-1.0, -1.0, 2.5], 0.15)
ONE = Devices([1.0], [1e6], [1e6], [10.0], [-1.0], 0.15)
TRACE = Curve(np.arange(10) * 1000.0, 2.9 * np.arange(10.0) ** 1.02 * 1000, 2.95)
FLAT = Curve.constant(2.9)
COSTS = Bank(np.random.default_rng(1).uniform(1.5, 3.6, 501))
ORDERS = np.array([2.0, 3.0, 5.0, 8.0, 16.0, 32.0])
RENYI = Bank(np.random.default_rng(2).uniform(0.5, 1.0, (257, 1)) * 4e-4 * ORDERS, np.log(1e5) / (ORDERS - 1.0))
RECORDED = Bank(np.random.default_rng(3).uniform(1.5, 3.6, 7 * 150), recordings=7, block=16)
PUBLISHED = Price(
    *(18.53, False, 0.0114, 2.81, 10.0, True, 16.0, 30.7, True, 1000, False),
)
CALIBRATED = Price(14.0, True, 0.0108, 2.9, high=40.0, every=64)
BANDED = replace(CALIBRATED, band_edges=[0.0, 5.0, 50.0], band_bits=[-np.inf, -1.0, 0.5, 6.25])
LOADED = replace(CALIBRATED, load_bits=[0.0, 1.5, -2.0, -np.inf, 3.0], load_step_s=7.5)
DECAYED = replace(CALIBRATED, slope=0.05, decay_s=40.0, expected_intercept=-3.0)
PRICES = {
    "published": PUBLISHED,
    "calibrated": CALIBRATED,
    "fixed": Price(20.25, every=7),
    "none": Price(every=64),
    "banded": BANDED,
    "load": LOADED,
    "decay": DECAYED,
    "all": replace(LOADED, band_edges=[1.0], band_bits=[0.25, 2.0], decay_s=15.0, two_sided=True, whole=True, every=5),
}
SOURCES = {"trace": TRACE, "flat": FLAT, "bank": COSTS, "renyi": RENYI, "recorded": RECORDED}
CLOCKS = {
    "busy": Clock(0.01, 64),
    "paced": Clock(0.01, 64, request_every_s=10.0),
    "thinking": Clock(0.02, 16, think_s=1.5, verify_s=0.001, starts_within_s=60.0),
    "parallel": Clock(0.01, 1, request_every_s=0.05, parallel=True, verify_s=0.25),
}
WHO = {
    "users": Users(150.0, 0.8, 900, 0.0, 0.02, 0.02, 1.5, 3.65),
    "alike": Users(130.0),
    "accounts": Accounts(1000, 7),
    "shifted": Users(64.0, 0.3, 200, -0.02, 0.5, 0.9),
}


def plan(
    price: str | Price = "calibrated",
    source: str | Curve | Bank = "trace",
    clock: str | Clock = "busy",
    who: str | Users | Accounts = "users",
    devices: Devices = MACHINES,
    **more: Any,
) -> LedgerPlan:
    """Return a plan by its parts, or by their names."""
    return LedgerPlan(
        0x5EED_2022_0425,
        WHO[who] if isinstance(who, str) else who,
        SOURCES[source] if isinstance(source, str) else source,
        PRICES[price] if isinstance(price, str) else price,
        CLOCKS[clock] if isinstance(clock, str) else clock,
        devices,
        **more,
    )


def assert_same(a: Ledgers, b: Ledgers) -> None:
    """Assert that two results are equal to the last bit."""
    for one, other, kind in ((a.totals, b.totals, LedgerTotals), (a.rows, b.rows, LedgerRows)):
        if one is None or other is None:
            continue
        for f in fields(kind):
            x, y = getattr(one, f.name), getattr(other, f.name)
            if isinstance(x, np.ndarray):
                assert x.dtype == y.dtype, f.name
                np.testing.assert_array_equal(x, y, err_msg=f.name)
            else:
                assert x == y, f.name
