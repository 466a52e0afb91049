"""The CUDA kernels against hashlib on the host: the same sources compiled by g++, warps as fibers (`nogpu/host.h`)."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from mining import hexes, lowest, noise, value_of
from nogpu import host
from nogpu.launch import digests, prepared, search
from powsim_kernels import target_limit
from powsim_kernels.sha256 import reference, tiles
from powsim_kernels.sha256.variants import DEFAULT, VARIANTS

WARP = 32
lanes_both = pytest.mark.parametrize("lanes", [1, WARP], ids=["thread", "warp"])


def first(challenge: bytes, limit: int, begin: int, count: int) -> int:
    return next((i for i in range(count) if value_of(challenge, begin + i) <= limit), count)


@lanes_both
def test_digests_of_every_length(lanes: int) -> None:
    messages = [noise(length, length) for length in (*range(200), 1000, 4096)]
    assert hexes(digests(messages, lanes)) == [hashlib.sha256(message).hexdigest() for message in messages]


@lanes_both
def test_preparation_is_the_references_midstate_and_last_block(lanes: int) -> None:
    challenges = [noise(length, 1) for length in range(200) if length % 64 <= 47]
    for challenge, midstate, tail in zip(challenges, *prepared(challenges, lanes), strict=True):
        blocks = reference.padded(challenge + bytes(8))
        state = reference.INITIAL
        for at in range(0, len(blocks) - 64, 64):
            state = reference.compress(state, blocks[at : at + 64])
        assert midstate.tolist() == list(state)
        assert tail.astype(">u4").tobytes() == blocks[-64:]


def test_a_million_hashes_give_hashlibs_lowest_nonces() -> None:
    challenges = [noise(length, seed) for seed in range(70) for length in (44, 41, 47, 31, 95)]
    expected = [lowest(challenge, 12) for challenge in challenges]
    assert sum(expected) > 2**20
    assert search(challenges, target_limit(12), count=2**17) == expected


def test_every_place_of_the_nonce_finds_hashlibs_nonce() -> None:
    rng = np.random.default_rng(3)
    challenges = [noise(64 * (length % 3) + length, 2) for length in range(48)]
    limits = target_limit(rng.uniform(0, 10, 48))
    begin = rng.integers(0, 2**64 - 2**15, 48, dtype=np.uint64)
    begin[::3] = rng.integers(0, 2**20, 16, dtype=np.uint64)
    expected = [first(c, int(m), int(b), 2**14) for c, m, b in zip(challenges, limits, begin, strict=True)]
    assert search(challenges, limits, begin, 2**14) == expected


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_finds_hashlibs_nonces(name: str) -> None:
    challenges = [noise(44, seed) for seed in range(20)]
    bits = np.arange(20) * 0.6
    expected = [lowest(challenge, b) for challenge, b in zip(challenges, bits.tolist(), strict=True)]
    assert search(challenges, target_limit(bits), count=2**17, variant=VARIANTS[name]) == expected


@pytest.mark.parametrize("seed", range(6))
def test_warps_find_the_lowest_nonce_whoever_comes_first(seed: int) -> None:
    rng = np.random.default_rng(4)
    challenges = [noise(44, row) for row in range(30)]
    bits = rng.uniform(0, 12, 30)
    begin = rng.integers(0, 5000, 30, dtype=np.uint64)
    expected = [lowest(c, b, s) - s for c, b, s in zip(challenges, bits.tolist(), begin.tolist(), strict=True)]
    got = search(challenges, target_limit(bits), begin, 2**16, lanes=WARP, seed=seed, blocks=1 + seed % 4)
    assert got == expected


@pytest.mark.parametrize("seed", range(3))
def test_many_warps_on_one_puzzle_find_its_lowest_nonce(seed: int) -> None:
    limit = int(target_limit(11.5)[0])
    # The last word holds 8 bits of the nonce, 256 to a tile: the warps hold 16 tiles together.
    challenge = next(c for c in (noise(41, n) for n in range(99)) if 5000 < first(c, limit, 77, 2**15) < 2**15)
    expected = first(challenge, limit, 77, 2**15)
    for count in (expected, expected + 1, expected + 2, 2**15):
        assert search([challenge], limit, 77, count, lanes=WARP, seed=seed, blocks=4) == [min(expected, count)]


@pytest.mark.parametrize("seed", range(8))
def test_a_warp_stays_whole_when_its_lanes_see_a_find_at_different_times(seed: int) -> None:
    # With a look at every step, lanes of one warp read `best` before and after another warp has written it.
    challenge = noise(44, 12)
    limit = int(target_limit(11)[0])
    expected = first(challenge, limit, 0, 2**15)
    options = {"lanes": WARP, "seed": seed, "blocks": 2, "macros": ("-DPAUSE=1",)}
    assert search([challenge], limit, 0, 2**15, **options) == [expected]


@lanes_both
def test_a_launch_of_many_segments_finds_every_lowest_nonce(lanes: int) -> None:
    # A row ends at every level, so that there are more segments than lanes look at together.
    challenges = [noise(44, row) for row in range(80)]
    count = [256 * (row + 1) for row in range(80)]
    limit = int(target_limit(12)[0])
    expected = [first(challenge, limit, 0, n) for challenge, n in zip(challenges, count, strict=True)]
    found = [index < n for index, n in zip(expected, count, strict=True)]
    assert any(found)
    assert not all(found)
    (launch,) = tiles.launches(
        *(np.arange(80), np.full(80, 44), np.zeros(80, np.uint64), np.array(count, np.uint64)),
        *(np.full(80, limit, np.uint64), 8000),
    )
    assert len(launch.segments) == 80
    assert search(challenges, limit, 0, count, lanes=lanes, blocks=4, warps=8000) == expected


@lanes_both
def test_the_limit_is_64_bits_and_inclusive(lanes: int) -> None:
    # The lowest of many values as the limit: its first word equals the limit's, so that the second decides.
    challenge = noise(44, 8)
    values = [value_of(challenge, nonce) for nonce in range(6000)]
    winner = int(np.argmin(values))
    limit = values[winner]
    arguments = [challenge] * 3, [limit, limit - 1, limit | 0xFFFFFFFF], 0, 6000
    assert search(*arguments, lanes=lanes) == [winner, 6000, winner]


@lanes_both
def test_a_candidate_that_fails_by_its_second_word_ends_nothing(lanes: int) -> None:
    for seed in range(99):
        values = [value_of(noise(44, seed), nonce) for nonce in range(4000)]
        winner, second = np.argsort(values)[:2].tolist()
        if second < winner and second // 256 == winner // 256:  # met first, in the same tile
            break
    limit = values[second] - 1
    assert limit >> 32 == values[second] >> 32
    assert search([noise(44, seed)], limit, 0, 4000, lanes=lanes) == [winner]


def test_no_bits_are_solved_by_the_first_nonce_and_64_bits_by_none() -> None:
    challenges = [noise(44, 1)] * 2
    assert search(challenges, target_limit([0, 64]), 12345, 3000, lanes=WARP) == [0, 3000]


@lanes_both
@pytest.mark.parametrize("length", [41, 42, 44])
@pytest.mark.parametrize("edge", [2**8, 2**13, 2**16, 2**24, 2**32, 2**40, 2**64])
def test_ranges_cross_every_carry_of_the_nonce_and_reach_its_end(edge: int, length: int, lanes: int) -> None:
    challenge = noise(length, edge % 97)
    begin, before = edge - 150, 150
    after = 0 if edge == 2**64 else 200
    values = [value_of(challenge, begin + i) for i in range(before + after)]
    for part in {len(values), before, before + after // 2}:
        limit = min(values[:part])
        assert search([challenge], limit, begin, part, lanes=lanes) == [values.index(limit)]
    # Beyond the edge alone, where it is not the end.
    if after:
        limit = min(values[before:])
        expected = next(i for i, value in enumerate(values) if value <= limit)
        assert search([challenge], limit, begin, len(values), lanes=lanes) == [expected]


@lanes_both
def test_nothing_beyond_the_range_is_found(lanes: int) -> None:
    # Lanes of a clipped tile run past its end: they must not win, nor hide a winner.
    challenge = noise(44, 3)
    for begin in (0, 1, 31, 250, 8191, 8192 * 3 - 1):
        for count in (1, 2, 31, 32, 33, 255, 300):
            limit = min(value_of(challenge, begin + i) for i in range(count + 40))
            assert search([challenge], limit, begin, count, lanes=lanes) == [first(challenge, limit, begin, count)]


@pytest.mark.parametrize("length", [41, 45])
def test_a_word_that_wraps_finds_nothing(length: int) -> None:
    # The last word holds 8 bits. A tile that begins at 256 n + 20 leaves its last 20 lanes without a nonce of their
    # own; their word wraps to what the 20 nonces before the range had.
    challenge = noise(length, 4)
    wrapped = 0
    for block in range(100):
        values = [value_of(challenge, 256 * block + i) for i in range(256)]
        limit = min(values[20:]) - 1  # else a nonce of the range solves before the wrapped ones are reached
        if min(values[:20]) >> 32 < limit >> 32:  # by its first word, so that nothing looks at it again
            begin = 256 * block + 20
            expected = first(challenge, limit, begin, 5000)
            assert search([challenge], limit, begin, 5000, lanes=WARP) == [expected]
            wrapped += 1
    assert wrapped >= 3


def test_rows_do_not_influence_each_other() -> None:
    challenges = [noise(length, 9) for length in (44, 44, 41, 31, 45, 44)]
    limits = target_limit([4, 9, 2.5, 6, 0, 64])
    begin, count = [0, 7, 2**63 + 1, 2**32 - 9, 3, 5], [2**13, 2**14, 100, 2**12, 1, 777]
    together = search(challenges, limits, begin, count, lanes=WARP, seed=5)
    alone = [search([c], *x, lanes=WARP)[0] for c, *x in zip(challenges, limits, begin, count, strict=True)]
    assert together == alone


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("if (lane == 3) return;\n*out = __ballot_sync(ALL, 1);", "returned while others of its warp wait"),
        ("if (lane & 1) *out = __ballot_sync(ALL, 1);\nelse *out = __ballot_sync(ALL, 0);", "wait at different places"),
    ],
)
def test_the_host_build_sees_warps_that_fall_apart(body: str, fault: str) -> None:
    head = 'extern "C" __global__ void broken(unsigned* out) {\nconst unsigned lane = threadIdx.x;\n'
    library = host.build(f"#define ALL 0xffffffffu\n{head}{body}\n}}\n", (), WARP)
    with pytest.raises(RuntimeError, match=fault):
        host.launch(library, "broken", 1, 64, (np.zeros(1, np.uint32),))


def test_the_host_build_runs_ballots_and_shuffles_as_a_warp_does() -> None:
    code = (
        'extern "C" __global__ void warp(unsigned long long* out) {\n'
        "  const unsigned lane = threadIdx.x % 32, odd = __ballot_sync(0xffffffffu, lane & 1);\n"
        "  out[threadIdx.x] = odd + __shfl_sync(0xffffffffu, (unsigned long long)threadIdx.x, 5);\n"
        "}\n"
    )
    out = np.zeros(64, np.uint64)
    host.launch(host.build(code, (), WARP), "warp", 1, 64, (out,), seed=9)
    assert out.tolist() == [0xAAAAAAAA + 5] * 32 + [0xAAAAAAAA + 37] * 32


def test_the_default_variant_is_the_one_tested_most() -> None:
    assert VARIANTS["balanced"] == DEFAULT
