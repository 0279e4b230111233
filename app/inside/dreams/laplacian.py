"""Laplacian-pyramid normalisation of a gradient: every band of frequencies is given the same strength.

Of a plain gradient the high frequencies are the strongest, and a dream drowns in fine texture. After the pyramid of
Burt and Adelson 1983, https://doi.org/10.1109/TCOM.1983.1095851, with a triangle for its filter.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.inside.dreams.parametrizations import Array, normalized


def equalized(gradient: Array, bands: int) -> Array:
    """The gradient (height, width, 3), in place, with its upper `bands` octaves of frequencies, and what is left below
    them, at a root mean square of 1 each."""
    height, width = gradient.shape[:2]
    if bands == 0 or min(height, width) < 2:
        return normalized(gradient)
    # Colour by colour: all of them at once take a third copy of the picture.
    colours = [gradient[..., i : i + 1] for i in range(3)]
    low = np.concatenate([resized(colour, height // 2, width // 2) for colour in colours], axis=-1)
    for i, colour in enumerate(colours):
        colour -= resized(low[..., i : i + 1], height, width)
    normalized(gradient)
    equalized(low, bands - 1)
    for i, colour in enumerate(colours):
        colour += resized(low[..., i : i + 1], height, width)
    return gradient


def resized(picture: NDArray[Any], height: int, width: int) -> Array:
    """A picture at another size, float32; bilinear, antialiased where it shrinks. Writable only at its own size."""
    if picture.shape[:2] == (height, width):
        return np.array(picture, np.float32)
    return np.asarray(tf.image.resize(picture, (height, width), antialias=True))
