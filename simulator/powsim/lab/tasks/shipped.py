"""The data files that come with scikit-learn, read without loading scikit-learn, which takes seconds."""

from __future__ import annotations

import gzip
import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@cache
def digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the handwritten digits: images [1797, 8, 8] with values 0..16, and their labels."""
    with gzip.open(_folder() / "data" / "digits.csv.gz", "rt", encoding="ascii") as file:
        rows = np.loadtxt(file, delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)


@cache
def photographs() -> tuple[NDArray[np.float32], ...]:
    """Return the two photographs, china and flower, each [height, width, 3] with values in 0..1."""
    from PIL import Image

    found: list[NDArray[np.float32]] = []
    for path in sorted((_folder() / "images").glob("*.jpg")):
        with Image.open(path) as image:
            found.append(np.asarray(image, np.float32) / np.float32(255))
    return tuple(found)


def _folder() -> Path:
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("scikit-learn is not installed: run `pip install 'powsim[lab]'`")
    return Path(found.origin).parent / "datasets"
