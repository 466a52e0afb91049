"""The user's own files: tiny ones in the exact formats load to the byte; broken ones say what is wrong."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the lab needs torch: pip install 'powsim[lab]'")
pytest.importorskip("sklearn", reason="the lab needs scikit-learn: pip install 'powsim[lab]'")

from powsim.lab import formats, unpickling
from powsim.lab.files import read
from powsim.lab.tasks import load_task

N = 120
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (N, 28, 28), np.uint8)
COLOUR = RNG.integers(0, 256, (N, 3072), np.uint8)
LABELS = np.arange(N, dtype=np.uint8) % 10
FINE = np.arange(N, dtype=np.uint8) % 100


def write_idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(f">I{array.ndim}I", 0x800 | array.ndim, *array.shape)
    content = head + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def mnist(folder: Path, dot: str = "-", end: str = "") -> None:
    for part in ("train", "t10k"):
        write_idx(folder / f"{part}-images{dot}idx3-ubyte{end}", GREY)
        write_idx(folder / f"{part}-labels{dot}idx1-ubyte{end}", LABELS)


def python2(value: object) -> bytes:
    """Return a value as Python 2's pickle wrote it: str as binary strings, arrays through _reconstruct."""
    if isinstance(value, bytes):
        return b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(python2(key) + python2(inner) for key, inner in value.items()) + b"u"
    assert isinstance(value, np.ndarray)
    kind = b"cnumpy\ndtype\n(" + python2(b"u1") + b"K\x00K\x01tR(K\x03" + python2(b"|") + b"NNNJ\xff\xff\xff\xffJ"
    kind += b"\xff\xff\xff\xffK\x00tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + python2(b"b") + b"tR"
    shape = b"(" + b"".join(map(python2, value.shape)) + b"t"
    return made + b"(K\x01" + shape + kind + b"\x89" + python2(value.tobytes()) + b"tb"


def cifar10(folder: Path) -> None:
    for part, name in enumerate(("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")):
        batch = {
            b"data": np.roll(COLOUR, part, axis=0),
            b"labels": np.roll(LABELS, part).tolist(),
            b"filenames": [b"a"],
        }
        (folder / name).write_bytes(b"\x80\x02" + python2(batch) + b".")
    (folder / "test_batch").write_bytes(pickle.dumps({"data": COLOUR, "labels": LABELS.tolist()}, protocol=4))


def cifar100(folder: Path) -> None:
    for name, protocol in (("train", 2), ("test", 5)):
        batch = {"data": COLOUR, "fine_labels": FINE.tolist(), "coarse_labels": [0] * N}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=protocol))


def cifar10_binary(folder: Path) -> None:
    for name in (*(f"data_batch_{part}.bin" for part in range(1, 6)), "test_batch.bin"):
        (folder / name).write_bytes(np.c_[LABELS, COLOUR].tobytes())


def cifar100_binary(folder: Path) -> None:
    for name in ("train.bin", "test.bin"):
        (folder / name).write_bytes(np.c_[LABELS, FINE, COLOUR].tobytes())


def svhn(folder: Path) -> None:
    from scipy.io import savemat

    x = COLOUR.reshape(N, 3, 32, 32).transpose(2, 3, 1, 0)
    for name in ("train", "test"):
        savemat(folder / f"{name}_32x32.mat", {"X": x, "y": np.where(LABELS == 0, 10, LABELS)[:, None]})


PLANES = COLOUR.reshape(N, 3, 32, 32)
LAYOUTS: list[tuple[str, Callable[[Path], None], np.ndarray, np.ndarray, int]] = [
    ("idx", mnist, GREY[:, None], LABELS, 10),
    ("idx.gz", lambda folder: mnist(folder, end=".gz"), GREY[:, None], LABELS, 10),
    ("dotted idx", lambda folder: mnist(folder, dot="."), GREY[:, None], LABELS, 10),
    ("cifar10", cifar10, np.concatenate([np.roll(PLANES, k, axis=0) for k in range(5)]),
     np.concatenate([np.roll(LABELS, k) for k in range(5)]), 10),
    ("cifar100", cifar100, PLANES, FINE, 100),
    ("cifar10 binary", cifar10_binary, np.tile(PLANES, (5, 1, 1, 1)), np.tile(LABELS, 5), 10),
    ("cifar100 binary", cifar100_binary, PLANES, FINE, 100),
    ("svhn", svhn, PLANES, LABELS, 10),
]  # fmt: skip


@pytest.mark.parametrize(("write", "x", "y", "classes"), [row[1:] for row in LAYOUTS], ids=[row[0] for row in LAYOUTS])
def test_published_layouts_load_to_the_byte(
    write: Callable[[Path], None], x: np.ndarray, y: np.ndarray, classes: int, tmp_path: Path
) -> None:
    write(tmp_path)
    data = read(tmp_path)
    np.testing.assert_array_equal(data.x, x)
    np.testing.assert_array_equal(data.y, y)
    assert data.classes == classes
    assert data.test is not None
    np.testing.assert_array_equal(data.test[0], x[:N])
    np.testing.assert_array_equal(data.test[1], y[:N])
    task = load_task(tmp_path, 1)
    assert task.shape == x.shape[1:]
    owners = [set(part.original.tolist()) for part in (task.private, task.calibration, task.users, task.test)]
    assert sum(map(len, owners)) == len(set().union(*owners)) == len(x) + min(N, 3333)
    for part in (task.private, task.calibration, task.users):
        np.testing.assert_array_equal(part.x, x[part.original].astype(np.float32) / 255)
        np.testing.assert_array_equal(part.y, y[part.original])
    assert task.outside(2, np.random.default_rng(0)).shape == (2, *task.shape)


def test_an_unpacked_archive_may_lie_one_folder_down(tmp_path: Path) -> None:
    inner = tmp_path / "cifar-10-batches-py"
    inner.mkdir()
    cifar10(inner)
    assert load_task("mine", 0, data=tmp_path, limit=200).name == "mine"
    assert load_task(str(tmp_path), 0, limit=200).name == "cifar10"


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_npz_groups_stay_together_and_the_limit_draws_by_seed(tmp_path: Path) -> None:
    owner = np.repeat(np.arange(100, 160), 4)
    x = RNG.uniform(size=(240, 3, 9, 11)).astype(np.float64)
    path = save(tmp_path / "own.npz", x=x, y=owner % 4, original=owner)
    task = load_task(path, 5)
    splits = [task.private, task.calibration, task.users, task.test]
    assert [len(part.x) for part in splits] == [120, 40, 40, 40]
    owners = [set(part.original.tolist()) for part in splits]
    assert sum(map(len, owners)) == 60
    assert (task.name, task.classes, task.teachers, task.neighbours) == ("own", 4, 2, 10)
    np.testing.assert_allclose(task.private.x.sum(), x[np.isin(owner, list(owners[0]))].sum(), rtol=1e-5)
    few = [load_task(path, seed, limit=80) for seed in (1, 1, 2)]
    assert sum(len(part.x) for part in (few[0].private, few[0].calibration, few[0].users, few[0].test)) == 80
    np.testing.assert_array_equal(few[0].private.original, few[1].private.original)
    assert not np.array_equal(few[0].private.original, few[2].private.original)
    assert load_task(path, 5, outside=path).outside_source == "images of own, a data set that the user gave"


def test_other_data_may_be_the_outside_with_its_classes_as_arms(tmp_path: Path) -> None:
    mnist(tmp_path)
    levels = np.repeat([0, 51, 255], 6).astype(np.uint8)
    strange = save(tmp_path / "strange.npz", x=np.tile(levels[:, None, None], (1, 16, 16)), y=np.repeat([3, 5, 9], 6))
    task = load_task(tmp_path, 0, outside=strange)
    assert task.arms == 3
    assert task.outside_arms is not None
    np.testing.assert_allclose(
        task.outside_arms(1, 4, np.random.default_rng(0)), np.full((4, 1, 28, 28), 0.2), atol=1e-6
    )
    assert set(np.unique(task.outside(50, np.random.default_rng(0)).round(3)).tolist()) <= {0, np.float32(0.2), 1}


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def broken(folder: Path) -> None:
        mnist(folder)
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return broken


IMAGES, TAGS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def zipped(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def broken(folder: Path) -> None:
        mnist(folder, end=".gz")
        path = folder / f"{IMAGES}.gz"
        path.write_bytes(change(path.read_bytes()))

    return broken


def batches(**changes: object) -> Callable[[Path], None]:
    def broken(folder: Path) -> None:
        cifar10(folder)
        batch = {"data": COLOUR, "labels": LABELS.tolist()} | changes
        (folder / "data_batch_3").write_bytes(pickle.dumps({key: v for key, v in batch.items() if v is not None}))

    return broken


def matrix(**changes: np.ndarray) -> Callable[[Path], None]:
    def broken(folder: Path) -> None:
        from scipy.io import savemat

        svhn(folder)
        x = np.zeros((32, 32, 3, 4), np.uint8)
        savemat(folder / "train_32x32.mat", {"X": x, "y": np.ones((4, 1), np.uint8)} | changes)

    return broken


def then(write: Callable[[Path], None], name: str, content: bytes | None) -> Callable[[Path], None]:
    def broken(folder: Path) -> None:
        write(folder)
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)

    return broken


def only(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: (save(folder / "own.npz", **arrays), None)[1]


SMALL, SIX = np.zeros((6, 8, 8), np.float32), np.arange(6)
NOT_A_NUMBER = SMALL.copy()
NOT_A_NUMBER[4, 2, 2] = np.nan
BOMB = struct.pack(">4I", 0x803, 2**31, 2**10, 2**10)
BROKEN: list[tuple[str, Callable[[Path], None], str]] = [
    ("truncated", edit(IMAGES, lambda b: b[:-5]), rf"{IMAGES}: 94,075 bytes follow, expected 94,080"),
    ("too long", edit(IMAGES, lambda b: b + b"x"), rf"{IMAGES}: more than 94,080 bytes follow"),
    ("wrong magic", edit(IMAGES, lambda b: b"\0\0\x08\x01" + b[4:]), "0x00000801, expected magic number 0x00000803"),
    ("empty", edit(IMAGES, lambda b: b""), "expected magic number 0x00000803.*copy it again"),
    ("no images", lambda f: (write_idx(f / IMAGES, GREY[:0]), write_idx(f / TAGS, LABELS[:0]), None)[2], "no images"),
    ("huge", edit(IMAGES, lambda b: BOMB), r"bytes, expected at most 4,294,967,296: save a part"),
    ("other size", lambda f: (mnist(f), write_idx(f / IMAGES, GREY[:, :20]), None)[2], "20x28, expected 28x28"),
    ("mislabelled", edit(TAGS, lambda b: b[:-1] + b"\x0b"), rf"{TAGS}: label 119 is 11, expected 0..9"),
    ("fewer labels", lambda f: (mnist(f), write_idx(f / TAGS, LABELS[:7]), None)[2], "120 images but 7 labels"),
    ("cut gzip", zipped(lambda b: b[:-900]), r"no whole gzip file.*copy it again"),
    ("no gzip", zipped(lambda b: b"no" + b[2:]), "no whole gzip file"),
    ("no labels", then(mnist, TAGS, None), f"has no {TAGS}, expected beside its other files"),
    ("cifar empty", then(cifar10, "data_batch_2", b""), "data_batch_2: no readable pickle.*copy it again"),
    ("cifar noise", then(cifar10, "data_batch_2", b"\x80\x02garbage"), "data_batch_2: no readable pickle"),
    ("cifar list", then(cifar10, "data_batch_2", pickle.dumps([1])), "holds a list, expected a dict"),
    (
        "cifar shape",
        batches(data=COLOUR[:, :3000]),
        r"data_batch_3: 'data' is uint8 \[120, 3000\], expected uint8 \[N, 3072",
    ),
    ("cifar dtype", batches(data=COLOUR.astype(np.float32)), r"'data' is float32 \[120, 3072\], expected uint8"),
    ("cifar label", batches(labels=[0] * 119 + [10]), r"label 119 is 10, expected 0\.\.9"),
    ("cifar great label", batches(labels=[2**80] * 120), r"beyond 2\^62, expected 0\.\.9"),
    ("cifar text label", batches(labels=["cat"] * 120), "no integers"),
    ("cifar count", batches(labels=[0] * 7), "120 images but 7 labels"),
    ("cifar keys", batches(labels=None), r"has no \['labels'\]"),
    ("cifar part", then(cifar10, "data_batch_5", None), "has no data_batch_5"),
    ("binary cut", then(cifar10_binary, "data_batch_4.bin", b"\0" * 3000), "3,000 bytes, expected a multiple of 3073"),
    ("binary label", then(cifar10_binary, "data_batch_4.bin", b"\x0c" + b"\0" * 3072), "label 0 is 12, expected 0..9"),
    ("binary empty", then(cifar100_binary, "train.bin", b""), "train.bin: holds no images"),
    ("svhn noise", then(svhn, "train_32x32.mat", b"no such format" * 20), "no SVHN file of cropped digits"),
    ("svhn empty", then(svhn, "train_32x32.mat", b""), "no SVHN file of cropped digits"),
    ("svhn label", matrix(y=np.array([[1], [0], [2], [3]], np.uint8)), r"y holds 0, expected integers in 1\.\.10"),
    ("svhn shape", matrix(X=np.zeros((28, 28, 3, 4), np.uint8)), r"expected X \(32, 32, 3, N\)"),
    ("svhn dtype", matrix(X=np.zeros((32, 32, 3, 4))), "X is float64, expected uint8"),
    ("svhn count", matrix(y=np.ones((3, 1), np.uint8)), "4 images but 3 labels"),
    ("npz keys", only(images=SMALL), r"has no \['x', 'y'\], only \['images'\]"),
    ("npz shape", only(x=np.zeros((6, 64)), y=SIX), r"x has shape \[6, 64\].*transpose it"),
    ("npz last", only(x=np.zeros((6, 9, 9, 3)), y=SIX), "transpose it"),
    ("npz nan", only(x=NOT_A_NUMBER, y=SIX), r"x\[4\] holds nan, expected floats in 0\.\.1"),
    ("npz range", only(x=SMALL + 255, y=SIX), r"x\[0\] holds 255\.0, expected floats in 0\.\.1: scale them"),
    ("npz int", only(x=SMALL.astype(int), y=SIX), "x is int64, expected uint8, or floats"),
    ("npz labels", only(x=SMALL, y=SIX - 1), "label 0 is -1, expected at least 0"),
    ("npz float labels", only(x=SMALL, y=SIX / 2), "labels are float64"),
    ("npz original", only(x=SMALL, y=SIX, original=SIX[:3]), r"original is int64 \[3\], expected integers \[6\]"),
    ("npz objects", only(x=np.array([None, 1]), y=SIX), "cannot be read"),
    ("npz few", only(x=SMALL, y=SIX), "holds 6 originals, expected at least 12"),
    ("npz noise", lambda f: ((f / "own.npz").write_bytes(b"PK nothing"), None)[1], "cannot be read"),
    ("nothing", lambda f: None, "holds nothing, expected train-images-idx3-ubyte"),
    ("other files", lambda f: ((f / "a.tar").write_bytes(b""), None)[1], "holds a.tar, .*unpack the archive first"),
]


@pytest.mark.parametrize(("write", "message"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_what_is_wrong_with_a_file_is_said(write: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    write(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message) as said:
        load_task(tmp_path, 0)
    assert str(tmp_path) in str(said.value)
    assert sorted(tmp_path.iterdir()) == before


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("/tmp/powsim-evil",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Evil()),
        pickle.dumps({"data": np.array([Evil()], object)}),
        pickle.dumps({"data": np.array(["x"], object)}),
        b"cnumpy\nload\n(Va\ntR.",
        b"c_codecs\nencode\n(Va\nVrot13\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(J\xff\xff\xff\x7ftU\x01btR.",
    ],
    ids=["call", "in an array", "object array", "numpy.load", "codec", "huge array"],
)
def test_a_pickle_runs_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="do not trust it"):
        unpickling.load(path)
    assert not Path("/tmp/powsim-evil").exists()


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Counting(gzip.GzipFile):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(size)
            return super().read(size)

    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(struct.pack(">2I", 0x801, 5) + bytes(1 << 22)))
    monkeypatch.setattr(formats.gzip, "open", lambda name: Counting(name))
    with pytest.raises(ValueError, match="more than 5 bytes follow, expected 5"):
        formats.idx(path, 0x801)
    assert asked == [8, 14]


def test_paths_that_are_not_there_or_no_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing is downloaded"):
        load_task("mine", 0, data=tmp_path / "absent")
    single = tmp_path / "x.csv"
    single.write_text("1,2")
    with pytest.raises(ValueError, match=r"one file must be an \.npz"):
        load_task(single, 0)
    mnist(tmp_path)
    for limit in (59, True, 60.5):
        with pytest.raises(ValueError, match=r"must be an integer of at least 60"):
            load_task(tmp_path, 0, limit=limit)  # type: ignore[arg-type]
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros((20, 28, 28), np.uint8), y=np.arange(20) % 2, x_test=SMALL, y_test=SIX % 2)
    (tmp_path / "two.npz").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"test images are \[1, 8, 8\], expected \[1, 28, 28\]"):
        load_task(tmp_path / "two.npz", 0)
