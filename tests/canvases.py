"""Real digits at random places of canvases three times their size, as a folder class/image."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn.datasets
from PIL import Image

SIDE = 63  # of a canvas, in pixels; the digit has a third of it


class Planted(NamedTuple):
    """Where the digit is, in pixels of the canvas: rows and columns `top` to `top + SIDE // 3 - 1`, and so on."""

    top: int
    left: int

    @classmethod
    def of(cls, path: Path) -> "Planted":
        """As the file is named."""
        _, top, left = path.stem.split("_")
        return cls(int(top), int(left))

    def holds(self, row: int, column: int) -> bool:
        return 0 <= row - self.top < SIDE // 3 and 0 <= column - self.left < SIDE // 3


def plant(root: Path, count: int, seed: int = 0) -> Path:
    """A folder of `count` canvases, number_top_left.png."""
    rng = np.random.default_rng(seed)
    digits = sklearn.datasets.load_digits()
    for number in range(count):
        canvas = Image.new("L", (SIDE, SIDE))
        digit = Image.fromarray(np.uint8(digits.images[number % len(digits.images)] * 15))
        top, left = (int(place) for place in rng.integers(0, SIDE - SIDE // 3 + 1, 2))
        canvas.paste(digit.resize((SIDE // 3, SIDE // 3), Image.Resampling.BICUBIC), (left, top))
        folder = root / str(digits.target[number % len(digits.images)])
        folder.mkdir(parents=True, exist_ok=True)
        canvas.save(folder / f"{number:05}_{top}_{left}.png")
    return root
