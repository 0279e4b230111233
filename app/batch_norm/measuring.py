"""Measuring the statistics of batch normalisation on a copy of the network, in the two forms of `population`."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.program.errors import UserError
from export import folding
from models import BatchNormalization

Array = NDArray[np.float64]
Form = Literal["paper", "exact"]


@dataclass(frozen=True)
class Statistics:
    """Of one layer's input, per channel: mean and unbiased variance, both (channels,)."""

    mean: Array
    variance: Array


@dataclass(frozen=True)
class Population:
    """What was measured, by layer name, and on what: `images` that came in `batches` of `batch_size`."""

    statistics: dict[str, Statistics]
    form: Form
    images: int
    batches: int
    batch_size: int


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The batch normalisations of a network, from its input on."""
    return [layer for layer in model.layers if folding.is_batch_normalization(layer)]


def moves(model: keras.Model) -> bool:
    """Whether there is a batch normalisation that could be recalibrated."""
    return any(layer.trainable for layer in layers_of(model))


@dataclass(frozen=True)
class Moments:
    """Of some values per channel: how many, their mean, the sum of squared deviations from it, smallest and largest."""

    count: int
    mean: Array
    squares: Array
    low: Array
    high: Array

    def __add__(self, other: "Moments") -> "Moments":
        """Of both together (Chan, Golub, LeVeque 1983): no large sums that cancel."""
        count = self.count + other.count
        apart = other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * (other.count / count),
            self.squares + other.squares + np.square(apart) * (self.count * other.count / count),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )


class _ByBatch(BatchNormalization):
    """Normalises by its batch although nothing is trained."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return super().call(inputs, training=True, mask=mask)


class InTraining:
    """The paper's form, of one network again and again while it trains: its copy is made once, and traced once."""

    def __init__(self, model: keras.Model, frozen_too: bool = False) -> None:
        self.graph, self.copy, self.layers = _copied(model, by_batch=True, frozen_too=frozen_too)
        self.compute = _probe(self.copy, self.layers, outputs=True)

    def measure(self, batches: Iterable[Any]) -> tuple[Population, dict[str, Moments], NDArray[Any]]:
        """With the weights that the network has now: see `as_in_training`."""
        self.copy.set_weights(self.graph.get_weights())
        sums: dict[str, Statistics] = {}
        totals: dict[str, Moments] = {}
        outputs: list[NDArray[Any]] = []
        sizes: list[int] = []
        for images, measured, output in _pass(self.compute, self.layers, batches):
            if sizes and images < sizes[0]:
                continue
            for name, of_the_batch in measured.items():
                _check(name, of_the_batch, "in a batch")
                one = Statistics(of_the_batch.mean, of_the_batch.squares / (of_the_batch.count - 1))
                before = sums.get(name)
                sums[name] = Statistics(before.mean + one.mean, before.variance + one.variance) if before else one
                totals[name] = totals[name] + of_the_batch if name in totals else of_the_batch
            outputs.append(output)
            sizes.append(images)
        count = len(sizes)
        statistics = {name: Statistics(summed.mean / count, summed.variance / count) for name, summed in sums.items()}
        return Population(statistics, "paper", sum(sizes), count, sizes[0]), totals, np.concatenate(outputs)


def as_in_training(
    model: keras.Model, batches: Iterable[Any], frozen_too: bool = False
) -> tuple[Population, dict[str, Moments], NDArray[Any]]:
    """The paper's form; the moments of all values together; the network's outputs, one row per image."""
    return InTraining(model, frozen_too).measure(batches)


def layer_by_layer(model: keras.Model, batches: Iterable[Any]) -> Population:
    _, copy, layers = _copied(model, by_batch=False)
    statistics: dict[str, Statistics] = {}
    sizes: list[int] = []
    for level in _levels(copy, layers):
        totals: dict[str, Moments] = {}
        sizes = []
        for images, measured, _ in _pass(_probe(copy, level), level, batches):
            for name, of_the_batch in measured.items():
                totals[name] = totals[name] + of_the_batch if name in totals else of_the_batch
            sizes.append(images)
        for layer in level:
            total = totals[layer.name]
            _check(layer.name, total, "in all")
            statistics[layer.name] = found = Statistics(total.mean, total.squares / (total.count - 1))
            layer.moving_mean.assign(found.mean)
            layer.moving_variance.assign(found.variance)
    in_order = {layer.name: statistics[layer.name] for layer in layers}
    return Population(in_order, "exact", sum(sizes), len(sizes), max(sizes))


def _probe(copy: keras.Model, layers: Sequence[keras.layers.Layer], outputs: bool = False) -> Callable[[Any], Any]:
    """Compiled: a batch of images in; out the moments of the layers' inputs, and the network's outputs where they are
    wanted."""
    wanted = {"inputs": {layer.name: layer.input for layer in layers}, "outputs": copy.outputs[: int(outputs)]}
    probe = keras.Model(copy.inputs, wanted)

    def forward(images: Any) -> Any:
        found = probe(images, training=False)
        return [_moments(found["inputs"][layer.name], layer.axis) for layer in layers], found["outputs"]

    return compiled(forward, copy.inputs[0])


def _pass(
    compute: Callable[[Any], Any], layers: Sequence[keras.layers.Layer], batches: Iterable[Any]
) -> Iterator[tuple[int, dict[str, Moments], NDArray[Any]]]:
    """One pass over the images by such a probe: per batch its size, moments and outputs."""
    some = False
    for images in batches:
        some = True
        moments, answers = compute(images)
        measured = {
            layer.name: Moments(int(count), *(figure.numpy() for figure in figures))
            for layer, (count, *figures) in zip(layers, moments, strict=True)
        }
        yield len(images), measured, answers[0].numpy() if answers else np.empty(0)
    if not some:
        raise UserError("There are no images to take the statistics of batch normalisation from.")


def compiled(function: Callable[[Any], Any], image: Any) -> Callable[[Any], Any]:
    """The same function of a batch of such images, of any size."""
    compiled = tf.function(function, input_signature=[tf.TensorSpec(image.shape, image.dtype)], autograph=False)
    return lambda images: compiled(tf.cast(images, image.dtype))


def _moments(x: Any, axis: int) -> tuple[Any, ...]:
    """The fields of `Moments`. Two passes, in float64: the mean of squares minus the square of the mean would cancel
    far from zero."""
    rank = len(x.shape)
    others = [i for i in range(rank) if i != axis % rank]
    ends = tf.reduce_min(x, others), tf.reduce_max(x, others)
    x = tf.cast(x, tf.float64)
    mean = tf.reduce_mean(x, others, keepdims=True)
    squares = tf.reduce_sum(tf.square(x - mean), others)
    count = tf.reduce_prod(tf.gather(tf.shape(x), others))
    return count, tf.reshape(mean, [-1]), squares, *(tf.cast(end, tf.float64) for end in ends)


def _copied(
    model: keras.Model, by_batch: bool, frozen_too: bool = False
) -> tuple[keras.Model, keras.Model, list[keras.layers.Layer]]:
    """The network without its training, the same once more, with its weights, and the copy's batch normalisations to
    measure."""
    graph = keras.Model(model.inputs, model.outputs, name=model.name)
    top = layers_of(graph)
    if inner := [
        layer for layer in graph._flatten_layers() if folding.is_batch_normalization(layer) and layer not in top
    ]:
        raise UserError(f"{inner[0].name} lies inside another model; batch normalisation is measured in flat networks.")
    if not top:
        raise UserError(f"The network {model.name} has no batch normalisation.")
    if not (frozen_too or moves(graph)):
        raise UserError(
            f"All {len(top)} batch normalisations of {model.name} are frozen: their statistics stay as they came."
        )
    uses = Counter(node.operation.name for nodes in graph._nodes_by_depth.values() for node in nodes)
    for layer in top:
        if uses[layer.name] > 1:
            raise UserError(
                f"{layer.name} is used at {uses[layer.name]} places, whose statistics differ: one average cannot serve "
                "them. Give each place a layer of its own."
            )

    def twin(layer: keras.layers.Layer) -> keras.layers.Layer:
        if not (by_batch and layer in top and layer.trainable):
            return layer.__class__.from_config(layer.get_config())
        options = {"epsilon": layer.epsilon, "center": layer.center, "scale": layer.scale}
        return _ByBatch(layer.axis, **options, name=layer.name, dtype=layer.dtype_policy)

    copy = keras.models.clone_model(graph, clone_function=twin)
    copy.set_weights(graph.get_weights())
    return graph, copy, [copy.get_layer(layer.name) for layer in top if layer.trainable or frozen_too]


def _levels(copy: keras.Model, layers: Sequence[keras.layers.Layer]) -> list[list[keras.layers.Layer]]:
    """The layers in groups: those without another of them before, those with one, two ... on the longest way."""
    wanted = {layer.name for layer in layers}
    behind: dict[int, int] = {}  # tensor -> how many of the layers lie on the longest way to it
    levels: dict[int, list[keras.layers.Layer]] = {}
    for depth in sorted(copy._nodes_by_depth, reverse=True):
        for node in copy._nodes_by_depth[depth]:
            level = max((behind.get(id(x), 0) for x in node.input_tensors), default=0)
            if node.operation.name in wanted:
                levels.setdefault(level, []).append(node.operation)
                level += 1
            behind.update({id(x): level for x in node.outputs})
    return [levels[level] for level in sorted(levels)]


def _check(name: str, found: Moments, where: str) -> None:
    if found.count < 2:
        raise UserError(
            f"{name} has {found.count} value{'s' * (found.count != 1)} per channel {where}, and a variance needs 2 or "
            "more: take more or larger images, or larger batches."
        )
    broken = ~(np.isfinite(found.mean) & np.isfinite(found.squares))
    if broken.any():
        raise UserError(
            f"The activations before {name} are not finite in {broken.sum()} of its {len(broken)} channels (the first "
            f"is channel {int(np.argmax(broken))}): the weights before it are broken."
        )
