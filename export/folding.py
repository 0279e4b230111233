"""Folding batch normalisation into the convolution or dense layer before it.

At inference a batch normalisation is the affine map of step 11 of Algorithm 2 in 1502.03167, per channel:

    y = a * x + b        a = gamma / sqrt(moving_variance + epsilon)        b = beta - a * moving_mean

so that a layer `x = W u + c` before it becomes `y = (a W) u + (a c + b)`: one operation, and one that every runtime
fuses with the activation that follows. Where there is no such layer, as in DenseNet, which normalises concatenations,
a scale and a shift remain.
"""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray


class FoldingError(ValueError):
    """A network that cannot be folded: the layer, and why."""


@keras.saving.register_keras_serializable("inceptions")
class ScaleAndShift(keras.layers.Layer):
    """y = scale * x + shift, both (channels,) along `axis`, float32 whatever the policy; y has the type of x."""

    def __init__(self, axis: int = -1, **options: Any) -> None:
        super().__init__(**options)
        self.axis = axis

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[self.axis]
        self._per_channel = [1] * len(input_shape)
        self._per_channel[self.axis] = -1
        fixed = {"shape": (channels,), "dtype": "float32", "autocast": False, "trainable": False}
        self.scale = self.add_weight(name="scale", initializer="ones", **fixed)
        self.shift = self.add_weight(name="shift", initializer="zeros", **fixed)

    def call(self, x: Any) -> Any:
        scale, shift = (ops.reshape(weight, self._per_channel) for weight in (self.scale, self.shift))
        return ops.cast(ops.cast(x, "float32") * scale + shift, x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}


def fold(model: keras.Model) -> keras.Model:
    """A network with the same outputs at inference, without batch normalisation.

    Those after a convolution or dense layer vanish into it; those whose input something else reads too, and those after
    anything else, become `ScaleAndShift`. The products are taken in float64.

    Raises:
        FoldingError: a network that is no graph of layers; a normalisation inside another model; statistics that are
            not finite.
    """
    _check(model)
    folded = {producer.name: layer for layer in model.layers if (producer := _producer(model, layer)) is not None}
    dropped = {layer.name for layer in folded.values()}

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if is_batch_normalization(layer) and layer.name not in dropped:
            return ScaleAndShift(layer.axis, name=layer.name, dtype=layer.dtype_policy)
        config = layer.get_config()
        if layer.name in folded:
            config["use_bias"] = True
        return layer.__class__.from_config(config)

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if layer.name in dropped:
            return args[0]
        # What else a normalisation is called with, `mask` and `training`, means nothing here.
        return layer(args[0]) if isinstance(layer, ScaleAndShift) else layer(*args, **kwargs)

    result = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in result.layers:
        if layer.name in folded:
            layer.set_weights(_folded_weights(model.get_layer(layer.name), folded[layer.name]))
        elif isinstance(layer, ScaleAndShift):
            layer.set_weights(_affine(model.get_layer(layer.name)))
        elif layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return result


def largest_difference(model: keras.Model, folded: keras.Model, images: Any) -> float:
    """Between the outputs of both for `images`, (batch, height, width, channels) as the network takes them."""
    # As a graph, which forgets a map when nothing needs it any more; one by one, since a graph that has seen batches is
    # slow with a single image afterwards (see BatchNormalization).
    answers = (
        [y for image in images for y in keras.tree.flatten(network.predict_on_batch(image[None]))]
        for network in (model, folded)
    )
    pairs = zip(*answers, strict=True)
    return max(float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)))) for a, b in pairs)


def _check(model: keras.Model) -> None:
    if not hasattr(model, "_nodes_by_depth") and not isinstance(model, keras.Sequential):
        raise FoldingError(f"{model.name} is {type(model).__name__}, not a graph of layers: its calls cannot be seen.")
    inner = [layer for layer in model._flatten_layers() if is_batch_normalization(layer) and layer not in model.layers]
    if inner:
        raise FoldingError(f"{inner[0].name} lies inside another model or layer, where its input cannot be seen.")
    for layer in model.layers:
        if is_batch_normalization(layer):
            broken = ~np.logical_and(*(np.isfinite(part) for part in _affine(layer)))
            if broken.any():
                raise FoldingError(
                    f"{layer.name} has statistics or weights that give no finite number in channel "
                    f"{int(np.argmax(broken))}, the first of {int(broken.sum())}."
                )


def foldable(model: keras.Model) -> list[str]:
    """The names of the normalisations that `fold` lets vanish, without a scale and shift in their place."""
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


def _affine(layer: keras.layers.Layer) -> list[NDArray[np.float64]]:
    """a and b of step 11, both (channels,)."""
    with np.errstate(invalid="ignore"):  # a negative variance is found by what it gives
        a = _float64(layer.gamma, layer, 1.0) / np.sqrt(_float64(layer.moving_variance, layer) + layer.epsilon)
    return [a, _float64(layer.beta, layer) - a * _float64(layer.moving_mean, layer)]


def _float64(weight: Any, layer: keras.layers.Layer, default: float = 0.0) -> NDArray[np.float64]:
    channels = layer.moving_mean.shape[0]
    return np.full(channels, default) if weight is None else np.asarray(weight, np.float64)


def _folded_weights(producer: keras.layers.Layer, layer: keras.layers.Layer) -> list[NDArray[Any]]:
    a, b = _affine(layer)
    # The last axis of both kernels is the output's: (rows, columns, in, out) and (in, out).
    return [np.asarray(producer.kernel, np.float64) * a, a * _float64(producer.bias, layer) + b]
