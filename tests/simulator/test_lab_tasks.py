"""Tasks: split by original before anything is augmented, the same by seed, and the effect in its measured size."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the lab needs torch: pip install 'powsim[lab]'")
pytest.importorskip("sklearn", reason="the lab needs scikit-learn: pip install 'powsim[lab]'")

from powsim.lab.task import Task  # noqa: E402
from powsim.lab.tasks import TASKS, load_task, shipped  # noqa: E402
from powsim.lab.tasks.augment import Distortion, distorted, stretched, warped  # noqa: E402
from powsim.lab.tasks.photos import Crops  # noqa: E402
from powsim.lab.teachers import fit_teachers  # noqa: E402
from powsim_kernels import PatePlan  # noqa: E402


@pytest.fixture(scope="module", params=sorted(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    if request.param == "glyphs":
        pytest.importorskip("matplotlib", reason="glyphs needs powsim[report]")
    return load_task(request.param, 3)


def parts(task: Task) -> list:
    return [task.private, task.calibration, task.users, task.test]


def test_splits_share_no_original_and_hold_images(task: Task) -> None:
    owners = [set(part.original.tolist()) for part in parts(task)]
    assert len(set().union(*owners)) == sum(map(len, owners))
    for part in parts(task):
        assert part.x.dtype == np.float32
        assert part.x.shape[1:] == task.shape
        assert 0 <= part.x.min() < part.x.max() <= 1
        assert part.y.dtype == part.original.dtype == np.int64
        assert len(part.x) == len(part.y) == len(part.original)
        assert set(part.y.tolist()) == set(range(task.classes))
    assert task.real == task.name.startswith("digits")
    assert task.neighbours <= len(task.private.x)


def test_images_of_an_original_keep_its_label(task: Task) -> None:
    for part in parts(task):
        assert len(set(zip(part.original.tolist(), part.y.tolist(), strict=True))) == len(set(part.original.tolist()))


def test_a_seed_decides_everything_and_no_global_state(task: Task) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    again, other = load_task(task.name, 3), load_task(task.name, 4)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]  # noqa: NPY002
    for one, two, three in zip(parts(task), parts(again), parts(other), strict=True):
        np.testing.assert_array_equal(one.x, two.x)
        np.testing.assert_array_equal(one.y, two.y)
        np.testing.assert_array_equal(one.original, two.original)
        assert not np.array_equal(one.x, three.x)


def test_outside_images_come_by_number_and_by_arm(task: Task) -> None:
    made = task.outside(9, np.random.default_rng(1))
    assert made.shape == (9, *task.shape)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, task.outside(9, np.random.default_rng(1)))
    assert task.arms == 12
    assert task.outside_arms is not None
    for arm in (0, task.arms - 1):
        assert task.outside_arms(arm, 2, np.random.default_rng(1)).shape == (2, *task.shape)
    for arm in (-1, task.arms):
        with pytest.raises(ValueError, match=f"arm={arm} must lie in 0..11"):
            task.outside_arms(arm, 2, np.random.default_rng(1))
    assert task.outside(0, np.random.default_rng(1)).shape == (0, *task.shape)


def test_the_sizes_of_the_default_task() -> None:
    task = load_task("digits16", 0)
    assert [len(set(part.original.tolist())) for part in parts(task)] == [900, 300, 300, 297]
    assert [len(part.x) for part in parts(task)] == [3600, 3000, 6000, 297]
    assert (task.teachers, task.neighbours, task.knn_sigma) == (25, 300, 12.0)


def test_digits8_are_the_digits_as_they_come() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    for part in parts(load_task("digits8", 1)):
        np.testing.assert_array_equal(part.x[:, 0] * 16, bunch.images[part.original])
        np.testing.assert_array_equal(part.y, bunch.target[part.original])


def test_default_task_shows_the_effect_in_its_measured_size() -> None:
    """Six seeds that nothing was tuned on; the independent study of the same data measured 1.92 and 2.02.

    Its crops were seen whole: those cost 6.65 here too. In windows, as the task's are, they cost a little less.
    """
    plan = PatePlan(25, 10, 1.0, backend="cpu")
    whole = Crops((1, 16, 16), window=None)
    rows = []
    for seed in range(6):
        task = load_task("digits16", seed)
        teachers = fit_teachers(task, seed)
        rng = np.random.default_rng([seed, 1])
        noise = rng.uniform(size=(1024, *task.shape)).astype(np.float32)
        honest, crops, seen, random = (
            plan.eps(teachers.votes(x), 1e-5, conversion="classic")[0].mean()
            for x in (task.users.x, whole.draw(1024, rng), task.outside(1024, rng), noise)
        )
        costs = honest, crops, crops / honest, random / honest, seen / honest, seen / crops
        rows.append((*teachers.accuracy(task.test), *costs))
    mean, least = np.mean(rows, axis=0), np.min(rows, axis=0)
    assert mean[0] == pytest.approx(0.82, abs=0.03)
    assert least[1] >= 0.95
    assert mean[2] == pytest.approx(3.4, abs=0.15)
    assert mean[3] == pytest.approx(6.65, abs=0.2)
    assert mean[4] == pytest.approx(1.92, abs=0.12)
    assert mean[5] == pytest.approx(2.02, abs=0.12)
    assert mean[6] == pytest.approx(1.92, abs=0.12)
    assert 0.9 < mean[7] < 1


def test_a_turn_by_ninety_degrees_and_a_shift_by_pixels_are_exact() -> None:
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    draws = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])  # turns the first, shifts the second
    turned = warped(x, (8, 8), Distortion(degrees=90, shift=2 / 8), draws)
    torch.testing.assert_close(turned[0], torch.rot90(x[0], 1, (1, 2)), atol=1e-5, rtol=0)
    torch.testing.assert_close(turned[1, :, :, :-2], x[1, :, :, 2:], atol=1e-5, rtol=0)
    assert (turned[1, :, :, -2:] == 0).all()


def test_distortions_of_an_image_do_not_depend_on_the_others() -> None:
    x = np.random.default_rng(0).uniform(size=(5, 1, 8, 8)).astype(np.float32)
    y = x.copy()
    y[3] = 0
    limits = Distortion(10, 0.1, 0.1, 0.05)
    one, two = (distorted(some, (16, 12), limits, np.random.default_rng(2)) for some in (x, y))
    assert one.shape == (5, 1, 16, 12)
    kept = [0, 1, 2, 4]
    np.testing.assert_array_equal(one[kept], two[kept])
    assert not np.array_equal(one[3], two[3])


def test_crops_are_stretched_and_lie_in_their_region() -> None:
    photo = np.zeros((60, 90, 3), np.float32)
    ramp = np.linspace(0, 1, 30)
    photo[:30, 60:] = ramp[:, None, None]  # only region 2 has any contrast
    crops = Crops((1, 8, 8), sides=(4, 6), window=None, photos=(photo,))
    assert crops.arms == 6
    rng = np.random.default_rng(0)
    assert crops.of_arm(3, 20, rng).max() == 0
    made = crops.of_arm(2, 20, rng)
    assert (made.max(axis=(1, 2, 3)) == 1).all()
    assert (made.min(axis=(1, 2, 3)) == 0).all()
    assert stretched(np.full((1, 1, 8, 8), 0.5, np.float32)).max() == 0
    assert Crops((3, 8, 8), photos=(photo,)).draw(2, rng).shape == (2, 3, 8, 8)


def test_crops_lie_eight_ways() -> None:
    ramp = np.linspace(0, 1, 40, dtype=np.float32)
    photo = np.repeat((2 * ramp[:, None] ** 2 + ramp)[:, :, None], 3, axis=2)  # brighter downwards, and to the right
    made = Crops((1, 8, 8), sides=(20, 20), clipped=0.0, window=None, photos=(photo,)).draw(
        400, np.random.default_rng(0)
    )
    middle = made[:, 0, 3:5, 3:5].mean(axis=(1, 2))
    sides = np.stack([made[:, 0, at].mean(axis=1) for at in (0, 7)] + [made[:, 0, :, at].mean(axis=1) for at in (0, 7)])
    assert ((sides > middle).sum(axis=0) == 2).all()
    # The brightest side and the brighter of the two beside it tell the eight ways apart.
    ways, counts = np.unique(np.argsort(sides, axis=0)[2:], axis=1, return_counts=True)
    assert ways.shape[1] == 8
    assert counts.min() > 25  # of 50


def test_windows_are_round_and_soft_on_black() -> None:
    photo = np.random.default_rng(0).uniform(size=(40, 60, 3)).astype(np.float32)
    whole = Crops((1, 12, 16), sides=(5, 9), window=None, photos=(photo,))
    seen = Crops((1, 12, 16), sides=(5, 9), window=(0.25, 0.25), photos=(photo,))
    plain, made = (crops.draw(30, np.random.default_rng(4)) for crops in (whole, seen))
    for i in range(12):
        for j in range(16):
            away = np.hypot((i + 0.5) / 12 - 0.5, (j + 0.5) / 16 - 0.5)
            share = min(1.0, max(0.0, (0.25 - away) / (3 / 16) + 0.5))
            np.testing.assert_allclose(made[:, 0, i, j], share * plain[:, 0, i, j], atol=1e-6)
    assert made.dtype == np.float32
    sizes = Crops((1, 12, 16), clipped=0.0, window=(0.1, 0.6), photos=(1 - 0 * photo,))._windows(np.array([0.1, 0.6]))
    assert sizes[0].sum() < 0.1 * sizes[1].sum()
    assert (whole.source + ", in round windows on black") == seen.source


def test_stretching_cuts_at_each_images_own_quantiles() -> None:
    x = np.random.default_rng(0).uniform(0.2, 0.7, (3, 1, 11, 11)).astype(np.float32)
    low, high = np.array([0.0, 0.1, 0.4]), np.array([1.0, 0.75, 0.6])
    made = stretched(x, low, high)
    for image, found, lo, hi in zip(x, made, low, high, strict=True):
        black, white = np.quantile(image, lo), np.quantile(image, hi)  # 120 steps: these shares are values of the image
        np.testing.assert_allclose(found, np.clip((image - black) / (white - black), 0, 1), atol=1e-5)
    assert len(stretched(x[:0])) == 0


def test_what_cannot_be_a_task_says_so() -> None:
    with pytest.raises(
        ValueError, match=r"unknown task 'digit'.*digits16, digits8, glyphs, gaussian, or give the path"
    ):
        load_task("digit", 0)
    with pytest.raises(ValueError, match="seed=-1"):
        load_task("digits8", -1)
    with pytest.raises(ValueError, match="limit=100 is for tasks from files"):
        load_task("digits8", 0, limit=100)


def test_a_missing_matplotlib_is_named() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from powsim.lab.tasks import load_task\n"
        "try: load_task('glyphs', 0)\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'powsim[report]'" in done.stdout


def test_shipped_files_are_what_scikit_learn_reads() -> None:
    from sklearn.datasets import load_digits, load_sample_images

    images, labels = shipped.digits()
    known = load_digits()
    np.testing.assert_array_equal(images, known.images)
    np.testing.assert_array_equal(labels, known.target)
    for mine, theirs in zip(shipped.photographs(), load_sample_images().images, strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_array_equal(mine, theirs.astype(np.float32) / 255)


def test_a_worker_loads_no_compiler_and_no_scikit_learn() -> None:
    """Each takes seconds in every process."""
    code = (
        "import sys; from powsim.lab import seed, tasks; from powsim.lab.victim import fit_victim; "
        "fit_victim(tasks.load_task('digits8', 0), 0, steps=1); "
        "print(*[m for m in ('torch._dynamo', 'sklearn', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
