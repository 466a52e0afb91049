"""Attacks side by side do not meet, and what is recorded is what was asked."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from powsim.bank import Recording
from powsim.lab.attacks import ATTACKS, Answers
from powsim.lab.attacks.base import View
from powsim.lab.attacks.jacobian import Jacobian
from powsim.lab.lockstep import play
from powsim.lab.service import Service, open_service, softmax
from powsim.lab.task import Images
from powsim.lab.tasks.gaussian import gaussian

QUERIES, CHECKPOINTS = 160, [64, 160]


class Noted(Jacobian):
    """Jacobian, its queries and answers noted."""

    asked: ClassVar[list[Images]] = []
    told: ClassVar[list[Answers]] = []
    view_of: ClassVar[list[View]] = []

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self.view_of.append(view)

    def observe(self, x: Images, answers: Answers) -> None:
        super().observe(x, answers)
        self.asked.append(x)
        self.told.append(answers)


def played(service: Service, *names: str) -> dict[str, Recording]:
    kinds = {name: Noted if name == "jacobian" else ATTACKS[name] for name in names}
    budgets = {name: 900 if name == "datafree" else QUERIES for name in names}
    found = play(service, kinds, budgets, CHECKPOINTS, steps=20, seed=3)
    assert [one.attack for one in found] == list(names)
    return {one.attack: one for one in found}


@pytest.fixture(scope="module")
def service() -> Service:
    return open_service(gaussian(5, private=400, pool=400, test=200), 5, "cpu")


@pytest.fixture(scope="module")
def together(service: Service) -> dict[str, Recording]:
    Noted.asked.clear()
    Noted.told.clear()
    return played(service, "standard", "copycat", "jacobian", "gap", "worst-case", "datafree")


@pytest.fixture(scope="module")
def asked(together: dict[str, Recording]) -> Images:
    return np.concatenate(Noted.asked)


def test_every_query_is_recorded_in_the_order_asked(
    service: Service, together: dict[str, Recording], asked: Images
) -> None:
    """The votes are taken later, in other company, from the pool where they are known: the same as one call's."""
    found = together["jacobian"]
    assert len(asked) == len(found.votes) == QUERIES
    logits = service.victim.logits(asked)
    votes, knn = service.teachers.votes(asked), service.neighbours.votes(asked)
    assert np.mean((votes != found.votes).any(axis=1)) < 0.01  # a teacher's near-tie may round the other way
    assert np.mean((knn != found.knn).any(axis=1)) < 0.01
    p = softmax(logits).astype(float)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1) / np.log(10)
    np.testing.assert_allclose(found.entropy, entropy, atol=1e-5)
    top = np.sort(p, axis=1)
    np.testing.assert_allclose(found.gap, 1 - (top[:, -1] - top[:, -2]), atol=1e-5)
    told = np.concatenate(Noted.told)
    assert (told.argmax(axis=1) == logits.argmax(axis=1)).mean() > 0.99
    assert set(np.unique(told)) == {0.0, 1.0}  # jacobian buys labels, not probabilities


def test_company_changes_no_attack(service: Service, together: dict[str, Recording], asked: Images) -> None:
    """Queries that no student chooses are the same; students differ by rounding, and so may a pixel's sign."""
    for name in ("standard", "copycat", "worst-case", "datafree"):
        alone = played(service, name)[name]
        assert np.mean((alone.votes != together[name].votes).any(axis=1)) < 0.02, name
        assert abs(alone.accuracy[-1] - together[name].accuracy[-1]) < 0.03, name
    Noted.asked.clear()
    played(service, "jacobian", "noise")
    other = np.concatenate(Noted.asked)
    assert np.array_equal(other[:64], asked[:64])  # the seeds
    assert np.mean(np.abs(other[64:] - asked[64:]) > 1e-5) < 0.02
    assert not np.array_equal(played(service, "gap")["gap"].votes, together["standard"].votes)


def test_checkpoints_follow_the_queries(together: dict[str, Recording]) -> None:
    for name, found in together.items():
        budget = 900 if name == "datafree" else QUERIES
        assert len(found.votes) == len(found.knn) == len(found.entropy) == len(found.gap) == budget
        at = found.checkpoints.tolist()
        assert at[-1] == budget
        assert at == ([budget] if name == "datafree" else CHECKPOINTS), name
        assert ((found.accuracy >= 0) & (found.accuracy <= 1)).all()
    assert together["standard"].accuracy[-1] > 0.3  # ten classes: chance is 0.1


def test_only_attacks_that_say_so_see_costs(service: Service, together: dict[str, Recording]) -> None:
    assert Noted.view_of[0].oracle is None
    costs = service.costs(service.task.users.x)
    cheapest = service.task.users.x[np.argsort(costs)[:QUERIES]]
    found = service.metered(cheapest, service.answers(cheapest)).votes
    assert np.sort(found.max(axis=1)).tolist() == pytest.approx(
        np.sort(together["worst-case"].votes.max(axis=1)).tolist(), abs=1
    )
    assert together["worst-case"].votes.max(axis=1).mean() > together["standard"].votes.max(axis=1).mean() + 1


def test_the_pool_is_known_by_content(service: Service) -> None:
    x = np.concatenate([service.task.users.x[5:8], service.task.outside(4, np.random.default_rng(0))])
    logits = service.answers(x)
    np.testing.assert_allclose(logits, service.victim.logits(x), rtol=1e-4, atol=1e-4)
    pool = service.recorded_pool()
    first = len(service.task.calibration.x)
    assert np.array_equal(service.metered(x, logits).votes[:3], pool.votes[first + 5 : first + 8])
    assert pool.user[first:].all()
    assert not pool.user[:first].any()
    assert np.array_equal(pool.classes[first:], service.task.users.y)
