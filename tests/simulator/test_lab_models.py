"""Victim, teachers and neighbours: each against plain loops, NumPy solves and networks trained alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the lab needs torch: pip install 'powsim[lab]'")
pytest.importorskip("sklearn", reason="the lab needs scikit-learn: pip install 'powsim[lab]'")

from attacking import slopes, slow_features  # noqa: E402
from powsim.lab import networks, teachers  # noqa: E402
from powsim.lab.features import features  # noqa: E402
from powsim.lab.neighbours import fit_neighbours  # noqa: E402
from powsim.lab.task import Split, Task  # noqa: E402
from powsim.lab.tasks import load_task  # noqa: E402
from powsim.lab.teachers import fit_teachers, shards  # noqa: E402
from powsim.lab.victim import DISTORTION, Victim, fit_victim  # noqa: E402
from powsim_kernels import PatePlan  # noqa: E402


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("digits8", 7)


@pytest.fixture(scope="module")
def victim(task: Task) -> Victim:
    return fit_victim(task, 7, steps=200)


def cut(task: Task, rows: int, **changes: object) -> Task:
    private = Split(task.private.x[:rows], task.private.y[:rows], task.private.original[:rows])
    return dataclasses.replace(task, private=private, **changes)


def test_features_are_those_of_loops_and_rows_keep_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).uniform(size=(7, 3, 12, 16)).astype(np.float32)
    x[2] = 0.3  # flat: no gradient, no length
    monkeypatch.setattr("powsim.lab.features.CHUNK", 3)
    found = features(x).numpy()
    np.testing.assert_allclose(found, slow_features(x), atol=2e-6)
    np.testing.assert_array_equal(found[4], features(x[4:5]).numpy()[0])
    assert features(x[:0]).shape == (0, 128)


def test_features_pass_gradients_on_and_none_from_flat_spots() -> None:
    rng = np.random.default_rng(1)
    x, weight = rng.uniform(size=(4, 2, 8, 12)), rng.standard_normal(128)
    leaf = torch.tensor(x, dtype=torch.float32, requires_grad=True)
    (found,) = torch.autograd.grad(features(leaf) @ torch.tensor(weight, dtype=torch.float32), leaf, torch.ones(4))
    wanted = slopes(x, lambda z: slow_features(z) @ weight)
    np.testing.assert_allclose(found.flatten(1), wanted, atol=2e-5 * np.abs(wanted).max())
    x[:, :, :, 3:] = 0.25  # the last of what is not flat moves its neighbour; beyond, nothing moves anything
    leaf = torch.tensor(x, dtype=torch.float32, requires_grad=True)
    (found,) = torch.autograd.grad(features(leaf).sum(), leaf)
    assert torch.isfinite(found).all()
    assert (found[..., 5:] == 0).all()
    assert (found[..., :3] != 0).any()
    flat = torch.full((2, 1, 8, 8), 0.5, requires_grad=True)
    assert (torch.autograd.grad(features(flat).sum(), flat)[0] == 0).all()


@pytest.mark.parametrize("kind", ["kernel", "linear"])
def test_ridge_votes_are_those_of_solves_one_by_one(task: Task, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = cut(task, 203, teachers=9)  # shards of 22 and 23: padded
    monkeypatch.setattr(teachers, "MEMORY", 4 * 9 * 43 * 70)  # a few chunks
    made = fit_teachers(small, 1, kind=kind)
    x = task.users.x
    points, asked = features(small.private.x).double().numpy(), features(x).double().numpy()
    scores = []
    for rows in shards(small.private, 9, 1):
        f, target = points[rows], np.eye(10)[small.private.y[rows]] - 0.1
        if kind == "kernel":
            gram = np.exp(-((f[:, None] - f[None]) ** 2).sum(axis=2))
            weights = np.linalg.solve(gram + 0.1 * np.eye(len(f)), target)
            scores.append(np.exp(-((asked[:, None] - f[None]) ** 2).sum(axis=2)) @ weights)
        else:
            f, g = (np.c_[some, np.ones(len(some))] for some in (f, asked))
            scores.append(g @ np.linalg.solve(f.T @ f + 0.1 * np.eye(129), f.T @ target))
    scores = np.array(scores)  # [T, N, C]
    best = np.sort(scores, axis=2)
    sure = (best[..., -1] - best[..., -2] > 1e-4).all(axis=0)  # float32 may swap what is closer
    assert sure.mean() > 0.9
    truth = np.array([np.bincount(row, minlength=10) for row in scores.argmax(axis=2).T])
    votes = made.votes(x)
    assert votes.dtype == np.uint16
    np.testing.assert_array_equal(votes[sure], truth[sure])
    assert (votes.sum(axis=1) == 9).all()


@pytest.mark.parametrize("kind", teachers.KINDS)
def test_votes_sum_to_the_teachers_and_rows_keep_apart(task: Task, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "CNN_STEPS", 3)
    made = fit_teachers(cut(task, 300, teachers=5), 2, kind=kind)
    votes = made.votes(task.users.x)
    assert (votes.sum(axis=1) == 5).all()
    changed = task.users.x.copy()
    changed[17] = 1 - changed[17]
    np.testing.assert_array_equal(np.delete(made.votes(changed), 17, axis=0), np.delete(votes, 17, axis=0))
    tensor = made.votes(task.users.x, tensor=True)
    np.testing.assert_array_equal(tensor.numpy(), votes)
    plan = PatePlan(5, 10, 0.2, backend="cpu")
    np.testing.assert_array_equal(plan.eps(tensor, 1e-5)[0], plan.eps(votes, 1e-5)[0])
    right = [[votes[row, label] / 5, votes[row].argmax() == label] for row, label in enumerate(task.users.y)]
    assert made.accuracy(task.users) == pytest.approx(tuple(np.mean(right, axis=0)))
    assert made.votes(task.users.x[:0]).shape == (0, 10)


def test_large_private_data_takes_the_linear_ridge(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    small, x = cut(task, 300, teachers=5), task.users.x
    kernel, linear = (fit_teachers(small, 2, kind=kind).votes(x) for kind in ("kernel", "linear"))
    assert not np.array_equal(kernel, linear)
    np.testing.assert_array_equal(fit_teachers(small, 2).votes(x), kernel)
    monkeypatch.setattr(teachers, "LARGE", 299)
    np.testing.assert_array_equal(fit_teachers(small, 2).votes(x), linear)


def test_shards_hold_every_row_once_and_no_original_twice() -> None:
    original = np.random.default_rng(0).integers(100, 141, size=500) * 7
    split = Split(np.zeros((500, 1, 8, 8), np.float32), np.zeros(500, np.int64), original)
    rows = shards(split, 6, 1)
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(500))
    owners = [set(original[some].tolist()) for some in rows]
    assert sum(map(len, owners)) == len(set(original.tolist()))
    assert {len(some) for some in owners} <= {6, 7}
    assert any(not np.array_equal(one, two) for one, two in zip(rows, shards(split, 6, 2), strict=True))
    with pytest.raises(ValueError, match=r"teachers=42 must lie in 1\.\.41"):
        shards(split, 42, 1)


def test_a_batch_of_networks_is_as_many_trained_alone(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of the sum must be each network's own: a neighbour's data may not reach it."""
    x, y = task.private.x, task.private.y
    rows = [np.arange(0, 60), np.arange(60, 200)]
    both = networks.fitted(x, y, rows, 10, 3, steps=4, batch=8, distortion=DISTORTION, device="cpu")
    other = networks.fitted(
        x, (y + 3) % 10, [rows[0], rows[1]], 10, 3, steps=4, batch=8, distortion=DISTORTION, device="cpu"
    )
    mixed = y.copy()
    mixed[60:] = (y[60:] + 3) % 10
    half = networks.fitted(x, mixed, rows, 10, 3, steps=4, batch=8, distortion=DISTORTION, device="cpu")
    for name in both:
        torch.testing.assert_close(half[name][0], both[name][0])
        torch.testing.assert_close(half[name][1], other[name][1])
        assert not torch.equal(half[name][1], both[name][1])
    made = fit_teachers(cut(task, 100, teachers=2), 3, kind="cnn")
    images = torch.from_numpy(task.test.x[:20])
    assert made.scores(images).shape == (20, 2, 10)
    assert made.accuracy(task.test)[0] > 0.5  # 50 images each


def test_the_victim_learns_and_its_seed_decides(task: Task, victim: Victim) -> None:
    assert victim.accuracy(task.test) > 0.8  # after a third of the usual steps
    state = torch.get_rng_state()
    again = fit_victim(task, 7, steps=200)
    assert torch.equal(torch.get_rng_state(), state)
    logits = victim.logits(task.test.x)
    np.testing.assert_array_equal(again.logits(task.test.x), logits)
    assert logits.dtype == np.float32
    exp = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(victim.probabilities(task.test.x), exp / exp.sum(axis=1, keepdims=True), rtol=1e-5)
    changed = task.test.x.copy()
    changed[5] = 0
    np.testing.assert_allclose(np.delete(victim.logits(changed), 5, axis=0), np.delete(logits, 5, axis=0), atol=1e-5)
    assert victim.logits(task.test.x[:0]).shape == (0, 10)


def test_the_default_victim_is_as_good_as_promised() -> None:
    task = load_task("digits16", 0)
    assert fit_victim(task, 0).accuracy(task.test) >= 0.98


def test_neighbours_vote_by_the_true_labels_nearest_in_log_softmax(task: Task, victim: Victim) -> None:
    index = fit_neighbours(task, victim)
    x = np.concatenate([task.users.x[:40], task.outside(10, np.random.default_rng(0))])
    votes = index.votes(x)
    assert votes.dtype == np.uint16
    assert (votes.sum(axis=1) == task.neighbours).all()

    def seen(images: np.ndarray) -> np.ndarray:
        z = victim.logits(images)
        return torch.log_softmax(torch.from_numpy(z), dim=1).numpy().astype(np.float64)

    far = ((seen(x)[:, None] - seen(task.private.x)[None]) ** 2).sum(axis=2)
    near = np.argsort(far, axis=1, kind="stable")[:, : task.neighbours]
    np.testing.assert_array_equal(votes, [np.bincount(task.private.y[row], minlength=10) for row in near])
    np.testing.assert_array_equal(index.of_logits(victim.logits(x)), votes)
    with pytest.raises(ValueError, match=r"neighbours=901 must lie in 1\.\.900"):
        fit_neighbours(dataclasses.replace(task, neighbours=901), victim)


def test_an_unknown_kind_names_the_known(task: Task) -> None:
    with pytest.raises(ValueError, match=r"unknown kind 'svm'.*ridge, kernel, linear, cnn"):
        fit_teachers(task, 0, kind="svm")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_a_device_votes_as_the_cpu_does(task: Task, victim: Victim) -> None:
    here, there = fit_teachers(task, 1), fit_teachers(task, 1, device="cuda")
    same = (here.votes(task.users.x) == there.votes(task.users.x)).all(axis=1)
    assert same.mean() > 0.99  # float32 products may swap near ties
    tensor = there.votes(task.users.x, tensor=True)
    assert tensor.is_cuda
    on_device = Victim({name: value.cuda() for name, value in victim.parameters.items()}, 10, "cuda")
    np.testing.assert_allclose(on_device.logits(task.users.x), victim.logits(task.users.x), atol=1e-2)
