"""One battery for every network, against the figures of `references.py` and against `keras.applications`.

Counts see a wrong width, shapes a wrong stride, columns the rest: kernels turned on their side, a pool of the other
kind, columns in another order.
"""

import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from references import REFERENCES, Conv, Counts, Pool

from models import NETWORKS, BatchNormalization

Array = np.ndarray[Any, Any]
EVERY = pytest.mark.parametrize("name", NETWORKS)
POOLS = {layers.MaxPooling2D: "max", layers.AveragePooling2D: "average"}
STEPS = (layers.Conv2D, *POOLS)
IDLE = re.compile(r"(stem_\d_conv|dense_\d_dense)/bias")  # lenet_bn's biases before batch normalisation


@cache
def published(name: str, **options: Any) -> keras.Model:
    """The network of the paper, as its builder makes it when asked for nothing else; each is built once."""
    return NETWORKS[name](**options)


def small(name: str, **options: Any) -> keras.Model:
    """A quarter of the width, seven classes, small images; random statistics, so that losing them shows."""
    keras.utils.set_random_seed(3)
    reference = REFERENCES[name]
    side = max(reference.minimum, 32)
    settings = {"width": 0.25, "classes": 7, "input_shape": (side, side, reference.input_shape[2]), **options}
    model = NETWORKS[name](**settings)
    disturb(model)
    return model


shared = cache(small)  # for tests that only look


def disturb(model: keras.Model) -> None:
    rng = np.random.default_rng(4)
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name in ("beta", "moving_mean"):
                weight.assign(rng.normal(0, 0.5, weight.shape))
            elif weight.name in ("gamma", "moving_variance"):
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))


def noise(model: keras.Model, batch: int = 2) -> Array:
    """Images in [-1, 1]."""
    return np.random.default_rng(5).uniform(-1, 1, (batch, *model.input_shape[1:])).astype("float32")


def outputs(model: keras.Model, x: Array) -> Array:
    found: Array = keras.ops.convert_to_numpy(model(x, training=False))
    return found


def of_kind(model: keras.Model, kind: Any) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, kind)]


# ---- the network read back from its graph: tensors and layers, no names


def producers(model: keras.Model) -> dict[int, Any]:
    return {id(layer.output): layer for layer in model.layers}


def consumers(model: keras.Model, layer: Any) -> list[Any]:
    def reads(other: Any) -> bool:
        inputs = other.input if isinstance(other.input, list) else [other.input]
        return any(tensor is layer.output for tensor in inputs)

    return [other for other in model.layers if not isinstance(other, layers.InputLayer) and reads(other)]


def path_down(made_by: dict[int, Any], tensor: Any, bottom: Any) -> list[Any]:
    """The tensors from this one to the bottom, both included, along layers with one input."""
    path = [tensor]
    while path[-1] is not bottom:
        path.append(made_by[id(path[-1])].input)
    return path


def column(made_by: dict[int, Any], tensor: Any, bottom: Any) -> tuple[Any, ...]:
    """The convolutions and pools between two tensors, from bottom to top; a fork is a tuple of columns."""
    steps: list[Any] = []
    while tensor is not bottom:
        layer = made_by[id(tensor)]
        if isinstance(layer, layers.Concatenate):
            paths = [path_down(made_by, branch, bottom) for branch in layer.input]
            below = {id(t) for t in paths[0]}.intersection(*({id(t) for t in path} for path in paths[1:]))
            tensor = next(t for t in paths[0] if id(t) in below)
            steps.append(tuple(column(made_by, branch, tensor) for branch in layer.input))
            continue
        if isinstance(layer, STEPS):
            steps.append(layer)
        else:
            assert isinstance(layer, BatchNormalization | layers.Activation), layer
        tensor = layer.input
    return tuple(reversed(steps))


def stages(model: keras.Model, name: str) -> dict[str, tuple[Any, ...]]:
    """The columns of every stage, as layers: from the top of the stage below to its own."""
    made_by, bottom, found = producers(model), model.input, {}
    for stage in REFERENCES[name].grid:
        top = model.get_layer(stage)
        tops = top.input if isinstance(top, layers.Concatenate) else [top.output]
        found[stage] = tuple(column(made_by, tensor, bottom) for tensor in tops)
        bottom = top.output
    return found


def flat(columns: Any) -> Iterator[Any]:
    """The layers of columns, in the order in which a reader of the figure meets them."""
    for step in columns:
        yield from flat(step) if isinstance(step, tuple) else [step]


def described(step: Any, scaled: Callable[[int], int] = lambda filters: filters) -> Any:
    """A layer, or a line of the reference, in the reference's terms."""
    if isinstance(step, tuple):
        return tuple(described(part, scaled) for part in step)
    if isinstance(step, Conv):
        # With a single pixel and no stride there is nothing to pad.
        padding = "same" if (step.kernel, step.stride) == ((1, 1), 1) else step.padding
        return Conv(scaled(step.filters), step.kernel, step.stride, padding)
    if isinstance(step, Pool):
        return step
    (stride,) = set(step.strides)
    assert step.data_format == "channels_last"
    if isinstance(step, layers.Conv2D):
        assert step.groups == 1
        assert step.dilation_rate == (1, 1)
        return described(Conv(step.filters, step.kernel_size, stride, step.padding))
    (size,) = set(step.pool_size)
    return Pool(POOLS[type(step)], size, stride, step.padding)


# ---- against keras.applications


def test_inception_v3_computes_what_that_of_keras_computes() -> None:
    keras.utils.set_random_seed(6)
    theirs = keras.applications.InceptionV3(weights=None, classifier_activation=None, input_shape=(151, 163, 3))
    disturb(theirs)
    ours = NETWORKS["inception_v3"](scale=False, classifier_activation=None, input_shape=(None, None, 3))

    def created(kind: Any) -> list[Any]:
        """In the order of the numbers in their names, the first of which may have none."""
        return sorted(of_kind(theirs, kind), key=lambda layer: int((re.findall(r"_(\d+)$", layer.name) or ["-1"])[0]))

    convolutions = [step for step in flat(stages(ours, "inception_v3").values()) if isinstance(step, layers.Conv2D)]
    normalizations = [consumers(ours, convolution)[0] for convolution in convolutions]
    pairs = [
        *zip(created(layers.Conv2D), convolutions, strict=True),
        *zip(created(layers.BatchNormalization), normalizations, strict=True),
        (theirs.get_layer("predictions"), ours.get_layer("predictions")),
    ]
    for source, target in pairs:
        target.set_weights(source.get_weights())
    x = noise(theirs)
    right = outputs(theirs, x)
    assert np.abs(outputs(ours, x) - right).max() <= 1e-5 * np.abs(right).max()


# ---- figures


def test_every_network_has_a_reference_and_every_reference_a_network() -> None:
    assert set(NETWORKS) == set(REFERENCES)


@EVERY
def test_every_stage_has_the_published_grid(name: str) -> None:
    model, reference = published(name), REFERENCES[name]
    assert model.input_shape == (None, *reference.input_shape)
    assert {stage: model.get_layer(stage).output.shape[1:] for stage in reference.grid} == reference.grid
    assert published(name, include_top=False).output.shape[1:] == list(reference.grid.values())[-1]


CLASSES = [(name, classes) for name in NETWORKS for classes in REFERENCES[name].counts]


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize(("name", "classes"), CLASSES)
def test_parameters_are_as_many_as_published(name: str, classes: int | None, scale: bool) -> None:
    options: dict[str, Any] = {} if scale else {"scale": False}
    if classes is None:
        options["include_top"] = False
    elif classes != published(name).output.shape[1]:
        options["classes"] = classes
    model, reference = published(name, **options), REFERENCES[name]
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    expected = reference.counts if scale else reference.counts_without_gamma
    assert Counts(model.count_params(), trainable) == expected[classes]


@EVERY
def test_every_stage_has_the_published_columns(name: str) -> None:
    model, reference = published(name), REFERENCES[name]
    found = stages(model, name)
    assert list(reference.columns) == list(found)
    for stage, columns in reference.columns.items():
        assert described(found[stage]) == described(columns), stage
    everything = sorted(layer.name for layer in model.layers if isinstance(layer, STEPS))
    assert sorted(layer.name for layer in flat(found.values())) == everything


@EVERY
def test_every_stage_has_the_published_number_of_weights(name: str) -> None:
    found = {
        stage: sum(math.prod(layer.kernel.shape) for layer in flat(columns) if isinstance(layer, layers.Conv2D))
        for stage, columns in stages(published(name), name).items()
    }
    assert found == REFERENCES[name].conv_weights


@EVERY
def test_the_work_per_image_is_the_published(name: str) -> None:
    reference = REFERENCES[name]
    model = published(name)
    work = sum(math.prod(layer.kernel.shape) for layer in of_kind(model, layers.Dense))
    for layer in of_kind(model, layers.Conv2D):
        work += math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3])
    assert work == pytest.approx(reference.multiply_adds, rel=5e-4)


@EVERY
def test_the_last_map_reaches_the_classifier(name: str) -> None:
    model, reference = published(name), REFERENCES[name]
    *hidden, classifier = of_kind(model, layers.Dense)
    assert classifier.name == "predictions"
    assert classifier.output is model.output
    if reference.dense:
        assert [layer.units for layer in [*hidden, classifier]] == list(reference.dense)
        for layer in hidden:
            (normalization,) = consumers(model, layer)
            (activation,) = consumers(model, normalization)
            assert isinstance(normalization, BatchNormalization)
            assert activation.activation is keras.activations.sigmoid
    else:
        assert hidden == []
        last = model.get_layer(list(reference.grid)[-1])
        (pool,) = consumers(model, last)
        assert isinstance(pool, layers.GlobalAveragePooling2D)


@EVERY
def test_every_convolution_is_normalized_then_activated_and_has_no_bias(name: str) -> None:
    model, teaching = published(name), name == "lenet_bn"
    for convolution in of_kind(model, layers.Conv2D):
        assert convolution.use_bias == teaching
        assert convolution.activation is keras.activations.linear
        (normalization,) = consumers(model, convolution)
        assert isinstance(normalization, BatchNormalization)
        assert (normalization.momentum, normalization.epsilon) == ((0.9, 1e-5) if teaching else (0.99, 1e-3))
        assert normalization.unbiased
        (activation,) = consumers(model, normalization)
        assert isinstance(activation, layers.Activation)
        assert activation.activation is (keras.activations.sigmoid if teaching else keras.activations.relu)


@EVERY
def test_without_normalization_every_convolution_has_a_bias(name: str) -> None:
    model, reference = published(name, normalization=None, include_top=False), REFERENCES[name]
    assert of_kind(model, BatchNormalization) == []
    filters = 0
    for convolution in of_kind(model, layers.Conv2D):
        assert convolution.use_bias
        filters += convolution.filters
        (activation,) = consumers(model, convolution)
        assert activation.activation is (keras.activations.sigmoid if name == "lenet_bn" else keras.activations.relu)
    assert model.count_params() == sum(reference.conv_weights.values()) + filters


@EVERY
@pytest.mark.parametrize("width", [0.25, 1e-6])
def test_width_scales_every_convolution(name: str, width: float) -> None:
    found = stages(shared(name) if width == 0.25 else small(name, width=width), name)
    for stage, columns in REFERENCES[name].columns.items():
        assert described(found[stage]) == described(columns, lambda filters: max(1, round(width * filters))), stage


@EVERY
def test_momentum_scale_and_dropout_reach_their_layers(name: str) -> None:
    model = small(name, momentum=0.75, scale=False, dropout=0.375)
    for normalization in of_kind(model, BatchNormalization):
        assert (normalization.momentum, normalization.gamma) == (0.75, None)
    (dropout,) = of_kind(model, layers.Dropout)
    assert dropout.rate == 0.375
    assert consumers(model, dropout) == [model.get_layer("predictions")]
    rates = [layer.rate for layer in of_kind(published(name), layers.Dropout)]
    assert rates == ([0.2] if name == "inception_v3" else [])


@EVERY
def test_names_are_generated_from_the_place(name: str) -> None:
    model = shared(name)
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    assert names == [layer.name for layer in shared(name, classifier_activation=None).layers]
    place = re.compile(f"({'|'.join(REFERENCES[name].grid)})(_b[0-9](_[1-9])?(_b[0-9])?)?(_conv|_bn)?")
    head = re.compile(r"image|average_pool|flatten|dense_[12](_dense|_bn)?|dropout|predictions")
    assert [n for n in names if not place.fullmatch(n) and not head.fullmatch(n)] == []
    for stage, columns in stages(model, name).items():
        for branch, steps in enumerate(columns):
            for position, layer in enumerate(steps, start=1):
                if isinstance(layer, tuple) or not isinstance(model.get_layer(stage), layers.Concatenate):
                    continue
                here = f"{stage}_b{branch}" if position == len(steps) else f"{stage}_b{branch}_{position}"
                assert layer.name.removesuffix("_conv") == here


# ---- behaviour, at a quarter of the width


@EVERY
@pytest.mark.parametrize("normalization", ["batch", None])
def test_every_trainable_weight_gets_a_gradient(name: str, normalization: str | None) -> None:
    model = small(name, normalization=normalization, classifier_activation=None, dropout=0)
    x, labels = noise(model, batch=8), np.arange(8) % 7
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(x, training=True)))
    weights = [w for w in model.trainable_weights if normalization is None or not IDLE.search(w.path)]
    assert len(weights) == len(model.trainable_weights) - (4 if name == "lenet_bn" and normalization else 0)
    for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        assert np.abs(gradient).max() > 1e-6, weight.path


@EVERY
def test_training_moves_every_average_and_inference_none(name: str) -> None:
    model = small(name)
    averages = [weight for weight in model.non_trainable_weights if "moving" in weight.name]
    assert len(averages) == 2 * len(of_kind(model, BatchNormalization)) > 0
    before = [weight.numpy() for weight in averages]
    for training in (False, True):
        model(noise(model, batch=8), training=training)
        for weight, old in zip(averages, before, strict=True):
            assert np.all(weight.numpy() != old) if training else np.all(weight.numpy() == old), weight.path


@EVERY
def test_a_saved_network_comes_back(name: str, tmp_path: Path) -> None:
    model = shared(name)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in model.layers]
    np.testing.assert_array_equal(outputs(again, x := noise(model)), outputs(model, x))


def test_saved_networks_load_in_a_fresh_process_that_imports_models(
    tmp_path: Path, fresh_process: Callable[..., str]
) -> None:
    expected = {}
    for name in NETWORKS:
        model = shared(name)
        model.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", x := noise(model))
        expected[name] = outputs(model, x)
    script = """
import sys, keras, models, numpy as np
for name in sys.argv[2:]:
    model = keras.models.load_model(f"{sys.argv[1]}/{name}.keras")
    np.save(f"{sys.argv[1]}/{name}_found.npy", model(np.load(f"{sys.argv[1]}/{name}.npy"), training=False))
"""
    fresh_process(script, tmp_path, *NETWORKS)
    for name, right in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}_found.npy"), right, rtol=1e-6)


@EVERY
def test_weights_are_read_from_a_path(name: str, tmp_path: Path) -> None:
    model = shared(name)
    path = tmp_path / "network.weights.h5"
    model.save_weights(path)
    again = NETWORKS[name](width=0.25, classes=7, input_shape=model.input_shape[1:], weights=str(path))
    np.testing.assert_array_equal(outputs(again, x := noise(model)), outputs(model, x))


@EVERY
def test_the_top_is_a_softmax_over_the_logits(name: str) -> None:
    probabilities, logits = shared(name), shared(name, classifier_activation=None)
    x = noise(logits)
    right = outputs(logits, x).astype("float64")
    assert right.shape == (2, 7)
    assert np.ptp(right) > 0.1
    powers = np.exp(right)
    np.testing.assert_allclose(outputs(probabilities, x), powers / powers.sum(-1, keepdims=True), rtol=1e-5)


@EVERY
def test_without_the_top_the_map_or_its_pool_comes_out(name: str) -> None:
    assert (
        published(name, include_top=False).output
        is published(name, include_top=False).get_layer(last_stage(name)).output
    )
    average = of_any_size(name)
    largest = small(name, include_top=False, pooling="max")
    x = noise(largest)
    last = outputs(keras.Model(average.input, average.get_layer(last_stage(name)).output), x)
    np.testing.assert_allclose(outputs(average, x), last.mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs(largest, x), last.max((1, 2)), rtol=1e-6)


def of_any_size(name: str) -> keras.Model:
    channels = REFERENCES[name].input_shape[2]
    return shared(name, include_top=False, pooling="avg", input_shape=(None, None, channels))


def last_stage(name: str) -> str:
    return list(REFERENCES[name].grid)[-1]


@EVERY
def test_images_may_be_of_half_the_size_and_need_not_be_square(name: str) -> None:
    """A network of no stated size must agree with one that is built for such images."""
    minimum, (height, _, channels) = REFERENCES[name].minimum, REFERENCES[name].input_shape
    stated = small(
        name, include_top=False, pooling="avg", input_shape=(max(minimum, height // 2), minimum + 9, channels)
    )
    x = noise(stated)
    right = outputs(stated, x)
    assert np.ptp(right) > 0.1
    np.testing.assert_allclose(outputs(of_any_size(name), x), right, rtol=1e-4, atol=1e-6)


@EVERY
@pytest.mark.parametrize("channels", [1, 4])
def test_the_smallest_image_works_with_one_channel_and_with_four(name: str, channels: int) -> None:
    minimum = REFERENCES[name].minimum
    model = small(name, input_shape=(minimum, minimum, channels))
    found = outputs(model, noise(model))
    assert found.shape == (2, 7)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)


@EVERY
def test_one_pixel_less_than_the_smallest_is_refused(name: str) -> None:
    minimum = REFERENCES[name].minimum
    for height, width in [(minimum - 1, minimum), (minimum, minimum - 1), (minimum - 1, None)]:
        with pytest.raises(ValueError, match=f"the smallest that work are {minimum} x {minimum}"):
            NETWORKS[name](input_shape=(height, width, 3))


@EVERY
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_gives_about_the_same_probabilities_in_float32(
    name: str, precision: str, set_policy: Callable[[str], None]
) -> None:
    full = shared(name)
    set_policy(precision)
    half = small(name)
    assert half.get_layer(last_stage(name)).compute_dtype == precision.removeprefix("mixed_")
    assert half.output.dtype == "float32"
    x = noise(full)
    found, right = outputs(half, x), outputs(full, x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(found, right, atol=0.05 * right.max())
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.math.log(half(x, training=True)[:, 0]))
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(loss, half.trainable_weights))


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
    with pytest.raises(ValueError, match=re.escape(words)):
        NETWORKS[name](**options)


def test_a_flattened_map_needs_a_known_size() -> None:
    for shape in [(None, 28, 1), (28, None, 1)]:
        with pytest.raises(ValueError, match=r"lenet_bn flattens its last map: .* needs a height and a width"):
            NETWORKS["lenet_bn"](input_shape=shape)


def test_missing_weights_are_an_error(tmp_path: Path) -> None:
    with pytest.raises((ValueError, OSError), match=r"nowhere\.weights\.h5"):
        NETWORKS["lenet_bn"](weights=str(tmp_path / "nowhere.weights.h5"))
