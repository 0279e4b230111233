"""Gradients of a picture of any size in the memory of one tile.

The picture is taken for a torus, rolled by a random distance each step (which is jitter, as well), and cut into tiles
that the network sees one after the other. What the border of a tile does to the gradient is somewhere else each step,
and leaves no seam.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.dreams.objectives import Objective
from app.dreams.parametrizations import Array
from app.dreams.transformations import Transformation
from app.errors import UserError
from app.images import Preprocessing
from export import folding

# Pixels: the longest side of a tile, unless the network needs more. A picture of up to a third more is seen whole; a
# larger one takes memory itself, beside its tiles.
TILE = 192


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
                place = np.ix_(down, across)
                value, part = self._of_tile(picture[place], rng.integers(2**31, size=2, dtype=np.int32))
                gradient[place] = part
                values.append(float(value))
        return float(np.mean(values)), gradient

    def _spans(self, side: int, start: int, tile: int) -> list[NDArray[np.int64]]:
        """The indices of tiles of one size that cover a side from `start` on, and around its end."""
        count = -(-side // tile)
        size = max(self.smallest, -(-side // count))
        size += -size % self.multiple
        return [(start + i * side // count + np.arange(size)) % side for i in range(count)]

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
