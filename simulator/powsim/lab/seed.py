"""One seed of a study, from its data to a file: what a worker process does."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from powsim.bank.files import write_run
from powsim.bank.records import Run
from powsim.lab.attacks import ATTACKS, attack_class
from powsim.lab.attacks.base import Attack
from powsim.lab.lockstep import play
from powsim.lab.service import Service, open_service
from powsim.lab.study import DATAFREE, NOT_BY_DEFAULT, Study, StudyError, checkpoints
from powsim.lab.task import Task
from powsim.lab.tasks import load_task
from powsim.sweeps.store import write_whole

MIXMATCH_SHARE = 150 / 320  # of the students' steps: each of its own takes three batches, and it starts anew each time

OPENED = 0.3  # share of the time until the service stands


def record_seed(study: Study, seed: int, run_file: Path, about_file: Path, shares: Path, place: int) -> None:
    """Write what a seed leaves: first what belongs to the bank as a whole, as JSON, then its `Run`.

    shares, place: where the share of the work that is done is written, as a float64. Raises StudyError for a task or
    an attack that cannot be used; OutputError.
    """
    torch.set_num_threads(1)  # small kernels spend their time waiting for each other otherwise

    def report(share: float) -> None:
        with shares.open("r+b") as file:
            file.seek(8 * place)
            file.write(struct.pack("<d", share))

    try:
        run, about = recorded(study, seed, report)
    except (ValueError, ModuleNotFoundError) as error:
        raise StudyError(str(error)) from None  # whatever its class: it must survive the way to the parent
    write_whole(about_file, (json.dumps(about, indent=1) + "\n").encode())
    write_run(run_file, run, study.asked())
    report(1.0)


def recorded(
    study: Study, seed: int, report: Callable[[float], None] = lambda share: None
) -> tuple[Run, dict[str, Any]]:
    """Return a seed's run, and what it knows about the bank as a whole."""
    device = _device(study.device)
    attacks = _attacks(study.attacks)
    task = load_task(study.task, seed)
    service = open_service(task, seed, device)
    report(OPENED)
    queries = {name: study.datafree_queries if name == DATAFREE else study.queries for name in attacks}
    recordings = play(
        service,
        attacks,
        queries,
        checkpoints(study.queries),
        steps=study.steps,
        seed=seed,
        device=device,
        settings={"mixmatch": {"steps": max(1.0, round(MIXMATCH_SHARE * study.steps))}},
        report=lambda share: report(OPENED + (1 - OPENED) * share),
    )
    teacher, ensemble = service.teachers.accuracy(task.test)
    run = Run(seed, service.victim.accuracy(task.test), teacher, ensemble, service.recorded_pool(), tuple(recordings))
    return run, _about(task, service, device)


def _device(asked: str) -> str:
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch sees no CUDA device: use --device cpu")
    return asked


def _attacks(names: tuple[str, ...]) -> dict[str, type[Attack]]:
    """Return the classes by their own names, the default ones where none is named. Raises ValueError."""
    kinds = [attack_class(name, Path()) for name in names or (name for name in ATTACKS if name not in NOT_BY_DEFAULT)]
    found = {kind.name: kind for kind in kinds}
    if len(found) < len(kinds):
        raise ValueError(f"attacks {', '.join(kind.name for kind in kinds)}: each may be named once")
    return found


def _about(task: Task, service: Service, device: str) -> dict[str, Any]:
    digest = hashlib.sha256()
    for split in (task.private, task.calibration, task.users, task.test):
        for array in (split.x, split.y, split.original):
            digest.update(np.ascontiguousarray(array).tobytes())
    answer, metering = service.seconds_per_query()
    return {
        "task": task.name,
        "real": task.real,
        "outside": task.outside_source,
        "classes": task.classes,
        "teachers": task.teachers,
        "sigma": task.sigma_share * task.teachers,
        "delta": task.delta,
        "neighbours": task.neighbours,
        "knn_sigma": task.knn_sigma,
        "seconds_per_query": answer,
        "metering_s_per_query": metering,
        "data": digest.hexdigest(),
        "device": device,
        "torch": torch.__version__,
    }
