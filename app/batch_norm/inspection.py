"""The state of a network's batch normalisations: how far moving averages are from what they stand for, and the cost."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.batch_norm.measuring import Moments, Population, Statistics, as_in_training, compiled, layers_of
from app.batch_norm.population import distances, stored
from export import folding

# The output of a channel without deviation is one number: nothing after it can tell two images apart by it.
DEAD = 1e-3  # deviations


@dataclass(frozen=True)
class LayerState:
    """A layer's state. `distance` is that of its moving averages from the real statistics, in deviations (see
    `distances`): the root of the mean square over channels; `worst` the largest of one channel. `dead` counts channels
    that give the same output for every input. `foldable` says whether an export makes it vanish."""

    name: str
    distance: float
    worst: float
    dead: int
    channels: int
    frozen: bool
    foldable: bool


@dataclass(frozen=True)
class Inspection:
    """The layers, and the same images evaluated both ways: top-1 with the statistics of their batch, as in training,
    and with the moving averages, as in use. `gap` is what the moving averages lose. `population` is what the distances
    are to, in the paper's form, frozen layers included."""

    layers: list[LayerState]
    by_batch: float
    by_moving_averages: float
    population: Population

    @property
    def gap(self) -> float:
        return self.by_batch - self.by_moving_averages


def inspect(model: keras.Model, labelled: Iterable[tuple[Any, Any]]) -> Inspection:
    """`labelled` gives (images, labels as integers), shuffled: a batch of one class has that class's statistics.

    The real statistics are those of training mode, so that a layer with wrong averages spoils none after it.

    Raises:
        UserError: see `population`.
    """
    truth: list[NDArray[Any]] = []
    moving: list[NDArray[Any]] = []
    answer = compiled(lambda images: tf.argmax(model(images, training=False), axis=1), model.inputs[0])

    def batches() -> Iterator[Any]:
        for images, labels in labelled:
            if not truth or len(labels) >= len(truth[0]):
                truth.append(np.asarray(labels))
                moving.append(answer(images).numpy())
                yield images

    found, totals, outputs = as_in_training(model, batches(), frozen_too=True)
    foldable = set(folding.foldable(model))
    findings = []
    for layer in layers_of(model):
        apart = distances(stored(layer), found.statistics[layer.name], layer.epsilon)
        findings.append(
            LayerState(
                name=layer.name,
                distance=float(np.sqrt(np.mean(np.square(apart)))),
                worst=float(apart.max()),
                dead=int(_dead(layer, found.statistics[layer.name], totals[layer.name]).sum()),
                channels=len(apart),
                frozen=not layer.trainable,
                foldable=layer.name in foldable,
            )
        )
    return Inspection(
        layers=findings,
        by_batch=float(np.mean(outputs.argmax(axis=1) == np.concatenate(truth))),
        by_moving_averages=float(np.mean(np.concatenate(moving) == np.concatenate(truth))),
        population=found,
    )


def _dead(layer: keras.layers.Layer, real: Statistics, total: "Moments") -> NDArray[np.bool_]:
    """Channels that give one number, after the rectifier where one follows."""
    gamma = 1.0 if layer.gamma is None else np.asarray(layer.gamma, np.float64)
    beta = 0.0 if layer.beta is None else np.asarray(layer.beta, np.float64)
    factor = gamma / np.sqrt(real.variance + layer.epsilon)
    dead = np.abs(factor) * np.sqrt(real.variance) < DEAD
    if _rectified(layer):
        highest = np.maximum(factor * (total.low - real.mean), factor * (total.high - real.mean)) + beta
        dead |= highest <= 0
    return np.asarray(dead)


def _rectified(layer: keras.layers.Layer) -> bool:
    readers = [node.operation for node in layer._outbound_nodes]
    return bool(readers) and all(
        isinstance(reader, keras.layers.ReLU) or getattr(reader, "activation", None) is keras.activations.relu
        for reader in readers
    )
