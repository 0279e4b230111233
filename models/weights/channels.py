"""Trained weights for images with another number of channels: grey ones, or a fourth channel beside the colours."""

import keras
import numpy as np

from .tensors import Array, WeightsError


def take_channels(model: keras.Model, trained: keras.Model) -> None:
    """Sets the weights of `model` to those of `trained`, where both are of one builder with the same arguments but for
    the channels of `input_shape`.

    With one channel the first kernel is summed over its inputs: a grey picture is answered as its three equal channels
    were. Channels beyond those of `trained` begin with zeros in the first kernel: `model` answers as `trained` does,
    whatever they hold, until it is trained on them.

    Raises:
        WeightsError: weights that differ in more than this, as those of inception_v2, whose first layer convolves each
            channel by itself; fewer channels than `trained` has, and more than one. `model` is then as it was.
    """
    has, wanted = trained.input_shape[-1], model.input_shape[-1]
    if 1 < wanted < has:
        raise WeightsError(f"The network takes {wanted} channels, of {has}: it can take 1, or more than {has}.")
    weights, others = model.get_weights(), trained.get_weights()
    names = [weight.path for weight in model.weights]
    if len(weights) != len(others):
        raise WeightsError(f"{model.name} has {len(weights)} weights, {trained.name} {len(others)}: build them alike.")
    taken: list[Array] = []
    for name, to, values in zip(names, weights, others, strict=True):
        if values.shape == (*to.shape[:2], has, *to.shape[3:]) and to.ndim == 4 and not taken:
            values = _of_channels(values, wanted)
        if values.shape != to.shape:
            raise WeightsError(
                f"{name} is {to.shape} and was {values.shape}: the networks differ in more than the kernel of the "
                "first convolution."
            )
        taken.append(values)
    model.set_weights(taken)


def _of_channels(kernel: Array, channels: int) -> Array:
    """A kernel (height, width, inputs, outputs) for so many inputs."""
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    more = np.zeros((*kernel.shape[:2], channels - kernel.shape[2], kernel.shape[3]), kernel.dtype)
    return np.concatenate([kernel, more], axis=2)
