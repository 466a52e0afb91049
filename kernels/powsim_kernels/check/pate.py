"""The PATE kernels on one device: right answers by the reference twin, and rates beside the memory's speed."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim_kernels.pate.conversion import default_orders
from powsim_kernels.pate.plan import PatePlan

DELTA, KINDS = 1e-5, 256
EVEN = np.linspace(2, 51, 50)


@dataclass(frozen=True)
class Case:
    """One thing that is timed."""

    name: str
    mode: str  # total, rows [N, L], or running
    classes: int
    bytes_per_row: int  # that must move
    share: float  # of the rows of the largest case
    orders: NDArray[np.float64] = field(default_factory=lambda: EVEN)
    more: dict[str, Any] = field(default_factory=dict)
    from_host: bool = False


CONFIDENT: dict[str, Any] = {"threshold": 200, "sigma1": 150}
CASES = (
    Case("total C=10 int16", "total", 10, 20, 1.0),
    Case("total C=100 int16", "total", 100, 200, 0.125),
    Case("[N, L] float64 C=10 L=50", "rows", 10, 420, 1 / 16),
    Case("confident total C=10 int16", "total", 10, 20, 0.5, more=CONFIDENT),
    Case("running eps C=10 L=396", "running", 10, 28, 1 / 64, orders=default_orders()),
    Case("total C=10 int16 from the host", "total", 10, 20, 0.25, from_host=True),
    Case("total C=100 int16 from the host", "total", 100, 200, 1 / 32, from_host=True),
)


def realistic(classes: int, teachers: int = 250) -> NDArray[np.int16]:
    """Return KINDS histograms: seven in ten nearly unanimous, the others spread."""
    rng = np.random.default_rng(1)
    votes = rng.multinomial(teachers, rng.dirichlet(np.full(classes, 0.5), size=KINDS))
    sure = rng.random(KINDS) < 0.7
    lead = rng.integers(int(0.93 * teachers), teachers + 1, sure.sum())
    votes[sure] = rng.multinomial(1, np.full(classes, 1 / classes), size=sure.sum()) * (teachers - lead)[:, None]
    votes[sure, rng.integers(0, classes, sure.sum())] += lead
    return votes.astype(np.int16)


def plans(case: Case) -> tuple[PatePlan, PatePlan]:
    """Return the plan of a case on the device and by the reference."""
    ours, truth = (
        PatePlan(250, case.classes, 40.0, case.orders, backend=name, **case.more) for name in ("cuda", "reference")
    )
    return ours, truth


MECHANISMS: tuple[dict[str, Any], ...] = ({"threshold": 150, "sigma1": 40}, {"mechanism": "lnmax"}, {"clip": False})
TYPES = ("uint8", "int8", "uint16", "int32", "int64", "float32")


def wrong_answers(classes: tuple[int, ...]) -> list[str]:
    """Return what the device answers otherwise than the reference: ways of reading, types, mechanisms."""
    none: dict[str, Any] = {}
    tried = [(count, none, kind) for count in classes for kind in ("int16", "soft")]
    tried += [(classes[0], none, kind) for kind in TYPES]
    tried += [(count, more, kind) for count in classes[:2] for more in MECHANISMS for kind in ("int16", "soft")]
    return [f"C={count} {more or ''} {kind}" for count, more, kind in tried if not _right(count, more, kind)]


def _right(classes: int, more: dict[str, Any], kind: str) -> bool:
    votes = realistic(classes, 120)[:40]
    given = votes * 0.99 if kind == "soft" else votes.astype(kind)
    ours, truth = (PatePlan(120, classes, 10.0, EVEN[::7], backend=name, **more) for name in ("cuda", "reference"))
    groups = np.arange(40) % 3
    pairs = (
        (ours.logq(given), truth.logq(given), 1e-13),
        (ours.rdp(given), truth.rdp(given), 1e-11),
        (ours.total(given, groups=groups), truth.total(given, groups=groups), 1e-11),
        (ours.running_eps(given, DELTA), truth.running_eps(given, DELTA), 1e-11),
    )
    return all(np.allclose(got, expected, rtol=rtol, atol=1e-280) for got, expected, rtol in pairs)


def measured(case: Case, rows: int, repeats: int, copied: float, cuda: Any) -> tuple[dict[str, Any], bool]:
    """Return the rate of a case, and whether its answer was right."""
    ours, truth = plans(case)
    kinds = realistic(case.classes)
    pick = np.random.default_rng(2).integers(0, KINDS, max(1, int(rows * case.share)))
    votes = kinds[pick]
    given = votes if case.from_host else cuda.sent(votes)
    if case.mode == "total":
        expected = np.bincount(pick, minlength=KINDS) @ truth.rdp(kinds)
        right = np.allclose(_host(ours.total(given)), expected, rtol=1e-11)
    elif case.mode == "rows":
        few = slice(len(votes) // 2, len(votes) // 2 + 50)
        right = np.allclose(_host(ours.rdp(given))[few], truth.rdp(votes[few]), rtol=1e-11, atol=1e-280)
    else:
        few = slice(0, 50)
        expected = truth.running_eps(votes[few], DELTA, conversion="classic")
        found = _host(ours.running_eps(given, DELTA, conversion="classic"))
        right = np.allclose(found[few], expected, rtol=1e-11) and bool(np.all(np.diff(found) >= -1e-9))
    methods: dict[str, Callable[[], Any]] = {
        "total": lambda: ours.total(given),
        "rows": lambda: ours.rdp(given),
        "running": lambda: ours.running_eps(given, DELTA, conversion="classic"),
    }
    work = methods[case.mode]
    if case.from_host:
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
    else:
        seconds = cuda.seconds_of(work, repeats)
    rate = len(votes) / seconds
    row = {
        "name": case.name,
        "rows": len(votes),
        "seconds": seconds,
        "rows_per_s": rate,
        "bytes_per_row": case.bytes_per_row,
        "share_of_copy": rate * case.bytes_per_row / copied,
    }
    return row, bool(right)


def _host(values: Any) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.get() if hasattr(values, "get") else values
    return found


def pate(device: Any, effort: Any) -> dict[str, object]:
    """Return wrong answers, the speed of the memory by a copy kernel, and one row for every case."""
    cuda = importlib.import_module("powsim_kernels.check.cuda")
    with cuda.on(device.index):
        wrong = wrong_answers(effort.classes)
        copied = cuda.copied_bytes_per_s(effort.copy_bytes, effort.repeats, device.multiprocessors)
        rows = []
        for case in CASES:
            row, right = measured(case, effort.rows, effort.repeats, copied, cuda)
            rows.append(row)
            wrong += [] if right else [case.name]
    return {"wrong": wrong, "copy_bytes_per_s": copied, "rows": rows}
