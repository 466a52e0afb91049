"""Made-up banks for tests: votes of teachers that agree more or less, with accuracies that rise."""

from __future__ import annotations

import numpy as np

from powsim.bank import Bank, Pool, Recording, Run

AGREEMENT = {"standard": 0.82, "copycat": 0.45, "noise": 0.42, "jacobian": 0.88, "worst-case": 0.97, "mixmatch": 0.82}
"""Attack -> how large a share of the teachers votes for a query's class, on average."""
QUALITY = {"standard": 0.98, "copycat": 0.93, "noise": 0.45, "jacobian": 0.82, "worst-case": 0.84, "mixmatch": 0.97}


def histograms(
    rng: np.random.Generator, classes: np.ndarray, agreement: np.ndarray, voters: int, of: int
) -> np.ndarray:
    """Return multinomial votes [N, of]: each voter is right with the query's agreement, else anything."""
    share = np.repeat(((1 - agreement) / of)[:, None], of, axis=1)
    share[np.arange(len(classes)), classes] += agreement
    return rng.multinomial(voters, share).astype(np.uint16)


def agreements(rng: np.random.Generator, mean: float, rows: int) -> np.ndarray:
    return rng.beta(8 * mean, 8 * (1 - mean), rows)


def recording(
    rng: np.random.Generator, attack: str, queries: int, classes: int, teachers: int, neighbours: int, mean: float
) -> Recording:
    kinds, agree = rng.integers(0, classes, queries), agreements(rng, mean, queries)
    at = np.array([n for n in (64, 128, 256, 512, 1024, 2048) if n <= queries], np.int64)
    accuracy = QUALITY.get(attack, 0.8) * (1 - np.exp(-at / 90)) - rng.uniform(0, 0.02, len(at))
    unsure = (1 - agree) * rng.uniform(0.3, 1, queries)
    return Recording(
        attack,
        histograms(rng, kinds, agree, teachers, classes),
        histograms(rng, kinds, np.sqrt(agree), neighbours, classes),
        unsure.astype(np.float32),
        np.minimum(1.2 * unsure, 1).astype(np.float32),
        at,
        np.maximum(accuracy, 0),
        np.maximum(accuracy - 0.01, 0),
    )


def made_run(
    seed: int = 0,
    queries: int = 2048,
    originals: int = 60,
    copies: int = 10,
    classes: int = 10,
    teachers: int = 25,
    neighbours: int = 300,
    agreement: dict[str, float] | None = None,
) -> Run:
    """Return one seed: a pool of originals with their copies, half of them the users', and the attacks named."""
    rng = np.random.default_rng([6, seed])
    means = AGREEMENT if agreement is None else agreement
    original = np.repeat(np.arange(originals, dtype=np.int32), copies)
    kind = np.arange(originals) % classes
    own = np.clip(agreements(rng, means.get("standard", 0.82), originals) - 0.01 * kind, 0, 1)
    agree = np.clip(own[original] + rng.normal(0, 0.05, len(original)), 0, 1)
    unsure = (1 - agree) * rng.uniform(0.3, 1, len(original))
    pool = Pool(
        histograms(rng, kind[original], agree, teachers, classes),
        histograms(rng, kind[original], np.sqrt(agree), neighbours, classes),
        unsure.astype(np.float32),
        np.minimum(1.2 * unsure, 1).astype(np.float32),
        kind[original].astype(np.uint16),
        original,
        (original // classes) % 2 == 1,
    )
    recordings = tuple(
        recording(rng, name, queries, classes, teachers, neighbours, mean) for name, mean in means.items()
    )
    return Run(seed, 0.99, 0.82 + 0.001 * seed, 0.96, pool, recordings)


def made_bank(seeds: int = 3, **of_a_run: object) -> Bank:
    """Return a made-up study; keywords as in `made_run`."""
    runs = tuple(made_run(seed, **of_a_run) for seed in range(seeds))  # type: ignore[arg-type]
    classes = runs[0].pool.votes.shape[1]
    teachers, neighbours = (int(counts[0].sum()) for counts in (runs[0].pool.votes, runs[0].pool.knn))
    return Bank(
        task="made-up",
        real=False,
        outside="votes of teachers that guess",
        classes=classes,
        teachers=teachers,
        sigma=0.04 * teachers,
        delta=1e-5,
        neighbours=neighbours,
        knn_sigma=12.0,
        seconds_per_query=2e-5,
        metering_s_per_query=1e-5,
        runs=runs,
        provenance={"source": "measured now", "powsim": "test"},
    )
