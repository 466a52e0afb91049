"""Data files as their authors published them: IDX, CIFAR (pickle and binary), SVHN's .mat and .npz, all checked.

Every reader returns (images uint8 or float32 [N, channels, height, width], labels int64 [N]) or raises ValueError with
the path, what was found, what was expected and what to do. No reader asks a network for anything.
"""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powsim.lab import unpickling

Raw = tuple[NDArray[Any], NDArray[np.int64]]
LARGEST = 4 << 30  # bytes of one file's values
IDX_IMAGES, IDX_LABELS = 0x803, 0x801  # unsigned bytes with 3 and 1 axes
AGAIN = "the file is damaged or of another kind: copy it again"


def labelled(path: Path, x: NDArray[Any], y: NDArray[Any], classes: int | None) -> Raw:
    """Return images and labels as they came where they fit together: as many, of known classes, finite, not none."""
    if len(x) != len(y):
        raise ValueError(f"{path}: {len(x)} images but {len(y)} labels: take both from one source")
    if len(x) == 0:
        raise ValueError(f"{path}: holds no images: at least one is needed")
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise ValueError(f"{path}: labels are {y.dtype} {list(y.shape)}, expected integers [N]: convert them")
    bad = (y < 0) if classes is None else (y < 0) | (y >= classes)
    if bad.any():
        row, limit = int(np.argmax(bad)), "at least 0" if classes is None else f"0..{classes - 1}"
        raise ValueError(f"{path}: label {row} is {y[row]}, expected {limit}: the labels are of another data set")
    return x, y.astype(np.int64)


def _small_enough(path: Path, size: int) -> None:
    if size > LARGEST:
        raise ValueError(f"{path}: holds {size:,} bytes, expected at most {LARGEST:,}: save a part of it")


def _content(path: Path, most: int = LARGEST) -> bytes:
    """Return a file's bytes, unpacked where it is .gz; never more than `most` and one."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(most + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: no whole gzip file ({error}): copy it again") from None


def idx(path: Path, magic: int) -> NDArray[np.uint8]:
    """Return the array of an IDX file (LeCun's format): uint8 with as many axes as the magic number says."""
    axes = magic & 0xFF
    head = _content(path, 4 + 4 * axes - 1)
    found = int.from_bytes(head[:4], "big")
    if len(head) < 4 + 4 * axes or found != magic:
        raise ValueError(f"{path}: starts with 0x{head[:4].hex()}, expected magic number 0x{magic:08x}: {AGAIN}")
    shape = tuple(int.from_bytes(head[4 * axis : 4 * axis + 4], "big") for axis in range(1, axes + 1))
    size = math.prod(shape)
    _small_enough(path, size)
    body = _content(path, len(head) + size)[len(head) :]
    if len(body) != size:
        more = "more than " if len(body) > size else ""
        raise ValueError(f"{path}: {more}{min(len(body), size):,} bytes follow, expected {size:,} for {shape}: {AGAIN}")
    return np.frombuffer(body, np.uint8).reshape(shape)


def mnist(images: Path, labels: Path) -> Raw:
    """Return MNIST, Fashion-MNIST or another set in their format: 28x28, labels 0..9."""
    x = idx(images, IDX_IMAGES)
    if x.shape[1:] != (28, 28):
        raise ValueError(f"{images}: images are {x.shape[1]}x{x.shape[2]}, expected 28x28: {AGAIN}")
    return labelled(labels, x[:, None], idx(labels, IDX_LABELS), 10)


def cifar_pickle(path: Path, classes: int) -> Raw:
    """Return one of CIFAR-10's or CIFAR-100's Python batches, by an unpickler that runs no code."""
    _small_enough(path, path.stat().st_size)
    batch = unpickling.load(path)
    if not isinstance(batch, dict):
        raise ValueError(f"{path}: holds a {type(batch).__name__}, expected a dict: {AGAIN}")
    named = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    key = "labels" if classes == 10 else "fine_labels"
    missing = {"data", key} - set(named)
    if missing:
        raise ValueError(f"{path}: has no {sorted(missing)}, expected 'data' and {key!r}: is it CIFAR-{classes}?")
    x, y = named["data"], named[key]
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != 3072:
        what = f"{x.dtype} {list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__
        raise ValueError(f"{path}: 'data' is {what}, expected uint8 [N, 3072]: {AGAIN}")
    if not isinstance(y, list | np.ndarray) or not all(isinstance(label, int | np.integer) for label in y):
        raise ValueError(f"{path}: {key!r} are no integers: {AGAIN}")
    fits = [label for label in y if -(2**62) < label < 2**62]  # a pickle's integers may be of any size
    if len(fits) != len(y):
        raise ValueError(f"{path}: {key!r} hold a number beyond 2^62, expected 0..{classes - 1}: {AGAIN}")
    return labelled(path, x.reshape(-1, 3, 32, 32), np.array(fits, np.int64), classes)


def cifar_binary(path: Path, classes: int) -> Raw:
    """Return one of CIFAR's .bin files: per image one label byte (CIFAR-100: coarse, then fine) and 3,072 of pixels."""
    _small_enough(path, path.stat().st_size)
    before = 1 if classes == 10 else 2
    data = np.fromfile(path, np.uint8)
    if len(data) % (before + 3072):
        raise ValueError(f"{path}: {len(data):,} bytes, expected a multiple of {before + 3072}: {AGAIN}")
    rows = data.reshape(-1, before + 3072)
    return labelled(path, rows[:, before:].reshape(-1, 3, 32, 32), rows[:, before - 1], classes)


def svhn(path: Path) -> Raw:
    """Return one of SVHN's cropped .mat files: X [32, 32, 3, N], y [N, 1] in 1..10, where 10 is the digit 0."""
    from scipy.io import loadmat, matlab, whosmat

    broken = (ValueError, TypeError, LookupError, OSError, NotImplementedError, MemoryError, zlib.error, EOFError)

    try:
        shapes = {name: shape for name, shape, _ in whosmat(path)}
        if not {"X", "y"} <= set(shapes) or len(shapes["X"]) != 4 or shapes["X"][:3] != (32, 32, 3):
            raise ValueError(f"holds {shapes}, expected X (32, 32, 3, N) and y (N, 1)")
        _small_enough(path, math.prod(shapes["X"]))
        found = loadmat(path, variable_names=["X", "y"])
    except (*broken, matlab.MatReadError) as error:
        raise ValueError(f"{path}: no SVHN file of cropped digits ({error}): {AGAIN}") from None
    x, y = found["X"], found["y"].ravel()
    if x.dtype != np.uint8:
        raise ValueError(f"{path}: X is {x.dtype}, expected uint8: {AGAIN}")
    bad = y[(y < 1) | (y > 10)]
    if y.dtype.kind not in "iu" or len(bad):
        what = f"holds {bad[0]}" if len(bad) else f"is {y.dtype}"
        raise ValueError(f"{path}: y {what}, expected integers in 1..10: the labels are of another data set")
    return labelled(path, np.ascontiguousarray(x.transpose(3, 2, 0, 1)), y.astype(np.int64) % 10, 10)


def npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file that this package knows: x, y [, original, x_test, y_test]; nothing unpickled.

    x: [N, height, width] or [N, channels, height, width], uint8 or floats in 0..1; y and original: integers [N].
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
        _small_enough(path, sum(sizes.values()))
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in ("x", "y", "original", "x_test", "y_test") if name in sizes]
            arrays: dict[str, NDArray[Any]] = {name: file[name] for name in names}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: cannot be read ({error}): save it by numpy.savez(path, x=..., y=...)") from None
    for pair in (("x", "y"), ("x_test", "y_test")):
        if pair == ("x", "y") or set(pair) & set(arrays):
            missing = set(pair) - set(arrays)
            if missing:
                raise ValueError(f"{path}: has no {sorted(missing)}, only {sorted(sizes)}: save it by numpy.savez")
            arrays[pair[0]] = _images(path, pair[0], arrays[pair[0]])
            arrays[pair[0]], arrays[pair[1]] = labelled(path, arrays[pair[0]], arrays[pair[1]], None)
    owner = arrays.setdefault("original", np.arange(len(arrays["x"])))
    if owner.shape != arrays["y"].shape or owner.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: original is {owner.dtype} {list(owner.shape)}, expected integers [{len(arrays['y'])}]"
        )
    return arrays


def _images(path: Path, name: str, x: NDArray[Any]) -> NDArray[Any]:
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4 or x.shape[1] not in (1, 3) or min(x.shape[2:]) < 8:
        raise ValueError(
            f"{path}: {name} has shape {list(x.shape)}, expected [N, height, width] or [N, 1 or 3, height, width], "
            "8 pixels or more: transpose it"
        )
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind != "f":
        raise ValueError(f"{path}: {name} is {x.dtype}, expected uint8, or floats in 0..1: convert it")
    bad = ~((x >= 0) & (x <= 1)).all(axis=(1, 2, 3))  # NaN fails too
    if bad.any():
        row = int(np.argmax(bad))
        value = x[row][~((x[row] >= 0) & (x[row] <= 1))][0]
        raise ValueError(f"{path}: {name}[{row}] holds {value}, expected floats in 0..1: scale them, replace NaN")
    return x.astype(np.float32)
