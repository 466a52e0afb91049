"""Lowest nonces, ranges, resumption, cancellation and progress, against hashlib."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mining import hexes, lowest, noise, same, value_of
from powsim_kernels import MineProgress, mine, sha256, target_limit, verify
from powsim_kernels.sha256 import cpu, ranges, reference
from powsim_kernels.sha256 import search as search_module
from powsim_kernels.sha256.search import CHUNK_S, quantile95

FAST = cpu.paths()[0]  # "cpu" itself begins with a loop over hashlib, see test_headstart
TWINS = ("reference", FAST)
LENGTHS = [length for length in range(192) if length % 64 <= 47]
FEW = settings(max_examples=60, deadline=None, derandomize=True)
both = pytest.mark.parametrize("backend", TWINS)


@pytest.mark.parametrize(("backend", "most_bits"), [("reference", 6.0), (FAST, 14.0)])
def test_lowest_nonce_of_every_challenge_length(backend: str, most_bits: float) -> None:
    challenges = [noise(length, length) for length in LENGTHS]
    bits = np.arange(len(LENGTHS)) * 0.5 % (most_bits + 0.5)
    result = mine(challenges, bits, backend=backend)
    expected = [lowest(*puzzle) for puzzle in zip(challenges, bits.tolist(), strict=True)]
    assert result.nonce.tolist() == expected
    assert result.tries.tolist() == [nonce + 1 for nonce in expected]
    assert result.found.all()
    winners = [c + n.to_bytes(8, "big") for c, n in zip(challenges, expected, strict=True)]
    assert hexes(result.digest) == [hashlib.sha256(winner).hexdigest() for winner in winners]
    assert verify(challenges, result.nonce, bits, backend=backend).all()
    assert (result.backend, result.nonce.dtype, result.tries.dtype) == (backend, np.uint64, np.uint64)


@given(
    challenge=st.binary(max_size=47),
    blocks=st.integers(0, 2),
    bits=st.floats(0, 7),
    start=st.integers(0, 2**64 - 2**14),
)
@FEW
def test_twins_find_the_lowest_nonce_from_any_start(challenge: bytes, blocks: int, bits: float, start: int) -> None:
    message = bytes(range(64)) * blocks + challenge
    results = [mine(message, bits, start=start, backend=backend) for backend in TWINS]
    assert same(*results)
    assert results[0].nonce.tolist() == [lowest(message, bits, start)]
    assert int(results[0].tries[0]) == int(results[0].nonce[0]) - start + 1


@pytest.mark.parametrize("length", [0, 3, 47, 64, 75])
def test_threads_do_not_change_the_nonce_of_a_hard_puzzle(length: int) -> None:
    challenge = noise(length, 5)
    results = [mine(challenge, 16.7, threads=threads, backend=FAST) for threads in (1, 2, 3, None)]
    assert results[0].nonce.tolist() == [lowest(challenge, 16.7)]
    assert all(same(results[0], other) for other in results[1:])


def test_threads_do_not_change_a_batch() -> None:
    challenges = [noise(row % 48, row) for row in range(3000)]
    bits = np.arange(3000) % 9
    results = [mine(challenges, bits, threads=threads, backend=FAST) for threads in (1, 2)]
    assert same(*results)
    assert results[0].nonce.tolist() == [lowest(c, b) for c, b in zip(challenges, bits.tolist(), strict=True)]


@both
def test_rows_do_not_influence_each_other(backend: str) -> None:
    challenges = [noise(length, 9) for length in (0, 5, 64, 70, 40)]
    bits, start = np.array([5.0, 2.5, 6.0, 0.0, 4.0]), [0, 7, 2**63 + 1, 2**64 - 1, 3]
    together = mine(challenges, bits, start=start, backend=backend)
    for row, challenge in enumerate(challenges):
        alone = mine(challenge, bits[row], start=start[row], backend=backend)
        assert alone.nonce[0] == together.nonce[row]
        assert alone.tries[0] == together.tries[row]
    challenges[2], bits[2] = b"another", 3.0
    changed = mine(challenges, bits, start=start, backend=backend)
    others = [0, 1, 3, 4]
    assert changed.nonce[2] != together.nonce[2]
    assert np.array_equal(changed.nonce[others], together.nonce[others])


@pytest.mark.parametrize(("backend", "bits"), [("reference", 7), (FAST, 16)])
def test_a_range_of_nonces_is_searched_to_its_very_end(backend: str, bits: int) -> None:
    twin = {"reference": reference, FAST: cpu.twin(FAST)}[backend]
    challenge = noise(13, 1)
    nonce = lowest(challenge, bits)
    assert backend == "reference" or nonce > 2 * ranges.PIECE  # so that pieces are crossed
    value = value_of(challenge, nonce)
    puzzles = twin.prepare([b"not this one", challenge], 1)

    def search(count: int, limit: int) -> int:
        arrays = [np.array([x], np.uint64) for x in (0, count, limit)]
        return int(twin.search(puzzles, np.array([1]), *arrays, 2)[0])

    assert search(nonce + 1, value) == nonce  # the limit itself is accepted
    assert search(nonce + 1, value - 1) == nonce + 1  # one below is not: count stands for none
    assert search(nonce, value) == nonce
    assert search(nonce + 4 * ranges.PIECE if backend == FAST else nonce + 9, value) == nonce


@both
@pytest.mark.parametrize("length", [*range(48, 64), 112, 127])
def test_lengths_without_room_for_the_nonce_are_refused(backend: str, length: int) -> None:
    whole = length // 64 * 64
    text = (
        rf"challenges\[1\] of {length} bytes leaves, with the nonce, {length - whole + 8} bytes .* limit of 55: pad "
        rf"the challenge to a multiple of 64 \({whole + 64} bytes\), or shorten it to {whole + 47}"
    )
    for call in (lambda c: mine(c, 1, backend=backend), lambda c: verify(c, 0, 1, backend=backend)):
        with pytest.raises(ValueError, match=text):
            call([b"", bytes(length)])
        for cured in (whole + 64, whole + 47):
            call([b"", bytes(cured)])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: mine("abc", 1), TypeError, "challenges is a str: encode it first"),
        (lambda: mine([b"a", "b"], 1), TypeError, r"challenges\[1\] is of type str: encode it first"),
        (lambda: mine([b"a", 3], 1), TypeError, r"challenges\[1\] is of type int: bytes are needed"),
        (lambda: mine(3, 1), TypeError, "challenges is of type int"),
        (lambda: sha256("abc"), TypeError, "messages is a str: encode it first"),
        (lambda: verify("abc", 0, 1), TypeError, "challenges is a str: encode it first"),
        (lambda: mine(b"a", "8"), TypeError, "bits have dtype <U1"),
        (lambda: mine([b"a"] * 3, [1, 2]), ValueError, r"bits has shape \(2,\), but there are 3 challenges"),
        (lambda: mine([b"a"] * 3, [1]), ValueError, r"bits has shape \(1,\), but there are 3 challenges"),
        (lambda: mine([b"a"] * 3, 1, start=[1, 2]), ValueError, r"start has shape \(2,\)"),
        (lambda: verify([b"a"] * 3, [1, 2], 1), ValueError, r"nonces has shape \(2,\)"),
        (lambda: mine(b"a", 1, start=-1), ValueError, r"start -1 is outside 0\.\.2\^64-1"),
        (lambda: mine(b"a", 1, start=2**64), ValueError, "start 18446744073709551616 is outside"),
        (lambda: verify([b"a"] * 2, [2**63, -4], 1), ValueError, "nonces -4 is outside"),
        (lambda: verify(b"a", 2**64, 1), ValueError, "nonces 18446744073709551616 is outside"),
        (lambda: mine(b"a", 1, start=1.0), TypeError, r"start holds 1\.0: integers are needed"),
        (lambda: verify(b"a", True, 1), TypeError, "nonces holds True: integers are needed"),
        (lambda: mine(b"a", 1, limit=-1), ValueError, "limit=-1 must be at least 0"),
        (lambda: mine(b"a", 1, limit=1.5), TypeError, r"limit=1\.5 must be an integer"),
        (lambda: mine(b"a", 1, threads=0), ValueError, "threads=0 must be at least 1"),
        (lambda: mine(b"a", 1, threads=0, backend="reference"), ValueError, "threads=0 must be at least 1"),
        (lambda: mine(b"a", 1, backend="gpu"), ValueError, "unknown backend 'gpu'"),
    ],
)
def test_refused_arguments(call, error, text) -> None:
    with pytest.raises(error, match=text):
        call()


@both
def test_no_puzzles_give_empty_arrays(backend: str) -> None:
    for bits in (8, []):
        result = mine([], bits, backend=backend)
        assert (result.nonce.shape, result.digest.shape, result.next_start.shape) == ((0,), (0, 32), (0,))
        assert verify([], [], bits, backend=backend).shape == (0,)
    assert sha256([], backend=backend).shape == (0, 32)
    assert sha256([b""], backend=backend).shape == (1, 32)


@both
def test_start_is_where_the_search_begins(backend: str) -> None:
    challenge = noise(20, 2)
    first = lowest(challenge, 6)
    again = mine(challenge, 6, start=first, backend=backend)
    later = mine(challenge, 6, start=first + 1, backend=backend)
    assert (again.nonce.tolist(), again.tries.tolist()) == ([first], [1])
    assert later.nonce.tolist() == [lowest(challenge, 6, first + 1)]
    assert later.tries.tolist() == [int(later.nonce[0]) - first]


@both
def test_limit_counts_nonces(backend: str) -> None:
    challenges = [noise(20, seed) for seed in range(4)]
    tries = [lowest(challenge, 6) + 1 for challenge in challenges]
    limit = sorted(tries)[1]
    result = mine(challenges, 6, limit=limit, backend=backend)
    assert result.found.tolist() == [needed <= limit for needed in tries]
    assert result.found.sum() == 2  # one of them at exactly the limit
    assert result.tries.tolist() == [min(needed, limit) for needed in tries]
    assert result.nonce.tolist() == [needed - 1 if needed <= limit else 0 for needed in tries]
    assert not result.digest[~result.found].any()
    assert result.next_start.tolist() == [needed - 1 if needed <= limit else limit for needed in tries]
    none = mine(challenges, 0, limit=0, start=3, backend=backend)
    assert (none.found.any(), none.tries.tolist(), none.next_start.tolist()) == (False, [0] * 4, [3] * 4)


@pytest.mark.parametrize(("backend", "bits", "limit"), [("reference", 7, 50), (FAST, 13, 1000)])
def test_resuming_ends_where_one_search_ends(backend: str, bits: int, limit: int) -> None:
    challenges = [noise(30, seed) for seed in range(5)]
    whole = mine(challenges, bits, start=11, backend=backend)
    tries = np.zeros(5, np.uint64)
    part = mine(challenges, bits, start=11, limit=limit, backend=backend)
    assert not part.found.all()
    while True:
        # A puzzle found in an earlier part starts at its nonce, 10 + tries, and is not counted again.
        tries += np.where(part.start > tries + np.uint64(10), part.tries, np.uint64(0))
        if part.found.all():
            break
        part = mine(challenges, bits, start=part.next_start, limit=limit, backend=backend)
    assert np.array_equal(part.nonce, whole.nonce)
    assert np.array_equal(part.digest, whole.digest)
    assert np.array_equal(tries, whole.tries)


@both
@pytest.mark.parametrize("left", [1, 2, 300])
def test_the_nonces_end(backend: str, left: int) -> None:
    result = mine([b"x", b"y"], [64, 0], start=2**64 - left, backend=backend)
    assert result.found.tolist() == [False, True]
    assert result.tries.tolist() == [left, 1]
    assert result.nonce.tolist() == [0, 2**64 - left]
    assert result.next_start.tolist() == [2**64 - 1, 2**64 - left]
    resumed = mine([b"x", b"y"], [64, 0], start=result.next_start, backend=backend)
    assert resumed.found.tolist() == [False, True]


class AfterPolls:
    """A cancellation that comes with the n-th question."""

    def __init__(self, polls: int) -> None:
        self.left = polls

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize(("backend", "bits"), [("reference", 8.5), (FAST, 17)])
def test_a_cancelled_search_can_be_resumed(backend: str, bits: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.twin(FAST), "FIRST_CHUNK", 1 << 16)  # else hashlib has too much to do below
    first_chunk = {"reference": reference, FAST: cpu.twin(FAST)}[backend].FIRST_CHUNK
    hard = next(c for c in (noise(9, seed) for seed in range(99)) if lowest(c, bits) > first_chunk)
    challenges, each = [b"easy", hard, b"never begun"], np.array([1.0, bits, bits])
    part = mine(challenges, each, cancel=AfterPolls(1), backend=backend)
    assert part.found.tolist() == [True, False, False]
    assert part.nonce.tolist() == [lowest(b"easy", 1), 0, 0]
    assert 0 < int(part.tries[1]) <= lowest(hard, bits)
    assert part.tries[2] == 0
    assert part.next_start[1] == part.tries[1]
    resumed = mine(challenges, each, start=part.next_start, backend=backend)
    assert resumed.nonce.tolist() == [lowest(c, b) for c, b in zip(challenges, each.tolist(), strict=True)]


@both
def test_a_cancellation_that_is_already_set_tries_nothing(backend: str) -> None:
    cancel = threading.Event()
    cancel.set()
    result = mine([b"a", b"b"], 0, start=5, cancel=cancel, backend=backend)
    assert (result.tries.tolist(), result.found.any(), result.next_start.tolist()) == ([0, 0], False, [5, 5])


@both
def test_a_cancellation_from_another_thread_stops_an_endless_search(backend: str) -> None:
    cancel = threading.Event()
    timer = threading.Timer(0.2, cancel.set)
    timer.start()
    began = time.perf_counter()
    result = mine(b"endless", 64, cancel=cancel, backend=backend)
    assert time.perf_counter() - began < 2.0  # a chunk is 0.05 s; the machine may be busy
    assert not result.found[0]
    assert int(result.tries[0]) > 0


@both
def test_ctrl_c_stops_an_endless_search(backend: str) -> None:
    failsafe = threading.Event()
    timers = [
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)),
        threading.Timer(5.0, failsafe.set),
    ]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for timer in timers:
            timer.start()
        with pytest.raises(KeyboardInterrupt):
            mine(b"endless", 64, cancel=failsafe, backend=backend)
    finally:
        signal.signal(signal.SIGINT, before)
        for timer in timers:
            timer.cancel()


def test_chunks_stay_short() -> None:
    seen: list[MineProgress] = []
    challenges = [b"%d" % row for row in range(100_000)]
    mine(challenges, [0.0] * 99_999 + [64.0], limit=200_000_000, on_progress=seen.append, backend=FAST, threads=1)
    gaps = np.diff([progress.seconds for progress in seen])
    assert len(gaps) >= 4
    assert np.median(gaps) < 3 * CHUNK_S  # the median: one chunk may meet a busy machine


def test_no_puzzle_is_lost_when_chunks_shrink() -> None:
    sizes: list[int] = []

    def slow_then_lucky(puzzles, rows, begin, count, limits, threads):
        sizes.append(len(rows))
        if len(sizes) > 1:
            return np.zeros(len(rows), np.uint64)
        time.sleep(1.0)  # 3200 fruitless hashes in a second: the next chunk takes a quarter of the puzzles
        return count

    twin = SimpleNamespace(FIRST_CHUNK=4000, BREADTH=1, energy_j=lambda: None, search=slow_then_lucky)
    start, limits = np.zeros(100, np.uint64), target_limit(np.full(100, 4.0))
    nothing = {"threads": 1, "cancel": None, "on_progress": None}
    tries, found = search_module.search(twin, None, start, limits, None, **nothing)
    assert sizes[:2] == [100, 32]
    assert found.all()
    assert tries.tolist() == [33] * 100


@both
def test_progress_adds_up(backend: str) -> None:
    seen: list[MineProgress] = []
    challenges = [noise(10, seed) for seed in range(40)]
    bits = np.arange(40) % 6
    result = mine(challenges, bits, on_progress=seen.append, backend=backend)
    assert len(seen) >= 2
    assert seen[-1].tries == result.tries.sum()
    assert (seen[-1].solved, seen[-1].ended, seen[-1].total) == (40, 40, 40)
    assert seen[-1].remaining_tries == seen[-1].remaining_tries_p95 == 0.0
    for before, after in pairwise(seen):
        assert before.tries < after.tries
        assert before.solved <= after.solved
        assert before.remaining_tries >= after.remaining_tries
        assert before.seconds <= after.seconds
    assert all(0 < p.remaining_tries <= p.remaining_tries_p95 for p in seen if p.solved < 40)
    assert seen[0].remaining_tries <= (2.0**bits).sum()


def test_a_search_has_no_memory() -> None:
    seen: list[MineProgress] = []
    mine([b"solved", b"x", b"y"], [0, 40, 41], limit=60_000_000, on_progress=seen.append, backend=FAST)
    running = [p for p in seen if p.ended == 1]
    assert len(running) >= 2
    assert {p.remaining_tries for p in running} == {2.0**40 + 2.0**41}
    for p in running:
        assert p.remaining_s == pytest.approx((2.0**40 + 2.0**41) / p.hashes_per_s)
        assert p.remaining_s < p.remaining_s_p95 < 3 * p.remaining_s
        assert 1e4 < p.hashes_per_s < 1e12
    assert (seen[-1].solved, seen[-1].ended, seen[-1].remaining_tries) == (1, 3, 0.0)


@pytest.mark.parametrize("puzzles", [1, 2, 10, 1000])
@pytest.mark.parametrize("bits", [6, 20, 40])
def test_remaining_quantile_is_near_the_exact_law(puzzles: int, bits: int) -> None:
    mean = 2.0**bits
    exact = stats.nbinom.ppf(0.95, puzzles, 1 / mean) + puzzles
    # Wilson and Hilferty's cube is 1 % low at one puzzle; the exact quantile is a whole number.
    assert quantile95(puzzles * mean, puzzles * mean * (mean - 1)) == pytest.approx(exact, rel=0.015, abs=1)


def test_certain_work_has_no_spread() -> None:
    assert quantile95(5.0, 0.0) == 5.0


@pytest.mark.parametrize("bits", [6.0, 7.5, 8.0])
def test_tries_are_geometric(bits: float) -> None:
    """Chi-square at level 0.001 over 20 bins of equal chance; the challenges are fixed, so is the outcome."""
    tries = mine([b"law %d %r" % (row, bits) for row in range(2000)], bits, backend=FAST).tries.astype(np.int64)

    def p_value(true_bits: float) -> float:
        law = stats.geom(2.0**-true_bits)
        edges = np.concatenate(([0], law.ppf(np.arange(1, 20) / 20), [np.inf]))
        counts = [((tries > low) & (tries <= high)).sum() for low, high in pairwise(edges)]
        return float(stats.chisquare(counts, 2000 * np.diff(law.cdf(edges))).pvalue)

    assert p_value(bits) > 1e-3
    assert p_value(bits + 0.5) < 1e-6  # 2000 puzzles do tell half a bit
