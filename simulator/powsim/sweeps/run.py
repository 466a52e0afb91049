"""`powsim.sweep`: simulate what is missing, write it shard by shard, and merge."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from powsim.edge import Mistake, ScenarioError
from powsim.groups import groups_of
from powsim.sweeps import executors
from powsim.sweeps.merge import Merged, merge_points
from powsim.sweeps.shard import ShardError, simulated, task_of
from powsim.sweeps.spec import Plan, Point, load_sweep
from powsim.sweeps.store import Store
from powsim.sweeps.until import Prefix, Until, check_groups, parse_until

MOST_SHARDS = 64
"""Times the shards of the sweep file that `until` may lead to, where no bound is given."""

TRIES = 3
"""Pools of processes that may break without a single shard, by workers killed from outside; then the sweep gives up."""

CHECK_S = 5.0
"""How long a shard is waited for before a look whether the executor still lives."""

AHEAD = 64
"""Shards given at once to an executor whose size is not known."""


@dataclass(frozen=True)
class Progress:
    """How far a sweep is. With `until`, `shards` grows while it runs."""

    shards_done: int
    shards: int
    points: int
    shards_per_s: float  # of this run
    left_s: float | None


def sweep(
    source: str | Path,
    folder: str | Path,
    *,
    executor: Executor | None = None,
    workers: int = 1,
    dask: str | None = None,
    backend: str = "auto",
    threads: int | None = None,
    until: str | None = None,
    max_shards: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Merged:
    """Return the merged headlines of every point of a sweep; what `folder` holds of them already is not repeated.

    source: a sweep file, or a shipped sweep's name. executor: any `concurrent.futures.Executor` whose workers have
    powsim; None means `workers` processes of this machine (1: this process; with backend "cuda" one per device), or
    the Dask cluster whose scheduler answers at `dask`. threads: of each worker [all CPUs in this process, else 1].
    Worker processes are spawned: a script that uses them guards its own work by `if __name__ == "__main__":`.
    until: "p95_slowdown ±2%" adds shards to a point until that interval is reached, up to max_shards.
    tell: called with a sentence about each shard that was found unusable and is redone [warnings.warn].
    Raises ScenarioError with every mistake, and, once all else is done, with every point that cannot be simulated;
    OutputError for a folder that cannot be used; BackendUnavailable. KeyboardInterrupt leaves whole shards.
    """
    plan, store = load_sweep(source), Store(Path(folder))
    goal, most = _goal(until, max_shards, plan)
    say = tell or (lambda text: warnings.warn(text, stacklevel=3))
    made = _maker(executor, workers, dask, backend)
    pooled = executor is not None or dask is not None or workers > 1 or backend.startswith("cuda")
    store.refuse_others()
    with made() as first, store.lock():  # before anything is written: an executor that cannot be had changes nothing
        store.start(plan, until, most)
        store.tidy()
        work = _Work(plan, store, goal, most, backend, threads or (1 if pooled else None), say, progress)
        work.look()
        work.run(first)
        left = TRIES
        while work.broken and left:
            say("a worker process was killed; the shards that it was at are started again")
            before = work.done
            with made() as again:
                work.run(again)
            left = TRIES if work.done > before else left - 1
        if work.broken:
            raise BrokenExecutor("worker processes are killed again and again: is the memory too small?")
        merged = merge_points(store, store.manifest(), plan.points, say)
    if work.failed:
        mistakes = [Mistake(f"point {point.title or point.id}", text) for point, text in work.failed.values()]
        raise ScenarioError(str(source), mistakes)
    return merged


def _goal(until: str | None, max_shards: int | None, plan: Plan) -> tuple[Until | None, int]:
    """Return the goal and the most shards of a point. Raises ScenarioError."""
    if max_shards is not None and (until is None or max_shards < plan.shards):
        raise ScenarioError("max_shards", [Mistake("", f"{max_shards} needs --until, and {plan.shards} at least")])
    most = plan.shards if until is None else max_shards or MOST_SHARDS * plan.shards
    if until is None:
        return None, most
    try:
        goal = parse_until(until)
        for point in plan.points:
            check_groups(goal, groups_of(point.scenario))
    except ValueError as error:
        raise ScenarioError("--until", [Mistake("", str(error))]) from None
    return goal, most


def _maker(
    executor: Executor | None, workers: int, dask: str | None, backend: str
) -> Callable[[], AbstractContextManager[Executor]]:
    """Return what makes the executor, anew where it broke. Raises BackendUnavailable."""
    if executor is not None:
        return lambda: contextlib.nullcontext(executor)
    if dask is not None:
        return lambda: executors.dask(dask)
    if backend == "cuda":
        from powsim_kernels import BackendUnavailable, why_not

        if (reason := why_not("cuda")) is not None:
            raise BackendUnavailable(f"backend 'cuda' cannot run: {reason}")
        from powsim_kernels.sha256.cuda import count_devices

        devices = executors.cuda_devices(os.environ, count_devices)
        return lambda: executors.processes(len(devices), devices)
    if workers > 1:
        return lambda: executors.processes(workers)
    return lambda: contextlib.nullcontext(executors.Serial())


class _Work:
    """What is still to be done, and what is being done."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        until: Until | None,
        most: int,
        backend: str,
        threads: int | None,
        say: Callable[[str], None],
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.plan, self.store, self.until, self.most = plan, store, until, most
        self.backend, self.threads, self.say, self.progress = backend, threads, say, progress
        self.have: dict[str, set[int]] = {}
        self.prefixes = {point.id: Prefix(until, groups_of(point.scenario), plan.shards, most) for point in plan.points}
        self.failed: dict[str, tuple[Point, str]] = {}
        self.broken = False
        self.before, self.begin = 0, time.perf_counter()

    def look(self) -> None:
        """Read every shard that is there; those that cannot be used are named, and done again."""
        for point in self.plan.points:
            usable = set()
            for shard in self.store.present(point.id, self.plan.shards):
                try:
                    self.store.read(point, shard, self.plan.shards)
                    usable.add(shard)
                except ShardError as error:
                    self.say(f"{error}: it is done again")
            self.have[point.id] = usable
            self._grow(point)
        self.before, self.begin = self.done, time.perf_counter()
        self._report()

    def run(self, executor: Executor) -> None:
        """Do what is missing, as far as the executor holds."""
        self.broken = False
        ahead = 1 if isinstance(executor, executors.Serial) else 2 * getattr(executor, "_max_workers", AHEAD // 2)
        futures: dict[Future[bytes], tuple[Point, int]] = {}
        todo = self._missing(futures)
        try:
            while True:
                while len(futures) < ahead and (job := next(todo, None)) is not None:
                    point, shard = job
                    task = task_of(point, shard, self.plan.shards, self.backend, self.threads)
                    futures[executor.submit(simulated, task)] = job
                if not futures:
                    return
                grown = False
                done = wait(futures, timeout=CHECK_S, return_when=FIRST_COMPLETED).done
                if not done and getattr(executor, "lost", False):
                    raise BrokenExecutor("the Dask scheduler is lost")
                for future in done:
                    point, shard = futures.pop(future)
                    grown |= self._finish(point, shard, future)
                if grown:
                    todo = self._missing(futures)
        except BrokenExecutor:
            self.broken = True
        finally:
            for future in futures:
                future.cancel()

    def _finish(self, point: Point, shard: int, future: Future[bytes]) -> bool:
        """Write a shard; return whether its point needs more of them now."""
        try:
            content = future.result()
        except (ValueError, MemoryError) as error:
            text = str(error) or "out of memory: give it more shards, or fewer identities or replicas"
            self.failed.setdefault(point.id, (point, text))
            return False
        self.store.write(point, shard, self.plan.shards, content)
        self.have[point.id].add(shard)
        grown = self._grow(point)
        self._report()
        return grown

    def _missing(self, futures: dict[Future[bytes], tuple[Point, int]]) -> Iterator[tuple[Point, int]]:
        """Yield what is neither there nor in work nor bound to fail."""
        in_work = {(point.id, shard) for point, shard in futures.values()}
        for point in self.plan.points:
            for shard in range(self.prefixes[point.id].need):
                if point.id in self.failed:
                    break
                if shard not in self.have[point.id] and (point.id, shard) not in in_work:
                    in_work.add((point.id, shard))
                    yield point, shard

    def _grow(self, point: Point) -> bool:
        """With a goal, look whether the shards that are there reach it; return whether the point needs more of them."""
        if self.until is None:
            return False
        prefix = self.prefixes[point.id]
        before = prefix.need
        while prefix.have < prefix.need and prefix.have in self.have[point.id]:
            prefix.add(self.store.read(point, prefix.have, self.plan.shards))
        return prefix.need > before

    @property
    def done(self) -> int:
        """Return how many of the shards that are needed are there."""
        return sum(sum(k < self.prefixes[id].need for k in have) for id, have in self.have.items())

    def _report(self) -> None:
        if self.progress is None:
            return
        done, shards = self.done, sum(prefix.need for prefix in self.prefixes.values())
        rate = (done - self.before) / max(time.perf_counter() - self.begin, 1e-9)
        left = (shards - done) / rate if rate > 0 else None
        self.progress(Progress(done, shards, len(self.plan.points), rate, left))
