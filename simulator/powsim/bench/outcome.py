"""What a benchmark found, as values and as the object that `powsim bench --json` prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from powsim.bench.machine import Machine
from powsim.bench.measuring import LONG, SHORT, Spread
from powsim.bench.nearest import CLASSES, Near, by_rate
from powsim.bench.solvers import Solver

BATCH_BITS = 12
FAMILY = "sha256-hashcash"


@dataclass(frozen=True)
class Prices:
    """What an hour of the machine and a kilowatt-hour cost, and what it draws, as far as the user says."""

    usd_per_hour: float | None = None
    watts: float | None = None
    usd_per_kwh: float | None = None

    def usd_per_2_40(self, rate_hz: float, joules_per_hash: float | None) -> float | None:
        """Return the dollars for 2^40 hashes: rent, and energy where joules or watts are known; None without both."""
        energy = joules_per_hash if joules_per_hash is not None else self.watts and self.watts / rate_hz
        parts = []
        if self.usd_per_hour is not None:
            parts.append(self.usd_per_hour / 3600 * 2**40 / rate_hz)
        if self.usd_per_kwh is not None and energy is not None:
            parts.append(self.usd_per_kwh / 3.6e6 * energy * 2**40)
        return sum(parts) if parts else None


@dataclass(frozen=True)
class Measured:
    """One solver: one puzzle that is too hard, and batches of easy ones; short and long challenges."""

    solver: Solver
    single_short: Spread | None = None  # hashes per second
    single_long: Spread | None = None
    batch_short: Spread | None = None
    batch_long: Spread | None = None
    puzzles_short: Spread | None = None  # puzzles per second
    puzzles_long: Spread | None = None
    joules_per_hash: float | None = None
    watts: float | None = None
    usd_per_2_40: float | None = None
    wrong: str | None = None  # a wrong answer; no rate is told then
    why_not: str | None = None  # it cannot run here, or not any more; no rate is told then

    @property
    def rate_hz(self) -> float:
        """Return the rate that stands for this solver: one hard puzzle, default layout."""
        return self.single_short.median if self.single_short else 0.0


@dataclass(frozen=True)
class Honest:
    """One loop of an honest client."""

    name: str
    version: str | None
    rate: Spread | None
    why_not: str | None


@dataclass(frozen=True)
class Solves:
    """How many puzzles of `bits` a solver solves in a second."""

    solver: str
    bits: int
    per_s: float
    measured: bool  # else computed: rate / 2^bits


@dataclass(frozen=True)
class Outcome:
    """Everything that one run of the benchmark found."""

    machine: Machine
    seconds: float  # per measurement
    repeats: int
    date: str
    measured: tuple[Measured, ...]
    honest: tuple[Honest, ...]
    solves: tuple[Solves, ...]

    @property
    def best(self) -> Measured | None:
        """Return the fastest solver that was measured."""
        return max((m for m in self.measured if m.single_short), key=lambda m: m.rate_hz, default=None)

    def best_cpu(self, whole: bool) -> Measured | None:
        """Return the fastest CPU path: on all threads, or on one."""
        fits = [m for m in self.measured if m.single_short and not m.solver.gpu]
        fits = [m for m in fits if (m.solver.whole if whole else m.solver.threads == 1)]
        return max(fits, key=lambda m: m.rate_hz, default=None)

    def advantage(self, loop: Honest) -> float | None:
        """Return how many times faster the best solver is than an honest loop."""
        return self.best.rate_hz / loop.rate.median if self.best and loop.rate else None


def near_solver(measured: Measured) -> list[Near]:
    """Return the catalogue's entries beside a solver."""
    return (
        by_rate(measured.rate_hz, CLASSES["gpu" if measured.solver.gpu else "cpu"], FAMILY) if measured.rate_hz else []
    )


def near_loop(loop: Honest) -> list[Near]:
    """Return the catalogue's entries beside an honest loop."""
    kinds = CLASSES["browser" if loop.name == "webcrypto" else "script"]
    return by_rate(loop.rate.median, kinds, FAMILY) if loop.rate else []


def document(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as JSON holds it; what was not measured is null."""
    best = outcome.best
    return {
        "date": outcome.date,
        "machine": asdict(outcome.machine),
        "seconds_per_measurement": outcome.seconds,
        "repeats": outcome.repeats,
        "challenge_bytes": {"short": SHORT, "long": LONG},
        "batch_bits": BATCH_BITS,
        "solvers": [
            {
                "solver": m.solver.label,
                "backend": m.solver.backend,
                "threads": m.solver.threads,
                "wrong_answer": m.wrong,
                "why_not": m.why_not,
                "single_hashes_per_s": {"short": _spread(m.single_short), "long": _spread(m.single_long)},
                "batch_hashes_per_s": {"short": _spread(m.batch_short), "long": _spread(m.batch_long)},
                "batch_puzzles_per_s": {"short": _spread(m.puzzles_short), "long": _spread(m.puzzles_long)},
                "joules_per_hash": m.joules_per_hash,
                "watts": m.watts,
                "usd_per_2_40_hashes": m.usd_per_2_40,
                "nearest": [asdict(near) for near in near_solver(m)],
            }
            for m in outcome.measured
        ],
        "honest": [
            {
                "loop": loop.name,
                "version": loop.version,
                "hashes_per_s": _spread(loop.rate),
                "why_not": loop.why_not,
                "best_solver_is_faster_by": outcome.advantage(loop),
                "nearest": [asdict(near) for near in near_loop(loop)],
            }
            for loop in outcome.honest
        ],
        "best_solver": best.solver.label if best else None,
        "solves_per_s": [
            {"solver": s.solver, "bits": s.bits, "per_s": s.per_s, "from": "measured" if s.measured else "computed"}
            for s in outcome.solves
        ],
    }


def _spread(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else asdict(spread)
