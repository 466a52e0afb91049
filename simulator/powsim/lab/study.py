"""A study: some seeds of one task, each in a process of its own, kept as they end and put together as a bank.

A seed's file is written whole or not at all, and its name holds a digest of what was asked, so that a study goes on
where it was stopped, and files of another study in the same folder are neither read nor touched. This module loads no
torch: only workers do.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from powsim import __version__
from powsim.bank.checked import BankError
from powsim.bank.files import read_run
from powsim.bank.records import Bank, Run
from powsim.lab.tasks import check_name
from powsim.sweeps import executors
from powsim_kernels import BackendUnavailable

DATAFREE = "datafree"
NOT_BY_DEFAULT = ("inout", "inout-75", "laundering")
FIRST = 64  # queries at the first checkpoint; each next has twice as many
FORMAT = 3  # of what is recorded: raise it when the same study would come out differently
LOOK_S = 0.5
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class StudyError(ValueError):
    """A study that cannot be done as asked; the text says why."""


@dataclass(frozen=True)
class Study:
    """What is asked of the lab."""

    task: str = "digits16"  # a shipped one, or a path
    attacks: tuple[str, ...] = ()  # none: all that the lab ships but the combinators
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    queries: int = 1024  # of each attack
    datafree_queries: int = 20_000
    steps: int = 320  # optimiser steps of each student, over all checkpoints
    device: str = "auto"

    def asked(self) -> dict[str, Any]:
        """Return what a seed's result depends on, beside the seed: JSON values."""
        values = asdict(self)
        del values["seeds"]
        own = {name: _digest(name.rpartition(":")[0]) for name in self.attacks if ".py:" in name}
        about = {"format": FORMAT, "powsim": __version__, **values, "attacks": list(self.attacks), **_files(self.task)}
        return {**about, "own_attacks": own} if own else about

    @property
    def id(self) -> str:
        """Return twelve hexadecimal digits of the SHA-256 of what is asked."""
        return hashlib.sha256(json.dumps(self.asked(), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Size:
    """How large a study of a task is where nothing is said."""

    seeds: int
    queries: int
    datafree_queries: int
    steps: int
    mining_s: float  # what its puzzles together may take


USUAL, SMALL = Size(5, 1024, 20_000, 320, 2.0), Size(2, 512, 4_000, 160, 1.0)


def size_of(task: str) -> Size:
    """Return the size of a task's study: of 8x8 images, which are there to look quickly, a small one."""
    return SMALL if task in ("digits8", "gaussian") else USUAL


@dataclass(frozen=True)
class Progress:
    """How far a study is."""

    seeds_done: int
    seeds: int
    share: float  # of the work that was missing when it began
    left_s: float | None


def checkpoints(queries: int) -> list[int]:
    """Return the numbers of queries at which students are trained: 64, 128, ... and all of them."""
    found = [FIRST << power for power in range(64) if FIRST << power < queries]
    return [*found, queries]


def record(
    study: Study,
    folder: Path,
    *,
    workers: int = 2,
    progress: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Bank:
    """Return the bank of a study; seeds that `folder` holds already are not repeated.

    workers: processes, one thread each. tell: called with a sentence about each file that cannot be
    used. Raises StudyError, OutputError, BackendUnavailable where torch or scikit-learn is missing, BrokenExecutor
    where a worker is killed. KeyboardInterrupt leaves the seeds that are done.
    """
    _check(study)
    done = {seed: found for seed in study.seeds if (found := _look(study, seed, folder, tell)) is not None}
    missing = [seed for seed in study.seeds if seed not in done]
    if missing:
        for name in ("torch", "sklearn"):
            if importlib.util.find_spec(name) is None:
                raise BackendUnavailable(f"{name} is not installed: run `pip install 'powsim[lab,report]'`")
        _record(study, missing, folder, min(workers, len(missing)), progress)
        for seed in missing:
            found = _look(study, seed, folder, tell)
            if found is None:
                raise StudyError(f"{_places(study, seed, folder)[0]} vanished while the study ran: run it again")
            done[seed] = found
    return _bank(study, [done[seed] for seed in study.seeds])


def _check(study: Study) -> None:
    check_name(study.task)
    if not study.seeds or len(set(study.seeds)) < len(study.seeds) or min(study.seeds) < 0:
        raise StudyError(f"seeds {study.seeds}: at least one, 0 or more, each once")
    for name in ("queries", "datafree_queries", "steps"):
        if getattr(study, name) < 1:
            raise StudyError(f"{name} = {getattr(study, name)}: at least 1 is needed")


def _files(task: str) -> dict[str, list[Any]]:
    """Return name, size and time of change of the files of a task that is a path: other files, another study."""
    path = Path(task)
    if os.sep not in task and "." not in task and not path.exists():
        return {}
    with contextlib.suppress(OSError):
        some = sorted(path.iterdir()) if path.is_dir() else [path]
        return {"files": [[one.name, one.stat().st_size, one.stat().st_mtime_ns] for one in some]}
    return {}


def _digest(name: str) -> str | None:
    """Return the SHA-256 of an own attack's file: changed, it is another study; None where there is no such file."""
    with contextlib.suppress(OSError):
        return hashlib.sha256(Path(name).read_bytes()).hexdigest()
    return None


def _places(study: Study, seed: int, folder: Path) -> tuple[Path, Path]:
    """Return a seed's files: its run, and what it knows about the bank, which is written before."""
    name = f"seed-{seed}-{study.id}"
    return folder / f"{name}.npz", folder / f"{name}.json"


def _look(
    study: Study, seed: int, folder: Path, tell: Callable[[str], None] | None
) -> tuple[Run, dict[str, Any]] | None:
    """Return what a seed left, or None where it must be done."""
    run_file, about_file = _places(study, seed, folder)
    if not run_file.exists():
        return None
    try:
        return read_run(run_file, study.asked()), dict(json.loads(about_file.read_text(encoding="utf-8")))
    except (BankError, OSError, ValueError, TypeError) as error:
        if tell is not None:
            tell(f"{error}: seed {seed} is done again")
        return None


def _record(
    study: Study, seeds: list[int], folder: Path, workers: int, progress: Callable[[Progress], None] | None
) -> None:
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, _pool(workers) as pool:
        shares = Path(scratch) / "shares"
        shares.write_bytes(bytes(8 * len(seeds)))
        jobs = {
            pool.submit(_start, study, seed, *_places(study, seed, folder), shares, place)
            for place, seed in enumerate(seeds)
        }
        while jobs:
            done, jobs = wait(jobs, timeout=LOOK_S, return_when=FIRST_COMPLETED)
            for job in done:
                job.result()
            if progress is not None:
                progress(_progress(study, seeds, shares, time.perf_counter() - begin))


def _start(study: Study, seed: int, run_file: Path, about_file: Path, shares: Path, place: int) -> None:
    """Do a seed in a worker, which loads torch here."""
    from powsim.lab.seed import record_seed

    record_seed(study, seed, run_file, about_file, shares, place)


def _progress(study: Study, seeds: list[int], shares: Path, spent_s: float) -> Progress:
    each = struct.unpack(f"<{len(seeds)}d", shares.read_bytes())
    share = sum(each) / len(seeds)
    before = len(study.seeds) - len(seeds)
    left = spent_s * (1 - share) / share if share > 0 else None
    return Progress(before + sum(one == 1 for one in each), len(study.seeds), share, left)


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[Executor]:
    """Yield who does the seeds; processes start with one thread each, in torch and in BLAS."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        with executors.processes(workers) as pool:
            yield pool
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _bank(study: Study, seeds: list[tuple[Run, dict[str, Any]]]) -> Bank:
    about = seeds[0][1]
    provenance = {
        "made": "measured now",
        "study": study.id,
        "powsim": __version__,
        "torch": about["torch"],
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, {about['device']}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "data_sha256": ", ".join(f"seed {run.seed}: {each['data'][:16]}" for run, each in seeds),
        "students": f"small_cnn on pixels, {study.steps} steps over checkpoints {checkpoints(study.queries)}",
    }
    plain = ("task", "real", "outside", "classes", "teachers", "sigma", "delta", "neighbours", "knn_sigma")
    return Bank(
        **{name: about[name] for name in plain},
        seconds_per_query=statistics.median(each["seconds_per_query"] for _, each in seeds),
        metering_s_per_query=statistics.median(each["metering_s_per_query"] for _, each in seeds),
        runs=tuple(run for run, _ in seeds),
        provenance=provenance,
    )
