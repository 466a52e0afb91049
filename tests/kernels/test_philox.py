"""Philox4x32-10 against its published answers, and the promise that a draw depends on its address alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from oracles import philox_counter, philox_words, uniform_at
from powsim_kernels import philox, uniform

TWINS = ("reference", "cpu")
both = pytest.mark.parametrize("backend", TWINS)
FEW = settings(max_examples=60, deadline=None, derandomize=True)
ONES = 0xFFFFFFFF

# Random123's kat_vectors, "philox4x32 10".
PUBLISHED = [
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0_A4093822,  # the first key word is the low one
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
word = st.integers(0, ONES)
counter = st.tuples(word, word, word, word)
keys = st.integers(0, 2**64 - 1)


@both
@pytest.mark.parametrize(("counters", "key", "words"), PUBLISHED, ids=["zeros", "ones", "pi"])
def test_the_published_answers_come_out(
    backend: str, counters: tuple[int, ...], key: int, words: tuple[int, ...]
) -> None:
    out = philox([counters], key, backend=backend)
    assert out.dtype == np.uint32
    assert tuple(out[0].tolist()) == words


@pytest.mark.parametrize(("counters", "key", "words"), PUBLISHED, ids=["zeros", "ones", "pi"])
def test_the_oracle_gives_the_published_answers_and_inverts_them(
    counters: tuple[int, ...], key: int, words: tuple[int, ...]
) -> None:
    assert philox_words(counters, key) == words
    assert philox_counter(words, key) == counters


@FEW
@given(st.lists(counter, max_size=9), keys)
def test_both_twins_equal_the_oracle_bit_for_bit(counters: list[tuple[int, ...]], key: int) -> None:
    rows = np.array(counters, dtype=np.uint32).reshape(-1, 4)
    truth = np.array([philox_words(row, key) for row in counters], dtype=np.uint32).reshape(-1, 4)
    for backend in TWINS:
        np.testing.assert_array_equal(philox(rows, key, backend=backend), truth)


def test_block_crossing_sizes_and_threads_change_nothing() -> None:
    rng = np.random.default_rng(1)
    counters = rng.integers(0, 2**32, (40_001, 4), dtype=np.uint32)
    one = philox(counters, 2**63 + 5, threads=1)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(philox(counters, 2**63 + 5, threads=threads), one)
    for row in (0, 1, 16383, 16384, 32767, 32768, 40_000):
        assert tuple(one[row].tolist()) == philox_words(counters[row].tolist(), 2**63 + 5)


@both
def test_rows_do_not_influence_each_other(backend: str) -> None:
    counters = np.arange(400, dtype=np.uint32).reshape(100, 4)
    whole = philox(counters, 99, backend=backend)
    np.testing.assert_array_equal(philox(counters[::-7], 99, backend=backend), whole[::-7])
    np.testing.assert_array_equal(philox(counters[40:41], 99, backend=backend), whole[40:41])


def test_counters_are_not_written_to_and_no_rows_give_no_rows() -> None:
    counters = np.ones((5, 4), np.uint32)
    philox(counters, 1)
    assert np.all(counters == 1)
    assert philox(np.empty((0, 4), np.uint32), 1).shape == (0, 4)


@both
@FEW
@given(key=keys, stream=word, who=word, replica=word, index=st.integers(0, 2**33 - 1))
def test_uniform_is_the_addressed_half_block(
    backend: str, key: int, stream: int, who: int, replica: int, index: int
) -> None:
    got = uniform([who], key=key, stream=stream, index=index, replica=[replica], backend=backend)
    assert got.tolist() == [uniform_at(key, stream, who, replica, index)]


@both
@pytest.mark.parametrize("half", [0, 1])
def test_uniform_reaches_one_and_two_to_minus_53_and_nothing_beyond(backend: str, half: int) -> None:
    key = 0x1234_5678_9ABC_DEF0
    for words, value in (((ONES,) * 4, 1.0), ((0,) * 4, 2.0**-53), ((0x7FF, 0) * 2, 2.0**-53)):
        block, stream, who, replica = philox_counter(words, key)
        at = {"key": key, "stream": stream, "index": 2 * block + half, "replica": replica}
        assert uniform([who], backend=backend, **at).tolist() == [value]


def test_uniform_follows_the_uniform_law() -> None:
    # A false alarm has the chance 1e-4; the key is fixed, so the test does not flicker.
    for stream, index in ((0, 0), (0, 1), (3, 7)):
        u = uniform(np.arange(200_000), key=20_220_425, stream=stream, index=index)
        assert stats.kstest(u, "uniform").pvalue > 1e-4
        assert 0 < u.min() < u.max() <= 1
    # Neighbouring draws, streams, replicas and identities are unrelated.
    u = uniform(np.arange(100_000), key=1, stream=0)
    others = [
        uniform(np.arange(100_000), key=1, stream=0, index=1),
        uniform(np.arange(100_000), key=1, stream=1),
        uniform(np.arange(100_000), key=2, stream=0),
        uniform(np.arange(100_000), key=1, stream=0, replica=1),
        uniform(np.arange(1, 100_001), key=1, stream=0),
    ]
    for other in others:
        assert abs(float(np.corrcoef(u, other)[0, 1])) < 4 / 100_000**0.5


@both
def test_a_draw_does_not_depend_on_who_else_is_drawn(backend: str) -> None:
    who = np.arange(300)
    whole = uniform(who, key=5, stream=2, replica=who % 7, backend=backend)
    pick = np.array([299, 0, 17, 17, 130])
    np.testing.assert_array_equal(uniform(pick, key=5, stream=2, replica=pick % 7, backend=backend), whole[pick])
    parts = [uniform(part, key=5, stream=2, replica=part % 7, backend=backend) for part in np.array_split(who, 11)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_one_replica_stands_for_all_and_integers_of_any_type_are_the_same_address() -> None:
    whole = uniform([1, 2, 3], key=5, stream=2, replica=4)
    np.testing.assert_array_equal(uniform([1, 2, 3], key=5, stream=2, replica=[4, 4, 4]), whole)
    for dtype in (np.uint8, np.int16, np.int64, np.uint64):
        np.testing.assert_array_equal(uniform(np.array([1, 2, 3], dtype), key=5, stream=2, replica=4), whole)


@pytest.mark.parametrize("counters", [[1, 2, 3, 4], [[1, 2, 3]], np.zeros((2, 2, 4), np.uint32)], ids=str)
def test_counters_of_another_shape_are_refused(counters: object) -> None:
    with pytest.raises(ValueError, match=r"counters have shape .*: philox takes uint32 \[N, 4\]"):
        philox(counters, 0)  # type: ignore[arg-type]


@both
@pytest.mark.parametrize("counter", [-1, 2**32])
def test_counters_that_do_not_fit_are_refused_and_never_wrapped(backend: str, counter: int) -> None:
    with pytest.raises(ValueError, match=r"counters"):
        philox(np.array([[0, counter, 0, 0]], np.int64), 0, backend=backend)


@both
def test_counters_that_are_no_integers_are_refused_and_never_cut(backend: str) -> None:
    with pytest.raises(TypeError, match="integers"):
        philox([[0.0, 1.7, 0.0, 0.0]], 0, backend=backend)


@both
@pytest.mark.parametrize("key", [-1, 2**64])
def test_a_key_that_does_not_fit_is_refused(backend: str, key: int) -> None:
    with pytest.raises(ValueError, match=r"key=.* does not fit: 0 to 2\^64-1 can be addressed"):
        philox([[0, 0, 0, 0]], key, backend=backend)


@both
def test_a_key_that_is_no_integer_is_refused_and_never_cut(backend: str) -> None:
    with pytest.raises(TypeError):
        philox([[0, 0, 0, 0]], 1.5, backend=backend)  # type: ignore[arg-type]


@both
@pytest.mark.parametrize("name", ["identity", "replica"])
@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (2**32, ValueError), (0.5, TypeError)])
def test_identities_and_replicas_that_cannot_be_addressed_are_refused_by_name(
    backend: str, name: str, value: float, error: type[Exception]
) -> None:
    given_ = {"identity": [0], "replica": [0]}
    given_[name] = [value]
    with pytest.raises(error, match=name):
        uniform(given_["identity"], replica=given_["replica"], key=0, stream=0, backend=backend)


@both
@pytest.mark.parametrize(
    "address",
    [{"stream": -1}, {"stream": 2**32}, {"stream": 0, "index": -1}, {"stream": 0, "index": 2**33}],
    ids=str,
)
def test_streams_and_indices_that_cannot_be_addressed_are_refused(backend: str, address: dict[str, int]) -> None:
    with pytest.raises((ValueError, OverflowError)):
        uniform([0], key=0, backend=backend, **address)


def test_as_many_replicas_as_identities_are_needed() -> None:
    with pytest.raises(ValueError):
        uniform([0, 1, 2], key=0, stream=0, replica=[0, 1])
