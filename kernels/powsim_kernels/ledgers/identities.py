"""Identities drawn by Numba, a window of them at a time, as `reference.draw` does one."""

from __future__ import annotations

import numpy as np

from powsim_kernels.jit import helper
from powsim_kernels.ledgers import layout
from powsim_kernels.pate.vector import of_bits
from powsim_kernels.philox.cpu import LOW, block
from powsim_kernels.realmath.cpu import exp, inline, nearest, normal_quantile

WINDOW = 4096
"""Identities drawn, simulated and counted together by one thread; their arrays fit its second-level cache."""

# Rows of the window's floats: as drawn, then what became of them.
QUERIES, DEVICE, RATE, SHIFT, DRIFT, START_S, COST, WORK, PUZZLES, FINISH_S, HARDEST = (i * WINDOW for i in range(11))
FLOATS = 11 * WINDOW
# Rows of the window's integers.
IDENTITY, REPLICA, HASHES, STEPS = (i * WINDOW for i in range(4))
INTEGERS = 4 * WINDOW

STARTS_WITHIN_S, MEDIAN, SIGMA, MAXIMUM, ONE_SHIFT, SHIFT_SD, DRIFT_SD = (
    layout.NUMBERS.index(name)
    for name in ("starts_within_s", "median", "sigma", "maximum", "one_shift", "shift_sd", "drift_sd")
)
KEY, ACCOUNTS, SHARE_QUERIES, SHARE_REST, SPREAD, DEVICES, AT_DEVICES = (
    layout.INTEGERS.index(name)
    for name in ("key", "accounts", "share_queries", "share_rest", "spread", "devices", "at_devices")
)
COLUMNS = len(layout.DEVICE_COLUMNS)
TWO_52_BITS, TWO_52 = 0x4330000000000000, 2.0**52
STREAMS = layout.VOLUME, layout.DEVICE, layout.RATE, layout.SHIFT, layout.DRIFT, layout.START
S_VOLUME, S_DEVICE, S_RATE, S_SHIFT, S_DRIFT, S_START = (np.uint64(stream) for stream in STREAMS)
NONE, ELEVEN, ONE = np.uint64(0), np.uint64(11), np.uint64(1)


@inline
def uniform_of(low, high):  # type: ignore[no-untyped-def]
    """Return the number in (0, 1] of two words; every step is exact, and none needs a conversion of 64-bit integers."""
    upper = of_bits(np.int64(high) | TWO_52_BITS) - TWO_52
    lower = of_bits(np.int64((low >> ELEVEN) + ONE) | TWO_52_BITS) - TWO_52
    return upper * 2.0**-32 + lower * 2.0**-53


@inline
def _normal(u):  # type: ignore[no-untyped-def]
    centred = u - 2.0**-54
    return normal_quantile(centred if centred < 1.0 - 2.0**-53 else 1.0 - 2.0**-53)


@inline
def _uniform(key, stream, identity, replica):  # type: ignore[no-untyped-def]
    low, high, _, _ = block(NONE, stream, identity & LOW, replica & LOW, key)
    return uniform_of(low, high)


@helper
def draw(numbers, integers, table, first, count, f, g):  # type: ignore[no-untyped-def]
    """Fill the drawn rows of a window with identities first, first + 1, ..."""
    key, accounts = integers[KEY], np.int64(integers[ACCOUNTS])
    devices, at = np.int64(integers[DEVICES]), np.int64(integers[AT_DEVICES])
    for i in range(count):
        f[SHIFT + i] = f[DRIFT + i] = f[START_S + i] = f[DEVICE + i] = 0.0
    if accounts:
        for i in range(count):
            number = first + i
            replica = number // accounts
            who = number - replica * accounts
            g[IDENTITY + i], g[REPLICA + i] = np.uint64(who), np.uint64(replica)
            more = 1 if who < np.int64(integers[SHARE_REST]) else 0
            f[QUERIES + i] = np.float64(np.int64(integers[SHARE_QUERIES]) + more)
    else:
        for i in range(count):
            g[IDENTITY + i], g[REPLICA + i] = np.uint64(first + i), NONE
        median, sigma, maximum = numbers[MEDIAN], numbers[SIGMA], numbers[MAXIMUM]
        if sigma == 0.0:
            for i in range(count):
                f[QUERIES + i] = min(max(nearest(median), 1.0), maximum)
        else:
            for i in range(count):
                size = nearest(median * exp(sigma * _normal(_uniform(key, S_VOLUME, g[IDENTITY + i], NONE))))
                size = size if size > 1.0 else 1.0
                f[QUERIES + i] = size if size < maximum else maximum
        if integers[SPREAD]:
            shift, sd, drift = numbers[ONE_SHIFT], numbers[SHIFT_SD], numbers[DRIFT_SD]
            for i in range(count):
                f[SHIFT + i] = 1.0 + (shift + sd * _normal(_uniform(key, S_SHIFT, g[IDENTITY + i], NONE)))
            for i in range(count):
                f[DRIFT + i] = drift * _normal(_uniform(key, S_DRIFT, g[IDENTITY + i], NONE))
    # Accounts of one repetition share a device: that of the first.
    shared = NONE if accounts else LOW
    if devices > 1:
        last = table[at + (devices - 1) * COLUMNS]
        for i in range(count):
            f[COST + i] = _uniform(key, S_DEVICE, g[IDENTITY + i] & shared, g[REPLICA + i]) * last
        for device in range(devices - 1):
            upper = table[at + device * COLUMNS]
            for i in range(count):
                f[DEVICE + i] += 1.0 if upper < f[COST + i] else 0.0
    for i in range(count):
        f[RATE + i] = _uniform(key, S_RATE, g[IDENTITY + i] & shared, g[REPLICA + i])
    for i in range(count):
        row = at + np.int64(f[DEVICE + i]) * COLUMNS
        f[WORK + i], f[COST + i] = table[row + 1], table[row + 2]
    for i in range(count):
        f[RATE + i] = f[WORK + i] * exp(f[RATE + i] * f[COST + i])
    within = numbers[STARTS_WITHIN_S]
    if within > 0.0:
        for i in range(count):
            f[START_S + i] = within * _uniform(key, S_START, g[IDENTITY + i], g[REPLICA + i])
