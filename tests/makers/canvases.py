"""Real digits of 8 x 8 pixels at random places of canvases three times their size, among fragments of other digits.

On an empty canvas any network, trained or not, answers most where there is anything at all; among fragments of the same
strokes only one that knows digits can find the whole one.
"""

from typing import Any, NamedTuple

import numpy as np
import sklearn.datasets

DIGIT, SIDE, FRAGMENT = 8, 24, 2  # pixels
HELD_OUT = 360  # of the 1,797 digits

Array = np.ndarray[Any, Any]


class Canvases(NamedTuple):
    """`pictures`, uint8 (count, SIDE, SIDE, 3), `labels` (count,) and `places`, (count, 2): the first row and column of
    the digit."""

    pictures: Array
    labels: Array
    places: Array


def planted(count: int, seed: int, held_out: bool = False, contrast: float | Array = 1.0) -> Canvases:
    """Canvases with digits that are held out from those without `held_out`; their fragments are of any digit, at
    `contrast`, a number in 0..1 for all canvases or one for each."""
    rng, digits = np.random.default_rng(seed), sklearn.datasets.load_digits()
    images: Array = (digits.images * 15).astype(np.uint8)
    fragments = np.lib.stride_tricks.sliding_window_view(images, (FRAGMENT, FRAGMENT), axis=(1, 2))
    canvases: Array = np.zeros((count, SIDE, SIDE), np.uint8)
    for row in range(0, SIDE, FRAGMENT):
        for column in range(0, SIDE, FRAGMENT):
            some = tuple(rng.integers(size, size=count) for size in fragments.shape[:3])
            canvases[:, row : row + FRAGMENT, column : column + FRAGMENT] = fragments[some]
    canvases = (canvases * np.broadcast_to(contrast, count)[:, np.newaxis, np.newaxis]).astype(np.uint8)
    split = len(images) - HELD_OUT
    chosen = rng.integers(split, len(images), count) if held_out else rng.integers(split, size=count)
    places = rng.integers(0, SIDE - DIGIT + 1, (count, 2))
    for canvas, number, (top, left) in zip(canvases, chosen, places, strict=True):
        canvas[top : top + DIGIT, left : left + DIGIT] = images[number]
    return Canvases(canvases[..., np.newaxis].repeat(3, axis=-1), digits.target[chosen], places)
