"""Checks and dispatch for queues: G/G/k with a finite waiting room, time-outs, and retries after a back-off."""

from __future__ import annotations

import importlib
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powsim_kernels.backend import resolve
from powsim_kernels.threads import thread_count

OFFERED = ("reference", "cpu")
SERVED, REFUSED, GAVE_UP, NO_JOB = range(4)
MOST_SERVERS = 100_000_000
MOST_RETRIES = 1000
MOST_SECONDS = 1e15
"""Of a back-off: thirty million years, at which a double still tells eighths of a second."""


@dataclass(frozen=True)
class QueueResult:
    """What became of every job. Rows are queues, columns jobs; seconds are on the clock of `arrival`."""

    entered: NDArray[np.float64]  # [B, J] when the job came for the last time: `arrival` without retries
    start: NDArray[np.float64]  # [B, J] when its service began; NaN where it was never served
    finish: NDArray[np.float64]  # [B, J] when it left for good: served, refused, or tired of waiting
    fate: NDArray[np.uint8]  # [B, J] SERVED, REFUSED, GAVE_UP (both of its last attempt), NO_JOB past a row's jobs
    attempts: NDArray[np.uint16]  # [B, J] how often it came

    @property
    def wait(self) -> NDArray[np.float64]:
        """Return seconds between the last coming and the start of service [B, J]; NaN where never served."""
        return np.asarray(self.start - self.entered)


def queue(
    arrival: ArrayLike,
    service: ArrayLike,
    *,
    servers: int = 1,
    room: int | None = None,
    patience: ArrayLike | None = None,
    retries: ArrayLike = 0,
    back_off: ArrayLike = 1.0,
    growth: float = 2.0,
    jobs: ArrayLike | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> QueueResult:
    """Return start, finish and fate of every job of many independent queues, first come first served.

    arrival: seconds, float64 [B, J] ([J] is one queue), not falling along a row. service: seconds, [B, J] or what
    broadcasts to it. servers: how many jobs a queue serves at once. room: jobs that may wait, those in service not
    counted; a job that finds no place is refused; None is no limit. patience: seconds, broadcast to [B, J], after
    which a waiting job gives up; None or inf is never. retries: how often, broadcast to [B, J], a refused or tired
    job comes back, the n-th time back_off * growth^(n-1) seconds after it left. jobs: [B] how many of a row's
    cells are jobs; the others are not looked at.

    A job starts at max(time it came, time at which the first server is free) and is done at start + service: two
    operations, each rounded once, as an event-driven simulator does them, so that times equal its to the last bit.
    At one instant, what ends (service, patience) comes before who arrives; a server that gets free as patience ends
    serves; first-comers go before those who come back, and these by their numbers.
    Raises TypeError or ValueError, naming the first bad queue and job.

    >>> queue([0.0, 1.0, 2.0], 4.0, room=1).fate.tolist()
    [[0, 0, 1]]
    """
    when = _seconds("arrival", arrival)
    when = when[None, :] if when.ndim == 1 else when
    if when.ndim != 2:
        raise ValueError(f"arrival has shape {when.shape}: [queues, jobs] is needed")
    count = _jobs(jobs, when.shape)
    real = None if jobs is None else np.arange(when.shape[1]) < count[:, None]
    effort = _broadcast("service", _seconds("service", service), when.shape)
    twin = importlib.import_module(f"powsim_kernels.queueing.{resolve(backend, OFFERED)}")
    workers = thread_count(threads)
    if not twin.sound(when, effort, count, workers):
        _check("arrival", when, np.isfinite(when), real, "finite seconds are needed")
        steps = np.ones(when.shape, np.bool_)
        steps[:, 1:] = when[:, 1:] >= when[:, :-1]
        _check("arrival", when, steps, real, "it is before the one ahead of it: sort a queue's jobs by arrival")
        _check("service", effort, np.isfinite(effort) & (effort >= 0), real, "finite seconds, 0 or more, are needed")
    k = _whole("servers", servers, 1, MOST_SERVERS)
    places = -1 if room is None else _whole("room", room, 0, 2**62)
    limit = None if patience is None else _broadcast("patience", _seconds("patience", patience), when.shape)
    again = np.asarray(retries)
    if again.dtype.kind not in "iu":
        raise TypeError(f"retries has dtype {again.dtype}: whole numbers are needed")
    if again.size and not 0 <= int(again.min()) <= int(again.max()) <= MOST_RETRIES:
        raise ValueError(f"retries runs from {again.min()} to {again.max()}: 0 to {MOST_RETRIES} are taken")
    pause = _broadcast("back_off", _seconds("back_off", back_off), when.shape)
    _check("back_off", pause, np.isfinite(pause) & (pause >= 0), real, "finite seconds, 0 or more, are needed")
    if not (np.isfinite(growth) and growth >= 0):
        raise ValueError(f"growth={growth} must be a finite number, 0 or more")
    with np.errstate(over="ignore"):
        longest = np.max(pause, initial=0.0, where=True if real is None else real) * np.float64(max(growth, 1.0)) ** (
            int(again.max(initial=0))
        )
    if not longest < MOST_SECONDS:
        raise ValueError(f"the last of {again.max()} back-offs takes {longest:g} s: lower back_off, growth or retries")
    if limit is not None:
        _check("patience", limit, limit >= 0, real, "seconds, 0 or more, are needed; inf waits for ever")
        if bool(np.all(limit == np.inf)):
            limit = None
    if places < 0 and limit is None:
        # Nobody is turned away and nobody leaves: the recursion alone.
        start, finish = twin.plain(when, effort, k, count, workers)
        if real is None:
            fate, attempts = np.broadcast_to(np.uint8(SERVED), when.shape), np.broadcast_to(np.uint16(1), when.shape)
        else:
            when = np.where(real, when, np.nan)
            fate, attempts = np.where(real, SERVED, NO_JOB).astype(np.uint8), real.astype(np.uint16)
        return QueueResult(when, start, finish, fate, attempts)
    if limit is None:
        limit = np.broadcast_to(np.float64(np.inf), when.shape)
    most = _broadcast("retries", again.astype(np.int64), when.shape)
    return QueueResult(*twin.general(when, effort, k, places, limit, most, pause, float(growth), count, workers))


def _seconds(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} has dtype {array.dtype}: seconds are numbers")
    return np.ascontiguousarray(array, np.float64) if array.ndim else array.astype(np.float64)


def _broadcast(name: str, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        return np.broadcast_to(values, shape)
    except ValueError:
        raise ValueError(f"{name} has shape {values.shape}, which does not broadcast to arrival's {shape}") from None


def _jobs(jobs: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.int64]:
    if jobs is None:
        return np.full(shape[0], shape[1], np.int64)
    count = np.asarray(jobs)
    if count.dtype.kind not in "iu":
        raise TypeError(f"jobs has dtype {count.dtype}: whole numbers are needed")
    if count.shape != shape[:1]:
        raise ValueError(f"jobs has shape {count.shape}: one number for each of the {shape[0]} queues is needed")
    if count.size and not 0 <= int(count.min()) <= int(count.max()) <= shape[1]:
        raise ValueError(f"jobs runs from {count.min()} to {count.max()}: arrival has room for {shape[1]}")
    return count.astype(np.int64)


def _check(
    name: str, values: NDArray[np.float64], good: NDArray[np.bool_], real: NDArray[np.bool_] | None, need: str
) -> None:
    bad = ~good if real is None else ~good & real
    if bad.any():
        row, job = (int(place) for place in np.unravel_index(int(np.argmax(bad)), bad.shape))
        raise ValueError(f"{name}[{row}, {job}]={values[row, job]}: {need}")


def _whole(name: str, value: int, least: int, most: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} is not a whole number") from None
    if not least <= number <= most:
        raise ValueError(f"{name}={number} must be {least} to {most}")
    return number
