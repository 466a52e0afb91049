"""Every puzzle of a study, really solved by the product's miner, beside what the law of the tries expects."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from powsim.bank.evaluate import Seed
from powsim.bank.verdict import Mined
from powsim_kernels import MineResult, mine

BASELINE_S = 1e-3  # undefended time of the queries of one puzzle
BUDGET_S = 2.0  # what all puzzles together may take: their times are scaled down to it
MAPPING = "batch"
LOOP_BITS, LOOP_PUZZLES, EASY = 14.0, 64, 1024  # what the rate is measured with: a million hashes at first, three times
MOST_LOOP_BITS, LONGER = 32.0, 20.0  # and more, until they take so many times as long as a call that has nothing to do
TAIL = 0.025


@dataclass(frozen=True)
class Rate:
    """How fast `mine` solves many puzzles at once on this machine."""

    hashes_per_s: float
    seconds_per_call: float  # whatever it solves
    seconds_per_puzzle: float  # beside its hashes
    backend: str

    def seconds(self, puzzles: int, tries: float) -> float:
        """Return the time that one call with so much work takes."""
        return self.seconds_per_call + puzzles * self.seconds_per_puzzle + tries / self.hashes_per_s


@dataclass(frozen=True)
class Mining:
    """What was mined, and under which scale."""

    rows: tuple[Mined, ...]  # one per attack, over all seeds
    rate: Rate
    baseline_s: float
    scale: float  # puzzle times as mined over those that the baseline asks for
    seconds: float


def measured_rate(backend: str = "auto", threads: int = 1, repeats: int = 3) -> Rate:
    """Return the rate of `mine`, by the loop that solves the study's puzzles: medians of some repeats.

    Calls with one easy puzzle, with many, and with hard ones tell apart what a call, a puzzle and a hash take.
    """
    bits, spent = _hard_bits(backend, threads), list[tuple[float, float, float]]()
    for repeat in range(repeats + 1):
        one = _mined([_challenge("rate", repeat, 0)], 0.0, backend, threads)
        easy = _mined([_challenge("rate", repeat, 1, row) for row in range(EASY)], 0.0, backend, threads)
        hard = _mined([_challenge("rate", repeat, 2, row) for row in range(LOOP_PUZZLES)], bits, backend, threads)
        each = max(easy.seconds - one.seconds, 0.0) / (EASY - 1)
        hashing = max(hard.seconds - one.seconds - LOOP_PUZZLES * each, 1e-9)
        if repeat:  # the first compiles
            spent.append((hashing / float(hard.tries.sum()), one.seconds, each))
    per_hash, call, each = (statistics.median(column) for column in zip(*spent, strict=True))
    return Rate(1 / per_hash, call, each, hard.backend)


def _hard_bits(backend: str, threads: int) -> float:
    """Return how hard puzzles must be for their hashes to be seen: on a GPU a million take less time than the call."""
    bits = LOOP_BITS
    while bits < MOST_LOOP_BITS:
        nothing = _mined([_challenge("rate", "nothing", bits)], 0.0, backend, threads)
        hard = _mined([_challenge("rate", bits, row) for row in range(LOOP_PUZZLES)], bits, backend, threads)
        if hard.seconds > LONGER * nothing.seconds:
            break
        bits += 2.0
    return bits


def mine_study(
    seeds: Sequence[Seed],
    study: str,
    queries_per_puzzle: int,
    *,
    mapping: str = MAPPING,
    budget_s: float = BUDGET_S,
    backend: str = "auto",
    threads: int = 1,
    report: Callable[[float], None] | None = None,
) -> Mining:
    """Return tries and seconds of every puzzle of every attack and seed, beside expectation.

    A puzzle's time under the calibrated mapping becomes work at the rate measured just before, and a difficulty of
    log2(work) bits, fractions and all. All times are scaled by one factor, so that the whole takes about budget_s.
    The sum of n geometric tries with chances p has mean sum(1/p) and variance sum((1-p)/p^2), exactly; the 95 %
    interval is that of a gamma law with both. Expected seconds are of the rates before and after, half and half: other
    work on the machine comes and goes. threads: with one, time is the sum over puzzles, and does not depend on how
    puzzles fall on threads.
    """
    begin = time.perf_counter()
    rate = measured_rate(backend, threads)
    attacks = [one.attack for one in seeds[0].run.recordings]
    times = {
        attack: [seed.mappings[mapping, queries_per_puzzle].times(seed.costs.recordings[attack]) for seed in seeds]
        for attack in attacks
    }
    total = BASELINE_S * sum(float(own.sum()) for some in times.values() for own in some)
    scale = min(1.0, budget_s / total) if total > 0 else 1.0
    solved: list[tuple[str, NDArray[np.float64], MineResult]] = []
    for number, attack in enumerate(attacks):
        challenges = [
            _challenge(study, attack, seed.run.seed, row)
            for seed, own in zip(seeds, times[attack], strict=True)
            for row in range(len(own))
        ]
        if challenges:
            work = np.concatenate(times[attack]) * BASELINE_S * scale * rate.hashes_per_s
            bits = np.log2(np.maximum(work, 1.0))
            solved.append((attack, bits, _mined(challenges, bits, backend, threads)))
        if report is not None:
            report((number + 1) / len(attacks))
    rates = (rate, measured_rate(backend, threads, 2)) if solved else (rate,)
    rows = tuple(_row(attack, mapping, bits, result, rates) for attack, bits, result in solved)
    return Mining(rows, rate, BASELINE_S, scale, time.perf_counter() - begin)


def interval(bits: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return mean, low and high of the sum of the tries of puzzles of these difficulties."""
    mean_each = np.exp2(bits)  # 1/p
    mean, variance = float(mean_each.sum()), float((mean_each * (mean_each - 1)).sum())
    if variance == 0:
        return mean, mean, mean
    shape = mean**2 / variance
    low, high = (float(gammaincinv(shape, level)) * mean / shape for level in (TAIL, 1 - TAIL))
    return mean, low, high


def _row(attack: str, mapping: str, bits: NDArray[np.float64], result: MineResult, rates: Sequence[Rate]) -> Mined:
    mean, low, high = interval(bits)
    return Mined(
        attack=attack,
        mapping=mapping,
        puzzles=len(bits),
        expected_tries=mean,
        tries=int(result.tries.sum(dtype=np.uint64)),
        low_tries=low,
        high_tries=high,
        expected_s=statistics.fmean(rate.seconds(len(bits), mean) for rate in rates),
        mined_s=float(result.seconds),
    )


def _mined(challenges: list[bytes], bits: float | NDArray[np.float64], backend: str, threads: int) -> MineResult:
    return mine(challenges, bits, backend=backend, threads=threads)


def _challenge(*what: object) -> bytes:
    """Return 32 bytes that belong to one puzzle alone."""
    return hashlib.sha256("\0".join(map(str, what)).encode()).digest()
