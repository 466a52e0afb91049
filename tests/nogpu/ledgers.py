"""The CUDA ledgers on the host build: the kernels launched as `ledgers/cuda.py` launches them."""

from __future__ import annotations

import numpy as np

from nogpu import host
from powsim_kernels.ledgers import LedgerPlan, Ledgers
from powsim_kernels.ledgers.layout import BLOCK, SUMS, pack
from powsim_kernels.ledgers.source import COUNTED, THREADS, given, options_for, shared_bytes, source
from powsim_kernels.ledgers.totals import CELLS, ROWS, Part, rows_of, sums_of, totals_of, with_part


def simulate(
    plan: LedgerPlan, begin: int, end: int, histograms: tuple[str, ...] = ("overhead",), seed: int = 0
) -> Ledgers:
    """Return what the kernels make of identities begin..end; histograms in the order of SUMS."""
    packed = pack(plan)
    library = host.build(source(), options_for(packed), 32)
    count, devices = end - begin, len(plan.devices.share)
    real, whole = np.zeros((1 + len(SUMS), count)), np.zeros((len(ROWS), count), np.uint64)
    blocks = (end - 1) // BLOCK - begin // BLOCK + 1
    total = sums_of(totals_of(histograms, devices))
    sums, counted = np.full((total.size, blocks), np.nan), np.zeros(devices * COUNTED + 1, np.uint64)
    cells = np.zeros((len(histograms), devices, CELLS), np.uint64)
    mask = sum(1 << SUMS.index(name) for name in histograms)
    arguments = (given(packed), packed.table, begin, end, mask, sums, counted, cells, real, whole)
    host.launch(library, "simulate", -(-blocks * BLOCK // THREADS), THREADS, arguments, seed, shared_bytes(devices))
    host.launch(library, "add_blocks", -(-total.size * 32 // THREADS), THREADS, (blocks, total.size, sums, total))
    added = counted[:-1].reshape(devices, COUNTED)
    part = Part(
        added[:, :4].astype(np.int64),
        added[:, 4:],
        total,
        cells.astype(np.int64),
        float(counted[-1:].view(np.float64)[0]),
        rows_of(whole, real),
    )
    return Ledgers(with_part(totals_of(histograms, devices), part), part.rows)
