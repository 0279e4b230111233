"""Folding batch normalisation into the convolution or dense layer before it.

At inference a batch normalisation is the affine map of step 11 of Algorithm 2 in 1502.03167, per channel:

    y = a * x + b        a = gamma / sqrt(moving_variance + epsilon)        b = beta - a * moving_mean

so that a layer `x = W u + c` before it becomes `y = (a W) u + (a c + b)`: one operation, and one that every runtime
fuses with the activation that follows.
"""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray


def fold(model: keras.Model) -> keras.Model:
    """A network with the same outputs at inference, without normalisations after a convolution or dense layer.

    The products are taken in float64. Other normalisations, those whose input something else reads too, and those after
    an activation are left as they are.
    """
    folded = {producer.name: layer for layer in model.layers if (producer := _producer(model, layer)) is not None}
    dropped = {layer.name for layer in folded.values()}

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if layer.name in folded:
            config["use_bias"] = True
        return layer.__class__.from_config(config)

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        return args[0] if layer.name in dropped else layer(*args, **kwargs)

    result = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in result.layers:
        if layer.name in folded:
            layer.set_weights(_folded_weights(model.get_layer(layer.name), folded[layer.name]))
        elif layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return result


def foldable(model: keras.Model) -> list[str]:
    """The names of the normalisations that `fold` takes away."""
    return [layer.name for layer in model.layers if _producer(model, layer) is not None]


def is_batch_normalization(layer: keras.layers.Layer) -> bool:
    """Ours or Keras' own: told by what they hold, since this package knows no network's layers."""
    return all(hasattr(layer, name) for name in ("moving_mean", "moving_variance", "epsilon", "gamma", "beta"))


def _producer(model: keras.Model, layer: keras.layers.Layer) -> keras.layers.Layer | None:
    """The convolution or dense layer whose output `layer`, a normalisation of its last axis, alone reads."""
    if not is_batch_normalization(layer) or len(layer._inbound_nodes) != 1:
        return None
    producer = layer.input._keras_history.operation
    linear = isinstance(producer, (keras.layers.Conv2D, keras.layers.Dense))
    if not linear or len(producer._outbound_nodes) != 1 or len(producer._inbound_nodes) != 1:
        return None
    if any(producer.output is output for output in model.outputs):
        return None
    if producer.activation is not keras.activations.linear or layer.axis not in (-1, len(layer.input.shape) - 1):
        return None
    return producer


def _folded_weights(producer: keras.layers.Layer, layer: keras.layers.Layer) -> list[NDArray[Any]]:
    def float64(weight: Any, default: float) -> NDArray[np.float64]:
        channels = layer.moving_mean.shape[0]
        return np.full(channels, default) if weight is None else np.asarray(weight, np.float64)

    a = float64(layer.gamma, 1.0) / np.sqrt(float64(layer.moving_variance, 1.0) + layer.epsilon)
    bias = producer.bias if producer.use_bias else None
    # The last axis of both kernels is the output's: (rows, columns, in, out) and (in, out).
    kernel = np.asarray(producer.kernel, np.float64) * a
    return [kernel, a * (float64(bias, 0.0) - float64(layer.moving_mean, 0.0)) + float64(layer.beta, 0.0)]
