"""Whether a picture shows none of the classes: how strange it is to a network, as a number inside its graph.

    strangeness = a_0 log(1 + d_0) + ... + a_n log(1 + d_n) + b * energy + c
    d_i     = |W_i (mean of map i over its pixels - mean_i)|^2, the Mahalanobis distance of a stage to the pictures that
              are known (1807.03888, section 2.2, with one Gaussian for all classes as in 2003.00402)
    energy  = -log(sum(exp(logits))), or of independent labels -sum(log(1 + exp(logits))) (2010.03759, 2107.00062)

What is far from every photograph, noise, drawings, shows in the stages; what is near shows in the energy. Without the
logarithm a few known pictures that are very far in one stage would decide how far is strange.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from .run_artefact import PLACES, RATE

CHANNELS = 256  # of a map at most, evenly spread over it: W_i has their square

Array = NDArray[np.float32]


class Strangeness(NamedTuple):
    """Fitted numbers: `layers` by name, each with the mean (r,) of the channels that are looked at and the matrix
    (r, r) of their distance; `weights` (stages + 1,), the last one of the energy, and `offset`; `quantiles`
    (PLACES + 1,) of the strangeness of known pictures, from 0 to 100 per cent of them."""

    layers: tuple[str, ...]
    means: tuple[Array, ...]
    matrices: tuple[Array, ...]
    weights: Array
    offset: float
    quantiles: Array


class Measured(NamedTuple):
    """Of a batch, each (N,): `strangeness`; `stranger`, the per cent of known pictures that are at least as strange;
    whether it is `unknown`, that is at most `RATE`."""

    strangeness: Any
    stranger: Any
    unknown: Any


def network(model: keras.Model, layers: Sequence[str]) -> keras.Model:
    """`model`, or that network folded or merged, with what strangeness is made of: prepared images ->
    [probabilities, what the classifier is given, *means of the maps (N, r)]."""
    pooled = [_few_channels(keras.ops.mean(model.get_layer(name).output, axis=(1, 2))) for name in layers]
    return keras.Model(model.input, [model.output, classifier(model).input, *pooled], name=model.name)


def classifier(model: keras.Model) -> keras.layers.Dense:
    """The last dense layer."""
    return next(layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.Dense))


def is_independent(model: keras.Model) -> bool:
    """Whether every label has a probability of its own."""
    return model.layers[-1].activation is keras.activations.sigmoid


def _few_channels(pooled: Any) -> Any:
    """Of (N, channels) every so manieth, at most `CHANNELS`."""
    return pooled[:, :: -(-pooled.shape[-1] // CHANNELS)]


def energy(logits: Any, independent: bool) -> Any:
    """(N,) of logits (N, classes); `independent` labels have a sigmoid each."""
    if independent:
        return -tf.reduce_sum(tf.math.softplus(logits), axis=1)
    # By what the largest one is above the others: LiteRT has no operation of its own for it.
    largest = tf.reduce_max(logits, axis=1, keepdims=True)
    return -(tf.math.log(tf.reduce_sum(tf.exp(logits - largest), axis=1)) + largest[:, 0])


def measured(known: Strangeness, pooled: Sequence[Any], logits: Any, independent: bool) -> Measured:
    """`pooled` (N, r) as `network` gives them; logits (N, classes)."""
    score = known.weights[-1] * energy(logits, independent) + np.float32(known.offset)
    for each, mean, matrix, weight in zip(pooled, known.means, known.matrices, known.weights[:-1], strict=True):
        distance = tf.reduce_sum(tf.square(tf.matmul(each - mean, matrix)), axis=1)
        score += weight * tf.math.log(1 + distance)
    as_strange = tf.cast(known.quantiles[np.newaxis] >= score[:, tf.newaxis], tf.float32)
    stranger = tf.minimum(tf.reduce_sum(as_strange, axis=1) * (100 / PLACES), 100.0)  # there is one more quantile
    return Measured(score, stranger, stranger <= RATE + 50 / PLACES)
