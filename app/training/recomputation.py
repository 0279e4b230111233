"""Training in less memory, `remat`: what lies between two maps of the network is not kept on the way up, but computed
again on the way back, from the lower of the two.

Chen, Xu, Zhang, Guestrin 2016, Training Deep Nets with Sublinear Memory Cost, https://arxiv.org/abs/1604.06174
"""

from collections import Counter
from itertools import pairwise
from typing import Any

import keras
import tensorflow as tf

from app.training.devices.multi_worker import MultiWorkerModel


def recomputing(model: keras.Model) -> keras.Model:
    """The functional `model`, with the same layers and weights, as it trains in less memory."""
    kind = MultiWorkerRecomputingModel if isinstance(model, MultiWorkerModel) else RecomputingModel
    return kind(model.input, model.output, name=model.name)


@keras.saving.register_keras_serializable(package="app")
class RecomputingModel(keras.Model):
    """A functional model, `RecomputingModel(inputs, outputs)`, of one input and of layers that are called once each.
    A training step keeps its `kept_maps` alone; inference is as ever.

    `keras.RematScope` wants the same of a layer, and fails in `fit` on TensorFlow, where it is not told apart what
    computes again from what also moves averages and draws seeds again.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        maps = kept_maps(self) if training else []
        if not maps:
            return super().call(inputs, training=training, mask=mask)
        values = [inputs]
        for below, above in pairwise([self.input, *maps]):
            values.append(recomputed(keras.Model(below, above), values[-1]))
        # The top holds the classifiers, which take little memory.
        return keras.Model(maps, self.output)(values[1:], training=True)


@keras.saving.register_keras_serializable(package="app")
class MultiWorkerRecomputingModel(RecomputingModel, MultiWorkerModel):
    """A `RecomputingModel` for several hosts."""


def kept_maps(model: keras.Model) -> list[Any]:
    """The Keras tensors of a functional model that everything on the way to the classifier has to pass, from the bottom
    to the top: the outputs of convolutions, which so are not computed again, of concatenations and of sums, and what
    auxiliary heads stand on."""
    way = max((_way_to(output, model) for output in model.outputs), key=len)  # auxiliary heads stand lower
    heads = {id(tensor) for layer in model.layers if layer not in way for tensor in _inputs(layer)}
    ends = Counter(id(tensor) for layer in way for tensor in _inputs(layer))
    waiting = {id(tensor) for tensor in model.inputs}
    found = []
    for layer in way:
        waiting.add(id(layer.output))
        ends.subtract(id(tensor) for tensor in _inputs(layer))
        waiting = {tensor for tensor in waiting if ends[tensor]}
        wanted = isinstance(layer, keras.layers.Conv2D) or len(_inputs(layer)) > 1 or id(layer.output) in heads
        if wanted and waiting == {id(layer.output)}:
            found.append(layer.output)
    return found


def _way_to(output: Any, model: keras.Model) -> list[keras.layers.Layer]:
    """The layers that `output` depends on, each above those it depends on."""
    needed = {id(output)}
    found = []
    for layer in reversed(model.layers):
        if id(layer.output) in needed and not isinstance(layer, keras.layers.InputLayer):
            needed |= {id(tensor) for tensor in _inputs(layer)}
            found.append(layer)
    return found[::-1]


def _inputs(layer: keras.layers.Layer) -> list[Any]:
    return keras.tree.flatten(layer.input)


def recomputed(piece: keras.Model, x: Any) -> Any:
    """`piece(x, training=True)`, of which the gradient computes all again from `x`.

    What `piece` changes, averages and seeds, it changes once: both times it is a function of the values that its
    variables have now, and what it makes of them is assigned the first time alone.
    """
    trained, others = piece.trainable_variables, piece.non_trainable_variables
    changed: list[Any] = []

    def outputs(x: Any, values: Any) -> tuple[Any, Any]:
        return piece.stateless_call(values[: len(trained)], values[len(trained) :], x, training=True)

    @tf.custom_gradient
    def forward(x: Any, *values: Any) -> Any:
        def backward(gradient: Any, *_: Any) -> Any:
            # Without waiting for its gradient, the map would be computed again at once, and kept.
            with tf.control_dependencies([gradient]):
                again = [tf.identity(value) for value in (x, *values)]
            differentiated = again[: 1 + len(trained)]
            with tf.GradientTape() as tape:
                tape.watch(differentiated)
                y, _ = outputs(again[0], again[1:])
            return (*tape.gradient(y, differentiated, gradient), *(None for _ in others))

        y, after = outputs(x, values)
        before = values[len(trained) :]
        changed[:] = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if new is not old]
        return (y, *(after[i] for i in changed)), backward

    y, *after = forward(x, *(tf.convert_to_tensor(variable.value) for variable in (*trained, *others)))
    for i, value in zip(changed, after, strict=True):
        others[i].assign(value)
    return y
