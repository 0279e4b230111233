"""One battery for every network, against the figures of `oracles/references.py`.

Counts see a wrong width, shapes a wrong stride. Columns see the rest, read back from the graph: kernels turned on their
side, pools of the other kind, columns in another order, a scale, a bias, a normalisation or a ReLU too many or too few.
What a network computes is compared with other libraries in `test_family.py`.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from models import NETWORKS, BatchNormalization, LocalResponseNormalization
from tests.makers.networks import disturb
from tests.oracles.references import (
    REFERENCES,
    Activation,
    Auxiliary,
    Conv,
    Counts,
    LocalResponse,
    Pool,
    Separable,
    Sum,
)

Array = np.ndarray[Any, Any]
EVERY = pytest.mark.parametrize("name", NETWORKS)
# The smallest of each module of `models`, which between them have every layer and block. What they compute stands for
# the others of the same blocks, which are built for it among the slow tests.
SMALLEST = (
    "lenet_bn",
    "googlenet",
    "inception_v2",
    "inception_v3",
    "inception_resnet_v1",
    "resnet18_d2l",
    "densenet_d2l",
)
OF_EACH_KIND = pytest.mark.parametrize(
    "name", [name if name in SMALLEST else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
NORMALIZED = pytest.mark.parametrize("name", [name for name in NETWORKS if REFERENCES[name].counts_without_gamma])
POOLS = {layers.MaxPooling2D: "max", layers.AveragePooling2D: "average"}
CONVOLUTIONS = (layers.Conv2D, layers.SeparableConv2D)
STEPS = (*CONVOLUTIONS, *POOLS, LocalResponseNormalization)
# Biases that the mean of a batch normalisation takes away: those that the teaching networks keep, in the dense one
# after concatenations and pools, and one of a published network.
IDLE = {
    "lenet_bn": re.compile(r"(stem_\d_conv|dense_\d_dense)/bias"),
    "resnet18_d2l": re.compile(r"(stem_1|residual_\d_\d_[12])_conv/bias"),
    "densenet_d2l": re.compile(r"(stem_1|dense_block_\d_\d_1|transition_\d)_conv/bias"),
    # The last block is linear, and so is the convolution between it and the next normalisation.
    "inception_resnet_v2": re.compile(r"inception_resnet_c_10_up_conv/bias"),
}


# The tests of a network come one after the other, see `conftest.py`: its forms are kept for them and no longer, since a
# garbage collection has to look at all that is kept.
@lru_cache(maxsize=12)
def published(name: str, **options: Any) -> keras.Model:
    """The network of the paper, as its builder makes it when asked for nothing else; each is built once.

    Its weights have shapes and no values, which takes a third of the time and none of the memory. Keras lists per
    thread the weights that wait for their values, and would fill them in with the next network.
    """

    def build() -> keras.Model:
        with keras.StatelessScope(initialize_variables=False):
            return NETWORKS[name](**options)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(build).result()


def small(name: str, **options: Any) -> keras.Model:
    """A quarter of the width, seven classes, small images of one channel; nothing is 0 or 1, so that losing it shows.

    The weights of the base are the same whatever stands above it.
    """
    keras.utils.set_random_seed(3)
    side = max(REFERENCES[name].minimum, 32)
    model = NETWORKS[name](**{"width": 0.25, "classes": 7, "input_shape": (side, side, 1), **options})
    disturb(model)
    return model


shared = lru_cache(maxsize=1)(small)  # for tests that leave it as it was


def varied(name: str) -> keras.Model:
    """The published network with 1001 classes and every option of its layers changed."""
    options = {"classes": 1001, "dropout": 0.375, "scale": False, "momentum": 0.75}
    return published(name, **accepted(name, options))


def narrowest(name: str) -> keras.Model:
    """One channel per convolution, no top, images of about half the size that are not square and have four channels."""
    minimum, (height, _, _) = REFERENCES[name].minimum, REFERENCES[name].input_shape
    shape = (max(minimum, height // 2), minimum + 9, 4)
    return published(name, width=1e-6, include_top=False, pooling="max", input_shape=shape)


def accepted(name: str, options: dict[str, Any]) -> dict[str, Any]:
    known = inspect.signature(NETWORKS[name]).parameters
    return {key: value for key, value in options.items() if key in known}


def noise(*shape: int) -> Array:
    """Images in [-1, 1]."""
    return np.random.default_rng(5).uniform(-1, 1, shape).astype("float32")


def images(model: keras.Model, batch: int = 2) -> Array:
    return noise(batch, *model.input_shape[1:])


def outputs(model: keras.Model, x: Array) -> Array:
    found: Array = keras.ops.convert_to_numpy(model(x, training=False))
    return found


def of_kind(model: keras.Model, kind: Any) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, kind)]


def last_stage(model: keras.Model, name: str) -> Any:
    return model.get_layer(list(REFERENCES[name].grid)[-1])


def base(model: keras.Model, name: str) -> keras.Model:
    """The network up to its last map."""
    return keras.Model(model.input, last_stage(model, name).output)


def counts(weights: Any) -> Counts:
    sizes = [(math.prod(weight.shape), weight.trainable) for weight in weights]
    return Counts(sum(size for size, _ in sizes), sum(size for size, trainable in sizes if trainable))


# ---- the network read back from its graph: tensors and layers, no names but those of the stages


def producers(model: keras.Model) -> dict[int, Any]:
    return {id(layer.output): layer for layer in model.layers}


def path_down(made_by: dict[int, Any], tensor: Any, bottom: Any) -> list[Any]:
    """The tensors from this one to the bottom, both included, along layers with one input."""
    path = [tensor]
    while path[-1] is not bottom:
        path.append(made_by[id(path[-1])].input)
    return path


def column(made_by: dict[int, Any], tensor: Any, bottom: Any) -> tuple[Any, ...]:
    """The layers between two tensors, from bottom to top; a fork is a tuple of columns."""
    steps: list[Any] = []
    while tensor is not bottom:
        layer = made_by[id(tensor)]
        if isinstance(layer, layers.Concatenate):
            paths = [path_down(made_by, branch, bottom) for branch in layer.input]
            below = {id(t) for t in paths[0]}.intersection(*({id(t) for t in path} for path in paths[1:]))
            tensor = next(t for t in paths[0] if id(t) in below)
            steps.append(tuple(column(made_by, branch, tensor) for branch in layer.input))
        else:
            steps.append(layer)
            tensor = layer.input
    return tuple(reversed(steps))


@dataclass(frozen=True)
class Stage:
    """What stands between the top of the stage below and its own; `sum` as in the references, `up` its projection."""

    columns: tuple[Any, ...]
    sum: Sum | None
    up: Any = None


def stage(made_by: dict[int, Any], top: Any, bottom: Any) -> Stage:
    """What ends in the layer `top` and starts at the tensor `bottom`."""
    activated = isinstance(top, layers.Activation) and isinstance(made_by[id(top.input)], layers.Add)
    layer = made_by[id(top.input)] if activated else top
    if not isinstance(layer, layers.Add):
        tops = layer.input if isinstance(layer, layers.Concatenate) else [layer.output]
        return Stage(tuple(column(made_by, tensor, bottom) for tensor in tops), None)
    if activated:
        assert top.activation is keras.activations.relu
    first, second = layer.input
    scaling = made_by[id(second)] if second is not bottom else None
    if not isinstance(scaling, layers.Rescaling):
        return Stage(tuple(column(made_by, tensor, bottom) for tensor in (first, second)), Sum(relu=activated))
    assert first is bottom
    assert scaling.offset == 0
    up = made_by[id(scaling.input)]
    tops = made_by[id(up.input)].input
    columns = tuple(column(made_by, tensor, bottom) for tensor in tops)
    return Stage(columns, Sum(described(up), scaling.scale, activated), up)


def stages(model: keras.Model, name: str) -> dict[str, Stage]:
    made_by, bottom, found = producers(model), model.input, {}
    for place in REFERENCES[name].grid:
        top = model.get_layer(place)
        found[place] = stage(made_by, top, bottom)
        bottom = top.output
    return found


def flat(columns: Any) -> Iterator[Any]:
    """The layers of columns, in the order in which a reader of the figure meets them."""
    for step in columns:
        yield from flat(step) if isinstance(step, tuple) else [step]


def layers_of(found: Stage) -> list[Any]:
    return [*flat(found.columns), *([] if found.up is None else [found.up])]


def described(layer: Any) -> Any:
    """A layer in the reference's terms, one thing at a time; a fork stays a tuple of columns."""
    if isinstance(layer, tuple):
        return tuple(tuple(described(step) for step in branch) for branch in layer)
    if isinstance(layer, BatchNormalization):
        return "bn"
    if isinstance(layer, layers.Activation):
        return layer.activation.__name__
    if isinstance(layer, layers.ZeroPadding2D):
        return ("zeros", layer.padding)
    if isinstance(layer, LocalResponseNormalization):
        return LocalResponse(layer.depth_radius, layer.bias, layer.alpha, layer.beta)
    if isinstance(layer, layers.GlobalAveragePooling2D):
        return "mean"
    if isinstance(layer, layers.Flatten):
        return "flatten"
    if isinstance(layer, layers.Dense):
        return ("dense", layer.units, layer.use_bias, layer.activation.__name__)
    if isinstance(layer, layers.Dropout):
        return ("dropout", layer.rate)
    assert isinstance(layer, STEPS), layer
    assert layer.data_format == "channels_last"
    (stride,) = set(layer.strides)
    if not isinstance(layer, CONVOLUTIONS):
        (size,) = set(layer.pool_size)
        return Pool(POOLS[type(layer)], size, stride, layer.padding)
    assert layer.dilation_rate == (1, 1)
    assert layer.activation is keras.activations.linear
    if isinstance(layer, layers.SeparableConv2D):
        shape, multiplier = layer.kernel_size, layer.depth_multiplier
        return Separable(layer.filters, shape, stride, multiplier, layer.padding, "conv", layer.use_bias)
    assert layer.groups == 1
    return single(Conv(layer.filters, layer.kernel_size, stride, layer.padding, "conv", layer.use_bias))


def single(conv: Conv) -> Conv:
    """A convolution alone. A kernel of one pixel has nothing to pad."""
    return replace(conv, unit="conv", padding="same" if conv.kernel == (1, 1) else conv.padding)


def zeros(padding: int) -> tuple[str, Any]:
    return ("zeros", ((padding, padding), (padding, padding)))


def written_out(
    steps: Any, scaled: Callable[[int], int] = lambda filters: filters, normalized: bool = True
) -> tuple[Any, ...]:
    """A column of the references, one thing at a time; without normalisation every convolution has a bias."""
    things: list[Any] = []
    for step in steps:
        if isinstance(step, tuple):
            things.append(tuple(written_out(branch, scaled, normalized) for branch in step))
        elif isinstance(step, Activation):
            things += ["bn", "relu"] if normalized else ["relu"]
        elif isinstance(step, Pool):
            if isinstance(step.padding, int):
                things.append(zeros(step.padding))
                step = replace(step, padding="valid")
            things.append(step)
        elif isinstance(step, Conv | Separable):
            words = [word for word in step.unit.split() if normalized or word != "bn"]
            place = words.index("conv")
            things += words[:place]
            alone: Any = replace(step, filters=scaled(step.filters), unit="conv", bias=step.bias or not normalized)
            if isinstance(alone, Conv):
                padding: Any = alone.padding
                # Without a stride, half the kernel on either side is what "same" pads.
                if alone.stride == 1 and alone.kernel == (alone.kernel[0],) * 2 and padding == alone.kernel[0] // 2:
                    alone = replace(alone, padding="same")
                elif isinstance(padding, int):
                    things.append(zeros(padding))
                    alone = replace(alone, padding="valid")
                alone = single(alone)
            things += [alone, *words[place + 1 :]]
        else:
            things.append(step)
    return tuple(things)


def assert_columns(model: keras.Model, name: str, **options: Any) -> None:
    """That the columns of every stage are those of the references; `options` as for `written_out`."""
    reference, found = REFERENCES[name], stages(model, name)
    assert list(reference.columns) == list(found)
    bottom = model.input
    for place, columns in reference.columns.items():
        right = tuple(written_out(steps, **options) for steps in columns)
        assert tuple(tuple(described(step) for step in steps) for steps in found[place].columns) == right, place
        total = reference.sums.get(place)
        if total is not None and total.up is not None:
            filters = bottom.shape[-1] if "scaled" in options else total.up.filters
            total = replace(total, up=single(replace(total.up, filters=filters)))
        assert found[place].sum == total, place
        bottom = model.get_layer(place).output


# ---- figures


def test_every_network_has_a_reference_and_every_reference_a_network() -> None:
    assert set(NETWORKS) == set(REFERENCES)


@EVERY
def test_every_stage_has_the_published_grid(name: str) -> None:
    model, reference = published(name), REFERENCES[name]
    assert model.input_shape == (None, *reference.input_shape)
    assert {place: model.get_layer(place).output.shape[1:] for place in reference.grid} == reference.grid


@EVERY
def test_parameters_are_as_many_as_published(name: str) -> None:
    """Two networks are built, with gamma and without; the base and the weights per class are counted in both."""
    reference = REFERENCES[name]
    for model, expected in ((published(name), reference.counts), (varied(name), reference.counts_without_gamma)):
        if not expected:
            continue
        alone, whole = counts(base(model, name).weights), counts(model.weights)
        (classes,) = model.output.shape[1:]
        head = model.get_layer("predictions").count_params()
        found: dict[int | None, Counts] = {None: alone}
        for rows in [rows for rows in expected if rows is not None]:
            more = head // classes * (rows - classes)
            found[rows] = Counts(whole.total + more, whole.trainable + more)
        assert found == expected


@EVERY
def test_every_stage_has_the_published_columns(name: str) -> None:
    model = published(name)
    assert_columns(model, name)
    found = [layer.name for place in stages(model, name).values() for layer in layers_of(place)]
    kinds = (*STEPS, BatchNormalization, layers.ZeroPadding2D, layers.Dense)
    everything = [layer.name for layer in of_kind(base(model, name), kinds)]
    assert sorted(set(found).intersection(everything)) == sorted(everything)
    assert len(found) == len(set(found))


@EVERY
def test_every_stage_has_the_published_number_of_weights(name: str) -> None:
    found = {
        place: sum(work(layer, pixels=1) for layer in layers_of(within))
        for place, within in stages(published(name), name).items()
    }
    assert found == REFERENCES[name].conv_weights


def work(layer: Any, pixels: int) -> int:
    """Multiplications with a kernel for so many pixels."""
    kernels = [weight for weight in layer.weights if weight.name.endswith("kernel")]
    return pixels * sum(math.prod(kernel.shape) for kernel in kernels)


@EVERY
def test_the_work_per_image_is_the_published(name: str) -> None:
    found = sum(work(layer, math.prod(layer.output.shape[1:-1])) for layer in published(name).layers if layer.weights)
    assert found == pytest.approx(REFERENCES[name].multiply_adds, rel=5e-4)


@EVERY
def test_the_last_map_reaches_the_classifier(name: str) -> None:
    reference = REFERENCES[name]
    right: list[Any] = ["flatten"] if reference.dense else ["mean"]
    for units in reference.dense[:-1]:
        right += [("dense", units, True, "linear"), "bn", "sigmoid"]
    for model, dropout in ((published(name), reference.dropout), (varied(name), 0.375)):
        classifier = model.get_layer("predictions")
        assert classifier.output is model.output
        found = column(producers(model), classifier.input, last_stage(model, name).output)
        assert [described(layer) for layer in found] == [*right, *([] if dropout is None else [("dropout", dropout)])]
        assert described(classifier) == ("dense", *model.output_shape[1:], True, "softmax")


@NORMALIZED
def test_normalizations_are_as_published_or_as_asked_for(name: str) -> None:
    reference = REFERENCES[name]
    for model, momentum, scale in ((published(name), reference.momentum, True), (varied(name), 0.75, False)):
        found = of_kind(model, BatchNormalization)
        settings = {(layer.momentum, layer.epsilon, layer.unbiased, layer.scale) for layer in found}
        assert settings == {(momentum, reference.epsilon, True, scale)}


@NORMALIZED
def test_without_normalization_every_convolution_has_a_bias(name: str) -> None:
    model = published(name, normalization=None)
    assert of_kind(model, BatchNormalization) == []
    assert_columns(model, name, normalized=False)


@EVERY
def test_width_scales_every_convolution(name: str) -> None:
    assert_columns(published(name, width=0.25), name, scaled=lambda filters: max(1, round(0.25 * filters)))
    assert_columns(narrowest(name), name, scaled=lambda filters: 1)


@EVERY
def test_names_are_generated_from_the_place(name: str) -> None:
    model = published(name)
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    step = r"_b[0-9](_[1-9])?(_b[0-9])?|_[12]|_shortcut|_up|_concat|_scale|_sum|_relu"
    place = re.compile(f"({'|'.join(REFERENCES[name].grid)})({step})?(_conv|_bn|_pad)?")
    head = re.compile(r"image|average_pool|flatten|dense_[12](_dense|_bn)?|dropout|predictions")
    assert [n for n in names if not place.fullmatch(n) and not head.fullmatch(n)] == []
    for top, found in stages(model, name).items():
        if len(found.columns) == 1 or (found.sum is not None and found.up is None) or () in found.columns:
            continue
        for branch, steps in enumerate(found.columns):
            kept: list[Any] = [layer for layer in steps if isinstance(layer, (tuple, *STEPS))]
            for position, layer in enumerate(kept, start=1):
                here = f"{top}_b{branch}" if position == len(kept) else f"{top}_b{branch}_{position}"
                if not isinstance(layer, tuple):
                    assert layer.name.removesuffix("_conv") == here


# ---- auxiliary heads and facenet's bottleneck

HEADS = [(name, head) for name, reference in REFERENCES.items() for head in reference.auxiliary]


def with_heads(name: str, gamma: bool) -> keras.Model:
    options = {} if gamma else {"classes": 1001, "scale": False}
    return published(name, auxiliary=True, **accepted(name, options))


def head_layers(model: keras.Model, head: str, reads: str) -> list[Any]:
    """The layers of a head, its classifier last."""
    classifier = model.get_layer(head)
    return [*column(producers(model), classifier.input, model.get_layer(reads).output), classifier]


@pytest.mark.parametrize(("name", "head"), HEADS)
def test_auxiliary_heads_have_the_published_columns(name: str, head: str) -> None:
    model, auxiliary = with_heads(name, gamma=True), REFERENCES[name].auxiliary[head]
    right = [*written_out(auxiliary.column), "flatten" if auxiliary.dense else "mean"]
    right += [("dense", units, True, "relu") for units in auxiliary.dense]
    right += [] if auxiliary.dropout is None else [("dropout", auxiliary.dropout)]
    *below, classifier = head_layers(model, head, auxiliary.reads)
    assert [described(layer) for layer in below] == right
    assert described(classifier) == ("dense", 1000, True, "softmax")
    assert set(model.output) == {"predictions", *REFERENCES[name].auxiliary}
    assert model.output[head] is classifier.output


@pytest.mark.parametrize("gamma", [True, False])
@pytest.mark.parametrize("name", dict(HEADS))
def test_auxiliary_heads_have_the_published_number_of_parameters(name: str, gamma: bool) -> None:
    model, reference = with_heads(name, gamma), REFERENCES[name]
    whole = reference.counts_with_auxiliary if gamma else reference.counts_with_auxiliary_without_gamma
    if not whole and not gamma:
        whole = reference.counts_with_auxiliary  # no normalisation, no gamma

    def published_counts(auxiliary: Auxiliary) -> dict[int, Counts]:
        return auxiliary.counts if gamma or not auxiliary.counts_without_gamma else auxiliary.counts_without_gamma

    (classes,) = model.get_layer("predictions").output.shape[1:]
    assert counts(model.weights) == whole[classes]
    for head, auxiliary in reference.auxiliary.items():
        own = [weight for layer in head_layers(model, head, auxiliary.reads) for weight in layer.weights]
        assert counts(own) == published_counts(auxiliary)[classes]


BOTTLENECKS = [(name, *row) for name, reference in REFERENCES.items() for row in reference.counts_with_bottleneck]


@pytest.mark.parametrize("gamma", [True, False])
@pytest.mark.parametrize(("name", "units", "classes"), BOTTLENECKS)
def test_bottlenecks_have_the_published_number_of_parameters(
    name: str, units: int, classes: int | None, gamma: bool
) -> None:
    reference = REFERENCES[name]
    rows = reference.counts_with_bottleneck if gamma else reference.counts_with_bottleneck_without_gamma
    # Where the row is without classification, that of the other row with these units is cut off.
    built = next(n for u, n in rows if u == units and n is not None)
    model = published(name, bottleneck=units, classes=built, scale=gamma)
    if classes is None:
        model = keras.Model(model.input, model.get_layer("bottleneck_bn").output)
    assert counts(model.weights) == rows[units, classes]


# ---- behaviour, at a quarter of the width


@contextmanager
def restored(model: keras.Model) -> Iterator[None]:
    before = model.get_weights()
    yield
    model.set_weights(before)


@lru_cache(maxsize=1)
def answers(name: str) -> tuple[Array, Array, Array]:
    """Images, the features that the classifier of `shared` gets, and its probabilities."""
    model = shared(name)
    both = keras.Model(model.input, [model.get_layer("predictions").input, model.output])
    features, probabilities = both(x := images(model, batch=4), training=False)
    return x, features.numpy(), probabilities.numpy()


@OF_EACH_KIND
def test_training_reaches_every_weight(name: str) -> None:
    model = shared(name)
    x, labels, before = images(model, batch=8), np.arange(8) % 7, model.get_weights()
    averages = [weight.path for weight in model.non_trainable_weights if "moving" in weight.name]
    assert len(averages) == 2 * len(of_kind(model, BatchNormalization))
    with restored(model):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(keras.losses.sparse_categorical_crossentropy(labels, model(x, training=True)))
        moved = {w.path for w, old in zip(model.weights, before, strict=True) if np.all(w.numpy() != old)}
    assert moved == set(averages)
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    idle = 0
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        if name in IDLE and IDLE[name].search(weight.path):
            idle += 1
            assert np.abs(gradient).max() < 1e-3, weight.path
        else:
            assert np.abs(gradient).max() > 1e-6, weight.path
    assert (idle > 0) == (name in IDLE)


@OF_EACH_KIND
def test_a_saved_network_comes_back(name: str, tmp_path: Path) -> None:
    model = shared(name)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in model.layers]
    x, _, right = answers(name)
    np.testing.assert_array_equal(outputs(again, x), right)


@pytest.mark.slow
def test_saved_networks_load_in_a_fresh_process_that_imports_models(
    tmp_path: Path, fresh_process: Callable[..., str]
) -> None:
    """The smallest that between them have every layer of our own."""
    names = ("lenet_bn", "googlenet")
    expected = {}
    for name in names:
        shared(name).save(tmp_path / f"{name}.keras")
        x, _, expected[name] = answers(name)
        np.save(tmp_path / f"{name}.npy", x)
    script = """
import sys, keras, models, numpy as np
for name in sys.argv[2:]:
    model = keras.models.load_model(f"{sys.argv[1]}/{name}.keras")
    np.save(f"{sys.argv[1]}/{name}_found.npy", model(np.load(f"{sys.argv[1]}/{name}.npy"), training=False))
"""
    fresh_process(script, tmp_path, *names)
    for name, right in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}_found.npy"), right, rtol=1e-6)


@OF_EACH_KIND
def test_the_top_is_a_softmax_over_the_logits(name: str) -> None:
    classifier = shared(name).get_layer("predictions")
    _, features, found = answers(name)
    logits = features.astype("float64") @ classifier.kernel.numpy() + classifier.bias.numpy()
    assert logits.shape == (4, 7)
    assert np.ptp(logits) > 0.1
    powers = np.exp(logits)
    np.testing.assert_allclose(found, powers / powers.sum(-1, keepdims=True), rtol=1e-4)


@OF_EACH_KIND
def test_images_may_be_of_half_the_size_and_need_not_be_square(name: str) -> None:
    """A network of no stated size gives maps as large as one that is built for such images."""
    stated = narrowest(name)
    model = small(name, include_top=False, pooling="avg", input_shape=(None, None, 4))
    maps = keras.Model(model.input, [last_stage(model, name).output, model.output])
    smallest = REFERENCES[name].minimum
    for shape in (stated.input_shape[1:], (smallest, smallest, 4)):
        last, pooled = maps(noise(2, *shape), training=False)
        assert np.ptp(pooled) > 0.1
        np.testing.assert_allclose(pooled, np.mean(last, (1, 2)), rtol=1e-4, atol=1e-6)
        if shape == stated.input_shape[1:]:
            assert last.shape[1:3] == last_stage(stated, name).output.shape[1:3]
        else:
            assert last.shape[1:3] == (1, 1)


@EVERY
def test_without_the_top_the_map_or_its_pool_comes_out(name: str) -> None:
    largest = narrowest(name)
    assert isinstance(largest.layers[-1], layers.GlobalMaxPooling2D)
    assert largest.layers[-1].input is last_stage(largest, name).output
    assert largest.layers[-1].output is largest.output


@EVERY
def test_one_pixel_less_than_the_smallest_is_refused(name: str) -> None:
    minimum = REFERENCES[name].minimum
    for height, width in [(minimum - 1, minimum), (minimum, minimum - 1), (minimum - 1, None)]:
        with pytest.raises(ValueError, match=f"the smallest that work are {minimum} x {minimum}"):
            NETWORKS[name](input_shape=(height, width, 3))


@OF_EACH_KIND
def test_half_precision_gives_about_the_same_probabilities_in_float32(
    name: str, set_policy: Callable[[str], None], tmp_path: Path
) -> None:
    """The half-precision network reads its weights from a file, and ends in logits."""
    full = shared(name)
    x, _, right = answers(name)
    full.save_weights(path := tmp_path / "network.weights.h5")
    set_policy("mixed_float16")
    options = {"width": 0.25, "classes": 7, "input_shape": full.input_shape[1:], "weights": str(path)}
    half = NETWORKS[name](classifier_activation=None, **options)
    assert last_stage(half, name).compute_dtype == "float16"
    assert half.output.dtype == "float32"
    logits = outputs(half, x)
    assert logits.dtype == np.float32
    found = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, right, atol=0.05 * right.max())
    assert np.isfinite(half(x, training=True)).all()


# ---- mistakes


@EVERY
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 0}, "width=0 must be above 0"),
        ({"width": -1.0}, "width=-1.0 must be above 0"),
        ({"width": float("nan")}, "width=nan must be above 0"),
        ({"normalization": "layer"}, """normalization='layer' is neither "batch" nor None"""),
        ({"pooling": "sum"}, """pooling='sum' is none of None, "avg" and "max\""""),
        ({"classes": 0}, "classes=0 must be at least 1"),
        ({"dropout": 1}, "dropout=1 is outside [0, 1)"),
        ({"dropout": -0.5}, "dropout=-0.5 is outside [0, 1)"),
        ({"momentum": 1.5}, "momentum=1.5 is outside [0, 1]"),
        ({"input_shape": (224, 224)}, "input_shape=(224, 224) must be (height, width, channels)"),
        ({"input_shape": (224, 224, None)}, "with the channels known"),
        ({"input_shape": (4, 224, 224, 3)}, "must be (height, width, channels)"),
    ],
)
def test_a_mistake_is_named(name: str, options: dict[str, Any], words: str) -> None:
    error: Any = ValueError
    if not accepted(name, options):
        error, words = TypeError, f"unexpected keyword argument '{next(iter(options))}'"
    with pytest.raises(error, match=re.escape(words)):
        NETWORKS[name](**options)


def test_a_flattened_map_needs_a_known_size() -> None:
    for shape in [(None, 28, 1), (28, None, 1)]:
        with pytest.raises(ValueError, match=r"lenet_bn flattens its last map: .* needs a height and a width"):
            NETWORKS["lenet_bn"](input_shape=shape)


def test_missing_weights_are_an_error(tmp_path: Path) -> None:
    with pytest.raises((ValueError, OSError), match=r"nowhere\.weights\.h5"):
        NETWORKS["lenet_bn"](weights=str(tmp_path / "nowhere.weights.h5"))
