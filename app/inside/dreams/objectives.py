"""What a dream makes more of: a layer, one of its channels, or what a second picture has in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from app.networks import feature_maps
from app.program.errors import UserError

GUIDE_PLACES = 1024  # of a guide's map, evenly spread: all pairs of places are compared


@dataclass(frozen=True)
class Objective:
    """`value` is a scalar function of `map`, a symbolic tensor of the network (1, rows, columns, channels)."""

    map: Any
    value: Callable[[tf.Tensor], tf.Tensor]
    weight: float = 1.0


def layer(model: keras.Model, name: str, weight: float = 1.0) -> Objective:
    """Whatever the layer sees already: the mean of its squares, whose gradient is the map itself.

    Raises:
        UserError: no such layer, or one without a map.
    """
    return Objective(feature_maps.named(model, name).output, lambda x: tf.reduce_mean(tf.square(x)), weight)


def channel(model: keras.Model, name: str, index: int, weight: float = 1.0) -> Objective:
    """One channel, counted from 0: the mean of what enters its activation.

    A ReLU that is off everywhere has no gradient; what enters it has one.

    Raises:
        UserError: no such layer, one without a map, no such channel.
    """
    x = feature_maps.named(model, name).output
    if not 0 <= index < x.shape[-1]:
        raise UserError(f"{name} has no channel {index}: its {x.shape[-1]} channels count from 0.")
    x, index = _before_activation(x, index)
    return Objective(x, lambda x: tf.reduce_mean(x[..., index]), weight)


def guided(model: keras.Model, name: str, guide: tf.Tensor, weight: float = 1.0) -> Objective:
    """What the layer sees in a guide, (height, width, 3) as the network takes it.

    Every place of the picture's map is to agree with the guide's place that it agrees with most already: the mean over
    the former of the largest scalar product with the latter.

    Raises:
        UserError: no such layer, or one without a map.
    """
    x = feature_maps.named(model, name).output
    features = keras.Model(model.input, x)(guide[tf.newaxis], training=False)
    features = tf.reshape(tf.cast(features, tf.float32), (-1, x.shape[-1]))
    features = features[:: -(-len(features) // GUIDE_PLACES)]

    def value(x: tf.Tensor) -> tf.Tensor:
        products = tf.matmul(tf.reshape(x, (-1, x.shape[-1])), features, transpose_b=True)
        return tf.reduce_mean(tf.reduce_max(products, axis=1))

    return Objective(x, value, weight)


def _before_activation(x: Any, index: int) -> tuple[Any, int]:
    """The tensor that holds the channel before its activation, and where; through concatenations."""
    producer = x._keras_history.operation
    if isinstance(producer, keras.layers.Activation):
        return producer.input, index
    if isinstance(producer, keras.layers.Concatenate):
        for part in producer.input:
            if index < part.shape[-1]:
                return _before_activation(part, index)
            index -= part.shape[-1]
    return x, index
