"""Synthetic: the ten digits drawn in typefaces that ship with Matplotlib, mildly distorted; as many as wanted."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from powsim.lab.task import Images, Split, Task
from powsim.lab.tasks.augment import Distortion, distorted
from powsim.lab.tasks.photos import Crops

SIDE = 20
PRIVATE, POOL, TEST = 6000, 6000, 1000
TEACHERS = 50
MILD = Distortion(degrees=12.0, shift=0.06, scale=0.12, noise=0.05)
FACES = (
    *(f"DejaVuSans{kind}" for kind in ("", "-Bold", "-Oblique", "-BoldOblique", "Mono", "Mono-Bold", "Mono-Oblique")),
    *(f"DejaVuSerif{kind}" for kind in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{kind}" for kind in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10"),
)


@cache
def _drawn() -> Images:
    """Return every digit in every typeface, [10 * faces, 1, 40, 40], centred, face by face."""
    try:
        import matplotlib
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise ModuleNotFoundError(
            f"task 'glyphs' needs Matplotlib's typefaces ({error}): run `pip install 'powsim[report]'`"
        ) from None
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    out = np.empty((10 * len(FACES), 1, 2 * SIDE, 2 * SIDE), np.float32)
    for row in range(len(out)):
        face, digit = divmod(row, 10)
        font = ImageFont.truetype(str(folder / f"{FACES[face]}.ttf"), 3 * SIDE // 2)
        page = Image.new("L", (2 * SIDE, 2 * SIDE))
        ImageDraw.Draw(page).text((SIDE, SIDE), str(digit), fill=255, font=font, anchor="mm")
        out[row, 0] = np.asarray(page, np.float32) / 255
    return out


def glyphs(seed: int) -> Task:
    """Return the task: 20x20 images, 6,000 private for 50 teachers, 6,000 honest queries, 1,000 to test on."""
    base = _drawn()
    rng = np.random.default_rng([seed, 20])
    first = 0

    def made(count: int) -> Split:
        nonlocal first
        rows = rng.integers(len(base), size=count)
        originals = np.arange(first, first + count)
        first += count
        return Split(distorted(base[rows], (SIDE, SIDE), MILD, rng), (rows % 10).astype(np.int64), originals)

    crops = Crops((1, SIDE, SIDE))
    return Task(
        "glyphs",
        real=False,
        classes=10,
        private=made(PRIVATE),
        calibration=made(POOL // 2),
        users=made(POOL // 2),
        test=made(TEST),
        outside=crops.draw,
        outside_source=crops.source,
        outside_arms=crops.of_arm,
        arms=crops.arms,
        teachers=TEACHERS,
    )
