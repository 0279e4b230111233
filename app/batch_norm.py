"""Population statistics: what a batch normalisation's moving averages stand for, measured. Algorithm 2 of Ioffe and
Szegedy 2015, https://arxiv.org/abs/1502.03167

Moving averages follow weights that move on, and begin far from any data: after a short training, or with a momentum
that is too high for it, a network trains well and evaluates badly. Steps 8 to 10 of Algorithm 2 do without them:
process training batches with the finished weights, and average over these.

Everything is measured on a copy. The network changes when all has been measured, or not at all.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.errors import UserError
from export import folding
from models import BatchNormalization

Array = NDArray[np.float64]
Form = Literal["paper", "exact"]
# The output of a channel without deviation is one number: nothing after it can tell two images apart by it.
DEAD = 1e-3  # deviations
FARTHEST = 1e9  # deviations: averages that are not numbers, in a number that JSON has


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
    return _exact(model, batches) if exact else _as_in_training(model, batches)[0]


class Recalibrate(keras.callbacks.Callback):
    """Recalibrates the network in training, the paper's form: before every validation ("epoch") or at its end."""

    def __init__(self, batches: Iterable[Any], when: Literal["epoch", "end"] = "end") -> None:
        super().__init__()
        self.batches = batches
        self.when = when

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.when == "epoch":
            recalibrate(self.model, self.batches)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.when == "end":
            recalibrate(self.model, self.batches)


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The batch normalisations of a network, from its input on."""
    return [layer for layer in model.layers if folding.is_batch_normalization(layer)]


def moves(model: keras.Model) -> bool:
    """Whether there is a batch normalisation that could be recalibrated."""
    return any(layer.trainable for layer in layers_of(model))


# ---- the clinic


@dataclass(frozen=True)
class Finding:
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

    layers: list[Finding]
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
    answer = _compiled(lambda images: tf.argmax(model(images, training=False), axis=1), model.inputs[0])

    def batches() -> Iterator[Any]:
        for images, labels in labelled:
            if not truth or len(labels) >= len(truth[0]):
                truth.append(np.asarray(labels))
                moving.append(answer(images).numpy())
                yield images

    found, totals, outputs = _as_in_training(model, batches(), frozen_too=True)
    foldable = set(folding.foldable(model))
    findings = []
    for layer in layers_of(model):
        apart = distances(stored(layer), found.statistics[layer.name], layer.epsilon)
        findings.append(
            Finding(
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


def stored(layer: keras.layers.Layer) -> Statistics:
    """A layer's moving averages."""
    return Statistics(np.asarray(layer.moving_mean, np.float64), np.asarray(layer.moving_variance, np.float64))


def distances(a: Statistics, b: Statistics, epsilon: float) -> Array:
    """How far two statistics are apart, per channel: the difference of the means in deviations of `b`, plus the
    logarithm of the ratio of the deviations. A deviation is what the layer divides by, sqrt(variance + epsilon)."""
    ours, theirs = np.sqrt(np.maximum(a.variance, 0) + epsilon), np.sqrt(b.variance + epsilon)
    apart = np.abs(a.mean - b.mean) / theirs + np.abs(np.log(ours / theirs))
    return np.where(np.isfinite(apart), apart, FARTHEST)


def _dead(layer: keras.layers.Layer, real: Statistics, total: "_Moments") -> NDArray[np.bool_]:
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


# ---- measuring


@dataclass(frozen=True)
class _Moments:
    """Of some values per channel: how many, their mean, the sum of squared deviations from it, smallest and largest."""

    count: int
    mean: Array
    squares: Array
    low: Array
    high: Array

    def __add__(self, other: "_Moments") -> "_Moments":
        """Of both together (Chan, Golub, LeVeque 1983): no large sums that cancel."""
        count = self.count + other.count
        apart = other.mean - self.mean
        return _Moments(
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


def _as_in_training(
    model: keras.Model, batches: Iterable[Any], frozen_too: bool = False
) -> tuple[Population, dict[str, _Moments], NDArray[Any]]:
    """The paper's form; the moments of all values together; the network's outputs, one row per image."""
    copy, layers = _copy(model, by_batch=True, frozen_too=frozen_too)
    sums: dict[str, Statistics] = {}
    totals: dict[str, _Moments] = {}
    outputs: list[NDArray[Any]] = []
    sizes: list[int] = []
    for images, measured, output in _pass(copy, layers, batches, outputs=True):
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


def _exact(model: keras.Model, batches: Iterable[Any]) -> Population:
    copy, layers = _copy(model, by_batch=False)
    statistics: dict[str, Statistics] = {}
    sizes: list[int] = []
    for level in _levels(copy, layers):
        totals: dict[str, _Moments] = {}
        sizes = []
        for images, measured, _ in _pass(copy, level, batches):
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


def _pass(
    copy: keras.Model, layers: Sequence[keras.layers.Layer], batches: Iterable[Any], outputs: bool = False
) -> Iterator[tuple[int, dict[str, _Moments], NDArray[Any]]]:
    """One pass over the images: per batch its size, the moments of the layers' inputs, and the network's outputs where
    they are wanted."""
    wanted = {"inputs": {layer.name: layer.input for layer in layers}, "outputs": copy.outputs[: int(outputs)]}
    probe = keras.Model(copy.inputs, wanted)

    def forward(images: Any) -> Any:
        found = probe(images, training=False)
        return [_moments(found["inputs"][layer.name], layer.axis) for layer in layers], found["outputs"]

    compute = _compiled(forward, copy.inputs[0])
    some = False
    for images in batches:
        some = True
        moments, answers = compute(images)
        measured = {
            layer.name: _Moments(int(count), *(figure.numpy() for figure in figures))
            for layer, (count, *figures) in zip(layers, moments, strict=True)
        }
        yield len(images), measured, answers[0].numpy() if outputs else np.empty(0)
    if not some:
        raise UserError("There are no images to take the statistics of batch normalisation from.")


def _compiled(function: Callable[[Any], Any], image: Any) -> Callable[[Any], Any]:
    """The same function of a batch of such images, of any size."""
    compiled = tf.function(function, input_signature=[tf.TensorSpec(image.shape, image.dtype)], autograph=False)
    return lambda images: compiled(tf.cast(images, image.dtype))


def _moments(x: Any, axis: int) -> tuple[Any, ...]:
    """The fields of `_Moments`. Two passes, in float64: the mean of squares minus the square of the mean would cancel
    far from zero."""
    rank = len(x.shape)
    others = [i for i in range(rank) if i != axis % rank]
    ends = tf.reduce_min(x, others), tf.reduce_max(x, others)
    x = tf.cast(x, tf.float64)
    mean = tf.reduce_mean(x, others, keepdims=True)
    squares = tf.reduce_sum(tf.square(x - mean), others)
    count = tf.reduce_prod(tf.gather(tf.shape(x), others))
    return count, tf.reshape(mean, [-1]), squares, *(tf.cast(end, tf.float64) for end in ends)


def _copy(model: keras.Model, by_batch: bool, frozen_too: bool = False) -> tuple[keras.Model, list[keras.layers.Layer]]:
    """The network once more, with its weights, and the copy's batch normalisations to measure."""
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
    return copy, [copy.get_layer(layer.name) for layer in top if layer.trainable or frozen_too]


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


def _check(name: str, found: _Moments, where: str) -> None:
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
