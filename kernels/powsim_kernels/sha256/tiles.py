"""Rows of nonces as the tickets of a GPU launch: plain NumPy, so that it is tested without a GPU.

A row is a puzzle with a range of nonces. It is cut into tiles: the nonces that agree in all but their `tile_bits` low
bits. A ticket is one tile, and warps draw tickets in order, breadth first: the first tile of every row, then the second
tile of every row that has one, and so on. Depth first would be wrong for speed, though not for the result: the tiles of
one row that are in flight together are mostly wasted once its lowest nonce turns up in the first of them.

The rows stand with the most tiles first, so that those with more than k tiles are the first n_k rows, and n_k changes
only where a row ends. A segment is a run of tickets between two such changes; inside it, ticket number i belongs to row
i mod n_k. There are at most as many segments as rows, and a warp finds its own in three reads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST_BITS, MOST_BITS = 8, 13
"""Tiles of 256 to 8192 nonces: below, drawing a ticket and preparing the constants costs more than the search; above,
the last tiles of a launch keep most of the device waiting (event model of gpu_sha.md section 7)."""

# As in mine.cu.
ROW = np.dtype(
    [
        ("begin", "<u8"),
        ("count", "<u8"),
        ("limit", "<u8"),
        ("puzzle", "<u4"),
        ("tile_bits", "u1"),
        ("width", "u1"),
        ("unused", "u1", 2),
    ]
)
SEGMENT = np.dtype([("ticket", "<u8"), ("level", "<u8"), ("rows", "<u8")])

Counts = NDArray[np.uint64]


class Share(NamedTuple):
    """What one device gets of a search: for each part of a row, its row, how far into it, and how many nonces."""

    row: NDArray[np.int64]
    skip: Counts
    nonces: Counts


class Launch(NamedTuple):
    """The rows whose nonce ends in one block word."""

    word: int
    order: NDArray[np.int64]  # which of the given rows stands where
    rows: NDArray[np.void]  # [R] of ROW, most tiles first
    segments: NDArray[np.void]  # [S] of SEGMENT
    tickets: int


def cut(count: Counts, devices: int) -> list[Share]:
    """Return `devices` equal shares of the ranges of all rows laid end to end; together at most 2^63 nonces."""
    ends = np.cumsum(count, dtype=np.uint64)
    begins = ends - count
    total = int(ends[-1]) if len(ends) else 0
    shares = []
    for device in range(devices):
        low = np.maximum(begins, np.uint64(total * device // devices))
        high = np.minimum(ends, np.uint64(total * (device + 1) // devices))
        row = np.flatnonzero(low < high)
        shares.append(Share(row, (low - begins)[row], (high - low)[row]))
    return shares


def tile_bits(limits: NDArray[np.uint64], warps: int) -> NDArray[np.uint8]:
    """Return log2 of the tile size of each row: uint8 [R], 8..13.

    With a row or more for every warp a tile is four times the expected search, so that a warp mostly solves its row in
    one tile; with fewer rows, so small that one tile for every warp covers the expected searches of all rows together.
    """
    rows = len(limits)
    # By the exponent of limit + 1, bits rounded up: 200,000 logarithms would take longer than the launch.
    exponent = ((limits.astype(np.float64) + 1.0).view(np.uint64) >> np.uint64(52)) - np.uint64(1023)
    bits = 64.0 - np.arange(65)
    wanted = bits + 2.0 if rows >= warps else bits - 3.0 + np.log2(8.0 * max(rows, 1) / warps)
    sizes = np.clip(np.rint(wanted), LEAST_BITS, MOST_BITS).astype(np.uint8)
    chosen: NDArray[np.uint8] = sizes[exponent]
    return chosen


def segments_of(tiles: Counts) -> tuple[NDArray[np.void], int]:
    """Return (segments, tickets) for rows with so many tiles each, largest first."""
    levels, counts = np.unique(tiles, return_counts=True)
    first = np.concatenate((np.zeros(1, np.uint64), levels[:-1]))
    rows = (len(tiles) - np.concatenate(([0], np.cumsum(counts)[:-1]))).astype(np.uint64)
    ends = np.cumsum(rows * (levels - first), dtype=np.uint64)
    segments = np.empty(len(levels), SEGMENT)
    segments["level"], segments["rows"] = first, rows
    segments["ticket"] = np.concatenate((np.zeros(1, np.uint64), ends[:-1]))
    return segments, int(ends[-1])


def launches(
    puzzle: NDArray[np.int64],
    place: NDArray[np.int64],
    begin: NDArray[np.uint64],
    count: Counts,
    limits: NDArray[np.uint64],
    warps: int,
) -> list[Launch]:
    """Return what to launch for rows with the nonce at byte `place` of the last block: one launch per block word."""
    word, width = (place + 7) // 4, 8 * ((place + 7) % 4 + 1)
    result = []
    for number in np.flatnonzero(np.bincount(word)).tolist():
        which = np.flatnonzero(word == number)
        # A tile must not reach into the next value of the nonce bytes above its word.
        bits = np.minimum(tile_bits(limits[which], warps), width[which]).astype(np.uint8)
        last = begin[which] + (count[which] - np.uint64(1))
        tiles = (last >> bits) - (begin[which] >> bits) + np.uint64(1)
        most_first = np.argsort(tiles)[::-1]
        order = which[most_first]
        # Field by field in the new order: NumPy takes whole records out of order twenty times more slowly.
        rows = np.zeros(len(order), ROW)
        for name, values in (("begin", begin), ("count", count), ("limit", limits), ("puzzle", puzzle)):
            rows[name] = values[order]
        rows["tile_bits"], rows["width"] = bits[most_first], width[order]
        segments, tickets = segments_of(tiles[most_first])
        result.append(Launch(number, order, rows, segments, tickets))
    return result
