"""Simulated honest users: their halves, their class mixes, and their own resampled originals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from banks import made_run
from powsim.bank import Pool
from powsim.bank.users import Half


@pytest.fixture(scope="module")
def pool() -> Pool:
    return made_run(3, queries=0, originals=80, copies=5).pool


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.mark.parametrize("user", [True, False])
def test_calibration_and_users_never_share_an_original(pool: Pool, user: bool) -> None:
    half = Half(pool, user)
    rows = half.draw(half.mixes(300, rng()), 200, rng())
    assert rows.shape == (300, 200)
    assert (pool.user[rows] == user).all()
    other = set(pool.original[pool.user != user].tolist())
    assert not other & set(pool.original[rows].ravel().tolist())
    assert set(np.unique(rows)) == set(np.flatnonzero(pool.user == user))  # nobody is left out either


def test_queries_follow_the_class_mix(pool: Pool) -> None:
    half = Half(pool, True)
    mix = half.mixes(4, rng())
    rows = half.draw(mix, 40_000, rng())
    for user in range(4):
        shares = np.bincount(pool.classes[rows[user]], minlength=10) / 40_000
        assert np.abs(shares - mix[user]).max() < 4 * 0.5 / 200
    assert np.abs(half.mixes(4000, rng()).mean(axis=0) - 0.1).max() < 0.01
    assert half.mixes(4000, rng()).std() == pytest.approx((0.1 * 0.9 / 11) ** 0.5, rel=0.05)  # Dirichlet(1)


def test_a_user_of_one_class_asks_nothing_else(pool: Pool) -> None:
    half = Half(pool, True)
    for index, name in enumerate(half.classes):
        assert (pool.classes[half.draw(half.only(3, index), 50, rng())] == name).all()
    two = pool.classes[half.draw(half.only(1, 2, 7), 4000, rng())]
    assert set(two.ravel().tolist()) == {2, 7}
    assert (two == 2).mean() == pytest.approx(0.5, abs=0.04)


def test_the_bootstrap_is_over_originals(pool: Pool) -> None:
    """A user has about 1 - 1/e of the originals, whatever the number of queries; over users all come alike often."""
    half = Half(pool, True)
    rows = half.draw(half.only(400, *range(10)), 4000, rng())
    seen = np.array([len(set(pool.original[user].tolist())) for user in rows])
    originals = len(set(pool.original[pool.user].tolist()))
    within = [(1 - (1 - 1 / n) ** n) * n for n in half.originals]
    assert seen.mean() == pytest.approx(sum(within), rel=0.02)
    assert seen.max() < originals
    often = np.bincount(pool.original[rows].ravel())[np.unique(pool.original[pool.user])] / rows.size
    assert often == pytest.approx(np.full(originals, 1 / originals), rel=0.2)


def test_copies_of_an_original_come_alike_often(pool: Pool) -> None:
    half = Half(pool, True)
    rows = half.draw(half.only(200, *range(10)), 2000, rng()).ravel()
    first = {original: int(np.flatnonzero(pool.original == original)[0]) for original in pool.original}
    copy = rows - np.array([first[original] for original in pool.original[rows]])
    assert np.bincount(copy) / len(copy) == pytest.approx(np.full(5, 0.2), abs=0.003)


def test_originals_of_unequal_size_and_missing_classes(pool: Pool) -> None:
    """Rows in any order, one class with a single original, another class missing."""
    keep = (pool.classes != 4) & ((pool.classes != 5) | (pool.original // 20 == 0) | ~pool.user)
    order = rng().permutation(np.flatnonzero(keep))
    some = replace(pool, **{name: getattr(pool, name)[order] for name in Pool.__dataclass_fields__})
    half = Half(some, True)
    assert half.classes.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert half.originals.tolist() == [4, 4, 4, 4, 1, 4, 4, 4, 4]
    rows = half.draw(half.mixes(50, rng()), 500, rng())
    assert some.user[rows].all()
    assert set(some.classes[rows].ravel().tolist()) == set(half.classes.tolist())


def test_the_same_seed_gives_the_same_users(pool: Pool) -> None:
    half = Half(pool, True)
    mix = half.mixes(5, rng())
    assert np.array_equal(half.draw(mix, 30, rng()), half.draw(mix, 30, rng()))
