"""Rates: jobs timed in turns, so that what disturbs the machine disturbs all of them alike."""

from __future__ import annotations

import functools
import hashlib
import itertools
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from powsim.bench.solvers import Solver
from powsim_kernels import MineResult
from powsim_kernels import mine as mine_puzzles

Clock = Callable[[], float]
Mine = Callable[..., MineResult]
Key = TypeVar("Key", bound=Hashable)

SHORT, LONG = 44, 364
"""Bytes of a challenge: the default layout (the low half of the nonce is word 12), and five whole blocks before it."""
HARD = 64  # bits that nothing solves
FEWEST, MOST = 64, 1 << 18  # puzzles of a batch
POOL = 1 << 12  # different challenges; a batch that needs more takes them again with other nonces


class WrongAnswer(RuntimeError):
    """A solver that gives a nonce which hashlib does not."""


@dataclass(frozen=True)
class Sample:
    """What one timed run did."""

    hashes: int
    puzzles: int  # solved
    seconds: float
    joules: float | None = None  # where the solver's counters tell


@dataclass(frozen=True)
class Spread:
    """The median of repeats, between the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of some values."""
        return cls(statistics.median(values), min(values), max(values))

    @property
    def unrest(self) -> float:
        """Return the greatest over the least."""
        return self.high / self.low if self.low > 0 else 1.0


@dataclass(frozen=True)
class Deadline:
    """What `mine` polls to stop: set once the time is over."""

    clock: Clock
    end: float

    def is_set(self) -> bool:
        """Return whether the time is over."""
        return self.clock() >= self.end


def in_turns(
    jobs: Mapping[Key, Callable[[float], Sample]], seconds: float, repeats: int, progress: Callable[[], None]
) -> dict[Key, list[Sample]]:
    """Return `repeats` samples of every job, each run for seconds / repeats.

    The jobs take turns, in this order and back, so that a slow drift of the clock cancels; `progress` is called
    after each run.
    """
    samples: dict[Key, list[Sample]] = {key: [] for key in jobs}
    for turn in range(repeats):
        for key, job in list(jobs.items())[:: -1 if turn % 2 else 1]:
            samples[key].append(job(seconds / repeats))
            progress()
    return samples


def hash_rate(samples: Sequence[Sample]) -> Spread:
    """Return hashes per second."""
    return Spread.of([sample.hashes / sample.seconds for sample in samples])


def puzzle_rate(samples: Sequence[Sample]) -> Spread:
    """Return puzzles solved per second; the middle is that of all samples together, since the luck of few varies."""
    each = [sample.puzzles / sample.seconds for sample in samples]
    whole = sum(sample.puzzles for sample in samples) / sum(sample.seconds for sample in samples)
    return Spread(whole, min(each), max(each))


def challenge(number: int, length: int) -> bytes:
    """Return the `number`-th challenge of `length` bytes."""
    return hashlib.shake_128(f"powsim bench {number}".encode()).digest(length)


@functools.cache
def pool(length: int) -> list[bytes]:
    """Return the different challenges that batches are made of."""
    return [challenge(number, length) for number in range(POOL)]


@dataclass
class Hard:
    """A job: one puzzle that nobody solves, searched until the time is over."""

    solver: Solver
    length: int
    mine: Mine = mine_puzzles
    clock: Clock = time.perf_counter

    def __call__(self, seconds: float) -> Sample:
        """Run for about `seconds`."""
        message = challenge(0, self.length)
        began = self.clock()
        result = self.mine(
            [message],
            HARD,
            backend=self.solver.backend,
            threads=self.solver.threads,
            cancel=Deadline(self.clock, began + seconds),
        )
        seconds = self.clock() - began
        return Sample(int(result.tries.sum()), int(result.found.sum()), seconds, result.joules)


@dataclass
class Batch:
    """A job: batches of puzzles of `bits`, preparation and bookkeeping included, until the time is over.

    The size follows the speed, so that one batch lasts about the whole time; some nonces are checked by hashlib.
    """

    solver: Solver
    length: int
    bits: int
    mine: Mine = mine_puzzles
    clock: Clock = time.perf_counter
    size: int = FEWEST
    turns: Iterator[int] = field(default_factory=itertools.count)

    def __call__(self, seconds: float) -> Sample:
        """Run for about `seconds`."""
        hashes, puzzles, spent = 0, 0, 0.0
        while spent < 0.8 * seconds:
            rows = list(itertools.islice(itertools.cycle(pool(self.length)), self.size))
            # Another start each time: a challenge taken again is another puzzle.
            starts = [next(self.turns) << 32 for _ in range(-(-self.size // POOL))]
            start = np.repeat(np.array(starts, np.uint64), POOL)[: self.size]
            began = self.clock()
            result = self.mine(
                rows,
                self.bits,
                start=start,
                backend=self.solver.backend,
                threads=self.solver.threads,
                cancel=Deadline(self.clock, began + seconds - spent),
            )
            took = self.clock() - began
            check_some(rows, self.bits, result)
            hashes, puzzles, spent = hashes + int(result.tries.sum()), puzzles + int(result.found.sum()), spent + took
            # Never smaller: the last call of a run is cut short, and says little of what fits into a whole one.
            ideal = 1.5 * int(result.found.sum()) * seconds / max(took, 1e-9)
            self.size = min(MOST, max(self.size, int(min(ideal, 8.0 * self.size))))
        return Sample(hashes, puzzles, spent)


def check_some(rows: Sequence[bytes], bits: int, result: MineResult) -> None:
    """Return if hashlib finds the first, the last and some middle nonces valid, else raise WrongAnswer."""
    won = result.found.nonzero()[0].tolist()
    for row in won[:: max(1, len(won) // 8)] + won[-1:]:
        nonce = int(result.nonce[row])
        digest = hashlib.sha256(rows[row] + nonce.to_bytes(8, "big")).digest()
        if int.from_bytes(digest[:8], "big") >> (64 - bits):
            raise WrongAnswer(f"nonce {nonce} does not solve {bits} bits of the challenge {rows[row].hex()}")


def lowest_nonce(message: bytes, bits: int) -> int:
    """Return what every solver must find, by hashlib alone."""
    for nonce in itertools.count():
        digest = hashlib.sha256(message + nonce.to_bytes(8, "big")).digest()
        if not int.from_bytes(digest[:8], "big") >> (64 - bits):
            return nonce
    raise AssertionError  # a count does not end


def check(solver: Solver, mine: Mine = mine_puzzles) -> None:
    """Return if a solver finds the lowest nonces of small puzzles, short and long, else raise WrongAnswer."""
    rows = [challenge(number, length) for length in (SHORT, LONG) for number in range(6)]
    bits = [number * 2 for _ in (SHORT, LONG) for number in range(6)]  # 0 to 10
    result: Any = mine(rows, bits, backend=solver.backend, threads=solver.threads)
    for row, (message, hardness) in enumerate(zip(rows, bits, strict=True)):
        expected = lowest_nonce(message, hardness)
        if int(result.nonce[row]) != expected or not result.found[row]:
            raise WrongAnswer(
                f"{solver.backend} finds nonce {int(result.nonce[row])} and hashlib {expected} "
                f"for {hardness} bits of the challenge {message.hex()}: do not use it; please report it"
            )
