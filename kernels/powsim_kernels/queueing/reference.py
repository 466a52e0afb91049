"""Queues by plain loops: the specification. Lindley (1952), with heaps of free servers, of waits, and of returns."""

from __future__ import annotations

import heapq
import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.queueing.contract import GAVE_UP, NO_JOB, REFUSED, SERVED


def sound(arrival: NDArray[np.float64], service: NDArray[np.float64], jobs: NDArray[np.int64], threads: int) -> bool:
    """Return whether arrivals are finite and do not fall, and services are finite and not negative."""
    for row, count in enumerate(jobs.tolist()):
        last = -sys.float_info.max
        for job in range(count):
            came, effort = float(arrival[row, job]), float(service[row, job])
            if not (last <= came < math.inf and 0 <= effort < math.inf):
                return False
            last = came
    return True


def plain(
    arrival: NDArray[np.float64], service: NDArray[np.float64], servers: int, jobs: NDArray[np.int64], threads: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return start and finish [B, J] of queues in which everybody waits until served."""
    start, finish = np.full(arrival.shape, np.nan), np.full(arrival.shape, np.nan)
    for row, count in enumerate(jobs.tolist()):
        free = [-math.inf] * min(servers, max(count, 1))  # when each server is done; more servers than jobs stay idle
        for job in range(count):
            begin = max(float(arrival[row, job]), free[0])
            end = begin + float(service[row, job])
            heapq.heapreplace(free, end)
            start[row, job], finish[row, job] = begin, end
    return start, finish


def general(
    arrival: NDArray[np.float64],
    service: NDArray[np.float64],
    servers: int,
    room: int,
    patience: NDArray[np.float64],
    retries: NDArray[np.int64],
    back_off: NDArray[np.float64],
    growth: float,
    jobs: NDArray[np.int64],
    threads: int,
) -> tuple[NDArray[Any], ...]:
    """Return entered, start, finish, fate and attempts [B, J]; room -1 is no limit."""
    entered, start, finish = (np.full(arrival.shape, np.nan) for _ in range(3))
    fate, attempts = np.full(arrival.shape, NO_JOB, np.uint8), np.zeros(arrival.shape, np.uint16)
    for row, count in enumerate(jobs.tolist()):
        free = [-math.inf] * min(servers, max(count, 1))
        leaving: list[float] = []  # when each job that waits will stop waiting: known as soon as it comes
        returning: list[tuple[float, int]] = []
        ahead = 0
        while ahead < count or returning:
            if returning and (ahead == count or returning[0][0] < arrival[row, ahead]):
                now, job = heapq.heappop(returning)
            else:
                now, job = float(arrival[row, ahead]), ahead
                ahead += 1
            while leaving and leaving[0] <= now:
                heapq.heappop(leaving)
            attempts[row, job] += 1
            entered[row, job] = now
            begin, limit = max(now, free[0]), now + float(patience[row, job])
            if begin > now and 0 <= room <= len(leaving):
                fate[row, job], gone = REFUSED, now
            elif begin > limit:
                # It will never hold a server up, so those behind it need not know of it, but it takes a place.
                fate[row, job], gone = GAVE_UP, limit
                heapq.heappush(leaving, limit)
            else:
                fate[row, job], gone = SERVED, begin + float(service[row, job])
                start[row, job] = begin
                heapq.heapreplace(free, gone)
                if begin > now:
                    heapq.heappush(leaving, begin)
            finish[row, job] = gone
            done = int(attempts[row, job]) - 1
            if fate[row, job] != SERVED and done < retries[row, job]:
                pause = float(back_off[row, job])
                for _ in range(done):
                    pause *= growth
                heapq.heappush(returning, (gone + pause, job))
    return entered, start, finish, fate, attempts
