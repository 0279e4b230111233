"""Gradients of a picture of any size in the memory of one tile.

The picture is taken for a torus, rolled by a random distance each step (which is jitter, as well), and cut into tiles
that the network sees one after the other. What the border of a tile does to the gradient is somewhere else each step,
and leaves no seam.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from app.images.preprocessing import Preprocessing
from app.inside.dreams.objectives import Objective
from app.inside.dreams.parametrizations import Array
from app.inside.dreams.transformations import Transformation
from app.program.errors import UserError
from export import folding

# Pixels: the longest side of a tile, unless the network needs more. A picture of up to a third more is seen whole; a
# larger one takes memory itself, beside its tiles.
TILE = 192


class Span(NamedTuple):
    """`size` pixels from `start` on, of a side that begins again where it ends; more than once if it is shorter."""

    start: int
    size: int
    side: int

    def pieces(self) -> Iterator[tuple[slice, slice]]:
        """Where the span lies without a break: in itself, and on the side. Slices are copied in a fraction of the time
        that indices take."""
        done = 0
        while done < self.size:
            begin = (self.start + done) % self.side
            count = min(self.side - begin, self.size - done)
            yield slice(done, done + count), slice(begin, begin + count)
            done += count


def _pieces(down: Span, across: Span) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """The same of a tile: in itself, and on the picture."""
    for (tile_rows, rows), (tile_columns, columns) in itertools.product(down.pieces(), across.pieces()):
        yield (tile_rows, tile_columns), (rows, columns)


class TiledGradient:
    """Value and gradient of weighted objectives, for pictures (height, width, 3) of 0 to 255.

    `preprocessing` turns such pixels into what the network takes. Tiles have at least `smallest` pixels a side, and a
    multiple of `multiple`; where the picture has fewer, it is repeated. `roll=False` cuts at the same places each time.
    """

    def __init__(
        self,
        model: keras.Model,
        objectives: Sequence[Objective],
        preprocessing: Preprocessing,
        transformations: Sequence[Transformation] = (),
        roll: bool = True,
        smallest: int = 1,
        multiple: int = 1,
        tile: int = TILE,
    ) -> None:
        self.objectives = objectives
        self.network = _any_size(model, objectives)
        self.preprocessing = preprocessing
        self.transformations = transformations
        self.roll = roll
        self.smallest = smallest
        self.multiple = multiple
        self.tile = tile
        # One graph for tiles of all sizes.
        signature = [tf.TensorSpec((None, None, 3), tf.float32), tf.TensorSpec((2,), tf.int32)]
        self._of_tile = tf.function(self._value_and_gradient, signature, autograph=False)

    def __call__(self, picture: Array, rng: np.random.Generator) -> tuple[float, Array]:
        """The mean value over the tiles, and its gradient, of the picture's shape."""
        sides = picture.shape[:2]
        starts = rng.integers(sides) if self.roll else (0, 0)
        tile = self.tile if max(sides) > self.tile * 4 // 3 else max(sides)
        rows, columns = (self._spans(side, int(start), tile) for side, start in zip(sides, starts, strict=True))
        gradient = np.empty_like(picture)
        values = []
        for down in rows:
            for across in columns:
                pixels = np.empty((down.size, across.size, 3), np.float32)
                for of_tile, of_picture in _pieces(down, across):
                    pixels[of_tile] = picture[of_picture]
                value, part = self._of_tile(pixels, rng.integers(2**31, size=2, dtype=np.int32))
                part = np.asarray(part)
                for of_tile, of_picture in _pieces(down, across):
                    gradient[of_picture] = part[of_tile]
                values.append(float(value))
        return float(np.mean(values)), gradient

    def _spans(self, side: int, start: int, tile: int) -> list[Span]:
        """Those of tiles of one size that cover a side from `start` on, and around its end."""
        count = -(-side // tile)
        size = max(self.smallest, -(-side // count))
        size += -size % self.multiple
        return [Span((start + i * side // count) % side, size, side) for i in range(count)]

    def _value_and_gradient(self, pixels: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        keys = tf.unstack(tf.random.split(key, max(1, len(self.transformations))))
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            seen = pixels
            for transformation, own in zip(self.transformations, keys, strict=False):
                seen = transformation(seen, own)
            maps = keras.tree.flatten(self.network(self.preprocessing.scaled(seen)[tf.newaxis], training=False))
            value = tf.add_n([o.weight * o.value(x) for o, x in zip(self.objectives, maps, strict=True)])
        return value, tape.gradient(value, pixels)


def _any_size(model: keras.Model, objectives: Sequence[Objective]) -> keras.Model:
    """The network up to the objectives' maps, for images of any size: without batch normalisation, which leaves a third
    fewer maps to keep for the gradient, and in float32 throughout."""
    try:
        folded = folding.fold(keras.Model(model.input, [objective.map for objective in objectives]))
    except folding.FoldingError as error:
        raise UserError(f"Nobody can dream with {model.name}: {error}") from error
    for layer in folded.layers:
        layer.dtype_policy = "float32"
    image = keras.Input((None, None, model.input.shape[-1]))
    # The folded layers are nobody else's: they are called again instead of being copied.
    return keras.models.clone_model(folded, input_tensors=image, clone_function=lambda layer: layer)
