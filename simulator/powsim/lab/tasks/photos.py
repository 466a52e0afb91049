"""Out-of-distribution images: contrast-stretched crops of scikit-learn's photographs, in round windows on black."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from powsim.lab.task import Images
from powsim.lab.tasks.augment import resized, stretched

ROWS, COLUMNS = 2, 3  # regions of a photograph: an arm each
SOURCE = "contrast-stretched crops of scikit-learn's two photographs (china, flower)"
SOFT = 3 / 16  # of the side: how wide the edge of a window is


@cache
def photographs() -> tuple[NDArray[np.float32], ...]:
    """Return scikit-learn's photographs, each [height, width, 3], values in 0..1."""
    from sklearn.datasets import load_sample_images

    return tuple(image.astype(np.float32) / 255 for image in load_sample_images().images)


@dataclass(frozen=True)
class Crops:
    """Draws square crops of all photographs, or of one region of one: regions are the natural classes of the source.

    Each is turned by a multiple of 90 degrees and mirrored or not, at random.

    sides: the least and largest side of a crop in pixels of the photograph, log-uniform. clipped: the largest share of
    a crop's values that becomes black, and the largest that becomes white, each drawn for itself. window: the least
    and largest radius, in sides of the image, of the soft round window through which a crop is seen on black; None:
    the whole of it is. Pen strokes are flat black and white with an edge between them, on a black ground, and their
    thief knows that much: crops of 16 to 96 pixels with all their greys gave CopyCat .69 of digits16, of 5 to 40
    clipped .85 to .87 (2,000 labels, 700 steps, seeds 100 to 103; students and victim differ a little); with a victim
    distorted less .87 to .90, in windows .90 to .91 (seeds 10 to 15).
    """

    shape: tuple[int, int, int]
    sides: tuple[int, int] = (5, 40)
    clipped: float = 0.4
    window: tuple[float, float] | None = (6 / 16, 14 / 16)
    photos: tuple[NDArray[np.float32], ...] = field(default_factory=photographs)

    @property
    def arms(self) -> int:
        """Return how many regions there are."""
        return ROWS * COLUMNS * len(self.photos)

    @property
    def source(self) -> str:
        """Return in words where the images come from."""
        return SOURCE if self.window is None else f"{SOURCE}, in round windows on black"

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
        turns, mirrored = rng.integers(4, size=len(arms)), rng.integers(2, size=len(arms))
        out = np.empty((len(arms), *self.shape), np.float32)
        for row, (arm, side, place) in enumerate(zip(arms, sides, places, strict=True)):
            photo = self.photos[arm // (ROWS * COLUMNS)]
            region = np.array(divmod(arm % (ROWS * COLUMNS), COLUMNS))
            tall, wide = photo.shape[:2]
            side = min(int(side), tall, wide)
            middle = (region + place) / (ROWS, COLUMNS) * (tall, wide)
            top, left = np.clip((middle - side / 2).astype(int), 0, (tall - side, wide - side))
            crop = photo[top : top + side, left : left + side]
            crop = np.rot90(crop[:, :: -1 if mirrored[row] else 1], turns[row])
            crop = crop.mean(axis=2, keepdims=True) if channels == 1 else crop
            out[row] = resized(np.ascontiguousarray(crop.transpose(2, 0, 1))[None], (height, width))[0]
        ends = rng.uniform(0, self.clipped, (2, len(arms)))
        made = stretched(out, ends[0], 1 - ends[1])
        return made if self.window is None else made * self._windows(rng.uniform(*self.window, len(arms)))

    def _windows(self, radii: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return how much of each pixel is seen, 1 inside and 0 outside: [n, 1, height, width]."""
        rows, columns = ((np.arange(side) + 0.5) / side - 0.5 for side in self.shape[1:])
        away = np.hypot(rows[:, None], columns)
        return np.clip((radii[:, None, None, None] - away) / SOFT + 0.5, 0, 1).astype(np.float32)
