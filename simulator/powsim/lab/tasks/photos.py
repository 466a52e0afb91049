"""Out-of-distribution images: contrast-stretched crops of the photographs that come with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from powsim.lab.task import Images
from powsim.lab.tasks.augment import resized, stretched

ROWS, COLUMNS = 2, 3  # regions of a photograph: an arm each
SOURCE = "contrast-stretched crops of scikit-learn's two photographs (china, flower)"


@cache
def photographs() -> tuple[NDArray[np.float32], ...]:
    """Return scikit-learn's photographs, each [height, width, 3], values in 0..1."""
    from sklearn.datasets import load_sample_images

    return tuple(image.astype(np.float32) / 255 for image in load_sample_images().images)


@dataclass(frozen=True)
class Crops:
    """Draws square crops of all photographs, or of one region of one: regions are the natural classes of the source.

    sides: the least and largest side of a crop in pixels of the photograph, log-uniform. clipped: the largest share of
    a crop's values that becomes black, and the largest that becomes white, each drawn for itself. Pen strokes are
    flat black and white with an edge between them: crops of 16 to 96 pixels with all their greys gave CopyCat .69 of
    digits16, these .85 to .87 (2,000 labels, 700 steps, seeds 100 to 103; students differ a little).
    """

    shape: tuple[int, int, int]
    sides: tuple[int, int] = (5, 40)
    clipped: float = 0.4
    photos: tuple[NDArray[np.float32], ...] = field(default_factory=photographs)

    @property
    def arms(self) -> int:
        """Return how many regions there are."""
        return ROWS * COLUMNS * len(self.photos)

    def draw(self, n: int, rng: np.random.Generator) -> Images:
        """Return n crops, every region as likely: float32 [n, channels, height, width] in 0..1."""
        return self._crops(rng.integers(self.arms, size=n), rng)

    def of_arm(self, arm: int, n: int, rng: np.random.Generator) -> Images:
        """Return n crops whose middle lies in one region."""
        if not 0 <= arm < self.arms:
            raise ValueError(f"arm={arm} must lie in 0..{self.arms - 1}")
        return self._crops(np.full(n, arm), rng)

    def _crops(self, arms: NDArray[np.int64], rng: np.random.Generator) -> Images:
        channels, height, width = self.shape
        low, high = np.log(self.sides)
        sides = np.exp(rng.uniform(low, high, len(arms)))
        places = rng.uniform(size=(len(arms), 2))
        out = np.empty((len(arms), *self.shape), np.float32)
        for row, (arm, side, place) in enumerate(zip(arms, sides, places, strict=True)):
            photo = self.photos[arm // (ROWS * COLUMNS)]
            region = np.array(divmod(arm % (ROWS * COLUMNS), COLUMNS))
            tall, wide = photo.shape[:2]
            side = min(int(side), tall, wide)
            middle = (region + place) / (ROWS, COLUMNS) * (tall, wide)
            top, left = np.clip((middle - side / 2).astype(int), 0, (tall - side, wide - side))
            crop = photo[top : top + side, left : left + side]
            crop = crop.mean(axis=2, keepdims=True) if channels == 1 else crop
            out[row] = resized(np.ascontiguousarray(crop.transpose(2, 0, 1))[None], (height, width))[0]
        ends = rng.uniform(0, self.clipped, (2, len(arms)))
        return stretched(out, ends[0], 1 - ends[1])
