"""The user's own data as a task: known layouts of folders are recognised by their file names. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim.lab import formats
from powsim.lab.formats import Raw
from powsim.lab.task import Images, Labels, Split, Task
from powsim.lab.tasks.augment import resized
from powsim.lab.tasks.photos import Crops

LIMIT = 20_000  # images drawn where nothing else is asked for: 10,000 private, 6,666 honest queries, the rest test
PER_TEACHER = 36  # originals that a teacher needs to agree with others on its own data
MOST_TEACHERS = 50


@dataclass(frozen=True)
class Data:
    """What was read: images uint8 or float32 [N, channels, height, width], in two parts where the files keep two."""

    name: str
    classes: int
    x: NDArray[Any]
    y: Labels
    original: NDArray[np.int64]
    test: Raw | None


def read(path: Path) -> Data:
    """Return the data of an .npz file or of a folder in a known layout; ValueError says what was looked for."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder: give the path of data that you have, nothing is downloaded")
    if path.is_file():
        if path.suffix != ".npz":
            raise ValueError(f"{path}: one file must be an .npz with x and y: for other formats give their folder")
        return _npz(path)
    for inner in ("", "cifar-10-batches-py", "cifar-10-batches-bin", "cifar-100-python", "cifar-100-binary", "raw"):
        for layout in (_mnist, _cifar, _svhn):
            found = layout(path / inner)
            if found is not None:
                return found
    archives = sorted(path.glob("*.npz"))
    if len(archives) == 1:
        return _npz(archives[0])
    some = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
    raise ValueError(
        f"{path}: holds {some}, expected train-images-idx3-ubyte[.gz] (MNIST, Fashion-MNIST), data_batch_1[.bin] "
        "(CIFAR-10), train and test[.bin] (CIFAR-100), train_32x32.mat (SVHN) or one .npz: unpack the archive first"
    )


def _npz(path: Path) -> Data:
    arrays = formats.npz(path)
    test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    classes = 1 + max(int(arrays["y"].max()), int(test[1].max()) if test else 0)
    return Data(path.stem, classes, arrays["x"], arrays["y"], arrays["original"].astype(np.int64), test)


def _whole(name: str, classes: int, parts: list[Raw], test: Raw) -> Data:
    x, y = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    return Data(name, classes, x, y, np.arange(len(x)), test)


def _there(folder: Path, *names: str) -> Path:
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise ValueError(f"{folder}: has no {names[0]}, expected beside its other files: copy the whole data set")
    return found[0]


def _mnist(folder: Path) -> Data | None:
    def named(stem: str, kind: str) -> Path:
        return _there(folder, *(f"{stem}{dot}{kind}{end}" for dot in "-." for end in ("", ".gz")))

    if not any(folder.glob("train-images?idx3-ubyte*")):
        return None
    train, test = (
        formats.mnist(named(f"{part}-images", "idx3-ubyte"), named(f"{part}-labels", "idx1-ubyte"))
        for part in ("train", "t10k")
    )
    return _whole(folder.name, 10, [train], test)


def _cifar(folder: Path) -> Data | None:
    reader: Callable[[Path, int], Raw]
    for end, reader in (("", formats.cifar_pickle), (".bin", formats.cifar_binary)):
        if (folder / f"data_batch_1{end}").is_file():
            parts = [reader(_there(folder, f"data_batch_{part}{end}"), 10) for part in range(1, 6)]
            return _whole("cifar10", 10, parts, reader(_there(folder, f"test_batch{end}"), 10))
        if (folder / f"train{end}").is_file():
            return _whole(
                "cifar100", 100, [reader(folder / f"train{end}", 100)], reader(_there(folder, f"test{end}"), 100)
            )
    return None


def _svhn(folder: Path) -> Data | None:
    if not (folder / "train_32x32.mat").is_file():
        return None
    return _whole(
        "svhn", 10, [formats.svhn(folder / "train_32x32.mat")], formats.svhn(_there(folder, "test_32x32.mat"))
    )


def file_task(
    path: Path, seed: int, *, name: str | None = None, limit: int | None = None, outside: str | Path | None = None
) -> Task:
    """Return a task from the user's files.

    `limit` images (default 20,000) are drawn by the seed. Half becomes private, a third honest queries (half of these
    to calibrate on), a sixth the test, by original; where the files keep a test set apart, test images are from it.
    Private data gets one teacher per 36 originals, 2 to 50. outside: a path of other data, whose images become the
    out-of-distribution queries and whose classes are their arms; default: crops of scikit-learn's photographs.
    """
    data = read(path)
    limit = LIMIT if limit is None else limit
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 60:
        raise ValueError(f"limit={limit!r} must be an integer of at least 60 images: they make four splits")
    rng = np.random.default_rng([seed, 128])
    owners = rng.permutation(np.unique(data.original))
    rows = np.argsort(np.argsort(owners)[np.searchsorted(np.sort(owners), data.original)], kind="stable")[:limit]
    share = (3, 2, 1) if data.test is None else (3, 2, 0)
    private, calibration, users, rest = _divided(path, data, rows, share)
    if data.test is None:
        test = _split(data, rest)
    else:
        x, y = data.test
        if x.shape[1:] != data.x.shape[1:]:
            raise ValueError(f"{path}: test images are {list(x.shape[1:])}, expected {list(data.x.shape[1:])}")
        some = rng.permutation(len(x))[: max(1, limit // 6)]
        test = Split(_floats(x[some]), y[some], 1 + data.original.max() + some)
    shape = (int(data.x.shape[1]), int(data.x.shape[2]), int(data.x.shape[3]))
    draw, of_arm, arms, source = _outside(shape, outside)
    k = max(1, min(300, len(private) // 12))
    return Task(
        name or data.name,
        real=True,
        classes=max(2, data.classes),
        private=_split(data, private),
        calibration=_split(data, calibration),
        users=_split(data, users),
        test=test,
        outside=draw,
        outside_source=source,
        outside_arms=of_arm,
        arms=arms,
        teachers=max(2, min(MOST_TEACHERS, len(np.unique(data.original[private])) // PER_TEACHER)),
        neighbours=k,
        knn_sigma=0.04 * k,
    )


def _divided(path: Path, data: Data, rows: NDArray[np.int64], share: tuple[int, int, int]) -> list[NDArray[np.int64]]:
    """Return the rows of private, calibration, users and test: cut where a new original begins."""
    of = data.original[rows]
    starts = np.flatnonzero(np.r_[True, of[1:] != of[:-1]])
    if len(starts) < 12:
        raise ValueError(f"{path}: holds {len(starts)} originals, expected at least 12: add images")
    whole = 2 * sum(share)  # of half shares: two honest halves are cut out of one
    cuts = [len(starts) * part // whole for part in (2 * share[0], 2 * share[0] + share[1], 2 * (share[0] + share[1]))]
    edges = [int(starts[cut]) if cut < len(starts) else len(rows) for cut in cuts]
    return np.split(rows, edges)


def _floats(x: NDArray[Any]) -> Images:
    out: Images = x.astype(np.float32)
    return out / np.float32(255) if x.dtype == np.uint8 else out


def _split(data: Data, rows: NDArray[np.int64]) -> Split:
    return Split(_floats(data.x[rows]), data.y[rows], data.original[rows])


Draw = Callable[[int, np.random.Generator], Images]
OfArm = Callable[[int, int, np.random.Generator], Images]


def _outside(shape: tuple[int, int, int], outside: str | Path | None) -> tuple[Draw, OfArm, int, str]:
    if outside is None:
        # Saturated colours are no photograph of anything; pen strokes are what grey files mostly hold.
        crops = Crops(shape) if shape[0] == 1 else Crops(shape, sides=(16, 96), clipped=0.0, window=None)
        return crops.draw, crops.of_arm, crops.arms, crops.source
    data = read(Path(outside))
    classes = np.unique(data.y)

    def images(rows: NDArray[np.int64]) -> Images:
        x = _floats(data.x[rows])
        if x.shape[1] != shape[0]:
            x = x.mean(axis=1, keepdims=True).repeat(shape[0], axis=1)
        return resized(x, shape[1:])

    def draw(n: int, rng: np.random.Generator) -> Images:
        return images(rng.integers(len(data.x), size=n))

    def of_arm(arm: int, n: int, rng: np.random.Generator) -> Images:
        if not 0 <= arm < len(classes):
            raise ValueError(f"arm={arm} must lie in 0..{len(classes) - 1}")
        return images(rng.choice(np.flatnonzero(data.y == classes[arm]), n))

    return draw, of_arm, len(classes), f"images of {data.name}, a data set that the user gave"
