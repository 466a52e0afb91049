"""Digests, targets, lowest nonces and their checks: hashlib is the oracle of every twin."""

from __future__ import annotations

import hashlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal, localcontext
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from powsim_kernels import BackendUnavailable, MineProgress, MineResult, mine, sha256, target_limit, verify
from powsim_kernels.sha256 import contract, cpu, reference, self_test, vector
from powsim_kernels.sha256 import search as search_module
from powsim_kernels.sha256.plan import plan
from powsim_kernels.sha256.search import CHUNK_S, quantile95

TWINS = ("reference", "cpu")
LENGTHS = [length for length in range(192) if length % 64 <= 47]
FEW = settings(max_examples=60, deadline=None, derandomize=True)
both = pytest.mark.parametrize("backend", TWINS)


def noise(length: int, seed: int = 0) -> bytes:
    return hashlib.shake_128(b"powsim %d" % seed).digest(length)


def exact_accepted(bits: float) -> int:
    with localcontext() as context:
        context.prec = 60
        return max(1, round(Decimal(2) ** (64 - Decimal(bits))))


def value_of(challenge: bytes, nonce: int) -> int:
    return int.from_bytes(hashlib.sha256(challenge + nonce.to_bytes(8, "big")).digest()[:8], "big")


def lowest(challenge: bytes, bits: float, start: int = 0) -> int:
    accepted = exact_accepted(bits)
    while value_of(challenge, start) >= accepted:
        start += 1
    return start


def hexes(digests: np.ndarray) -> list[str]:
    return [bytes(row).hex() for row in digests]


def same(left: MineResult, right: MineResult) -> bool:
    return all(
        np.array_equal(getattr(left, name), getattr(right, name))
        for name in ("nonce", "digest", "tries", "found", "start", "next_start")
    )


@both
def test_digest_of_every_length(backend: str) -> None:
    messages = [noise(length, length) for length in range(201)]
    digests = sha256(messages, backend=backend)
    assert (digests.shape, digests.dtype) == ((201, 32), np.uint8)
    assert hexes(digests) == [hashlib.sha256(message).hexdigest() for message in messages]


@both
@given(messages=st.lists(st.binary(max_size=300), max_size=6))
@FEW
def test_digest_of_any_messages(backend: str, messages: list[bytes]) -> None:
    expected = [hashlib.sha256(message).hexdigest() for message in messages]
    assert hexes(sha256(messages, backend=backend)) == expected


@both
@pytest.mark.parametrize(
    ("message", "digest"),
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (
            b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
            b"nopqrstu",
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
        ),
    ],
)
def test_published_digests(backend: str, message: bytes, digest: str) -> None:
    assert hexes(sha256(message, backend=backend)) == [digest]


def test_published_digest_of_a_million_letters() -> None:
    published = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    assert hexes(sha256(b"a" * 10**6, backend="cpu")) == [published]


@both
def test_the_first_bitcoin_block_has_its_published_hash(backend: str) -> None:
    header = bytes.fromhex(
        "01000000"
        + 64 * "0"
        + "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
    )
    twice = sha256(bytes(sha256(header, backend=backend)[0]), backend=backend)[0]
    assert bytes(twice)[::-1].hex() == "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"


def test_threads_do_not_change_digests() -> None:
    messages = [noise(row % 150, row) for row in range(3 * cpu.GRAIN)]
    one, two = (sha256(messages, backend="cpu", threads=threads) for threads in (1, 2))
    assert hexes(one) == hexes(two) == [hashlib.sha256(message).hexdigest() for message in messages]


def test_other_kinds_of_bytes_are_taken() -> None:
    expected = [hashlib.sha256(b"ab").hexdigest()]
    assert hexes(sha256(bytearray(b"ab"))) == hexes(sha256(memoryview(b"ab"))) == hexes(sha256((b"ab",))) == expected


def test_whole_bits_are_exact() -> None:
    limits = target_limit(np.arange(65))
    assert limits.dtype == np.uint64
    assert limits.tolist() == [2 ** (64 - bits) - 1 for bits in range(65)]


@given(bits=st.floats(0, 64))
@FEW
def test_fractional_bits_are_right_to_the_last_place_of_a_float(bits: float) -> None:
    accepted = int(target_limit(bits)[0]) + 1
    assert abs(accepted - exact_accepted(bits)) <= accepted * 2.0**-52


@given(bits=st.lists(st.floats(0, 64), min_size=2, max_size=20))
@FEW
def test_more_bits_never_accept_more(bits: list[float]) -> None:
    limits = target_limit(np.sort(bits))
    assert np.all(limits[1:] <= limits[:-1])


def test_bits_next_to_whole_ones_lie_on_their_side() -> None:
    whole = np.arange(1.0, 64.0)
    limits, above, below = (target_limit(x) for x in (whole, np.nextafter(whole, 0), np.nextafter(whole, 64)))
    assert np.all(above >= limits)
    assert np.all(below <= limits)
    # Strictly so where one step of the bits, 2^-49.5 of the target, is wider than one of the 2^(64 - bits) targets.
    assert np.all(above[2:14] > limits[2:14])
    assert np.all(below[2:14] < limits[2:14])
    assert target_limit(5e-324).tolist() == [2**64 - 1]


def test_target_shapes() -> None:
    assert target_limit(3).tolist() == [2**61 - 1]
    assert target_limit([]).shape == (0,)
    assert target_limit([[1.0, 2.0]]).shape == (1, 2)


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (71.0, r"difficulty 71\.0 bits exceeds 64: lower the bits"),
        ([1.0, 64.5, 70.0], r"difficulty 64\.5 bits exceeds 64"),
        (-0.5, r"difficulty -0\.5 bits is below 0: raise the bits"),
        (math.nan, "difficulty nan bits is not a number"),
        (math.inf, "difficulty inf bits exceeds 64"),
    ],
)
def test_refused_bits(bits: float, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        target_limit(bits)
    with pytest.raises(ValueError, match=text):
        mine([b""] * np.size(bits), bits)


@pytest.mark.parametrize(("backend", "most_bits"), [("reference", 6.0), ("cpu", 14.0)])
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
    results = [mine(challenge, 16.7, threads=threads, backend="cpu") for threads in (1, 2, 3, None)]
    assert results[0].nonce.tolist() == [lowest(challenge, 16.7)]
    assert all(same(results[0], other) for other in results[1:])


def test_threads_do_not_change_a_batch() -> None:
    challenges = [noise(row % 48, row) for row in range(3000)]
    bits = np.arange(3000) % 9
    results = [mine(challenges, bits, threads=threads, backend="cpu") for threads in (1, 2)]
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


@pytest.mark.parametrize(("backend", "bits"), [("reference", 7), ("cpu", 16)])
def test_a_range_of_nonces_is_searched_to_its_very_end(backend: str, bits: int) -> None:
    twin = {"reference": reference, "cpu": cpu.twin("cpu")}[backend]
    challenge = noise(13, 1)
    nonce = lowest(challenge, bits)
    assert backend == "reference" or nonce > 2 * cpu.PIECE  # so that pieces are crossed
    value = value_of(challenge, nonce)
    puzzles = twin.prepare([b"not this one", challenge], 1)

    def search(count: int, limit: int) -> int:
        arrays = [np.array([x], np.uint64) for x in (0, count, limit)]
        return int(twin.search(puzzles, np.array([1]), *arrays, 2)[0])

    assert search(nonce + 1, value) == nonce  # the limit itself is accepted
    assert search(nonce + 1, value - 1) == nonce + 1  # one below is not: count stands for none
    assert search(nonce, value) == nonce
    assert search(nonce + 4 * cpu.PIECE if backend == "cpu" else nonce + 9, value) == nonce


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


@pytest.mark.parametrize(("backend", "bits", "limit"), [("reference", 7, 50), ("cpu", 13, 1000)])
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


@pytest.mark.parametrize(("backend", "bits"), [("reference", 8.5), ("cpu", 17)])
def test_a_cancelled_search_can_be_resumed(backend: str, bits: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.twin("cpu"), "FIRST_CHUNK", 1 << 16)  # else hashlib has too much to do below
    first_chunk = {"reference": reference, "cpu": cpu.twin("cpu")}[backend].FIRST_CHUNK
    hard = next(c for c in (noise(9, seed) for seed in range(99)) if lowest(c, bits) > first_chunk)
    challenges, each = [b"easy", hard, b"never begun"], np.array([1.0, bits, bits])
    part = mine(challenges, each, cancel=AfterPolls(2), backend=backend)
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
    mine(challenges, [0.0] * 99_999 + [64.0], limit=200_000_000, on_progress=seen.append, backend="cpu", threads=1)
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

    twin = SimpleNamespace(FIRST_CHUNK=4000, search=slow_then_lucky)
    start, limits = np.zeros(100, np.uint64), target_limit(np.full(100, 4.0))
    nothing = {"threads": 1, "cancel": None, "on_progress": None}
    tries, found = search_module.search(twin, None, start, limits, None, **nothing)
    assert sizes[:2] == [100, 31]
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
    mine([b"solved", b"x", b"y"], [0, 40, 41], limit=60_000_000, on_progress=seen.append, backend="cpu")
    running = [p for p in seen if p.ended == 1]
    assert len(running) >= 2
    assert {p.remaining_tries for p in running} == {2.0**40 + 2.0**41}
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


@both
def test_verify_agrees_with_hashlib_around_winners(backend: str) -> None:
    challenges = [noise(length, 3) for length in (0, 1, 2, 3, 47, 64, 111)]
    winners = mine(challenges, 7, backend=backend).nonce
    for shift in (-2, -1, 0, 1, 2):
        nonces = [max(0, int(winner) + shift) for winner in winners]
        expected = [value_of(c, n) < 2**57 for c, n in zip(challenges, nonces, strict=True)]
        answers = verify(challenges, nonces, 7, backend=backend)
        assert answers.dtype == np.bool_
        assert answers.tolist() == expected
        # Below the lowest winner nothing solves.
        assert all(expected) if shift == 0 else shift > 0 or not any(expected)


@both
def test_verify_knows_leading_zeros_and_fractions_between(backend: str) -> None:
    challenges = [noise(20, seed) for seed in range(50)]
    values = [value_of(challenge, 77) for challenge in challenges]
    zeros = np.array([64 - value.bit_length() for value in values])
    assert verify(challenges, 77, zeros, backend=backend).all()
    assert not verify(challenges, 77, zeros + 1, backend=backend).any()
    exact = np.array([64 - math.log2(value) for value in values])
    assert verify(challenges, 77, exact - 1e-9, backend=backend).all()
    assert not verify(challenges, 77, exact + 1e-9, backend=backend).any()


@both
def test_verify_rejects_another_challenge_and_takes_large_nonces(backend: str) -> None:
    start = 2**64 - 5000
    nonce = mine(b"one", 10, start=start, backend="cpu").nonce
    assert nonce[0] > start
    assert verify([b"one", b"two", b"on"], [int(nonce[0])] * 3, 10, backend=backend).tolist() == [True, False, False]


@pytest.mark.parametrize("bits", [6.0, 7.5, 8.0])
def test_tries_are_geometric(bits: float) -> None:
    """Chi-square at level 0.001 over 20 bins of equal chance; the challenges are fixed, so is the outcome."""
    tries = mine([b"law %d %r" % (row, bits) for row in range(2000)], bits, backend="cpu").tries.astype(np.int64)

    def p_value(true_bits: float) -> float:
        law = stats.geom(2.0**-true_bits)
        edges = np.concatenate(([0], law.ppf(np.arange(1, 20) / 20), [np.inf]))
        counts = [((tries > low) & (tries <= high)).sum() for low, high in pairwise(edges)]
        return float(stats.chisquare(counts, 2000 * np.diff(law.cdf(edges))).pvalue)

    assert p_value(bits) > 1e-3
    assert p_value(bits + 0.5) < 1e-6  # 2000 puzzles do tell half a bit


PATHS = [f"cpu:{name}" for name, shape in cpu.VARIANTS.items() if shape.feature in cpu.features()]


def test_this_machine_has_more_than_one_path() -> None:
    assert PATHS  # else the tests below test nothing
    assert cpu.twin("cpu").search is not None


@pytest.mark.parametrize("path", PATHS)
def test_every_cpu_path_finds_hashlibs_nonces_at_every_length(path: str) -> None:
    rng = np.random.default_rng(20)
    # The path that this machine takes is compiled for every position of the nonce, the others for four.
    fits = range(48) if path == PATHS[0] else (0, 1, 31, 44, 45, 47)
    challenges = [noise(length, 7) for length in range(201) if length % 64 in fits]
    bits = rng.uniform(0, 9, len(challenges))
    expected = [lowest(challenge, b) for challenge, b in zip(challenges, bits.tolist(), strict=True)]
    result = mine(challenges, bits, backend=path)
    assert result.nonce.tolist() == expected
    assert result.backend == path
    assert hexes(result.digest) == [
        hashlib.sha256(c + n.to_bytes(8, "big")).hexdigest() for c, n in zip(challenges, expected, strict=True)
    ]


def test_cpu_paths_agree_on_puzzles_of_up_to_20_bits() -> None:
    rng = np.random.default_rng(21)
    challenges = [noise(int(length), i) for i, length in enumerate(rng.choice([0, 31, 44, 45, 47, 64, 111], 1000))]
    bits, start = rng.uniform(0, 20, 1000), rng.integers(0, 2**63, 1000, dtype=np.uint64)
    start[:100] = 2**32 - rng.integers(1, 5000, 100, dtype=np.uint64)  # the carry into the high half
    results = [mine(challenges, bits, start=start, backend=path) for path in PATHS]
    assert results[0].found.all()
    assert verify(challenges, results[0].nonce, bits).all()
    assert all(np.array_equal(results[0].nonce, other.nonce) for other in results[1:])


def test_an_unknown_or_missing_path_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"unknown backend 'cpu:mmx': the CPU miner has cpu:avx512, cpu:avx2"):
        mine(b"", 1, backend="cpu:mmx")
    monkeypatch.setattr(cpu, "features", lambda: {"sse2"})
    cpu.twin.cache_clear()
    with pytest.raises(BackendUnavailable, match=r"'cpu:avx2' cannot run: this CPU has no avx2; use backend='cpu'"):
        cpu.twin("cpu:avx2")
    cpu.twin.cache_clear()


@pytest.mark.parametrize("position", range(16))
def test_a_plan_is_the_digest_word(position: int) -> None:
    # The plan walked in plain integers against the reference's compression, for a word of the lane's own.
    words = [int.from_bytes(noise(4, 50 + i), "big") for i in range(16)]
    state = [int.from_bytes(noise(4, 80 + i), "big") for i in range(8)]
    before = list(state)
    for t in range(position):
        a, b, c, d, e, f, g, h = before
        t1 = h + sum_of((6, 11, 25), e) + (e & f ^ ~e & g) + reference.K[t] + words[t]
        t2 = sum_of((2, 13, 22), a) + (a & b ^ a & c ^ b & c)
        before = [(t1 + t2) % 2**32, a, b, c, (d + t1) % 2**32, e, f, g]
    steps = plan(position)
    inputs = [*before, *(0 if i == position else word for i, word in enumerate(words)), state[0]]
    scalars: list[int] = []
    for name, operands in steps.scalars:
        given = {"input": lambda i: inputs[i], "k": lambda i: reference.K[i]}
        value = given[name](operands[0]) if name in given else walk(name, [scalars[o] for o in operands])
        scalars.append(value)
    table = {place: scalars[scalar] for scalar, place in steps.table.items()}
    values: list[int] = []
    for name, operands in steps.steps:
        given_words = [values[i] if kind == "v" else table[i] for kind, i in operands]
        values.append(words[position] if name == "word" else walk(name, given_words))
    block = b"".join(word.to_bytes(4, "big") for word in words)
    assert values[steps.result] == reference.compress(tuple(state), block)[0]
    assert max(steps.table.values()) < vector.TABLE


def sum_of(turns: tuple[int, ...], x: int) -> int:
    total = 0
    for n in turns:
        total ^= reference.rotr(x, n)
    return total


def walk(name: str, operands: list[int]) -> int:
    if name == "add":
        return sum(operands) % 2**32
    if name == "ch":
        e, f, g = operands
        return (e & f ^ ~e & g) % 2**32
    if name == "maj":
        a, b, c = operands
        return a & b ^ a & c ^ b & c
    (x,) = operands
    shifted = x >> {"s0": 3, "s1": 10}[name] if name in ("s0", "s1") else 0
    return sum_of({"S0": (2, 13, 22), "S1": (6, 11, 25), "s0": (7, 18), "s1": (17, 19)}[name], x) ^ shifted


def test_plans_cost_what_they_did() -> None:
    # Vector operations per 16 hashes. A change here is a change of speed: say so where it is meant.
    assert [plan(position).cost for position in (1, 9, 11, 12, 13)] == [1518, 1352, 1294, 1265, 1236]


@both
def test_self_test_passes(backend: str) -> None:
    self_test(backend)
    challenge, bits, start = contract.PUZZLE
    assert lowest(challenge, bits, start) == contract.PUZZLE_NONCE
    assert all(hashlib.sha256(message).hexdigest() == digest for message, digest in contract.ANSWERS)


def test_self_test_refuses_wrong_digests_and_wrong_nonces() -> None:
    wrong = SimpleNamespace(sha256=lambda messages, threads: np.zeros((len(messages), 32), np.uint8))
    with pytest.raises(BackendUnavailable, match=r"backend 'x' failed its self-test: SHA-256 of b'abc' .* 0000"):
        contract.check_answers(wrong, "x")
    late = SimpleNamespace(
        sha256=reference.sha256,
        prepare=reference.prepare,
        FIRST_CHUNK=16,
        search=lambda *args: np.minimum(reference.search(*args) + np.uint64(1), args[3]),
    )
    with pytest.raises(RuntimeError, match=r"failed its self-test: nonce \d+ came out, not 4294967375: its results"):
        contract.check_answers(late, "x")


@both
def test_a_failing_backend_does_no_work(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contract._twin.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(contract, "PUZZLE_NONCE", 0)
        for call in (lambda: mine(b"", 1, backend=backend), lambda: sha256(b"", backend=backend)):
            with pytest.raises(BackendUnavailable, match="failed its self-test"):
                call()
    assert mine(b"", 0, backend=backend).nonce.tolist() == [0]


def test_the_self_test_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    contract._twin.cache_clear()
    calls: list[str] = []
    monkeypatch.setattr(contract, "check_answers", lambda twin, name: calls.append(name))
    for backend in ("cpu", "reference", "cpu"):
        sha256(b"", backend=backend)
        mine(b"", 0, backend=backend)
    assert calls == ["cpu", "reference"]
    contract._twin.cache_clear()  # the stand-in tested nothing


def test_numba_loads_with_the_first_work_only() -> None:
    code = (
        "import sys\n"
        "from powsim_kernels.sha256 import sha256, target_limit\n"
        "sha256(b'', backend='reference'), target_limit(3)\n"
        "sys.exit('numba' in sys.modules or 'scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
