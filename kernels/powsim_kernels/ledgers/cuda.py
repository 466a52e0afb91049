"""Ledgers on NVIDIA GPUs: CUDA C++ (`ledgers.cu`) compiled and launched through CuPy, on CuPy's current device.

Identities of a chunk stay on the device: only sums, histograms, and rows that were asked for come back. This file is
the launch layer and the only one here that knows CuPy.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cupy
import numpy as np
from numpy.typing import NDArray

from powsim_kernels.backend import BackendUnavailable
from powsim_kernels.cuda import named_faults
from powsim_kernels.ledgers import reference
from powsim_kernels.ledgers.layout import BLOCK, SUMS, Packed, pack
from powsim_kernels.ledgers.plan import Clock, Curve, Devices, LedgerPlan, Price, Users
from powsim_kernels.ledgers.source import COLUMNS, COUNTED, THREADS, given, options_for, shared_bytes, source
from powsim_kernels.ledgers.totals import CELLS, COUNTS, ROWS, LedgerRows, Part, rows_of

NOTHING = np.uint64(0)


@cache
def _kernel(name: str, options: tuple[str, ...], device: int) -> Any:
    """Return a compiled kernel; CuPy keeps compiled code on disk."""
    found = cupy.RawModule(code=source(), options=options).get_function(name)
    _ = found.num_regs  # CuPy compiles when it is first asked
    return found


def run(
    packed: Packed,
    begin: int,
    end: int,
    histograms: list[int],
    rows: bool,
    threads: int | None,
    before: NDArray[np.float64],
) -> Part:
    """Return what becomes of identities begin..end; sums are added to those `before`; `threads` is not used."""
    count, devices = end - begin, len(before)
    if not count:
        return reference.run(packed, begin, end, histograms, rows, threads, before)
    with named_faults(f"simulating {count:,} identities", "give it a smaller chunk"):
        here, options = int(cupy.cuda.runtime.getDevice()), options_for(packed)
        blocks, kept = (end - 1) // BLOCK - begin // BLOCK + 1, sorted(histograms)
        sums = cupy.empty((before.size, blocks), np.float64)
        counted = cupy.zeros(devices * COUNTED + 1, np.uint64)
        cells = cupy.zeros((len(kept), devices, CELLS), np.uint64)
        real: Any = cupy.empty((1 + len(SUMS), count), np.float64) if rows else NOTHING
        whole: Any = cupy.empty((len(ROWS), count), np.uint64) if rows else NOTHING
        table, mask = cupy.asarray(packed.table), np.uint32(sum(1 << which for which in kept))
        arguments = (given(packed), table, np.uint64(begin), np.uint64(end), mask, sums, counted, cells, real, whole)
        grid = (-(-blocks * BLOCK // THREADS),)
        _kernel("simulate", options, here)(grid, (THREADS,), arguments, shared_mem=shared_bytes(devices))
        total, many = cupy.asarray(before.ravel()), np.uint32(before.size)
        grid = (-(-before.size * 32 // THREADS),)
        _kernel("add_blocks", options, here)(grid, (THREADS,), (np.uint64(blocks), many, sums, total))
        told = counted.get()
        added = told[:-1].reshape(devices, COUNTED)
        place = [kept.index(which) for which in histograms]
        return Part(
            added[:, : len(COUNTS)].astype(np.int64),
            added[:, len(COUNTS) :],
            total.get().reshape(before.shape),
            cells.get().astype(np.int64)[place],
            float(told[-1:].view(np.float64)[0]),
            rows_of(whole.get(), real.get()) if rows else None,
        )


def start() -> None:
    """Return where the current device gives known answers. Raises BackendUnavailable."""
    with named_faults("starting"):
        if not int(cupy.cuda.runtime.getDeviceCount()):
            raise BackendUnavailable("backend 'cuda' cannot run: there is no CUDA device: use backend='cpu'")
        cupy.cuda.nvrtc.getVersion()
    curve = Curve(np.array([0.0, 50.0, 90.0]), np.array([0.0, 140.0, 270.0]), 3.0)
    price = Price(14.0, True, 0.05, 2.8, high=40.0, every=16)
    columns = np.array([[0.5, 0.5], [1e5, 1e6], [2e5, 1e6], [5.0, 300.0], [-1.0, 2.0]])
    devices = Devices(columns[0], columns[1], columns[2], columns[3], columns[4], 0.15)
    users = Users(60.0, 0.7, 200, 0.0, 0.02, 0.02, 1.5, 3.65)
    plan = pack(LedgerPlan(20220425, users, curve, price, Clock(0.01, 16, 0.5), devices, 3))
    right, found = (twin(plan, 0, 9, [], True, None, np.zeros((2, COLUMNS))).rows for twin in (reference.run, run))
    for name in LedgerRows.__dataclass_fields__:
        if not np.array_equal(getattr(right, name), getattr(found, name)):
            raise BackendUnavailable(
                f"backend 'cuda' gives wrong answers ({name} of known identities): its results cannot be trusted; "
                "update its compiler and driver, or use backend='cpu'"
            )
