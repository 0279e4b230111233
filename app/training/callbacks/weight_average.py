"""The running average of the weights, which the optimizer keeps: validating with it, and ending with it."""

from collections.abc import Iterable
from typing import Any

import keras

from app.batch_norm import measuring, population


def use(model: keras.Model) -> None:
    """Gives all weights that train their running average. The batch-norm statistics stay those of other weights."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # loss scaling is one around it
    for weight, average in zip(model.trainable_variables, optimizer.averages, strict=True):
        weight.assign(average)


class ValidateAverage(keras.callbacks.Callback):
    """Every validation is of the averaged weights, with the batch-norm statistics of `batches` where some move; then
    training goes on with its own."""

    def __init__(self, batches: Iterable[Any]) -> None:
        super().__init__()
        self.batches = batches

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.trained = self.model.get_weights()
        use(self.model)
        if measuring.moves(self.model):
            population.recalibrate(self.model, self.batches)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        self.model.set_weights(self.trained)
