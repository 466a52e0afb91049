"""The benchmark: find the solvers, warm them up, check them, then time everything in turns."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from powsim.bench import honest, machine
from powsim.bench.measuring import (
    LONG,
    SHORT,
    Batch,
    Clock,
    Hard,
    Mine,
    Sample,
    WrongAnswer,
    check,
    hash_rate,
    in_turns,
    puzzle_rate,
)
from powsim.bench.outcome import BATCH_BITS, Honest, Measured, Outcome, Prices, Solves
from powsim.bench.solvers import Solver, solvers
from powsim_kernels import BackendUnavailable
from powsim_kernels import mine as mine_puzzles

BITS = tuple(range(8, 33, 4))
ENOUGH = 32  # puzzles that a time must be expected to solve for a count of them to say something
WARM_S = 5.0
SELF_TEST = "failed its self-test"  # how the kernels tell a wrong answer of their own
POWER_S = 1.0  # GPUs renew their energy counters some ten times a second
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Plan:
    """How long and how often is measured."""

    seconds: float = 0.5  # per measurement, all its repeats together
    repeats: int = 5
    threads: int | None = None
    prices: Prices = field(default_factory=Prices)


def run(
    plan: Plan,
    progress: Progress,
    mine: Mine = mine_puzzles,
    found: list[Solver] | None = None,
    clock: Clock = time.perf_counter,
) -> Outcome:
    """Return what this machine's solvers and honest loops do. found: the solvers to measure [all that there are].

    progress: called with what is being done and the share that is done. A solver with a wrong answer, or one that
    cannot run, is not timed further, and its rates are not told.
    """
    progress("looking for solvers", 0.0)
    here = machine.describe(plan.threads)
    present = solvers(plan.threads) if found is None else found
    loop = honest.time_hashlib(0.05)
    loop_hz = loop.hashes / loop.seconds
    faults: dict[Solver, Fault] = {}
    for number, solver in enumerate(present):
        progress(f"checking {solver.label}", 0.15 * number / len(present))
        if fault := _warm_and_check(solver, mine, clock, loop_hz):
            faults[solver] = fault
    progress("checking honest loops", 0.15)
    loops = honest.loops()
    jobs: dict[Any, _Guard] = {}
    for solver in present:
        for length in (SHORT, LONG) if solver not in faults else ():
            jobs[solver, "single", length] = _Guard(Hard(solver, length, mine, clock))
            jobs[solver, "batch", length] = _Guard(Batch(solver, length, BATCH_BITS, mine, clock))
    _untimed(jobs)
    guards = {each.name: _Guard(each.job) for each in loops if each.job}
    samples = _timed(jobs | guards, plan, progress, "timing", 0.2, 0.85)
    _note_faults(jobs, faults)
    measured = tuple(_measured(solver, faults.get(solver), samples) for solver in present)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    told = tuple(_honest(each, guards, samples) for each in loops)
    outcome = Outcome(here, plan.seconds, plan.repeats, date, measured, told, ())
    chosen = [m for m in (outcome.best_cpu(whole=True), *(m for m in measured if m.solver.gpu)) if m and m.single_short]
    jobs = {
        (m.solver, bits): _Guard(Batch(m.solver, SHORT, bits, mine, clock))
        for m in chosen
        for bits in BITS
        if bits != BATCH_BITS and m.rate_hz * plan.seconds / 2**bits >= ENOUGH
    }
    _untimed(jobs)
    counted = _timed(jobs, plan, progress, "solving", 0.85, 0.95)
    _note_faults(jobs, faults)
    counted |= {(m.solver, BATCH_BITS): samples[m.solver, "batch", SHORT] for m in chosen}
    solves = tuple(_solves(m, bits, counted.get((m.solver, bits), [])) for m in chosen for bits in BITS)
    powered = {m.solver for m in (*chosen, outcome.best_cpu(whole=False)) if m and _counted(samples, m.solver)}
    progress("reading energy counters", 0.95)
    measured = tuple(
        faults[m.solver].measured(m.solver)
        if m.solver in faults
        else _priced(m, m.solver in powered, plan, mine, clock)
        for m in measured
    )
    solves = tuple(one for one in solves if one.solver not in {solver.label for solver in faults})
    progress("done", 1.0)
    return replace(outcome, measured=measured, solves=solves)


@dataclass(frozen=True)
class Fault:
    """Why a solver or a loop has no rate: it gives wrong answers, or it cannot run."""

    text: str
    wrong: bool

    @classmethod
    def of(cls, error: Exception) -> Fault:
        """Return what an error says; a self-test of the kernels' own that fails is a wrong answer too."""
        return cls(str(error), isinstance(error, WrongAnswer) or SELF_TEST in str(error))

    def measured(self, solver: Solver) -> Measured:
        """Return the solver without rates."""
        return Measured(solver, wrong=self.text) if self.wrong else Measured(solver, why_not=self.text)


class _Guard:
    """A job that may fail on the way: its failure is kept, and nothing more is run."""

    def __init__(self, job: Callable[[float], Sample]) -> None:
        self.job = job
        self.failed: Fault | None = None

    def __call__(self, seconds: float) -> Sample:
        if self.failed is None:
            try:
                return self.job(seconds)
            except (honest.LoopFailed, WrongAnswer, BackendUnavailable) as error:
                self.failed = Fault.of(error)
        return Sample(0, 0, 1.0)


def _note_faults(jobs: Mapping[Any, _Guard], faults: dict[Solver, Fault]) -> None:
    """Add the solvers whose jobs failed; a wrong answer weighs more than what cannot run."""
    for (solver, *_), guard in jobs.items():
        if guard.failed is not None:
            known = faults.setdefault(solver, guard.failed)
            if guard.failed.wrong and not known.wrong:
                faults[solver] = guard.failed


def _warm_and_check(solver: Solver, mine: Mine, clock: Clock, loop_hz: float) -> Fault | None:
    """Return why a solver is not to be timed, or None.

    Compilation is over then: a solver that works by a plain loop meanwhile is run until it leaves that loop's rate
    behind, or for WARM_S if it never does.
    """
    began = clock()
    try:
        while True:
            sample = Hard(solver, SHORT, mine, clock)(0.05)
            if sample.hashes > 3 * loop_hz * sample.seconds or clock() - began > WARM_S:
                break
        check(solver, mine)
    except (WrongAnswer, BackendUnavailable) as error:
        return Fault.of(error)
    return None


def _untimed(jobs: Mapping[Any, _Guard]) -> None:
    """Run every job a little, so that batches know their size and nothing is compiled while time counts."""
    for guard in jobs.values():
        for _ in range(3 if isinstance(guard.job, Batch) else 1):
            guard(0.02)


def _timed(
    jobs: Mapping[Any, _Guard], plan: Plan, progress: Progress, what: str, begin: float, end: float
) -> dict[Any, list[Sample]]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(what, begin + (end - begin) * done / (len(jobs) * plan.repeats))

    return in_turns(jobs, plan.seconds, plan.repeats, step)


def _measured(solver: Solver, fault: Fault | None, samples: dict[Any, list[Sample]]) -> Measured:
    if fault is not None:
        return fault.measured(solver)
    rates: dict[str, Any] = {}
    for length, word in ((SHORT, "short"), (LONG, "long")):
        rates[f"single_{word}"] = hash_rate(samples[solver, "single", length])
        rates[f"batch_{word}"] = hash_rate(samples[solver, "batch", length])
        rates[f"puzzles_{word}"] = puzzle_rate(samples[solver, "batch", length])
    return Measured(solver, **rates)


def _honest(loop: honest.Loop, guards: dict[str, _Guard], samples: dict[Any, list[Sample]]) -> Honest:
    guard = guards.get(loop.name)
    if guard is None:
        return Honest(loop.name, loop.version, None, loop.why_not)
    why_not = guard.failed.text if guard.failed else None
    rate = None if guard.failed else hash_rate(samples[loop.name])
    return Honest(loop.name, loop.version, rate, why_not)


def _solves(m: Measured, bits: int, counted: list[Sample]) -> Solves:
    """Return solves per second: counted where the time sufficed for enough of them, else the rate over 2^bits."""
    enough = sum(sample.puzzles for sample in counted) >= ENOUGH
    return Solves(m.solver.label, bits, puzzle_rate(counted).median if enough else m.rate_hz / 2**bits, enough)


def _counted(samples: dict[Any, list[Sample]], solver: Solver) -> bool:
    """Return whether a solver's energy is counted."""
    return any(sample.joules is not None for sample in samples[solver, "single", SHORT])


def _priced(result: Measured, powered: bool, plan: Plan, mine: Mine, clock: Clock) -> Measured:
    """Return a result with joules, where a counter tells them, and dollars.

    Counters are renewed too seldom for the short turns of the timing, so the energy is that of one long run.
    """
    watts = joules = None
    if powered:
        sample = _Guard(Hard(result.solver, SHORT, mine, clock))(max(POWER_S, plan.seconds))
        if sample.joules is not None and sample.joules > 0 and sample.hashes:
            watts, joules = sample.joules / sample.seconds, sample.joules / sample.hashes
    # The price is the whole machine's, so it is told for what uses the whole of it.
    dollars = plan.prices.usd_per_2_40(result.rate_hz, joules) if result.solver.whole else None
    return replace(result, joules_per_hash=joules, watts=watts, usd_per_2_40=dollars)
