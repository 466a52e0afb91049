"""Sampled tries: twins equal bit for bit, the law is the geometric one, and every cell stands alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from oracles import philox_counter, tries_for, uniform_at
from powsim_kernels import geometric

TWINS = ("reference", "cpu")
both = pytest.mark.parametrize("backend", TWINS)
FEW = settings(max_examples=60, deadline=None, derandomize=True)
KEY = 0x5EED_0000_2022_0425
# A correct law is rejected with this chance; keys are fixed, so that no test flickers.
LEVEL = 1e-4

word = st.integers(0, 2**32 - 1)
chance = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 2.0**-58, 2.0**-20, 1 - 2.0**-53, np.nextafter(0.5, 1)]),
    st.floats(2.0**-58, 1.0),
    st.floats(0.0, 57.0).map(lambda bits: 2.0**-bits),
)


def tries(p: Any, **more: Any) -> np.ndarray:
    array = np.asarray(p, dtype=np.float64)
    given_: dict[str, Any] = {"key": KEY, "stream": 3, "identity": np.arange(len(array))}
    return geometric(array, **(given_ | more))


@FEW
@given(st.lists(chance, min_size=1, max_size=6), st.integers(0, 2**64 - 1), word, word, word, st.integers(0, 2**20))
def test_both_twins_equal_the_sixty_digit_inversion(
    p: list[float], key: int, stream: int, who: int, replica: int, first: int
) -> None:
    draws = [uniform_at(key, stream, who, replica, first + column) for column in range(len(p))]
    truth = [tries_for(x, u) if x else (0, 0) for x, u in zip(p, draws, strict=True)]
    for backend in TWINS:
        got = tries([p], key=key, stream=stream, identity=[who], replica=[replica], first=first, backend=backend)
        assert got.dtype == np.uint64
        assert got.shape == (1, len(p))
        assert all(low <= value <= high for value, (low, high) in zip(got[0].tolist(), truth, strict=True))


@FEW
@given(
    st.integers(0, 5),
    st.integers(0, 7),
    st.integers(1, 5),
    st.integers(0, 2**16),
    st.integers(0, 2**64 - 1),
    st.randoms(use_true_random=False),
)
def test_the_twins_agree_bit_for_bit_whatever_the_shape(
    rows: int, columns: int, draws: int, first: int, key: int, random: Any
) -> None:
    p = np.array([[2.0 ** -random.uniform(0, 50) for _ in range(columns)] for _ in range(rows)]).reshape(rows, columns)
    more = {"key": key, "draws": draws, "first": first, "replica": np.arange(rows) % 3}
    np.testing.assert_array_equal(tries(p, backend="cpu", **more), tries(p, backend="reference", **more))


@pytest.mark.parametrize("half", [0, 1])
@both
def test_the_rarest_draws_are_right_at_every_difficulty(backend: str, half: int) -> None:
    # Philox is a bijection, so the addresses of u = 2^-53 (the longest search) and u = 1 (luck) can be computed.
    for words, u in (((0,) * 4, 2.0**-53), ((0xFFFFFFFF,) * 4, 1.0)):
        block, stream, who, replica = philox_counter(words, KEY)
        at = {"stream": stream, "identity": [who], "replica": [replica], "first": 2 * block + half}
        for p in (1.0, 0.3, 2.0**-8, 2.0**-40, 2.0**-57, 2.0**-58):
            low, high = tries_for(p, u)
            assert low <= int(tries([[p]], backend=backend, **at)[0, 0]) <= high, (p, u)


@both
def test_no_puzzle_takes_no_tries_and_a_sure_one_takes_as_many_as_it_has_draws(backend: str) -> None:
    p = np.array([[0.0, 1.0, 0.0, 1.0]])
    assert tries(p, backend=backend).tolist() == [[0, 1, 0, 1]]
    assert tries(p, draws=5, backend=backend).tolist() == [[0, 5, 0, 5]]


def test_empty_shapes_give_empty_answers() -> None:
    assert tries(np.empty((0, 4))).shape == (0, 4)
    assert tries(np.empty((3, 0))).shape == (3, 0)


@both
@pytest.mark.parametrize("draws", [1, 2, 3])
def test_column_ranges_computed_alone_equal_the_whole(backend: str, draws: int) -> None:
    p = np.full((3, 23), 0.01)
    whole = tries(p, draws=draws, backend=backend)
    for begin, end in ((0, 1), (1, 2), (5, 16), (22, 23)):
        part = tries(p[:, begin:end], first=begin, draws=draws, backend=backend)
        np.testing.assert_array_equal(part, whole[:, begin:end])


@both
def test_draws_are_added_up_from_consecutive_addresses(backend: str) -> None:
    singles = tries(np.full((4, 30), 0.02), backend=backend)
    tripled = tries(np.full((4, 10), 0.02), draws=3, backend=backend)
    np.testing.assert_array_equal(tripled, singles.reshape(4, 10, 3).sum(axis=2))


@both
def test_rows_do_not_influence_each_other_and_may_come_in_any_order(backend: str) -> None:
    rng = np.random.default_rng(2)
    p, who, replica = 2.0 ** -rng.uniform(0, 30, (20, 5)), rng.integers(0, 2**32, 20), rng.integers(0, 9, 20)
    whole = tries(p, identity=who, replica=replica, backend=backend)
    pick = np.array([19, 3, 3, 0])
    np.testing.assert_array_equal(
        tries(p[pick], identity=who[pick], replica=replica[pick], backend=backend), whole[pick]
    )
    changed = p.copy()
    changed[1:, :] = 0.5
    np.testing.assert_array_equal(tries(changed, identity=who, replica=replica, backend=backend)[0], whole[0])


def test_a_cell_without_a_puzzle_does_not_shift_the_draws_of_the_next() -> None:
    full, gaps = np.full((1, 9), 0.01), np.full((1, 9), 0.01)
    gaps[0, [0, 3, 4]] = 0.0
    for draws in (1, 2, 3):
        expected = tries(full, draws=draws)
        expected[gaps == 0] = 0
        for backend in TWINS:
            np.testing.assert_array_equal(tries(gaps, draws=draws, backend=backend), expected)


@pytest.mark.parametrize("shape", [(40_001, 3), (3, 40_001), (16_384, 1), (16_385, 2)], ids=str)
def test_threads_change_nothing(shape: tuple[int, int]) -> None:
    p = 2.0 ** -np.random.default_rng(3).uniform(0, 40, shape)
    one = tries(p, threads=1, draws=2)
    for threads in (2, 5):
        np.testing.assert_array_equal(tries(p, threads=threads, draws=2), one)


def chi_square_pvalue(sample: np.ndarray, law: Any, cells: int = 40) -> float:
    """Return the p-value of Pearson's test on cells of about equal probability."""
    edges = np.unique(law.ppf(np.arange(1, cells) / cells))
    observed = np.bincount(np.searchsorted(edges, sample, side="left"), minlength=len(edges) + 1)
    expected = np.diff(np.concatenate(([0.0], law.cdf(edges), [1.0]))) * len(sample)
    assert expected.min() > 20
    return float(stats.chisquare(observed, expected).pvalue)


@pytest.mark.parametrize("bits", [0.5, 1.0, 3.0, 8.0, 10.37])
def test_the_law_is_geometric(bits: float) -> None:
    p = 2.0**-bits
    sample = tries(np.full((4000, 50), p)).ravel().astype(np.float64)
    law = stats.geom(p)
    if bits > 2:
        assert chi_square_pvalue(sample, law) > LEVEL
    else:
        # So few values carry the mass that each can be a cell.
        last = 4 if bits < 1 else 9
        observed = np.bincount(np.minimum(sample, last).astype(int), minlength=last + 1)[1:]
        expected = np.append(law.pmf(np.arange(1, last)), law.sf(last - 1)) * len(sample)
        assert stats.chisquare(observed, expected).pvalue > LEVEL
    n = len(sample)
    assert abs(sample.mean() - law.mean()) < 4 * law.std() / n**0.5
    # Excess kurtosis of a geometric law is 6 + p^2 / (1 - p), which sets the error of its variance.
    spread = ((8 + p * p / (1 - p)) / n) ** 0.5
    assert abs(sample.var() / law.var() - 1) < 4 * spread


@pytest.mark.parametrize("bits", [20.0, 45.0, 57.9])
def test_hard_puzzles_are_exponential_in_shape(bits: float) -> None:
    # The geometric law over its mean tends to the exponential one; at 20 bits the gap is 2^-20, far below the test.
    sample = tries(np.full((2000, 50), 2.0**-bits)).ravel().astype(np.float64) * 2.0**-bits
    assert stats.kstest(sample, "expon").pvalue > LEVEL


@pytest.mark.parametrize("draws", [2, 3, 16])
def test_sums_of_draws_are_negative_binomial(draws: int) -> None:
    p = 2.0**-7
    sample = tries(np.full((2000, 30), p), draws=draws).ravel().astype(np.float64)
    law = stats.nbinom(draws, p, loc=draws)
    assert chi_square_pvalue(sample, law) > LEVEL
    n = len(sample)
    assert abs(sample.mean() - law.mean()) < 4 * law.std() / n**0.5
    kurtosis = 6 / draws + p * p / (draws * (1 - p))
    assert abs(sample.var() / law.var() - 1) < 4 * ((2 + kurtosis) / n) ** 0.5


def test_neighbouring_cells_are_unrelated() -> None:
    sample = np.log(tries(np.full((40_000, 4), 2.0**-12)).astype(np.float64))
    for left in range(4):
        for right in range(left):
            assert abs(float(np.corrcoef(sample[:, left], sample[:, right])[0, 1])) < 4 / 40_000**0.5
    assert abs(float(np.corrcoef(sample[1:, 0], sample[:-1, 0])[0, 1])) < 4 / 40_000**0.5


@both
@pytest.mark.parametrize(("p", "draws", "bits"), [(2.0**-59, 1, "59.0"), (2.0**-57, 4, "59.0"), (1e-300, 1, "996.6")])
def test_a_puzzle_too_hard_to_be_counted_is_refused_with_limit_and_cure(
    backend: str, p: float, draws: int, bits: str
) -> None:
    with pytest.raises(ValueError, match=rf"difficulty {bits} bits exceeds 58, .*: lower it"):
        tries([[0.5, p]], draws=draws, backend=backend)


def test_the_hardest_puzzle_that_is_accepted_has_exactly_58_bits() -> None:
    assert int(tries([[2.0**-58]])[0, 0]) > 0
    assert int(tries([[2.0**-57]], draws=2)[0, 0]) > 0
    with pytest.raises(ValueError, match="exceeds 58"):
        tries([[np.nextafter(2.0**-58, 0)]])


@both
@pytest.mark.parametrize("p", [-0.1, 1.0000001, np.nan, np.inf, -np.inf])
def test_a_probability_outside_zero_to_one_is_refused_by_value(backend: str, p: float) -> None:
    with pytest.raises(ValueError, match=rf"probability {p} is outside 0\.\.1"):
        tries([[0.5, p]], backend=backend)


@both
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"identity": [0]}, r"identity has shape \(1,\), probability has 2 rows"),
        ({"identity": [[0, 1]]}, r"identity has shape"),
        ({"identity": [0, -1]}, r"identity runs from -1 to 0: 0 to 2\^32-1"),
        ({"replica": [0, 2**32]}, r"replica runs from 0 to 4294967296"),
        ({"draws": 0}, r"draws=0 must be at least 1"),
        ({"first": 2**33}, r"first=8589934592 does not fit"),
        ({"first": 2**33 - 1}, r"exceed the 2\^33 draws of one stream"),
        ({"draws": 2**33}, r"draws=8589934592 does not fit"),
        ({"key": -1}, r"key=-1 does not fit"),
        ({"key": 2**64}, r"key=18446744073709551616 does not fit"),
    ],
    ids=str,
)
def test_other_bad_input_is_refused_by_name(backend: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tries([[0.5], [0.5]], backend=backend, **more)


@both
@pytest.mark.parametrize("more", [{"first": -3}, {"stream": -1}, {"stream": 2**32}, {"stream": 2**40}], ids=str)
def test_an_address_that_does_not_exist_is_refused_and_never_wrapped(backend: str, more: dict[str, Any]) -> None:
    with pytest.raises((ValueError, OverflowError)):
        tries([[0.5, 0.5]], backend=backend, **more)


@both
@pytest.mark.parametrize("more", [{"draws": 1.5}, {"first": 0.5}, {"identity": [0.5]}, {"key": 0.5}], ids=str)
def test_an_address_that_is_no_integer_is_refused_and_never_cut(backend: str, more: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        tries([[0.5, 0.5]], backend=backend, **more)


@pytest.mark.parametrize("p", [0.5, [0.5], [[[0.5]]]], ids=str)
def test_a_probability_of_another_shape_is_refused(p: Any) -> None:
    with pytest.raises(ValueError, match=r"probability has shape .*: \[identities, puzzles\] is needed"):
        geometric(p, key=0, stream=0, identity=[0])


def test_input_is_not_written_to() -> None:
    p, who = np.full((3, 2), 0.25), np.arange(3)
    tries(p, identity=who)
    assert np.all(p == 0.25)
    assert who.tolist() == [0, 1, 2]
