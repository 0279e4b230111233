"""Population statistics: what a batch normalisation's moving averages stand for, measured. Algorithm 2 of Ioffe and
Szegedy 2015, https://arxiv.org/abs/1502.03167

Moving averages follow weights that move on, and begin far from any data: after a short training, or with a momentum
that is too high for it, a network trains well and evaluates badly. Steps 8 to 10 of Algorithm 2 do without them:
process training batches with the finished weights, and average over these.

Everything is measured on a copy. The network changes when all has been measured, or not at all.
"""

from collections.abc import Iterable
from typing import Any, Literal

import keras
import numpy as np

from app.batch_norm.measuring import (
    Array,
    InTraining,
    Population,
    Statistics,
    as_in_training,
    layer_by_layer,
    layers_of,
)
from app.program.errors import UserError
from app.program.progress import console

LEFT = 0.05  # of the values that moving averages begin with
FARTHEST = 1e9  # deviations: averages that are not numbers, in a number that JSON has


def recalibrate(model: keras.Model, batches: Iterable[Any], exact: bool = False) -> Population:
    """Gives every batch normalisation the statistics of the population (see `population`) for its moving averages.

    Frozen layers keep theirs; no other weight changes.
    """
    found = population(model, batches, exact)
    adopt(model, found)
    return found


def adopt(model: keras.Model, found: Population) -> None:
    """Makes what was measured the moving averages of all layers that are not frozen."""
    for layer in layers_of(model):
        if layer.trainable:
            layer.moving_mean.assign(found.statistics[layer.name].mean)
            layer.moving_variance.assign(found.statistics[layer.name].variance)


def population(model: keras.Model, batches: Iterable[Any], exact: bool = False) -> Population:
    """The statistics of the input of every batch normalisation that is not frozen, in float64.

    `batches` gives tensors (batch, height, width, channels) as the network takes them, and can be gone through several
    times, each time with the same images; labels are not needed.

    The paper's form, in one pass. All layers normalise by their batch, as in training, and per layer and channel

        mean = E[mu_B]        variance = m / (m - 1) * E[sigma_B^2]        (steps 9 and 10 of Algorithm 2)

    over batches of equal size, with m values each; batches smaller than the first are left out. Since what reaches
    a layer was normalised by the batch, the result depends on how the images were split into batches.

    The exact form, one pass per depth. A layer is measured while those before it are in inference with the statistics
    found already, as they will be in use; mean and variance are those of all values of all batches. The result does not
    depend on the split. m / (m - 1) is there, too, with all values for m.

    Dropout is off in both.

    Raises:
        UserError: no batch normalisation, or all frozen; one that is used at two places, or inside another model; fewer
            than two values for a variance; activations that are not finite.
    """
    return layer_by_layer(model, batches) if exact else as_in_training(model, batches)[0]


class Recalibrate(keras.callbacks.Callback):
    """Recalibrates the network in training, the paper's form: before every validation ("epoch"), before those at which
    the moving averages cannot have arrived ("early"), or at its end.

    After n steps a share of momentum^n of a moving average is still what it began with. Above `LEFT` it is no average
    of anything, and validation would say nothing of the network. It begins anew where it was measured: statistics of
    then are of other weights. An epoch has `epoch` steps, and `steps` were done before. The images of "early" are held
    in memory; what cannot be measured stays as it is, which is said once.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        when: Literal["epoch", "early", "end"] = "end",
        epoch: int = 1,
        steps: int = 0,
    ) -> None:
        super().__init__()
        self.batches = batches
        self.when = when
        self.epoch = epoch
        self.steps = steps  # since the averages began
        self.measured: InTraining | None = None  # of the network that trains
        self.is_over = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.when == "early" and self._is_early(self.epoch):
            self.steps %= self.epoch  # each of the epochs before ended with a measurement
            self.batches = list(self.batches)  # now, so that no validation fails for a picture that is gone by then

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.steps += 1

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.when == "epoch":
            self._recalibrate()
        elif self.when == "early" and not self.is_over:
            self.is_over = not (self._is_early(self.steps) and self._recalibrated_early())
            if self.is_over:
                self.measured, self.batches = None, []

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.when == "end":
            self._recalibrate()

    def _is_early(self, steps: int) -> bool:
        momentum = max(layer.momentum for layer in layers_of(self.model) if layer.trainable)
        return bool(momentum**steps > LEFT)

    def _recalibrated_early(self) -> bool:
        self.batches = self.batches if isinstance(self.batches, list) else list(self.batches)
        try:
            self._recalibrate()
        except UserError as error:
            console.print(f"Validations are with moving averages that have not arrived yet: {error}")
            return False
        self.steps = 0
        return True

    def _recalibrate(self) -> None:
        self.measured = self.measured or InTraining(self.model)
        found, *_ = self.measured.measure(self.batches)
        adopt(self.model, found)


def stored(layer: keras.layers.Layer) -> Statistics:
    """A layer's moving averages."""
    return Statistics(np.asarray(layer.moving_mean, np.float64), np.asarray(layer.moving_variance, np.float64))


def distances(a: Statistics, b: Statistics, epsilon: float) -> Array:
    """How far two statistics are apart, per channel: the difference of the means in deviations of `b`, plus the
    logarithm of the ratio of the deviations. A deviation is what the layer divides by, sqrt(variance + epsilon)."""
    ours, theirs = np.sqrt(np.maximum(a.variance, 0) + epsilon), np.sqrt(b.variance + epsilon)
    apart = np.abs(a.mean - b.mean) / theirs + np.abs(np.log(ours / theirs))
    return np.where(np.isfinite(apart), apart, FARTHEST)
