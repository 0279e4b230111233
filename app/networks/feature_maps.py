"""The layers of a network that can be looked at: those whose output is a map, (batch, height, width, channels)."""

import keras
from keras import layers

from app.program.errors import UserError, nearest
from models import BatchNormalization

GRID = 7  # the smaller side of a map that still says where: that of the papers' last modules at 224 x 224
# Of padding, convolution, normalisation and activation, which are one unit: the layers that do not end it.
INSIDE = (layers.Conv2D, layers.SeparableConv2D, layers.ZeroPadding2D, BatchNormalization)


def parents(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers whose outputs it takes, in order."""
    if isinstance(layer, layers.InputLayer):
        return []
    return [tensor._keras_history.operation for tensor in keras.tree.flatten(layer.input)]


def maps(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """All layers with a map by their names, from bottom to top.

    Raises:
        UserError: a network without convolutions.
    """
    if not any(hasattr(layer, "kernel_size") for layer in model.layers):
        raise UserError(f"The network {model.name} has no convolutions, so there are no maps to look at.")
    return {layer.name: layer for layer in model.layers if len(layer.output.shape) == 4 and parents(layer)}


def named(model: keras.Model, name: str) -> keras.layers.Layer:
    """The layer of that name.

    Raises:
        UserError: there is none, or it has no map; offers the nearest names.
    """
    found = maps(model)
    if name not in found:
        raise UserError(
            f"The network {model.name} has no layer '{name}' with a map; the nearest names are {nearest(name, found)}."
        )
    return found[name]


def last_stage(model: keras.Model) -> keras.layers.Layer:
    """The layer to explain an answer at: the last through which everything goes and whose map still says where.

    That is the top of a module, never one of its columns, with a grid of at least `GRID` x `GRID`, or with the finest
    there is.
    """
    before: dict[str, int] = {}
    after = dict.fromkeys((layer.name for layer in model.layers), 0)
    for layer in model.layers:
        before[layer.name] = sum(before[parent.name] for parent in parents(layer)) or 1
    top = model.output._keras_history.operation.name
    after[top] = 1
    for layer in reversed(model.layers):
        for parent in parents(layer):
            after[parent.name] += after[layer.name]
    # As many ways lead through the layer as there are from the image to the answer.
    stages = [
        layer
        for name, layer in maps(model).items()
        if before[name] * after[name] == before[top] and not isinstance(layer, INSIDE)
    ]
    sides = [min(layer.output.shape[1:3]) for layer in stages]
    return [layer for layer, side in zip(stages, sides, strict=True) if side >= min(GRID, max(sides))][-1]


def branches(layer: keras.layers.Layer) -> dict[str, slice]:
    """Which channels of a map come from which layer: of a concatenation, such as the top of an Inception module, those
    of each column; of another layer, all from itself."""
    if not isinstance(layer, layers.Concatenate):
        return {layer.name: slice(0, layer.output.shape[-1])}
    found, start = {}, 0
    for parent in parents(layer):
        found[parent.name] = slice(start, start + parent.output.shape[-1])
        start += parent.output.shape[-1]
    return found
