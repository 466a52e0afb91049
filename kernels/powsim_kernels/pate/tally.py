"""From votes to ln q, by Numba: one table look-up a class for whole counts, scaled tails for soft ones.

v1 erfc per class (153 ns a row of ten); v2 a table of T + 1 tails, winner left out by counting ties; v3 four running
sums, native-width maxima, one vector logarithm for a block of rows; v4 from 32 classes on, runs of eight classes with
no vote are found eight bytes at a time and looked up once (C = 1000: 680 -> 310 ns). One order of sums for all types.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.jit import helper, jit
from powsim_kernels.pate.ported import log_erfc, log_erfcx
from powsim_kernels.pate.vector import log

LEAST_LINEAR = 1e-290
WIDE = 32  # classes from which empty runs are worth finding
NO_WORDS = np.empty((0, 0), np.uint64)


@jit
def tails(voters, sigma, laplace):  # type: ignore[no-untyped-def]
    """Return by gap 0..voters: chance that a class so far behind wins, its logarithm, and the reach.

    The chance is 0 at gap 0, where ties are counted; classes behind by more than the gap plus its reach add less than
    exp(-45) of the chance.
    """
    linear, logs, reach = np.empty(voters + 1), np.empty(voters + 1), np.empty(voters + 1, np.int64)
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
    far = 0
    for gap in range(voters + 1):
        far = max(far, gap)
        while far < voters and logs[far + 1] > logs[gap] - 45.0:
            far += 1
        reach[gap] = far - gap
    return linear, logs, reach


@helper
def _deep(votes, row, most, logs, reach):  # type: ignore[no-untyped-def]
    """Return ln q of a row whose q has lost digits: terms scaled by the runner-up's."""
    second = np.int64(-1)
    for j in range(votes.shape[1]):
        count = np.int64(votes[row, np.uint64(j)])
        count = count if count < most else np.int64(-1)
        second = count if count > second else second
    lead, least = logs[np.uint64(most - second)], second - reach[np.uint64(most - second)]
    same = near = np.int64(0)
    for j in range(votes.shape[1]):
        count = np.int64(votes[row, np.uint64(j)])
        same += np.int64(count == second)
        near += np.int64(count >= least)
    if near == same + 1:  # the winner
        return lead if same == 1 else lead + math.log(np.float64(same))
    scaled = np.float64(same)
    for j in range(votes.shape[1]):
        count = np.int64(votes[row, np.uint64(j)])
        if least <= count < second:
            scaled += math.exp(logs[np.uint64(most - count)] - lead)
    return lead + math.log(scaled)


@helper
def _q_of(votes, row, most, tail):  # type: ignore[no-untyped-def]
    """Return q of a row of few whole counts, `most` of them for the winner."""
    classes = votes.shape[1]
    a = b = c = d = 0.0
    ties = np.uint64(0)
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
    return ((a + b) + (c + d)) + 0.5 * (np.float64(np.int64(ties)) - 1.0)


@helper
def _wide(votes, words, row, used, voters, tail):  # type: ignore[no-untyped-def]
    """Return (most votes, q) of a row of many whole counts, (-1, NaN) of one that cannot be votes.

    words: the same votes as uint64, or nothing where their rows are not whole words; used: room for the runs.
    """
    classes = votes.shape[1]
    eights = classes >> 3
    per = words.shape[1] * 8 // classes
    k = np.uint64(0)
    for run in range(eights):
        some = np.uint64(0)
        if per == 2:
            some = words[row, np.uint64(2 * run)] | words[row, np.uint64(2 * run + 1)]
        elif per > 0:
            for i in range(per):
                some |= words[row, np.uint64(per * run + i)]
        else:
            for i in range(8):
                some |= np.uint64(votes[row, np.uint64(8 * run + i)] != 0)
        used[k] = 8 * run
        k += np.uint64(some != 0)
    runs = np.int64(k)
    high = low = votes[row, np.uint64(classes - 1)]
    for at in range(runs):
        for j in range(8):
            count = votes[row, np.uint64(used[np.uint64(at)] + j)]
            high = count if count > high else high
            low = count if count < low else low
    for j in range(8 * eights, classes):
        count = votes[row, np.uint64(j)]
        high = count if count > high else high
        low = count if count < low else low
    most = np.int64(high)
    if runs < eights:
        most = most if most > 0 else np.int64(0)
    if np.int64(low) < 0 or most > voters:
        return np.int64(-1), math.nan
    if most == 0:
        return most, 1.0
    a = b = c = d = 0.0
    ties = np.int64(0)
    for at in range(runs):
        for j in range(0, 8, 4):
            first = np.uint64(used[np.uint64(at)] + j)
            g0 = np.uint64(most - np.int64(votes[row, first]))
            g1 = np.uint64(most - np.int64(votes[row, first + np.uint64(1)]))
            g2 = np.uint64(most - np.int64(votes[row, first + np.uint64(2)]))
            g3 = np.uint64(most - np.int64(votes[row, first + np.uint64(3)]))
            a += tail[g0]
            b += tail[g1]
            c += tail[g2]
            d += tail[g3]
            ties += np.int64(g0 == 0) + np.int64(g1 == 0) + np.int64(g2 == 0) + np.int64(g3 == 0)
    for j in range(8 * eights, classes):
        gap = np.uint64(most - np.int64(votes[row, np.uint64(j)]))
        a += tail[gap]
        ties += np.int64(gap == 0)
    empty = np.float64(8 * (eights - runs)) * tail[np.uint64(most)]
    return most, ((a + b) + (c + d)) + empty + 0.5 * (np.float64(ties) - 1.0)


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
def _tops(votes, voters, top, begin, end):  # type: ignore[no-untyped-def]
    """Fill the most votes of integer rows; return the first bad row, or -1."""
    bad = -1
    for row in range(begin, end):
        counts = votes[row]
        high = low = counts[0]
        for j in range(counts.shape[0]):
            count = counts[j]
            high = count if count > high else high
            low = count if count < low else low
        if np.int64(low) < 0 or np.int64(high) > voters:
            top[row] = math.nan
            bad = row if bad < 0 else bad
        else:
            top[row] = np.float64(high)
    return bad


@jit
def _few_rows(votes, tail, top, lnq, begin, end):  # type: ignore[no-untyped-def]
    """Fill q of rows whose most votes are known; NaN where those are NaN."""
    for row in range(begin, end):
        lnq[row] = _q_of(votes, row, np.int64(top[row]), tail) if top[row] >= 0.0 else math.nan


@jit
def _many_rows(votes, words, tail, voters, top, lnq, begin, end):  # type: ignore[no-untyped-def]
    """Fill the most votes and q of rows of many classes; return the first bad row, or -1."""
    bad = -1
    used = np.empty((votes.shape[1] >> 3) + 1, np.int64)
    for row in range(begin, end):
        most, found = _wide(votes, words, row, used, voters, tail)
        lnq[row] = found
        top[row] = np.float64(most) if most >= 0 else math.nan
        if most < 0 and bad < 0:
            bad = row
    return bad


@jit
def _deep_rows(votes, logs, reach, top, lnq, begin, end):  # type: ignore[no-untyped-def]
    """Replace every q that has lost digits by its logarithm, which is negative."""
    for row in range(begin, end):
        if lnq[row] <= LEAST_LINEAR:
            lnq[row] = _deep(votes, row, np.int64(top[row]), logs, reach)


@jit
def _any_rows(votes, tail, logs, reach, voters, sigma, laplace, lnq, top, begin, end):  # type: ignore[no-untyped-def]
    """Do the same for rows of any numbers: those that are whole and in the table go there, the others go soft."""
    bad = -1
    counts, whole = np.empty(votes.shape[1]), np.empty((1, votes.shape[1]), np.int64)
    words, used = whole.view(np.uint64), np.empty((votes.shape[1] >> 3) + 1, np.int64)
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
            if votes.shape[1] < WIDE:
                q = _q_of(whole, 0, np.int64(high), tail)
            else:
                q = _wide(whole, words, 0, used, voters, tail)[1]
            lnq[row] = q if q > LEAST_LINEAR else _deep(whole, 0, np.int64(high), logs, reach)
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
    tables: tuple[NDArray[Any], ...],
    law: tuple[int, float, bool],
    lnq: NDArray[np.float64],
    top: NDArray[np.float64],
    begin: int,
    end: int,
) -> int:
    """Fill ln q and the most votes of rows begin..end, a block at a time; return the first bad row, or -1."""
    voters, sigma, laplace = law
    tail, logs, reach = tables
    if votes.dtype.kind not in "iu" or len(tail) <= voters:
        bad = _any_rows(votes, tail, logs, reach, voters, sigma, laplace, lnq, top, begin, end)
    else:
        if votes.shape[1] < WIDE:
            bad = _tops(votes, voters, top, begin, end)
            _few_rows(votes, tail, top, lnq, begin, end)
        else:
            fits = votes.shape[1] * votes.itemsize % 8 == 0 and votes.ctypes.data % 8 == 0
            words = votes.view(np.uint64) if fits else NO_WORDS
            bad = _many_rows(votes, words, tail, voters, top, lnq, begin, end)
        _deep_rows(votes, logs, reach, top, lnq, begin, end)
    _logs(lnq, math.log1p(-1.0 / votes.shape[1]), begin, end)
    return int(bad)
