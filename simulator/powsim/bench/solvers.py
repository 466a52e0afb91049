"""Which solvers this machine has: every CPU path on one thread and on all, every GPU, and all GPUs together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from powsim_kernels import BackendUnavailable, mine, why_not
from powsim_kernels.sha256 import paths
from powsim_kernels.threads import thread_count

MOST_GPUS = 64


@dataclass(frozen=True)
class Solver:
    """One way to solve puzzles here."""

    backend: str  # as `powsim_kernels.mine` takes it
    threads: int | None  # None: a GPU
    whole: bool  # all of the machine's threads, or a whole GPU

    @property
    def gpu(self) -> bool:
        """Return whether this is a GPU."""
        return self.threads is None

    @property
    def label(self) -> str:
        """Return how tables name it."""
        return self.backend if self.threads is None else f"{self.backend} x{self.threads}"


def solvers(threads: int | None = None) -> list[Solver]:
    """Return this machine's solvers: GPUs last, and all of them together.

    threads: what "all threads" means [every CPU that this process may use].
    """
    most = thread_count(threads)
    found = []
    for path in paths():
        found += [Solver(path, count, count == most) for count in dict.fromkeys((1, most))]
    cards = gpus()
    return found + [Solver(gpu, None, True) for gpu in ([*cards, "cuda"] if len(cards) > 1 else cards)]


def gpus() -> list[str]:
    """Return "cuda:0", "cuda:1", ... as far as they go."""
    if why_not("cuda") is not None:
        return []
    found: list[str] = []
    while len(found) < MOST_GPUS and runs(f"cuda:{len(found)}"):
        found.append(f"cuda:{len(found)}")
    return found


def runs(backend: str, mine: Callable[..., Any] = mine) -> bool:
    """Return whether `backend` solves the easiest puzzle."""
    try:
        mine(b"", 0, backend=backend, threads=1)
    except (BackendUnavailable, ValueError):  # ValueError: a name that this version does not know
        return False
    return True
