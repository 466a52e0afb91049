"""From votes to ln q, by Numba: one table look-up a class for whole counts, scaled tails for soft ones.

v1 erfc per class (153 ns a row of ten); v2 a table of T + 1 tails, winner left out by counting ties; v3 four running
sums, native-width maxima, one vector logarithm for a block of rows. Sums are added in one order whatever the type.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.jit import helper, jit
from powsim_kernels.pate.ported import log_erfc, log_erfcx
from powsim_kernels.pate.vector import log

TABLE_MOST = 1 << 17  # voters; two tables of float64 take 2 MiB
LEAST_LINEAR = 1e-290
BLOCK = 256


@jit
def tails(voters, sigma, laplace):  # type: ignore[no-untyped-def]
    """Return (tail, log_tail) by gap 0..voters: chance that a class so far behind wins; tail[0] is 0, ties count."""
    linear, logs = np.empty(voters + 1), np.empty(voters + 1)
    for gap in range(voters + 1):
        if laplace:
            x = gap / sigma
            linear[gap] = (2.0 + x) / 4.0 * math.exp(-x)
            logs[gap] = math.log((2.0 + x) / 4.0) - x
        else:
            x = gap / (2.0 * sigma)
            linear[gap] = 0.5 * math.erfc(x)
            logs[gap] = math.log(0.5) + log_erfc(x)
    linear[0] = 0.0
    return linear, logs


@helper
def _q_of(votes, row, high, tail, logs):  # type: ignore[no-untyped-def]
    """Return q of a row of whole counts; its logarithm, which is negative, where q is too small for all its digits."""
    classes = votes.shape[1]
    a = b = c = d = 0.0
    ties = np.uint64(0)
    most = np.int64(high)
    fours = classes - (classes & 3)
    for j in range(0, fours, 4):
        g0 = np.uint64(most - np.int64(votes[row, np.uint64(j)]))
        g1 = np.uint64(most - np.int64(votes[row, np.uint64(j + 1)]))
        g2 = np.uint64(most - np.int64(votes[row, np.uint64(j + 2)]))
        g3 = np.uint64(most - np.int64(votes[row, np.uint64(j + 3)]))
        a += tail[g0]
        b += tail[g1]
        c += tail[g2]
        d += tail[g3]
        ties += np.uint64(g0 == 0) + np.uint64(g1 == 0) + np.uint64(g2 == 0) + np.uint64(g3 == 0)
    for j in range(fours, classes):
        gap = np.uint64(most - np.int64(votes[row, np.uint64(j)]))
        a += tail[gap]
        ties += np.uint64(gap == 0)
    q = ((a + b) + (c + d)) + 0.5 * (np.float64(ties) - 1.0)
    if q > LEAST_LINEAR:
        return q
    second = np.int64(-1)
    for j in range(classes):
        count = np.int64(votes[row, np.uint64(j)])
        if count > second and count < most:
            second = count
    lead, scaled = logs[np.uint64(most - second)], 0.0
    for j in range(classes):
        count = np.int64(votes[row, np.uint64(j)])
        if count == second:
            scaled += 1.0
        elif count < second:
            less = logs[np.uint64(most - count)] - lead
            if less > -45.0:
                scaled += math.exp(less)
    return lead + math.log(scaled)


@helper
def _soft(counts, sigma, laplace):  # type: ignore[no-untyped-def]
    """Return ln q of counts that need not be whole, scaled by the runner-up's term so that no gap underflows."""
    classes, winner = counts.shape[0], 0
    for j in range(1, classes):
        if counts[j] > counts[winner]:
            winner = j
    least = math.inf
    for j in range(classes):
        if j != winner:
            least = min(least, counts[winner] - counts[j])
    total = 0.0
    if laplace:
        near = least / sigma
        for j in range(classes):
            x = (counts[winner] - counts[j]) / sigma
            if j != winner and near - x > -60.0:
                total += (2.0 + x) / 4.0 * math.exp(near - x)
        return math.log(total) - near
    near = least / (2.0 * sigma)
    linear = near < 20.0
    for j in range(classes):
        x = (counts[winner] - counts[j]) / (2.0 * sigma)
        exponent = (near - x) * (near + x)
        if j != winner and exponent > -45.0:
            total += 0.5 * math.erfc(x) if linear else 0.5 * math.exp(exponent + log_erfcx(x))
    return math.log(total) if linear else math.log(total) - near * near


@jit
def _whole_rows(votes, tail, logs, voters, lnq, top, begin, end):  # type: ignore[no-untyped-def]
    """Fill q (or ln q) and the most votes of integer rows; return the first bad row, or -1."""
    bad = -1
    for row in range(begin, end):
        high = low = votes[row, 0]
        for j in range(1, votes.shape[1]):
            count = votes[row, np.uint64(j)]
            high = max(high, count)
            low = min(low, count)
        if np.int64(low) < 0 or np.int64(high) > voters:
            lnq[row] = top[row] = math.nan
            bad = row if bad < 0 else bad
        else:
            top[row] = np.float64(high)
            lnq[row] = _q_of(votes, row, high, tail, logs)
    return bad


@jit
def _any_rows(votes, tail, logs, voters, sigma, laplace, lnq, top, begin, end):  # type: ignore[no-untyped-def]
    """Do the same for rows of any numbers: those that are whole and in the table go there, the others go soft."""
    bad = -1
    counts, whole = np.empty(votes.shape[1]), np.empty((1, votes.shape[1]), np.int64)
    for row in range(begin, end):
        high, good = 0.0, True
        for j in range(votes.shape[1]):
            count = np.float64(votes[row, j])
            if not (count >= 0.0 and count <= voters):  # NaN compares false
                good = False
            counts[j] = count
            high = max(high, count)
        if not good:
            lnq[row] = top[row] = math.nan
            bad = row if bad < 0 else bad
            continue
        top[row] = high
        in_table = high < tail.shape[0]
        for j in range(votes.shape[1]):
            in_table &= counts[j] == math.floor(counts[j])
        if in_table:
            for j in range(votes.shape[1]):
                whole[0, j] = np.int64(counts[j])
            lnq[row] = _q_of(whole, 0, np.int64(high), tail, logs)
        else:
            found = _soft(counts, sigma, laplace)
            lnq[row] = found if found < 0.0 else math.exp(found)
    return bad


@jit
def _logs(lnq, cap, begin, end):  # type: ignore[no-untyped-def]
    """Turn q into ln q, at most `cap`; what is a logarithm already, or NaN, stays."""
    for row in range(begin, end):
        q = lnq[row]
        found = log(q if q > 0.0 else 1.0)
        found = found if q > 0.0 else q
        lnq[row] = cap if found > cap else found


def read(
    votes: NDArray[Any],
    tables: tuple[NDArray[np.float64], NDArray[np.float64]],
    law: tuple[int, float, bool],
    lnq: NDArray[np.float64],
    top: NDArray[np.float64],
    begin: int,
    end: int,
) -> int:
    """Fill ln q and the most votes of rows begin..end, a block at a time; return the first bad row, or -1."""
    voters, sigma, laplace = law
    if votes.dtype.kind in "iu" and len(tables[0]) > voters:
        bad = _whole_rows(votes, *tables, voters, lnq, top, begin, end)
    else:
        bad = _any_rows(votes, *tables, voters, sigma, laplace, lnq, top, begin, end)
    _logs(lnq, math.log1p(-1.0 / votes.shape[1]), begin, end)
    return int(bad)
