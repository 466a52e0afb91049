"""What holds for every attack: shapes and ranges, seeds, the oracle's privacy, and the door for own ones."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from attacking import LinearStudent, answered, view
from powsim.lab.attacks import ATTACKS, Attack, accounts_of, attack_class

EVERY = pytest.mark.parametrize("name", ATTACKS)


def rounds(attack: Attack, asks: tuple[int, ...], student_seed: int = 3) -> list[np.ndarray]:
    """Return the proposals of an attack that gets answers, and a new student after each round."""
    seen = []
    for number, n in enumerate(asks):
        x = attack.propose(n)
        seen.append(x)
        attack.observe(x, answered(x, attack.labels))
        if attack.needs_student:
            attack.student_updated(LinearStudent.random(student_seed + number))
    return seen


@EVERY
def test_proposals_are_images(name: str) -> None:
    attack = ATTACKS[name](view(0))
    for n, x in zip((7, 64, 70), rounds(attack, (7, 64, 70)), strict=True):
        assert x.shape[1:] == (1, 8, 8)
        assert 1 <= len(x) <= n
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        assert x.min() >= 0
        assert x.max() <= 1


@EVERY
def test_they_are_as_many_as_asked_until_data_runs_out(name: str) -> None:
    attack = ATTACKS[name](view(0))
    asks = (16, 48, 64, 40)
    got = [len(x) for x in rounds(attack, asks)]
    assert got == [16, 48, 64, 40]
    for _ in range(40):  # the pool holds 200 images; sources without end go on
        x = attack.propose(32)
        attack.observe(x, answered(x, attack.labels))
    endless = {"noise", "copycat", "knockoff", "knockoff-adaptive", "datafree", "jacobian", "jacobian-tr"}
    assert (len(x) > 0) == (name in endless)


@EVERY
def test_the_same_seed_asks_the_same_and_another_one_does_not(name: str) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - nothing may depend on it
    first = rounds(ATTACKS[name](view(5)), (20, 44, 64))
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    again = rounds(ATTACKS[name](view(5)), (20, 44, 64))
    other = rounds(ATTACKS[name](view(6)), (20, 44, 64))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    if name != "worst-case":  # which knows one right order
        assert not np.array_equal(first[0], other[0])


@EVERY
def test_a_proposal_is_a_copy(name: str) -> None:
    given = view(0)
    before = given.pool.copy()
    for x in rounds(ATTACKS[name](given), (30, 34)):
        x[:] = 9
    assert np.array_equal(given.pool, before)


@EVERY
def test_only_those_that_declare_it_touch_the_oracle(name: str) -> None:
    cls = ATTACKS[name]
    asked = []

    def oracle(x: np.ndarray) -> np.ndarray:
        asked.append(len(x))
        if not cls.needs_oracle:
            raise AssertionError("asked for costs without saying so")
        return np.arange(len(x), dtype=np.float64)

    rounds(cls(view(0, oracle=oracle)), (30, 34))
    assert bool(asked) == cls.needs_oracle
    assert ("worst" in name or name == "laundering") == cls.needs_oracle


@EVERY
def test_without_the_oracle_those_that_need_it_say_so(name: str) -> None:
    cls = ATTACKS[name]
    if cls.needs_oracle:
        with pytest.raises(ValueError, match=r"needs the oracle.*view\.oracle"):
            cls(view(0, oracle=None))
    else:
        cls(view(0, oracle=None))


@EVERY
def test_students_learn_from_what_was_asked(name: str) -> None:
    attack = ATTACKS[name](view(0))
    seen = np.concatenate(rounds(attack, (30, 34, 64)))
    x, targets = attack.training_set()
    if name == "datafree":
        assert len(x) == len(targets) == 0
        return
    assert np.array_equal(x, seen)
    assert np.array_equal(targets, answered(seen, attack.labels))
    assert x.dtype == targets.dtype == np.float32


@EVERY
def test_those_that_train_by_themselves_and_only_those_own_a_student(name: str) -> None:
    attack = ATTACKS[name](view(0, settings={"steps": 3}))
    rounds(attack, (64,))
    student = attack.own_student()
    assert (student is None) == (name not in ("mixmatch", "datafree"))
    if student is not None:
        logits = student.logits(torch.rand(5, 1, 8, 8))
        assert logits.shape == (5, 4)
        assert torch.isfinite(logits).all()


@EVERY
def test_those_that_need_no_student_ignore_one(name: str) -> None:
    cls = ATTACKS[name]
    if cls.needs_student:
        return
    one, two = cls(view(0)), cls(view(0))
    for n in (30, 34):
        x, y = one.propose(n), two.propose(n)
        assert np.array_equal(x, y)
        for attack in (one, two):
            attack.observe(x, answered(x, attack.labels))
        two.student_updated(LinearStudent.random(1))


def test_a_sybil_gives_each_account_an_equal_part_in_the_order_of_asking() -> None:
    for in_turn in (True, False):
        of = accounts_of(1000, 16, in_turn=in_turn)
        counts = np.bincount(of, minlength=16)
        assert counts.sum() == 1000
        assert counts.max() - counts.min() <= 1
    assert accounts_of(5, 2).tolist() == [0, 1, 0, 1, 0]
    assert accounts_of(5, 2, in_turn=False).tolist() == [0, 0, 0, 1, 1]
    assert accounts_of(0, 3).tolist() == []
    assert accounts_of(2, 5).tolist() == [0, 1]
    with pytest.raises(ValueError, match="accounts=0 must be at least 1"):
        accounts_of(4, 0)
    with pytest.raises(ValueError, match="queries=-1"):
        accounts_of(-1, 2)


OWN = """
from powsim.lab.attacks.combined import InOut
from powsim.lab.attacks.knockoff import KnockoffAdaptive

class Mine(InOut):
    other, in_share, name, source = KnockoffAdaptive, 0.9, "mine", "nobody"
"""


def test_an_own_attack_comes_through_the_door(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    cls = attack_class("own.py:Mine", tmp_path)
    assert (cls.name, cls.labels, cls.needs_student) == ("mine", "soft", True)
    assert [len(x) for x in rounds(cls(view(0)), (64, 40))] == [64, 40]
    assert attack_class("copycat", tmp_path) is ATTACKS["copycat"]
    assert "own" not in sys.modules


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class A: pass", "lacks a proper name, labels, data, needs_student, needs_oracle, source, propose"),
        (
            "from powsim.lab.attacks.standard import Standard\nclass A(Standard): labels = 'fuzzy'",
            "lacks a proper labels:",
        ),
        ("from powsim.lab.attacks.standard import Standard\nA = lambda v: Standard(v)", "lacks a proper name"),
        ("B = 1", "AttributeError"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_an_own_attack_that_is_none_is_refused(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(ValueError, match=says):
        attack_class("own.py:A", tmp_path)


def test_a_misspelt_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown attack 'copykat' \(did you mean copycat\?\)"):
        attack_class("copykat", tmp_path)
