"""The CUDA ledgers on the host build: the three kernels launched as `ledgers/cuda.py` launches them."""

from __future__ import annotations

import numpy as np

from nogpu import host
from powsim_kernels.ledgers import LedgerPlan, Ledgers
from powsim_kernels.ledgers.layout import BLOCK, SUMS, pack
from powsim_kernels.ledgers.source import OPTIONS, source
from powsim_kernels.ledgers.totals import CELLS, ROWS, Part, rows_of, totals_of, with_part


def simulate(plan: LedgerPlan, begin: int, end: int, histograms: tuple[str, ...] = ("overhead",)) -> Ledgers:
    """Return what the kernels make of identities begin..end."""
    library = host.build(source(), OPTIONS, 1)
    numbers, integers, table = pack(plan)
    count, devices = end - begin, len(plan.devices.share)
    real, whole = np.zeros((1 + len(SUMS), count)), np.zeros((len(ROWS), count), np.uint64)
    host.launch(library, "simulate", -(-count // 128), 128, (numbers, integers, table, begin, count, real, whole))
    blocks = (end - 1) // BLOCK - begin // BLOCK + 1
    sums, counted = np.zeros((blocks, devices, 2 * len(SUMS) + 1)), np.zeros((blocks, devices, 6), np.uint64)
    columns = blocks * (sums.shape[2] + 6)
    host.launch(library, "add_up", -(-columns // 128), 128, (begin, count, devices, real, whole, sums, counted))
    cells = np.zeros((len(histograms), devices, CELLS), np.uint64)
    for name, into in zip(histograms, cells, strict=True):
        values = real[1 + SUMS.index(name)]
        host.launch(library, "histogram", -(-count // 128), 128, (count, values, whole[2], into))
    added = counted.sum(axis=0)
    part = Part(
        added[:, :4].astype(np.int64), added[:, 4:], sums, cells.astype(np.int64), real[1].max(), rows_of(whole, real)
    )
    return Ledgers(with_part(totals_of(histograms, devices), part), part.rows)
