"""Digests, targets, checks and the self-test: hashlib is the oracle of every twin."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining import exact_accepted, hexes, lowest, noise, value_of
from powsim_kernels import BackendUnavailable, mine, sha256, target_limit, verify
from powsim_kernels.sha256 import contract, reference, self_test

TWINS = ("reference", "cpu")
FEW = settings(max_examples=60, deadline=None, derandomize=True)
both = pytest.mark.parametrize("backend", TWINS)


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
    messages = [noise(row % 150, row) for row in range(100_000)]
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


@both
def test_self_test_passes(backend: str) -> None:
    self_test(backend)
    challenge, bits, start = contract.PUZZLE
    assert lowest(challenge, bits, start) == contract.PUZZLE_NONCE
    assert all(hashlib.sha256(message).hexdigest() == digest for message, digest in contract.ANSWERS)


def next_one(puzzles, rows, begin, count, limits, threads):
    """Return the second lowest solving nonce: valid, and not what was asked for."""
    first = reference.search(puzzles, rows, begin, count, limits, threads) + np.uint64(1)
    return first + reference.search(puzzles, rows, begin + first, count, limits, threads)


def test_self_test_refuses_wrong_digests_and_wrong_nonces() -> None:
    wrong = SimpleNamespace(sha256=lambda messages, threads: np.zeros((len(messages), 32), np.uint8))
    with pytest.raises(BackendUnavailable, match=r"backend 'x' failed its self-test: SHA-256 of b'abc' .* 0000"):
        contract.check_answers(wrong, "x")
    late = SimpleNamespace(
        sha256=reference.sha256,
        prepare=reference.prepare,
        FIRST_CHUNK=16,
        BREADTH=1,
        energy_j=lambda: None,
        search=lambda *args: np.minimum(reference.search(*args) + np.uint64(1), args[3]),
    )
    with pytest.raises(RuntimeError, match=r"gave nonce \d+ for challenges\[0\], which does not solve it: its results"):
        contract.check_answers(late, "x")
    later = SimpleNamespace(**vars(late) | {"search": lambda *args: np.minimum(next_one(*args), args[3])})
    with pytest.raises(RuntimeError, match=r"failed its self-test: nonce \d+ came out, not 4294967375: its results"):
        contract.check_answers(later, "x")


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
