"""Keras on several hosts: what https://github.com/keras-team/keras/issues/20585 is about, repaired."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="app")
class MultiWorkerModel(keras.Model):
    """A functional model, `MultiWorkerModel(inputs, outputs)`, that can be trained under
    `tf.distribute.MultiWorkerMirroredStrategy`.

    Keras 3.15's own fails there in two steps of its trainer. Before the first step it asks for the mean of the first
    batch over all workers, only to learn shapes that its own part of the batch shows as well. After each step it takes
    the mean of the logs along axis 0, which scalars do not have: here they are vectors of one until then.
    """

    def _maybe_symbolic_build(self, iterator: Iterable[Any] | None = None, data_batch: Any = None) -> None:
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            local = self.distribute_strategy.experimental_local_results
            data_batch = keras.tree.map_structure(lambda values: local(values)[0], next(batches))
        super()._maybe_symbolic_build(data_batch=data_batch)

    def train_step(self, data: Any) -> Any:
        return _as_vectors(super().train_step(data))

    def test_step(self, data: Any) -> Any:
        return _as_vectors(super().test_step(data))


def _as_vectors(logs: Any) -> Any:
    return keras.tree.map_structure(lambda log: tf.expand_dims(log, 0), logs)
