"""What a picture is seen through on its way to the network, another each step: what survives it is more than a pattern
of single pixels that happens to excite a filter.

The third of the kind, jitter, costs nothing where gradients are taken: see tiles.py.
"""

import math
from collections.abc import Callable

import tensorflow as tf

Transformation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # pixels (height, width, 3), key of two integers -> pixels


def rotated(degrees: float) -> Transformation:
    """Turned by an angle between -degrees and degrees."""

    def transformation(pixels: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        angle = tf.random.stateless_uniform((), key, -math.radians(degrees), math.radians(degrees))
        return resampled(pixels, [[tf.cos(angle), -tf.sin(angle)], [tf.sin(angle), tf.cos(angle)]])

    return transformation


def scaled(share: float) -> Transformation:
    """Between 1 / (1 + share) and 1 + share times as large."""

    def transformation(pixels: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        factor = tf.exp(tf.random.stateless_uniform((), key, -math.log1p(share), math.log1p(share)))
        return resampled(pixels, [[1 / factor, 0.0], [0.0, 1 / factor]])

    return transformation


def resampled(pixels: tf.Tensor, matrix: list[list[tf.Tensor | float]]) -> tf.Tensor:
    """At (row, column) of the result what `pixels` has at `matrix` times it, both counted from the centre.

    Bilinear, with mirrors at the borders; by gathering, whose gradient is exact.
    """
    sides = tf.unstack(tf.shape(pixels)[:2])
    y, x = (tf.range(side) for side in sides)
    middles = [tf.cast(side - 1, tf.float32) / 2 for side in sides]
    y = (tf.cast(y, tf.float32) - middles[0])[:, tf.newaxis]
    x = (tf.cast(x, tf.float32) - middles[1])[tf.newaxis, :]
    places = [row[0] * y + row[1] * x + middle for row, middle in zip(matrix, middles, strict=True)]
    before = [tf.floor(place) for place in places]
    after_y, after_x = (
        (place - first)[..., tf.newaxis] for place, first in zip(places, before, strict=True)
    )  # weights of the later neighbour
    flat = tf.reshape(pixels, (-1, 3))

    def neighbour(down: int, right: int) -> tf.Tensor:
        row, column = (
            _mirrored(tf.cast(first, tf.int32) + step, side)
            for first, step, side in zip(before, (down, right), sides, strict=True)
        )
        return tf.gather(flat, row * sides[1] + column)

    upper = (1 - after_x) * neighbour(0, 0) + after_x * neighbour(0, 1)
    lower = (1 - after_x) * neighbour(1, 0) + after_x * neighbour(1, 1)
    return (1 - after_y) * upper + after_y * lower


def _mirrored(index: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """An index beyond either end, counted back from it: -1 is 1, and `side` is side - 2."""
    period = tf.maximum(2 * side - 2, 1)
    index = tf.math.floormod(index, period)
    return tf.minimum(index, period - index)
