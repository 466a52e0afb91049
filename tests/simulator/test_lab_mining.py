"""Mined tries follow the law, and every nonce is one."""

from __future__ import annotations

import numpy as np
import pytest

from banks import made_bank
from powsim.bank.evaluate import Seed, prepared
from powsim.bank.verdict import Settings
from powsim.lab import mining
from powsim_kernels import MineResult, mine, verify

N = Settings().queries_per_puzzle


@pytest.fixture(scope="module")
def seeds() -> list[Seed]:
    return prepared(made_bank(), Settings(users=60))


def test_the_interval_is_that_of_sums_of_geometric_draws() -> None:
    rng = np.random.default_rng(1)
    bits = np.concatenate([np.full(30, 3.0), np.full(4, 9.5), [0.0]])
    draws = rng.geometric(np.exp2(-bits), (40_000, len(bits))).sum(axis=1)
    mean, low, high = mining.interval(bits)
    assert mean == pytest.approx(draws.mean(), rel=0.01)
    assert np.mean((draws >= low) & (draws <= high)) == pytest.approx(0.95, abs=0.01)
    assert mining.interval(np.zeros(7)) == (7.0, 7.0, 7.0)


def test_every_puzzle_is_mined_once_and_its_nonce_verifies(seeds: list[Seed], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[bytes], np.ndarray, MineResult]] = []

    def watched(challenges: list[bytes], bits: object, **options: object) -> MineResult:
        result = mine(challenges, bits, **options)  # type: ignore[arg-type]
        if np.ndim(bits):  # not those that measure the rate
            seen.append((challenges, np.asarray(bits), result))
        return result

    monkeypatch.setattr(mining, "mine", watched)
    found = mining.mine_study(seeds, "study", N, budget_s=0.2, backend="cpu", threads=1)
    every = [challenge for challenges, _, _ in seen for challenge in challenges]
    assert len(set(every)) == len(every) == sum(row.puzzles for row in found.rows)
    for (challenges, bits, result), row in zip(seen, found.rows, strict=True):
        assert verify(challenges, result.nonce, bits).all()
        assert result.found.all()
        assert row.tries == int(result.tries.sum())
        assert row.expected_tries == pytest.approx(np.exp2(bits).sum())
    assert 0 < found.scale < 1
    recording = {one.attack: one for one in seeds[0].run.recordings}
    for row in found.rows:
        assert row.puzzles == sum(len(seed.recording(row.attack).votes) // N for seed in seeds)
        assert recording[row.attack]


def test_tries_agree_with_the_law_over_many_studies(seeds: list[Seed]) -> None:
    """Of 6 attacks in 5 studies, 95 % within the interval: 22 of 30 or fewer would be one chance in ten thousand."""
    rows = [
        row
        for study in range(5)
        for row in mining.mine_study(seeds, f"study {study}", N, budget_s=0.1, backend="cpu", threads=1).rows
    ]
    inside = sum(row.low_tries <= row.tries <= row.high_tries for row in rows)
    assert inside > 22 / 30 * len(rows)
    assert sum(row.tries for row in rows) == pytest.approx(sum(row.expected_tries for row in rows), rel=0.5)


def test_the_work_follows_the_mapping(seeds: list[Seed]) -> None:
    found = mining.mine_study(seeds, "s", N, budget_s=0.1, backend="cpu", threads=1)
    unit = mining.BASELINE_S * found.scale * found.rate.hashes_per_s
    for row in found.rows:
        times = np.concatenate([seed.mappings["batch", N].times(seed.costs.recordings[row.attack]) for seed in seeds])
        assert row.expected_tries == pytest.approx(np.maximum(times * unit, 1).sum(), rel=1e-9)
