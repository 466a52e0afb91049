"""Students trained together are those trained alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from powsim.lab.nets import small_cnn
from powsim.lab.students import Lesson, fit_students, forward, fresh_student

SHAPE, CLASSES = (1, 8, 8), 4


def lesson(seed: int, rows: int, shifts: bool = False) -> Lesson:
    rng = np.random.default_rng(seed)
    y = rng.integers(CLASSES, size=rows)
    x = rng.uniform(0, 0.3, (rows, *SHAPE)).astype(np.float32)
    x[np.arange(rows), 0, 1 + y, 1 + y] = 1.0
    return Lesson(x, np.eye(CLASSES, dtype=np.float32)[y], seed, shifts)


LESSONS = [lesson(1, 40), lesson(2, 90, shifts=True), lesson(3, 33), lesson(4, 7)]


def weights(student: object) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in student.net.parameters()])  # type: ignore[attr-defined]


def test_the_batched_network_is_each_network() -> None:
    nets = [small_cnn(SHAPE, CLASSES, torch.Generator().manual_seed(seed)) for seed in range(3)]
    stacked = [torch.stack([p.detach() for p in own]) for own in zip(*(net.parameters() for net in nets), strict=True)]
    x = torch.rand(5, 3, *SHAPE, generator=torch.Generator().manual_seed(9))
    found = forward(nets[0], stacked, x)
    for row, net in enumerate(nets):
        torch.testing.assert_close(found[row], net(x[:, row]), rtol=1e-5, atol=1e-5)


def test_together_equals_alone() -> None:
    """Float32 sums in another order: 1e-3 after 25 steps of a rate of 6e-3, against weights that move by 0.1."""
    fresh = [fresh_student(SHAPE, CLASSES, seed) for seed in range(4)]
    together = fit_students(fresh, LESSONS, steps=25)
    for student, own, found in zip(fresh, LESSONS, together, strict=True):
        (alone,) = fit_students([student], [own], steps=25)
        torch.testing.assert_close(weights(found), weights(alone), rtol=0, atol=1e-3)
        assert (weights(found) - weights(student)).abs().max() > 0.03


def test_neighbours_do_not_matter_and_students_given_stay_as_they_are() -> None:
    fresh = [fresh_student(SHAPE, CLASSES, seed) for seed in range(3)]
    before = [weights(student).clone() for student in fresh]
    first = fit_students(fresh, LESSONS[:3], steps=10)
    other = fit_students(fresh, [LESSONS[0], lesson(8, 60, shifts=True), lesson(9, 20)], steps=10)
    assert torch.equal(weights(first[0]), weights(other[0]))
    assert not torch.equal(weights(first[1]), weights(other[1]))
    for student, weight in zip(fresh, before, strict=True):
        assert torch.equal(weights(student), weight)


def test_students_learn_and_go_on_where_they_were() -> None:
    own, held_out = lesson(1, 200), lesson(77, 300)
    student = fresh_student(SHAPE, CLASSES, 0)

    def accuracy() -> float:
        with torch.no_grad():
            found = student.logits(torch.from_numpy(held_out.x)).argmax(dim=1).numpy()
        return float(np.mean(found == held_out.targets.argmax(axis=1)))

    (student,) = fit_students([student], [own], steps=40)
    first = accuracy()
    (student,) = fit_students([student], [own], steps=40)
    assert first > 0.5
    assert accuracy() > 0.97


def test_every_image_of_a_lesson_is_used_equally_often() -> None:
    from powsim.lab.students import _batches

    rows = _batches([lesson(1, 10), lesson(2, 6)], steps=6, batch=5)
    assert rows.shape == (6, 5, 2)
    assert np.bincount(rows[:, :, 0].flatten().numpy(), minlength=10).tolist() == [3] * 10
    assert np.bincount(rows[:, :, 1].flatten().numpy() - 10, minlength=6).tolist() == [5] * 6


def test_an_empty_lesson_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lessons\[0\] is empty"):
        fit_students([fresh_student(SHAPE, CLASSES, 0)], [lesson(1, 0)], steps=1)
    assert fit_students([], [], steps=1) == []
