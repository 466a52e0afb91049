"""Identities drawn by Numba, a window of them at a time, as `reference.draw` does one."""

from __future__ import annotations

import numpy as np

from powsim_kernels.jit import helper, stage
from powsim_kernels.ledgers import layout
from powsim_kernels.philox.cpu import LOW
from powsim_kernels.philox.cpu import unrolled as block
from powsim_kernels.realmath.cpu import choose, exp, fma, nearest, normal_quantile, of_bits

WINDOW = 4096
"""Identities drawn, simulated and counted together by one thread; their arrays fit its second-level cache."""

# Rows of the window's floats: as drawn, then what became of them.
QUERIES, DEVICE, RATE, SHIFT, DRIFT, START_S, COST, WORK, PUZZLES, FINISH_S = (i * WINDOW for i in range(10))
FLOATS = 10 * WINDOW
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
TWO_52_BITS, TWO_73_BITS, TWO_52 = np.uint64(0x4330000000000000), np.uint64(0x4480000000000000), 2.0**52
STREAMS = layout.VOLUME, layout.DEVICE, layout.RATE, layout.SHIFT, layout.DRIFT, layout.START
S_VOLUME, S_DEVICE, S_RATE, S_SHIFT, S_DRIFT, S_START = (np.uint64(stream) for stream in STREAMS)
NONE, ELEVEN = np.uint64(0), np.uint64(11)


@helper
def uniform_of(low, high):  # type: ignore[no-untyped-def]
    """Return the number in (0, 1] of the lower halves of two words (uint64, or lanes of them).

    Words go where the mantissas of 2^73 and 2^52 end; every step is exact, and none converts 64-bit integers.
    """
    upper = of_bits((high & LOW) | TWO_73_BITS) - (2.0**73 + TWO_52)
    return fma(upper + of_bits(((low & LOW) >> ELEVEN) | TWO_52_BITS), 2.0**-53, 2.0**-53)


@stage
def _uniforms(row, stream, key, mask, count, f, g):  # type: ignore[no-untyped-def]
    """Fill a row with the numbers of a stream; `mask` takes the identity out where a repetition shares its draw."""
    for i in range(count):
        low, high, _, _ = block(NONE, stream, g[IDENTITY + i] & mask, g[REPLICA + i] & LOW, key)
        f[row + i] = uniform_of(low, high)


@stage
def _normals(row, stream, key, count, f, g):  # type: ignore[no-untyped-def]
    """Fill a row with standard normal numbers of a stream."""
    _uniforms(row, stream, key, LOW, count, f, g)
    for i in range(count):
        centred = f[row + i] - 2.0**-54
        f[row + i] = normal_quantile(choose(centred < 1.0 - 2.0**-53, centred, 1.0 - 2.0**-53))


@stage
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
            f[QUERIES + i] = 0.0
        median, sigma, maximum = numbers[MEDIAN], numbers[SIGMA], numbers[MAXIMUM]
        if sigma > 0.0:
            _normals(QUERIES, S_VOLUME, key, count, f, g)
        for i in range(count):
            size = nearest(median * exp(sigma * f[QUERIES + i]))
            size = choose(size > 1.0, size, 1.0)
            f[QUERIES + i] = choose(size < maximum, size, maximum)
        if integers[SPREAD]:
            shift, sd, drift = numbers[ONE_SHIFT], numbers[SHIFT_SD], numbers[DRIFT_SD]
            _normals(SHIFT, S_SHIFT, key, count, f, g)
            _normals(DRIFT, S_DRIFT, key, count, f, g)
            for i in range(count):
                f[SHIFT + i], f[DRIFT + i] = 1.0 + (shift + sd * f[SHIFT + i]), drift * f[DRIFT + i]
    # Accounts of one repetition share a device: that of the first.
    mask = NONE if accounts else LOW
    if devices > 1:
        _uniforms(COST, S_DEVICE, key, mask, count, f, g)
        last = table[at + (devices - 1) * COLUMNS]
        for device in range(devices - 1):
            upper = table[at + device * COLUMNS]
            for i in range(count):
                f[DEVICE + i] += choose(upper < f[COST + i] * last, 1.0, 0.0)
    _uniforms(RATE, S_RATE, key, mask, count, f, g)
    for i in range(count):
        row = at + np.int64(f[DEVICE + i]) * COLUMNS
        f[WORK + i], f[COST + i] = table[row + 1], table[row + 2]
    for i in range(count):
        f[RATE + i] = f[WORK + i] * exp(f[RATE + i] * f[COST + i])
    within = numbers[STARTS_WITHIN_S]
    if within > 0.0:
        _uniforms(START_S, S_START, key, LOW, count, f, g)
        for i in range(count):
            f[START_S + i] = within * f[START_S + i]
