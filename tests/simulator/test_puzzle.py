"""From work to probability: the sampled law is the law of the puzzle that is mined."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from powsim.puzzle import FAMILIES, puzzles_for
from powsim_kernels import target_limit

WHOLE = 2**64


def chances(work: object, sub_puzzles: int = 1) -> np.ndarray:
    return puzzles_for(np.array(work, dtype=np.float64), FAMILIES[0], sub_puzzles).probability


@pytest.mark.parametrize("bits", range(59))
def test_whole_bits_have_exactly_the_probability_of_the_mined_target(bits: int) -> None:
    got = Fraction(float(chances([[2.0**bits]])[0, 0]))
    assert got == Fraction(int(target_limit(bits)[0]) + 1, WHOLE) == Fraction(1, 2**bits)


@pytest.mark.parametrize("bits", [0.01, 0.5, 3.25, 7.3, 12.5, 18.53175, 31.9, 40.1, 49.99, 55.5, 57.97])
def test_fractional_bits_have_the_probability_of_the_mined_target(bits: float) -> None:
    got = Fraction(float(chances([[2.0**bits]])[0, 0]))
    mined = Fraction(int(target_limit(bits)[0]) + 1, WHOLE)
    # Both round 2^(64 - bits) to a whole number, which is exact below 2^50; above, a double has 52 bits.
    if bits > 14:
        assert got == mined
    else:
        assert abs(got / mined - 1) <= Fraction(2, 2**52)


@pytest.mark.parametrize("sub_puzzles", [1, 2, 3, 16, 1024])
def test_sub_puzzles_share_the_work_evenly(sub_puzzles: int) -> None:
    work = 3.0e7
    puzzles = puzzles_for(np.array([[work]]), "sha256-hashcash", sub_puzzles)
    assert puzzles.sub_puzzles == sub_puzzles
    assert sub_puzzles / float(puzzles.probability[0, 0]) == pytest.approx(work, rel=1e-9)
    bits = np.log2(work / sub_puzzles)
    assert float(puzzles.probability[0, 0]) == pytest.approx((int(target_limit(bits)[0]) + 1) / WHOLE, rel=1e-14)


def test_no_work_is_no_puzzle_and_less_than_a_hash_is_solved_by_any() -> None:
    assert chances([[0.0, 1e-9, 0.5, 1.0]]).tolist() == [[0.0, 1.0, 1.0, 1.0]]
    # Four sub-puzzles of at most one hash each: any four hashes do.
    assert chances([[0.0, 1.0, 4.0, 8.0]], sub_puzzles=4).tolist() == [[0.0, 1.0, 1.0, 0.5]]


def test_harder_work_is_never_likelier_to_be_solved() -> None:
    work = 2.0 ** np.linspace(0, 58, 4001)
    p = chances(work[None, :])[0]
    assert np.all(np.diff(p) <= 0)
    assert np.all(p > 0)
    # The target is a whole number of 2^64 values: at 58 bits 64 of them, so the rate is right to 1 in 128.
    np.testing.assert_allclose(p * work, 1, rtol=1 / 128)
    easy = work < 2.0**40
    np.testing.assert_allclose((p * work)[easy], 1, rtol=2.0**-24)


def test_cells_stand_alone_and_shape_and_input_are_kept() -> None:
    work = np.array([[1e3, 0.0], [5e8, 2.0]])
    before = work.copy()
    whole = chances(work)
    assert whole.shape == (2, 2)
    np.testing.assert_array_equal(chances(work[1:]), whole[1:])
    np.testing.assert_array_equal(work, before)
    assert chances(np.empty((0, 3))).shape == (0, 3)
    assert chances(np.empty((2, 0))).shape == (2, 0)


@pytest.mark.parametrize("work", [-1.0, -1e-300, np.nan, np.inf, -np.inf])
def test_work_that_is_no_number_of_hashes_is_refused_by_value(work: float) -> None:
    with pytest.raises(ValueError, match=rf"the policy returned work {work}: a finite number of hashes, 0 or more"):
        chances([[5.0, work]])


@pytest.mark.parametrize("sub_puzzles", [1, 1024])
def test_work_too_hard_to_be_sampled_is_refused_with_limit_and_cure(sub_puzzles: int) -> None:
    with pytest.raises(ValueError, match=r"difficulty 58\.5 bits exceeds 58: lower the policy's price or cap it"):
        chances([[1.0, 2.0**58.5]], sub_puzzles=sub_puzzles)
    assert float(chances([[2.0**58]], sub_puzzles=sub_puzzles)[0, 0]) == sub_puzzles * 2.0**-58


@pytest.mark.parametrize("sub_puzzles", [1, 3, 7, 10, 100, 1000, 1023])
def test_all_work_that_is_accepted_can_be_sampled(sub_puzzles: int) -> None:
    from powsim_kernels import geometric

    for bits in (58.0, np.log2(np.nextafter(2.0**58, 0)), 57.99):
        p = chances([[2.0**bits]], sub_puzzles=sub_puzzles)
        assert geometric(p, key=1, stream=0, identity=[0], draws=sub_puzzles)[0, 0] >= sub_puzzles
