"""Attacks that choose from the pool: each follows its own rule, with the student as it is now."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from attacking import CLASSES, SHAPE, LinearStudent, answered, images, view
from powsim.lab.attacks import ATTACKS
from powsim.lab.attacks.deepfool import flipping_norms


def softmax(student: LinearStudent, x: np.ndarray) -> np.ndarray:
    """Return probabilities by plain float64 loops."""
    z = (x - 0.5).reshape(len(x), -1).astype(np.float64) @ student.weight.numpy().astype(np.float64)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(p)).sum(axis=1)


def margin(p: np.ndarray) -> np.ndarray:
    s = np.sort(p, axis=1)
    return s[:, -1] - s[:, -2]


WANTED = {"entropy": lambda p: -entropy(p), "entropy-rev": entropy, "gap": margin}


@pytest.mark.parametrize("name", WANTED)
def test_uncertainty_ranks_what_is_left_by_the_student_as_it_is_now(name: str) -> None:
    attack, pool = ATTACKS[name](view(0)), images(1000, 200)
    asked = [attack.propose(40)]
    orders = []
    for seed in (1, 2):
        attack.observe(asked[-1], answered(asked[-1], "hard"))
        student = LinearStudent.random(seed, 0.3)
        attack.student_updated(student)
        gone = {x.tobytes() for x in np.concatenate(asked)}
        left = np.stack([x for x in pool if x.tobytes() not in gone])
        best = left[np.argsort(WANTED[name](softmax(student, left)), kind="stable")]
        asked.append(attack.propose(50))
        assert np.array_equal(asked[-1], best[:50])
        orders.append(np.argsort(WANTED[name](softmax(student, pool)))[:50])
    assert len(set(orders[0]) & set(orders[1])) < 40  # the two students want different images


def test_rankings_stand_until_the_student_changes() -> None:
    calls = []

    class Spy(LinearStudent):
        def logits(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            return super().logits(x)

    attack = ATTACKS["gap"](view(0))
    attack.student_updated(Spy(LinearStudent.random(1).weight))
    for _ in range(5):
        attack.propose(10)
    assert sum(calls) == 200


def test_k_centre_takes_the_farthest_from_all_before() -> None:
    attack, student, pool = ATTACKS["k-centre"](view(0)), LinearStudent.random(4, 0.3), images(1000, 200)
    first = attack.propose(10)
    attack.student_updated(student)
    chosen = list(softmax(student, first))
    got = np.concatenate((attack.propose(7), attack.propose(8)))
    everything = softmax(student, pool)
    for x in got:
        far = np.min([np.linalg.norm(everything - c, axis=1) for c in chosen], axis=0)
        own = softmax(student, x[None])[0]
        assert np.min([np.linalg.norm(own - c) for c in chosen]) == pytest.approx(far.max(), abs=1e-6)
        chosen.append(own)
    other = ATTACKS["k-centre"](view(0))
    other.propose(10)
    other.student_updated(LinearStudent.random(5, 0.3))
    assert not np.array_equal(other.propose(15), got)


def test_k_centre_asks_equal_images_once_each() -> None:
    attack = ATTACKS["k-centre"](view(0, pool=np.repeat(images(1, 10), 2, axis=0)))
    attack.student_updated(LinearStudent.random(4))
    asked = [x.tobytes() for x in attack.propose(30)]
    assert len(asked) == 20
    assert all(asked.count(x) == 2 for x in asked)


def test_k_centre_covers_the_pool_better_than_chance() -> None:
    student, pool = LinearStudent.random(4, 0.3), images(1000, 200)
    attack = ATTACKS["k-centre"](view(0))
    attack.student_updated(student)
    greedy, chance = attack.propose(20), ATTACKS["standard"](view(0)).propose(20)

    def radius(some: np.ndarray) -> float:
        a, b = softmax(student, pool), softmax(student, some)
        return float(np.linalg.norm(a[:, None] - b[None], axis=2).min(axis=1).max())

    assert radius(greedy) < 0.8 * radius(chance)


def linear_flip(student: LinearStudent, x: np.ndarray) -> np.ndarray:
    """Return the exact distance to the nearest boundary of a linear classifier."""
    w = student.weight.numpy().astype(np.float64)
    z = (x - 0.5).reshape(len(x), -1).astype(np.float64) @ w
    far = []
    for row in z:
        k = int(row.argmax())
        far.append(min((row[k] - row[j]) / np.linalg.norm(w[:, k] - w[:, j]) for j in range(CLASSES) if j != k))
    return np.array(far)


def test_deepfool_finds_the_distance_to_a_linear_boundary() -> None:
    student, x = LinearStudent.random(7), images(5, 60)
    got = flipping_norms(student, torch.from_numpy(x)).numpy()
    # The minimal step, 2 % overshoot, and the 1e-4 in logits that moves a point off the boundary.
    np.testing.assert_allclose(got, 1.02 * linear_flip(student, x), rtol=5e-3, atol=2e-4)


def test_deepfools_perturbation_of_a_bent_model_is_short_and_rows_do_not_meet() -> None:
    class Bent(LinearStudent):
        def logits(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(super().logits(x)) + 0.1 * super().logits(x) ** 2

    student, x = Bent(LinearStudent.random(8, 0.2).weight), torch.from_numpy(images(6, 25))
    norms = flipping_norms(student, x)
    assert torch.isfinite(norms).all()
    torch.testing.assert_close(norms[3:4], flipping_norms(student, x[3:4]))
    # No random direction of the same length finds a nearer boundary.
    first, g = student.logits(x).argmax(dim=1), torch.Generator().manual_seed(0)
    for _ in range(200):
        way = torch.nn.functional.normalize(torch.randn(25, 64, generator=g), dim=1) * 0.5 * norms[:, None]
        assert torch.equal(student.logits(x + way.reshape(x.shape)).argmax(dim=1), first)


def test_deepfool_asks_the_nearest_to_the_boundary_unperturbed() -> None:
    attack, pool = ATTACKS["deepfool"](view(0)), images(1000, 200)
    known = {x.tobytes() for x in pool}
    for seed in (1, 2):
        student = LinearStudent.random(seed)
        attack.student_updated(student)
        x = attack.propose(30)
        assert all(one.tobytes() in known for one in x)
        far = linear_flip(student, x)
        assert (np.diff(far) > -1e-3).all()
        assert far.max() < np.quantile(linear_flip(student, pool), 0.4)


def test_deepfool_ranks_some_of_a_large_pool() -> None:
    attack = ATTACKS["deepfool"](view(0, settings={"candidates": 50}))
    attack.student_updated(LinearStudent.random(1))
    far = linear_flip(LinearStudent.random(1), attack.propose(200))
    assert len(far) == 200
    assert (np.diff(far[:50]) > -1e-3).all()
    assert not (np.diff(far[50:]) > -1e-3).all()


def test_worst_case_asks_from_cheap_to_dear() -> None:
    attack = ATTACKS["worst-case"](view(0))
    costs = np.concatenate([attack.propose(n).mean(axis=(1, 2, 3)) for n in (30, 64, 200)])
    assert len(costs) == 200
    assert (np.diff(costs) >= 0).all()
    np.testing.assert_allclose(costs[:30], np.sort(images(1000, 200).mean(axis=(1, 2, 3)))[:30], rtol=1e-6)


def test_the_standard_user_asks_each_image_once() -> None:
    attack = ATTACKS["standard"](view(0))
    asked = np.concatenate([attack.propose(n) for n in (64, 64, 100)])
    assert sorted(x.tobytes() for x in asked) == sorted(x.tobytes() for x in images(1000, 200))
    assert attack.propose(5).shape == (0, *SHAPE)


@pytest.mark.parametrize(("name", "inside", "block"), [("inout", 1, 32), ("inout-75", 3, 32), ("laundering", 3, 1)])
def test_combinators_alternate_whatever_the_proposals_sizes(name: str, inside: int, block: int) -> None:
    pool = {x.tobytes() for x in images(1000, 200)}
    for asks in ((200,), (7, 93, 1, 99)):
        attack, seen = ATTACKS[name](view(0)), []
        for n in asks:
            x = attack.propose(n)
            assert len(x) == n
            attack.observe(x, answered(x, "hard"))
            seen += [one.tobytes() in pool for one in x]
        runs = [(key, len(list(group))) for key, group in itertools.groupby(seen)]
        assert runs[0] == (True, inside * block)
        for key, length in runs[:-1]:
            assert length == (inside * block if key else block)


def test_laundering_hides_among_the_cheapest() -> None:
    x = ATTACKS["laundering"](view(0)).propose(40)
    cheap = np.sort(images(1000, 200).mean(axis=(1, 2, 3)))[:30]
    np.testing.assert_allclose(x.mean(axis=(1, 2, 3))[np.arange(40) % 4 != 3], cheap, rtol=1e-6)


def test_a_part_that_runs_out_ends_a_combination_without_gaps() -> None:
    attack = ATTACKS["inout"](view(0, pool=images(1, 40)))
    x = attack.propose(200)
    assert len(x) == 32 + 32 + 8
    attack.observe(x, answered(x, "hard"))
    assert len(attack.propose(10)) == 0
