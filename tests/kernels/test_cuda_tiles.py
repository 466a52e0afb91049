"""How rows of nonces become tickets of a GPU launch, and shares of several devices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powsim_kernels import target_limit
from powsim_kernels.sha256 import tiles
from powsim_kernels.sha256.variants import source

FEW = settings(max_examples=100, deadline=None, derandomize=True)


def tickets_of(launch: tiles.Launch) -> list[tuple[int, int]]:
    """Return (place among the rows, tile of the row) of every ticket, by the plain reading of the segments."""
    result = []
    for ticket in range(launch.tickets):
        segment = launch.segments[np.flatnonzero(launch.segments["ticket"] <= ticket)[-1]]
        turn, row = divmod(ticket - int(segment["ticket"]), int(segment["rows"]))
        result.append((row, int(segment["level"]) + turn))
    return result


def launches(begin: list[int], count: list[int], place: list[int], bits: object = 4.0, warps: int = 8):
    rows = len(begin)
    limits = np.broadcast_to(target_limit(bits), rows).copy()
    arrays = [np.array(x, np.uint64) for x in (begin, count)]
    return tiles.launches(np.arange(100, 100 + rows), np.array(place), *arrays, limits, warps)


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2**64 - 2**15), st.integers(1, 2**14), st.integers(0, 47)), min_size=1, max_size=12
    )
)
@FEW
def test_every_nonce_belongs_to_exactly_one_ticket(rows: list[tuple[int, int, int]]) -> None:
    begin, count, place = (list(x) for x in zip(*rows, strict=True))
    seen = 0
    for launch in launches(begin, count, place):
        tickets = tickets_of(launch)
        assert len(set(tickets)) == launch.tickets
        for number, (row, given_row) in enumerate(zip(launch.rows, launch.order, strict=True)):
            assert (row["begin"], row["count"]) == (begin[given_row], count[given_row])
            assert row["puzzle"] == 100 + given_row
            assert row["width"] == 8 * ((place[given_row] + 7) % 4 + 1)
            assert launch.word == (place[given_row] + 7) // 4
            size = int(row["tile_bits"])
            numbers = [tile for r, tile in tickets if r == number]
            assert numbers == list(range(len(numbers)))  # the tiles of a row in their order
            first = begin[given_row] >> size
            last = (begin[given_row] + count[given_row] - 1) >> size
            assert len(numbers) == last - first + 1
            seen += 1
    assert seen == len(rows)


def test_tickets_go_breadth_first() -> None:
    (launch,) = launches([0, 0, 0, 0], [700, 256, 1025, 3], [44] * 4, bits=0.0)
    assert launch.rows["tile_bits"].tolist() == [8] * 4
    assert launch.rows["count"].tolist()[:2] == [1025, 700]
    levels = [tile for _, tile in tickets_of(launch)]
    assert levels == sorted(levels) == [0] * 4 + [1] * 2 + [2] * 2 + [3, 4]
    assert len(launch.segments) == 3


def test_a_tile_never_crosses_the_word_that_varies() -> None:
    for place in range(48):
        (launch,) = launches([0], [10], [place], bits=30.0)
        width = 8 * ((place + 7) % 4 + 1)
        assert launch.rows["width"].tolist() == [width]
        assert launch.rows["tile_bits"].tolist() == [min(13, width)]


@pytest.mark.parametrize(
    ("bits", "rows", "warps", "expected"),
    [(8.0, 5000, 2112, 10), (4.0, 5000, 2112, 8), (20.0, 5000, 2112, 13), (20.0, 8, 2112, 12), (28.0, 1, 2112, 13)],
)
def test_tiles_grow_with_difficulty_and_rows(bits: float, rows: int, warps: int, expected: int) -> None:
    assert set(tiles.tile_bits(np.repeat(target_limit(bits), rows), warps).tolist()) == {expected}


@given(count=st.lists(st.integers(0, 2**40), min_size=1, max_size=20), devices=st.integers(1, 9))
@FEW
def test_shares_of_devices_are_equal_and_cover_every_range_once(count: list[int], devices: int) -> None:
    shares = tiles.cut(np.array(count, np.uint64), devices)
    sizes = [int(share.nonces.sum()) for share in shares]
    assert sum(sizes) == sum(count)
    assert max(sizes) - min(sizes) <= 1
    for row, size in enumerate(count):
        parts = [
            (int(skip), int(nonces))
            for share in shares
            for r, skip, nonces in zip(share.row, share.skip, share.nonces, strict=True)
            if r == row
        ]
        at = 0
        for skip, nonces in sorted(parts):
            assert (skip, nonces > 0) == (at, True)
            at += nonces
        assert at == size


def test_the_layouts_are_those_of_the_kernel() -> None:
    assert (tiles.ROW.itemsize, tiles.SEGMENT.itemsize) == (32, 24)
    code = source("mine.cu").split("struct Row {")[1].split("};")[0]
    places = [code.index(f" {name}") for name in tiles.ROW.names]
    assert places == sorted(places)
