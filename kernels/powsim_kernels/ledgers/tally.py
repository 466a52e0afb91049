"""Totals of a window of identities by Numba: seconds, joules, dollars, sums by block, histograms, rows."""

from __future__ import annotations

import numpy as np

from powsim_kernels.jit import helper, stage
from powsim_kernels.ledgers import identities as window
from powsim_kernels.ledgers import layout
from powsim_kernels.ledgers.state import of_half
from powsim_kernels.ledgers.totals import CELLS, LOWEST, SUB_BITS
from powsim_kernels.philox.cpu import HALF, LOW
from powsim_kernels.realmath.cpu import bits_of, fma

BLOCK, COLUMNS, SUMS = layout.BLOCK, len(layout.DEVICE_COLUMNS), len(layout.SUMS)
SECONDS_PER_QUERY, VERIFY_S, USD_PER_KWH = (
    layout.NUMBERS.index(name) for name in ("seconds_per_query", "verify_s", "usd_per_kwh")
)
CLOCKED, AT_DEVICES = layout.INTEGERS.index("clocked"), layout.INTEGERS.index("at_devices")
SHIFT_BITS, BELOW = np.uint64(52 - SUB_BITS), (1023 + LOWEST << SUB_BITS) - 1
TWO_32 = 2.0**32


@helper
def _double(word):  # type: ignore[no-untyped-def]
    """Return an unsigned 64-bit integer as a double, rounded once."""
    return fma(of_half(word >> HALF), TWO_32, of_half(word & LOW))


@stage
def tally(numbers, integers, table, first, count, a, b, kept, out, rows, values):  # type: ignore[no-untyped-def]
    """Add identities first, first + 1, ... of a window to `out`, and write their rows where there are any."""
    counts, hashes, sums, cells, heaviest = out
    per_query, verify, usd_per_kwh = numbers[SECONDS_PER_QUERY], numbers[VERIFY_S], numbers[USD_PER_KWH]
    start, clocked = first // BLOCK, integers[CLOCKED] > np.uint64(0)
    whole, real = rows
    for i in range(count):
        device, rate, queries = np.int64(a[window.DEVICE + i]), a[window.RATE + i], a[window.QUERIES + i]
        at = np.int64(integers[AT_DEVICES]) + device * COLUMNS
        watts, usd_per_h = table[at + 3], table[at + 4]
        needed = _double(b[window.HASHES + i])
        service_s, solve_s = queries * per_query, _double(b[window.STEPS + i]) / rate
        verify_s, devices_s = a[window.PUZZLES + i] * verify, needed / rate
        energy_j = devices_s * watts
        values[0], values[1], values[2] = a[window.WORK + i], needed, a[window.COST + i]
        values[3], values[4] = service_s, solve_s
        values[5] = a[window.FINISH_S + i] if clocked else (service_s + solve_s) + verify_s
        values[6] = energy_j
        values[7] = usd_per_h * devices_s / 3600.0 if usd_per_h >= 0.0 else energy_j / 3.6e6 * usd_per_kwh
        values[8] = (solve_s + verify_s) / service_s
        total = sums[(first + i) // BLOCK - start, device]
        for k in range(SUMS):
            total[k] += values[k]
            total[SUMS + k] += values[k] * values[k]
        total[2 * SUMS] += solve_s * service_s
        counts[device, 0] += 1
        counts[device, 1] += np.int64(queries)
        counts[device, 2] += np.int64(a[window.PUZZLES + i])
        counts[device, 3] += 1 if 1.0 + values[8] > 2.0 else 0
        hashes[device, 0] += b[window.HASHES + i] & LOW
        hashes[device, 1] += b[window.HASHES + i] >> HALF
        for k in range(len(kept)):
            cell = np.int64(bits_of(values[kept[k]]) >> SHIFT_BITS) - BELOW
            cells[k, device, min(max(cell, 0), CELLS - 1)] += 1
        heaviest[0] = max(heaviest[0], a[window.WORK + i])
        if whole.shape[1]:
            whole[0, i], whole[1, i], whole[2, i] = b[window.IDENTITY + i], b[window.REPLICA + i], np.uint64(device)
            whole[3, i], whole[4, i] = np.uint64(queries), np.uint64(a[window.PUZZLES + i])
            whole[5, i] = b[window.HASHES + i]
            real[0, i] = rate
            for k in range(SUMS):
                real[1 + k, i] = values[k]
