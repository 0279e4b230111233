"""Merging convolutions that stand side by side on one map into a wider one.

Most columns of an Inception module begin with a convolution of 1 x 1 that reads the module's input. A convolution
computes each of its channels for itself, so that several are one whose kernels follow each other:

    [W1 u + b1, W2 u + b2] = [W1, W2] u + [b1, b2]

The products are the same, the map is read once, and one operation has the work of several. Where the same activation
of each number for itself follows all of them, it is merged too, and what comes out is divided again.
"""

from collections import defaultdict
from typing import Any

import keras
import numpy as np
from keras.layers import Activation, Conv2D

# Activations of each number for itself.
ELEMENTWISE = {"linear", "relu", "relu6", "elu", "selu", "gelu", "silu", "sigmoid", "hard_sigmoid", "tanh", "softplus"}
# What two convolutions that become one have in common, beside their input.
ALIKE = ("kernel_size", "strides", "padding", "dilation_rate", "use_bias", "activation")


@keras.saving.register_keras_serializable("inceptions")
class Channels(keras.layers.Layer):
    """`count` of the last axis from `first` on: (..., channels) -> (..., count)."""

    def __init__(self, first: int, count: int, **options: Any) -> None:
        super().__init__(**options)
        self.first, self.count = first, count

    def call(self, x: Any) -> Any:
        return x[..., self.first : self.first + self.count]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "first": self.first, "count": self.count}


def merge(model: keras.Model) -> keras.Model:
    """A network with the same outputs in which every group of `mergeable` is one convolution; without groups the model
    itself.

    The parts of what it gives carry the names of the layers that gave them before.
    """
    groups = mergeable(model)
    if not groups:
        return model
    wide = {group[0].name: _wide(group) for group in groups}
    group_of = {layer.name: group for group in groups for layer in group}
    after = {layer.name: _activation(model, layer) for group in groups for layer in group}
    dropped = {activation.name for activation in after.values() if activation}
    given: dict[str, Any] = {}  # by the first of a group

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if layer.name in dropped:
            return args[0]
        if layer.name not in group_of:
            return layer(*args, **kwargs)
        group, activation = group_of[layer.name], after[layer.name]
        first = group[0].name
        if first not in given:
            given[first] = wide[first](*args)
            if activation:
                named = activation.get_config() | {"name": f"{first}_activation"}
                given[first] = Activation.from_config(named)(given[first])
        place = [one.name for one in group].index(layer.name)
        options = {"name": (activation or layer).name, "dtype": layer.dtype_policy}
        return Channels(sum(one.filters for one in group[:place]), layer.filters, **options)(given[first])

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        return layer.__class__.from_config(layer.get_config())

    result = keras.models.clone_model(model, call_function=call, clone_function=clone)
    for layer in result.layers:
        if layer.weights and layer not in wide.values():
            layer.set_weights(model.get_layer(layer.name).get_weights())
    for group in groups:
        weights = zip(*(layer.get_weights() for layer in group), strict=True)
        wide[group[0].name].set_weights([np.concatenate(parts, axis=-1) for parts in weights])
    return result


def _wide(group: list[Conv2D]) -> Conv2D:
    filters = sum(layer.filters for layer in group)
    return Conv2D.from_config(group[0].get_config() | {"name": f"{group[0].name}_merged", "filters": filters})


def mergeable(model: keras.Model) -> list[list[Conv2D]]:
    """The groups of convolutions that can be one: alike, of the same input and followed by the same activation."""
    groups = defaultdict(list)
    for layer in model.layers:
        if not isinstance(layer, Conv2D) or len(layer._inbound_nodes) != 1 or layer.groups != 1:
            continue
        if layer.data_format != "channels_last" or not _of_each_number(layer) or _is_output(model, layer):
            continue
        activation = _activation(model, layer)
        followed = activation and (activation.activation, activation.dtype_policy.name)
        alike = [getattr(layer, name) for name in ALIKE]
        groups[id(layer.input), *alike, layer.dtype_policy.name, followed].append(layer)
    return [group for group in groups.values() if len(group) > 1]


def _activation(model: keras.Model, layer: Conv2D) -> Activation | None:
    """The activation that alone reads the layer's output."""
    readers = [node.operation for node in layer._outbound_nodes]
    if len(readers) != 1 or type(readers[0]) is not Activation or len(readers[0]._inbound_nodes) != 1:
        return None
    return readers[0] if _of_each_number(readers[0]) and not _is_output(model, readers[0]) else None


def _of_each_number(layer: keras.layers.Layer) -> bool:
    return getattr(layer.activation, "__name__", None) in ELEMENTWISE


def _is_output(model: keras.Model, layer: keras.layers.Layer) -> bool:
    return any(layer.output is output for output in model.outputs)
