"""Attacks with strange or made-up queries: CopyCat, Knockoff, Jacobian, MixMatch, DataFree, against their papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits

from attacking import CLASSES, SHAPE, LinearStudent, answered, arm, images, slopes, slow_features, view
from powsim.lab.attacks import ATTACKS
from powsim.lab.attacks.datafree import (
    DIFFERENCE,
    NOISE,
    DataFree,
    disagreement,
    forward_difference,
    image_generator,
    recovered_logits,
    unit_directions,
)
from powsim.lab.attacks.jacobian import Jacobian, Substitute
from powsim.lab.attacks.mixmatch import MixMatch, guessed_labels, mixing_weights, sharpened, shifted
from powsim.lab.nets import small_cnn


def test_copycat_asks_no_image_twice_and_stops_where_the_source_ends() -> None:
    source = images(3, 150)
    attack = ATTACKS["copycat"](view(0, outside=lambda n, rng: source[rng.integers(150, size=n)]))
    assert attack.labels == "hard"
    asked = [attack.propose(n) for n in (100, 49, 100, 10)]
    assert [len(x) for x in asked[:2]] == [100, 49]
    assert len({x.tobytes() for x in np.concatenate(asked)}) == sum(map(len, asked)) <= 150
    assert len(asked[3]) == 0


def test_knockoff_asks_what_copycat_asks_and_learns_from_probabilities() -> None:
    one, two = ATTACKS["copycat"](view(0)), ATTACKS["knockoff"](view(0))
    assert np.array_equal(one.propose(50), two.propose(50))
    assert (one.labels, two.labels) == ("hard", "soft")


def test_noise_is_uniform() -> None:
    values = np.sort(ATTACKS["noise"](view(0)).propose(500).ravel())
    assert np.abs(values - (np.arange(len(values)) + 0.5) / len(values)).max() < 0.011  # Kolmogorov-Smirnov, 1e-3


def of_arm(x: np.ndarray) -> np.ndarray:
    return (x.mean(axis=(1, 2, 3)) // 0.2).astype(int)


def test_the_bandit_prefers_the_arm_that_is_rewarded() -> None:
    attack = ATTACKS["knockoff-adaptive"](view(0))
    before = attack.policy()
    np.testing.assert_allclose(before, 0.2)
    turn = 0
    for _ in range(25):
        x = attack.propose(16)
        answers = np.full((len(x), CLASSES), 1 / CLASSES, np.float32)
        for row in np.flatnonzero(of_arm(x) == 2):  # sure, and each time another class: certain and diverse
            answers[row] = np.eye(CLASSES, dtype=np.float32)[turn % CLASSES]
            turn += 1
        attack.observe(x, answers)
    chances = attack.policy()
    assert chances.argmax() == 2
    assert chances[2] > 0.4
    assert chances.sum() == pytest.approx(1)


def test_the_bandit_follows_the_papers_update() -> None:
    attack = ATTACKS["knockoff-adaptive"](view(0))
    student = LinearStudent.random(1)
    attack.student_updated(student)
    x = attack.propose(40)
    answers = answered(x, "soft")
    attack.observe(x[:15], answers[:15])
    attack.observe(x[15:], answers[15:])
    preference, drawn = np.zeros(5), np.zeros(5)
    terms, rewards = [], []
    logs = torch.log_softmax(student.logits(torch.from_numpy(x)), dim=1).numpy()
    for t, (one, y) in enumerate(zip(x, answers.astype(float), strict=True)):
        mean = answers[:t].astype(float).mean(axis=0) if t else np.zeros(CLASSES)
        top = np.sort(y)
        terms.append([top[-1] - top[-2], np.maximum(y - mean, 0).sum(), -(y * logs[t]).sum()])
        seen = np.array(terms)
        low, high = seen.min(axis=0), seen.max(axis=0)
        rewards.append(np.mean(np.divide(seen[-1] - low, high - low, out=np.zeros(3), where=high > low)))
        a = int(of_arm(one[None])[0])
        drawn[a] += 1
        chances = np.exp(preference) / np.exp(preference).sum()
        step = (rewards[-1] - np.mean(rewards)) / drawn[a]
        for z in range(5):
            preference[z] += step * (1 - chances[z]) if z == a else -step * chances[z]
    np.testing.assert_allclose(attack.policy(), np.exp(preference) / np.exp(preference).sum(), rtol=1e-5)


def test_the_bandit_needs_arms() -> None:
    with pytest.raises(ValueError, match="needs a task with outside_arms: use 'knockoff'"):
        ATTACKS["knockoff-adaptive"](view(0, outside_arms=None, arms=0))


def test_an_arm_that_ran_out_gives_nothing_and_rewards_still_find_their_arms() -> None:
    source = images(3, 4)

    def some(number: int, n: int, rng: np.random.Generator) -> np.ndarray:
        return source[rng.integers(4, size=n)] if number == 0 else arm(number, n, rng)

    attack = ATTACKS["knockoff-adaptive"](view(0, outside_arms=some))
    x = attack.propose(100)
    assert 60 < len(x) < 100
    attack.observe(x, answered(x, "soft"))
    assert len(attack.propose(10)) > 0


def log_probabilities(substitute: Substitute, x: np.ndarray) -> np.ndarray:
    """Return what a substitute says of images, in float64 and from its weights alone."""
    hidden, hidden_bias, last, last_bias = (p.detach().double().numpy() for p in substitute.net.parameters())
    z = np.maximum(slow_features(x) @ hidden.T + hidden_bias, 0) @ last.T + last_bias
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def started(name: str) -> tuple[Jacobian, np.ndarray, np.ndarray]:
    """Return an attack with a substitute, the seeds it was trained on and their labels."""
    attack = ATTACKS[name](view(0))
    seeds = attack.propose(100)
    assert len(seeds) == 64  # then it waits
    answers = answered(seeds, "hard")
    attack.observe(seeds, answers)
    assert len(attack.propose(10)) == 0
    attack.student_updated(LinearStudent.random(5))
    return attack, seeds, answers.argmax(axis=1)


def agreement(moved: np.ndarray, seed: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return whether each image [n, ...] is the seed moved along a gradient [pixels], where that is no rounding."""
    sure = np.abs(gradient) > 1e-4 * np.abs(gradient).max()
    assert sure.mean() > 0.9
    wanted = np.clip(seed.ravel() + np.float32(0.1) * np.sign(gradient).astype(np.float32), 0, 1).astype(np.float32)
    return (moved.reshape(len(moved), -1)[:, sure] == wanted[sure]).all(axis=1)


def test_jacobian_moves_along_the_sign_of_the_gradient_of_the_oracles_class() -> None:
    """Of its log-probability, whose gradient has the sign of the probability's."""
    attack, seeds, labels = started("jacobian")
    moved = attack.propose(100)
    assert len(moved) == 64
    gradients = slopes(seeds, lambda x: log_probabilities(attack.substitute, x))[np.arange(64), :, labels]
    found = np.array([agreement(moved, x, g) for x, g in zip(seeds, gradients, strict=True)])
    assert (found.sum(axis=0) == 1).all()
    assert (found.sum(axis=1) == 1).all()
    assert all(np.abs(moved - x).max(axis=(1, 2, 3)).min() > 0.05 for x in seeds)  # no duplicates: nothing stood still


def test_jacobians_substitute_is_trained_anew_on_its_labels_whatever_the_drivers_student_is() -> None:
    attack, seeds, labels = started("jacobian")
    first = attack.substitute
    assert np.mean(log_probabilities(first, seeds).argmax(axis=1) == labels) > 0.9
    other = ATTACKS["jacobian"](view(0))
    other.observe(other.propose(64), answered(seeds, "hard"))
    other.student_updated(LinearStudent.random(6))
    assert np.array_equal(attack.propose(64), other.propose(64))
    turned = np.roll(answered(seeds, "hard"), 1, axis=1)  # the victim says otherwise now, and more often
    for _ in range(8):
        attack.observe(seeds, turned)
    attack.student_updated(LinearStudent.random(5))
    assert attack.substitute is not first
    assert np.mean(log_probabilities(attack.substitute, seeds).argmax(axis=1) == (labels + 1) % CLASSES) > 0.9
    ATTACKS["jacobian"](view(0)).student_updated(LinearStudent.random(5))  # of no labels nothing is learnt


def test_jacobian_grows_by_what_is_asked_and_moves_nothing_twice_with_one_student() -> None:
    attack = ATTACKS["jacobian"](view(0))
    sizes = []
    for number in range(5):
        x = attack.propose(64)
        attack.observe(x, answered(x, "hard"))
        sizes.append(len(x))
        attack.student_updated(LinearStudent.random(number))
    assert sizes == [64] * 5
    asked = attack.training_set()[0]
    assert len({x.tobytes() for x in asked}) == len(asked)


def test_jacobian_moves_everything_anew_by_a_new_student() -> None:
    attack = ATTACKS["jacobian"](view(0))
    seeds = attack.propose(64)
    attack.observe(seeds, answered(seeds, "hard"))
    for number, have in ((1, 64), (2, 128)):
        attack.student_updated(LinearStudent.random(number))
        base = attack.training_set()[0]
        moved = attack.propose(500)
        assert len(moved) == have
        far = np.abs(moved[:, None] - base[None]).max(axis=(2, 3, 4))
        assert len(set(far.argmin(axis=1))) > 0.9 * have  # each from its own
        assert far.min() > 0.05
        attack.observe(moved, answered(moved, "hard"))


def test_jacobian_tr_moves_towards_a_random_other_class() -> None:
    attack, seeds, labels = started("jacobian-tr")
    moved = attack.propose(64)
    gradients = slopes(seeds, lambda x: log_probabilities(attack.substitute, x))  # [64, pixels, C]
    pairs = list(zip(seeds, gradients, strict=True))
    found = np.array([[agreement(moved, x, g[:, target]) for target in range(CLASSES)] for x, g in pairs])
    assert (found.sum(axis=(0, 1)) == 1).all()
    assert (found.sum(axis=(1, 2)) == 1).all()
    rows, targets, _ = np.nonzero(found)
    assert (targets != labels[rows]).all()
    counts = np.bincount((targets - labels[rows]) % CLASSES, minlength=CLASSES)
    assert (counts[1:] > 8).all()  # each of three others about 21 times


def test_guessed_labels_are_sharpened_averages_of_two_views() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0]])
    np.testing.assert_allclose(sharpened(p)[0], np.array([0.25, 0.09, 0.04]) / 0.38, rtol=1e-6)
    assert torch.allclose(sharpened(p).sum(dim=1), torch.ones(2))

    student = LinearStudent.random(3)
    one, two = torch.from_numpy(images(2, 9)), torch.from_numpy(images(3, 9))
    mean = (torch.softmax(student.logits(one), dim=1) + torch.softmax(student.logits(two), dim=1)) / 2
    torch.testing.assert_close(guessed_labels(student.logits, [one, two]), mean**2 / (mean**2).sum(dim=1, keepdim=True))


def test_mixup_keeps_an_image_mostly_itself() -> None:
    weight = mixing_weights(np.random.default_rng(0), 20000)
    assert weight.min() >= 0.5
    assert weight.max() <= 1
    # E max(l, 1 - l) of Beta(a, a) is 1/2 + E|l - 1/2|.
    wanted = stats.beta(0.75, 0.75).expect(lambda v: max(v, 1 - v))
    assert weight.mean() == pytest.approx(wanted, abs=float(4 * weight.std() / 20000**0.5))


def test_mixup_mixes_targets_as_images() -> None:
    attack = MixMatch(view(0))
    level = torch.linspace(0, 1, 50)
    mixed, targets = attack._mix(level[:, None, None, None].expand(50, *SHAPE), torch.stack([level, 1 - level], dim=1))
    torch.testing.assert_close(mixed[:, 0, 0, 0], targets[:, 0])
    assert ((targets[:, 0] - level).abs() <= 0.5 + 1e-6).all()
    assert (targets[:, 0] - level).abs().max() > 0.1


def test_shifts_move_each_image_by_at_most_a_pixel() -> None:
    x = torch.from_numpy(images(4, 80))
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    moves = []
    for one, wide in zip(shifted(x, torch.Generator().manual_seed(0)), padded, strict=True):
        moves += [(i, j) for i in range(3) for j in range(3) if torch.equal(one, wide[:, i : i + 8, j : j + 8])]
    assert len(moves) == 80
    assert set(moves) == {(i, j) for i in range(3) for j in range(3)}


def test_mixmatch_learns_more_than_its_labels_say() -> None:
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = (digits.images / 16).astype(np.float32)[order, None]
    y = np.eye(10, dtype=np.float32)[digits.target[order]]
    attack = MixMatch(view(0, classes=10, pool=x[:1200]))
    labels = {image.tobytes(): label for image, label in zip(x, y, strict=True)}
    asked = attack.propose(64)
    attack.observe(asked, np.stack([labels[image.tobytes()] for image in asked]))
    student = attack.own_student()
    assert student is attack.own_student()  # nothing new was labelled: nothing is trained
    known, targets = (torch.from_numpy(part) for part in attack.training_set())
    plain = small_cnn(SHAPE, 10, torch.Generator().manual_seed(0))
    adam = torch.optim.Adam(plain.parameters(), 1e-2)
    for _ in range(150):
        adam.zero_grad()
        torch.nn.functional.cross_entropy(plain(known), targets).backward()
        adam.step()
    right, without = (
        np.mean(logits(torch.from_numpy(x[1200:])).argmax(dim=1).numpy() == y[1200:].argmax(axis=1))
        for logits in (student.logits, plain)
    )
    assert right >= 0.82
    assert right > without


def test_logits_are_recovered_up_to_their_mean() -> None:
    z = torch.randn(20, 10, generator=torch.Generator().manual_seed(0)) * 5
    torch.testing.assert_close(
        recovered_logits(torch.softmax(z, dim=1)), z - z.mean(dim=1, keepdim=True), rtol=1e-4, atol=1e-4
    )
    assert torch.isfinite(recovered_logits(torch.eye(3))).all()


class Bent(LinearStudent):
    """A student whose gradient depends on the image."""

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(2 * super().logits(x))


def loss_of(student: Bent, victim: LinearStudent, before: torch.Tensor) -> torch.Tensor:
    """Return the loss [n] as the attack sees it: images through a sigmoid, probabilities out of the victim."""
    x = torch.sigmoid(before)
    return disagreement(student.logits(x), recovered_logits(torch.softmax(victim.logits(x), dim=1)))


def test_the_gradient_estimate_is_the_directional_derivative() -> None:
    g = torch.Generator().manual_seed(0)
    student, victim = (
        Bent(LinearStudent.random(5, 0.2).weight.double()),
        LinearStudent(LinearStudent.random(6).weight.double()),
    )
    before = torch.randn(30, *SHAPE, generator=g).double().requires_grad_()
    true = torch.autograd.grad(loss_of(student, victim, before).sum(), before)[0].flatten(1)
    before = before.detach()
    way = unit_directions(before, g)
    torch.testing.assert_close(way.flatten(1).norm(dim=1), torch.ones(30, dtype=torch.float64))
    estimate = forward_difference(
        loss_of(student, victim, before), loss_of(student, victim, before + DIFFERENCE * way), way
    )
    along = (true * way.flatten(1)).sum(dim=1)
    torch.testing.assert_close((estimate * way).flatten(1).sum(dim=1) / 64, along, rtol=0.02, atol=0.02)


def test_the_gradient_estimate_is_right_on_average() -> None:
    g = torch.Generator().manual_seed(1)
    slope = torch.randn(64, generator=g)
    way = unit_directions(torch.zeros(20000, *SHAPE), g)
    here = torch.zeros(20000)
    estimate = forward_difference(here, DIFFERENCE * (way.flatten(1) @ slope), way).flatten(1)
    wrong = estimate.mean(dim=0) - slope
    assert (wrong.abs() < 5 * estimate.std(dim=0) / 20000**0.5).all()


def test_datafree_climbs_the_disagreement_and_then_closes_it() -> None:
    """Its own estimate, from the queries and answers that really pass, points up the true gradient."""
    attack = DataFree(view(0))
    agree = []
    for _ in range(40):
        x = attack.propose(1000)
        assert len(x) == (128 if attack._generating else 320)
        if not attack._generating:
            images_ = torch.from_numpy(x)
            victim = recovered_logits(torch.from_numpy(answered(x, "soft")))
            with torch.no_grad():
                before = disagreement(attack._net(images_), victim).mean()
        student_step = not attack._generating
        attack.observe(x, answered(x, "soft"))
        if student_step:
            with torch.no_grad():
                agree.append(float(disagreement(attack._net(images_), victim).mean() / before))
    assert np.mean(agree[:5]) < 0.95  # the student's steps bring it nearer to the victim


def test_datafree_moves_the_generator_against_the_student() -> None:
    attack = DataFree(view(0))
    noise = torch.randn(256, NOISE, generator=torch.Generator().manual_seed(9))

    def wrong() -> float:
        with torch.no_grad():
            x = torch.sigmoid(attack._maker(noise)).numpy()
            victim = recovered_logits(torch.from_numpy(answered(x, "soft")))
            return float(disagreement(attack._net(torch.from_numpy(x)), victim).mean())

    attack._maker_adam.rate = 2e-3  # so that 60 steps are enough
    start = wrong()
    for _ in range(60):  # generator steps alone: the student stands still
        x = attack.propose(128)
        attack.observe(x, answered(x, "soft"))
        attack._generating = True
        attack._begin_phase()
    assert wrong() > 1.1 * start


def test_datafree_asks_the_same_images_moved_by_a_thousandth() -> None:
    attack = DataFree(view(0))
    x = attack.propose(128).astype(np.float64)
    logit = np.log(x / (1 - x))
    step = (logit[64:] - logit[:64]).reshape(64, -1)
    np.testing.assert_allclose(np.linalg.norm(step, axis=1), DIFFERENCE, rtol=0.05)


def test_the_generators_last_layer_keeps_images_varied() -> None:
    for shape in ((1, 16, 16), (1, 28, 28), (3, 32, 32), (1, 9, 13)):
        net = image_generator(shape, torch.Generator().manual_seed(0))
        z = net(100 * torch.randn(64, NOISE, generator=torch.Generator().manual_seed(1)))
        assert z.shape == (64, *shape)
        torch.testing.assert_close(z.std(dim=(0, 2, 3)), torch.ones(shape[0]), rtol=0.01, atol=0.01)
        assert not list(net[-1].parameters())
