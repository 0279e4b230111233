"""The layer against Algorithms 1 and 2 of 1502.03167, written once more in float64 NumPy below.

The tolerance of outputs and gradients is 1e-5 x (1 + |mean| / deviation) of their channel: a float32 that is far from
zero, in deviations, has lost as many digits of the difference to its mean before the layer sees it.
"""

import importlib.util
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework.config import disable_op_determinism

from models import BatchNormalization, batch_normalization

Array = np.ndarray[Any, Any]

# Uneven, off-centre channels; the fourth has a variance below either epsilon's reach: 1e-4.
MEANS = np.array([0.0, 3.0, -30.0, 0.5, 100.0])
DEVIATIONS = np.array([1.0, 0.1, 5.0, 0.01, 20.0])
SHAPES = {"dense": (37, 5), "sequence": (4, 9, 5), "image": (4, 7, 6, 5), "volume": (2, 3, 4, 6, 5)}
IMAGE = SHAPES["image"]


class Parameters(NamedTuple):
    gamma: Array
    beta: Array
    mean: Array
    variance: Array


def drawn_parameters() -> Parameters:
    rng = np.random.default_rng(1)
    draws = rng.uniform(0.5, 2, 5), rng.normal(0, 1, 5), rng.normal(0, 10, 5), rng.uniform(0.5, 20, 5)
    return Parameters(*(draw.astype("float32") for draw in draws))


P = drawn_parameters()


def uneven(shape: tuple[int, ...], seed: int = 0, dtype: Any = "float32") -> Array:
    return (MEANS + DEVIATIONS * np.random.default_rng(seed).normal(size=shape)).astype(dtype)


# ---- the oracle, channels last


def others(x: Array) -> tuple[int, ...]:
    return tuple(range(x.ndim - 1))


def moments(x: Array) -> tuple[Array, Array, int]:
    """Mean, biased variance, m."""
    x = x.astype("float64")
    mean = x.sum(others(x)) / (m := x[..., 0].size)
    return mean, np.square(x - mean).sum(others(x)) / m, m


def normalized(x: Array, mean: Array, variance: Array, epsilon: float, p: Parameters = P) -> Array:
    hat = (x.astype("float64") - mean) / np.sqrt(variance.astype("float64") + epsilon)
    return p.gamma.astype("float64") * hat + p.beta


def trained(x: Array, epsilon: float, p: Parameters = P) -> Array:
    mean, variance, _ = moments(x)
    return normalized(x, mean, variance, epsilon, p)


def moved(batches: list[Array], momentum: float, unbiased: bool, p: Parameters = P) -> tuple[Array, Array]:
    """Both moving averages after the batches."""
    moving_mean, moving_variance = p.mean.astype("float64"), p.variance.astype("float64")
    for x in batches:
        mean, variance, m = moments(x)
        moving_mean = momentum * moving_mean + (1 - momentum) * mean
        moving_variance = momentum * moving_variance + (1 - momentum) * variance * (m / (m - 1) if unbiased else 1)
    return moving_mean, moving_variance


def training_gradients(x: Array, upstream: Array, epsilon: float) -> tuple[Array, Array, Array]:
    """Of sum(upstream * y) to x, gamma and beta: the chain rule of section 3, put together."""
    mean, variance, m = moments(x)
    deviation = np.sqrt(variance + epsilon)
    hat = (x - mean) / deviation
    to_gamma, to_beta = (upstream * hat).sum(others(x)), upstream.astype("float64").sum(others(x))
    return P.gamma / deviation * (upstream - to_beta / m - hat * to_gamma / m), to_gamma, to_beta


# ---- the comparison


def assert_within(tolerance: Any, actual: Any, expected: Array) -> None:
    actual = keras.ops.convert_to_numpy(actual).astype("float64")
    assert actual.shape == expected.shape
    worst = np.max(np.abs(actual - expected) / tolerance, initial=0)
    assert worst <= 1, f"{worst:.3g} times the tolerance"


def tolerance(x: Array) -> Array:
    mean, variance, _ = moments(x)
    return 1e-5 * (1 + np.abs(mean) / np.sqrt(variance))


def assert_outputs(actual: Any, x: Array, epsilon: float) -> None:
    assert_within(tolerance(x), actual, trained(x, epsilon))


def assert_gradients(actual: tuple[Any, ...], x: Array, expected: tuple[Array, ...]) -> None:
    for gradient, right in zip(actual, expected, strict=True):
        size = np.abs(right).max(others(right)) if right.ndim > 1 else np.abs(right)
        assert_within(tolerance(x) * np.maximum(1, size), gradient, right)


def assert_statistics(layer: Any, mean: Array, variance: Array) -> None:
    assert_within(1e-5 * (np.abs(mean) + np.sqrt(variance)), layer.moving_mean, mean)
    assert_within(1e-5 * variance, layer.moving_variance, variance)


def ready(x: Any, kind: Any = BatchNormalization, **options: Any) -> Any:
    """A layer of that kind, built for x, with the parameters P."""
    layer = kind(**options)
    layer.build(x.shape)
    layer.set_weights(P)
    return layer


def outputs_and_gradients(layer: Any, x: Array, upstream: Array, training: bool = True) -> tuple[Any, tuple[Any, ...]]:
    values = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(values)
        y = layer(values, training=training)
    return y, tuple(tape.gradient(y, [values, layer.gamma, layer.beta], tf.constant(upstream)))


def operations(function: Callable[..., Any], x: tf.TensorSpec) -> list[tf.Operation]:
    return list(tf.function(function, autograph=False).get_concrete_function(x).graph.get_operations())


def kinds(function: Callable[..., Any], x: tf.TensorSpec) -> set[str]:
    return {operation.type for operation in operations(function, x)}


@pytest.fixture(params=["kernel", "plain"])
def formula(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with the fused kernel and again with the plain formula."""
    if request.param == "plain":
        monkeypatch.setattr(batch_normalization, "FUSED_DTYPES", ())
    return str(request.param)


@pytest.fixture
def deterministic() -> Iterator[None]:
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    yield
    disable_op_determinism()


# ---- training


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.usefixtures("formula")
def test_training_is_algorithm_1(rank: str, epsilon: float) -> None:
    x = uneven(SHAPES[rank])
    layer = ready(x, momentum=0.0, epsilon=epsilon)
    assert_outputs(layer(x, training=True), x, epsilon)
    assert_statistics(layer, *moved([x], 0.0, unbiased=True))


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.usefixtures("formula")
def test_gradients_are_those_of_the_closed_form(rank: str, epsilon: float) -> None:
    x, upstream = uneven(SHAPES[rank]), np.random.default_rng(2).normal(size=SHAPES[rank]).astype("float32")
    _, gradients = outputs_and_gradients(ready(x, epsilon=epsilon), x, upstream)
    assert_gradients(gradients, x, training_gradients(x, upstream, epsilon))


@pytest.mark.usefixtures("formula")
def test_gradients_are_those_of_finite_differences() -> None:
    x = np.random.default_rng(3).normal([0.2, -1, 2, 0, 1], [1, 2, 0.5, 1, 3], (2, 2, 3, 5)).astype("float32")
    upstream = np.random.default_rng(4).normal(size=x.shape).astype("float32")

    def slopes(objective: Callable[[Array], Any], at: Array) -> Array:
        at, step = at.astype("float64"), 1e-5
        found = np.empty(at.shape)
        for index in np.ndindex(at.shape):
            there = np.zeros(at.shape)
            there[index] = step
            found[index] = (objective(at + there) - objective(at - there)) / (2 * step)
        return found

    expected = (
        slopes(lambda x: (upstream * trained(x, 1e-3)).sum(), x),
        slopes(lambda gamma: (upstream * trained(x, 1e-3, P._replace(gamma=gamma))).sum(), P.gamma),
        slopes(lambda beta: (upstream * trained(x, 1e-3, P._replace(beta=beta))).sum(), P.beta),
    )
    _, gradients = outputs_and_gradients(ready(x), x, upstream)
    assert_gradients(gradients, x, expected)


@pytest.mark.usefixtures("formula")
def test_far_from_zero_the_layer_is_no_worse_than_four_times_the_two_pass_formula() -> None:
    x = np.random.default_rng(5).normal(4000, 1, (8, 12, 12, 5)).astype("float32")
    right = trained(x, 1e-3)
    assert far_from_zero(ready(x)(x, training=True), right) <= 4 * far_from_zero(two_pass(x), right)


def far_from_zero(outputs: Any, right: Array) -> float:
    return float(np.abs(keras.ops.convert_to_numpy(outputs) - right).max())


def two_pass(x: Array) -> Array:
    mean = x.mean(others(x))
    return (x - mean) / np.sqrt(np.square(x - mean).mean(others(x)) + np.float32(1e-3)) * P.gamma + P.beta


def one_pass(x: Array) -> Array:
    mean = x.mean(others(x))
    variance = np.maximum(np.square(x).mean(others(x)) - np.square(mean), 0)
    return (x - mean) / np.sqrt(variance + np.float32(1e-3)) * P.gamma + P.beta


def test_the_measure_far_from_zero_rejects_the_one_pass_variance() -> None:
    x = np.random.default_rng(5).normal(4000, 1, (8, 12, 12, 5)).astype("float32")
    right = trained(x, 1e-3)
    assert far_from_zero(one_pass(x), right) > 4 * far_from_zero(two_pass(x), right)


class NoVariance(BatchNormalization):
    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return (inputs - keras.ops.mean(inputs, axis=range(len(inputs.shape) - 1))) * self.gamma + self.beta


def test_the_oracle_rejects_a_layer_that_forgets_the_variance() -> None:
    x = uneven(IMAGE)
    with pytest.raises(AssertionError, match="times the tolerance"):
        assert_outputs(ready(x, NoVariance)(x, training=True), x, 1e-3)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.usefixtures("formula")
def test_half_precision_is_one_rounding_from_the_answer(dtype: Any) -> None:
    # The squares of the third channel, its variance and the sum of the last are beyond float16's 65504.
    x = (np.array([0, 3, 100, 0.5, 700]) + np.array([1, 0.5, 300, 0.05, 20]) * uneven_noise(IMAGE)).astype(dtype)
    name = keras.backend.standardize_dtype(x.dtype)
    layer = ready(x, momentum=0.0, dtype=f"mixed_{name}")
    y, (to_x, to_gamma, to_beta) = outputs_and_gradients(layer, x, upstream := uneven_noise(IMAGE, 6).astype(dtype))
    assert keras.backend.standardize_dtype(y.dtype) == name
    right = trained(x, 1e-3)
    assert_within(half_a_unit(right, dtype) + tolerance(x), y, right)
    assert_statistics(layer, *moved([x], 0.0, unbiased=True))
    right, *others_right = training_gradients(x.astype("float64"), upstream.astype("float64"), 1e-3)
    assert keras.backend.standardize_dtype(to_x.dtype) == name
    assert_within(half_a_unit(right, dtype) + tolerance(x) * np.maximum(1, np.abs(right).max()), to_x, right)
    assert_gradients((to_gamma, to_beta), x, tuple(others_right))


def uneven_noise(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def half_a_unit(values: Array, dtype: Any) -> Array:
    """The most that rounding to nearest can change: half a unit in the last place, of the larger binade at its edge."""
    figures = ml_dtypes.finfo(dtype)
    size = np.maximum(np.abs(values) * (1 + float(figures.eps)), float(figures.smallest_normal))
    return np.exp2(np.floor(np.log2(size))) * float(figures.eps) / 2


@pytest.mark.parametrize("rank", SHAPES)
def test_float64_stays_float64(rank: str) -> None:
    x = uneven(SHAPES[rank], dtype="float64")
    layer = ready(x, momentum=0.5, dtype="float64")
    y = layer(x, training=True)
    assert y.dtype == tf.float64
    assert {weight.dtype for weight in layer.weights} == {"float64"}
    np.testing.assert_allclose(y, trained(x, 1e-3), rtol=1e-10, atol=1e-10)
    mean, variance = moved([x], 0.5, unbiased=True)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-12)


@pytest.mark.parametrize("axis", [1, -3])
def test_another_axis_gives_the_same_numbers(axis: int) -> None:
    x, upstream = uneven(IMAGE), uneven_noise(IMAGE, 6).astype("float32")
    first = np.moveaxis(x, -1, 1)
    layer = ready(first, axis=axis, momentum=0.0)
    y, (to_x, *to_parameters) = outputs_and_gradients(layer, first, np.moveaxis(upstream, -1, 1))
    assert_outputs(np.moveaxis(y.numpy(), 1, -1), x, 1e-3)
    assert_statistics(layer, *moved([x], 0.0, unbiased=True))
    gradients = np.moveaxis(to_x.numpy(), 1, -1), *to_parameters
    assert_gradients(gradients, x, training_gradients(x, upstream, 1e-3))
    assert_within(tolerance(x), np.moveaxis(layer(first).numpy(), 1, -1), normalized(x, *moments_of(layer), 1e-3))


def moments_of(layer: Any) -> tuple[Array, Array]:
    return layer.moving_mean.numpy(), layer.moving_variance.numpy()


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.usefixtures("formula")
def test_without_center_or_scale_beta_is_zero_and_gamma_one(center: bool, scale: bool) -> None:
    x = uneven(IMAGE)
    layer = BatchNormalization(center=center, scale=scale)
    layer.build(x.shape)
    gamma, beta, mean, variance = P
    layer.set_weights([gamma] * scale + [beta] * center + [mean, variance])
    p = Parameters(gamma if scale else np.ones(5), beta if center else np.zeros(5), mean, variance)
    assert_within(tolerance(x), layer(x, training=False), normalized(x, p.mean, p.variance, 1e-3, p))
    assert_within(tolerance(x), layer(x, training=True), trained(x, 1e-3, p))


# ---- the moving averages


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99, 1.0])
@pytest.mark.usefixtures("formula")
def test_moving_averages_after_one_and_after_several_steps(momentum: float, unbiased: bool) -> None:
    batches = [uneven((size, 3, 2, 5), seed) for seed, size in enumerate([4, 2, 1, 6])]
    layer = ready(batches[0], momentum=momentum, unbiased=unbiased)
    for step, x in enumerate(batches, start=1):
        layer(x, training=True)
        assert_statistics(layer, *moved(batches[:step], momentum, unbiased))


def test_the_defaults_are_those_of_keras_and_the_unbiased_variance() -> None:
    x = uneven((2, 5))
    ours, keras_own = ready(x), ready(x, keras.layers.BatchNormalization)
    assert (ours.momentum, ours.epsilon, ours.axis) == (keras_own.momentum, keras_own.epsilon, keras_own.axis)
    ours(x, training=True)
    assert_statistics(ours, *moved([x], 0.99, unbiased=True))


@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.usefixtures("formula")
def test_biased_the_layer_equals_that_of_keras(rank: str) -> None:
    batches = [uneven(SHAPES[rank], seed) for seed in range(3)]
    upstream = uneven_noise(SHAPES[rank], 6).astype("float32")
    options = {"momentum": 0.9, "epsilon": 1e-5}
    ours = ready(batches[0], unbiased=False, **options)
    keras_own = ready(batches[0], keras.layers.BatchNormalization, **options)
    for training in (True, True, False):
        for x in batches:
            our_outputs, our_gradients = outputs_and_gradients(ours, x, upstream, training)
            outputs, gradients = outputs_and_gradients(keras_own, x, upstream, training)
            assert_within(2 * tolerance(x), our_outputs, outputs.numpy().astype("float64"))
            right = tuple(gradient.numpy().astype("float64") for gradient in gradients)
            # Two float32 answers, each with its own error.
            assert_gradients(tuple(g / 2 for g in our_gradients), x, tuple(g / 2 for g in right))
    assert_statistics(ours, *(value.astype("float64") for value in moments_of(keras_own)))


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("shape", [(1, 5), (1, 1, 1, 5)])
@pytest.mark.usefixtures("formula")
def test_a_single_value_per_channel_has_no_variance(shape: tuple[int, ...], unbiased: bool) -> None:
    x = uneven(shape)
    layer = ready(x, momentum=0.75, unbiased=unbiased)
    y, gradients = outputs_and_gradients(layer, x, np.ones(shape, "float32"))
    np.testing.assert_array_equal(y, np.broadcast_to(P.beta, shape))
    assert_statistics(layer, 0.75 * P.mean + 0.25 * x.reshape(5), 0.75 * P.variance.astype("float64"))
    for gradient, right in zip(gradients, (np.zeros(shape), np.zeros(5), np.ones(5)), strict=True):
        np.testing.assert_array_equal(gradient, right)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shape", [(0, 5), (0, 3, 3, 5), (2, 0, 3, 5)])
@pytest.mark.usefixtures("formula")
def test_a_batch_without_values_leaves_the_moving_averages_alone(
    shape: tuple[int, ...], known: bool, unbiased: bool
) -> None:
    x = np.zeros(shape, "float32")
    layer = ready(x, unbiased=unbiased)
    spec = tf.TensorSpec(shape if known else (*[None] * (len(shape) - 1), 5))
    y = tf.function(lambda x: layer(x, training=True), input_signature=[spec], autograph=False)(x)
    assert y.shape == shape
    np.testing.assert_array_equal(layer.moving_mean, P.mean)
    np.testing.assert_array_equal(layer.moving_variance, P.variance)


@pytest.mark.usefixtures("formula")
def test_a_constant_channel_becomes_beta() -> None:
    for constant in (0, -7):
        x = np.full(IMAGE, constant, "float32")
        layer = ready(x, momentum=0.0)
        np.testing.assert_array_equal(layer(x, training=True), np.broadcast_to(P.beta, IMAGE))
        np.testing.assert_array_equal(layer.moving_mean, np.full(5, constant))
        np.testing.assert_array_equal(layer.moving_variance, np.zeros(5))


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.usefixtures("formula")
def test_a_batch_of_unknown_size_gives_the_same_numbers(unbiased: bool) -> None:
    batches = [uneven((size, 3, 2, 5), seed) for seed, size in enumerate([4, 1, 6])]
    layer = ready(batches[0], momentum=0.9, unbiased=unbiased)
    signature = [tf.TensorSpec((None, None, None, 5))]
    step = tf.function(lambda x: layer(x, training=True), input_signature=signature, autograph=False)
    for count, x in enumerate(batches, start=1):
        assert_outputs(step(x), x, 1e-3)
        assert_statistics(layer, *moved(batches[:count], 0.9, unbiased))


def test_compiled_by_xla_the_layer_gives_the_same_numbers_far_from_zero_too() -> None:
    for x in (uneven(IMAGE), np.random.default_rng(5).normal(4000, 1, IMAGE).astype("float32")):
        layer = ready(x, momentum=0.9)
        y = tf.function(lambda x, layer=layer: layer(x, training=True), jit_compile=True, autograph=False)(x)
        assert_outputs(y, x, 1e-3)
        assert_statistics(layer, *moved([x], 0.9, unbiased=True))


# ---- masks

MASK = np.random.default_rng(8).random(IMAGE[:-1]) < 0.4


def test_what_a_mask_leaves_out_does_not_count() -> None:
    x = uneven(IMAGE)
    wild = np.where(MASK[..., np.newaxis], x, np.float32(1e4))
    layer = ready(x, momentum=0.9)
    y = layer(wild, training=True, mask=tf.constant(MASK))
    counted = x[MASK]
    assert_within(tolerance(counted), y.numpy()[MASK], trained(counted, 1e-3))
    assert_statistics(layer, *moved([counted], 0.9, unbiased=True))


def test_gradients_under_a_mask_are_those_of_the_closed_form_on_what_counts() -> None:
    x, upstream = uneven(IMAGE), uneven_noise(IMAGE, 6).astype("float32") * MASK[..., np.newaxis]
    layer, values = ready(x), tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(values)
        y = layer(values, training=True, mask=tf.constant(MASK))
    to_x, *others = tape.gradient(y, [values, layer.gamma, layer.beta], tf.constant(upstream))
    counted = x[MASK]
    assert_gradients((to_x.numpy()[MASK], *others), counted, training_gradients(counted, upstream[MASK], 1e-3))
    np.testing.assert_array_equal(to_x.numpy()[~MASK], 0)


def test_under_a_mask_the_biased_layer_equals_that_of_keras() -> None:
    x, mask = uneven((4, 9, 5)), tf.constant(np.random.default_rng(9).random((4, 9)) < 0.5)
    ours, keras_own = ready(x, unbiased=False), ready(x, keras.layers.BatchNormalization)
    assert_within(
        2 * tolerance(x),
        ours(x, training=True, mask=mask),
        keras_own(x, training=True, mask=mask).numpy().astype(float),
    )
    assert_statistics(ours, *(value.astype("float64") for value in moments_of(keras_own)))


def test_a_mask_reaches_the_layer_and_those_after_it() -> None:
    x = uneven((4, 9, 5))
    x[:, 6:] = 0
    layer = ready(x, momentum=0.0)
    y = layer(keras.layers.Masking(0.0)(x), training=True)
    assert_statistics(layer, *moved([x[:, :6]], 0.0, unbiased=True))
    np.testing.assert_array_equal(y._keras_mask, np.arange(9) < np.full((4, 1), 6))


def test_a_mask_that_lets_nothing_count_leaves_the_moving_averages_alone() -> None:
    x = uneven(IMAGE)
    layer = ready(x)
    layer(x, training=True, mask=tf.zeros(IMAGE[:-1], bool))
    np.testing.assert_array_equal(layer.moving_mean, P.mean)
    np.testing.assert_array_equal(layer.moving_variance, P.variance)


def test_inference_does_not_ask_the_mask() -> None:
    x = uneven(IMAGE)
    layer = ready(x)
    np.testing.assert_array_equal(layer(x, mask=tf.constant(MASK)), layer(x))


# ---- replicas

REPLICAS = """
import sys
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import models

folder = sys.argv[1]
given = np.load(folder + "/given.npz")
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
found = {}
for first in (4, 6, 7):
    for kind, options in {
        "synchronized": {"synchronized": True}, "apart": {},
        "float16": {"synchronized": True, "dtype": "mixed_float16"},
    }.items():
        with strategy.scope():
            layer = models.BatchNormalization(momentum=0.5, **options)
            layer.build(given["x"].shape)
            layer.set_weights([given[name] for name in ("gamma", "beta", "mean", "variance")])

        def share(values):
            parts = np.split(values.astype("float16" if kind == "float16" else "float32"), [first])
            return strategy.experimental_distribute_values_from_function(
                lambda context: tf.constant(parts[context.replica_id_in_sync_group]))

        @tf.function
        def step(x, upstream):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
            return y, *tape.gradient(y, [x, layer.gamma, layer.beta], upstream)

        if kind == "apart" and first == 7:
            continue  # the kernel refuses a replica without images
        y, to_x, to_gamma, to_beta = map(
            strategy.experimental_local_results, strategy.run(step, (share(given["x"]), share(given["upstream"]))))
        results = np.concatenate(y), np.concatenate(to_x), sum(to_gamma), sum(to_beta), *layer.get_weights()[2:]
        found.update({f"{kind}_{first}_{i}": result for i, result in enumerate(results)})
np.savez(folder + "/found.npz", **found)
"""


@pytest.mark.slow
def test_two_synchronized_replicas_are_one_with_the_joint_batch(
    tmp_path: Path, fresh_process: Callable[..., str]
) -> None:
    x, upstream = uneven((7, 3, 4, 5)).astype("float16"), uneven_noise((7, 3, 4, 5), 6).astype("float16")
    np.savez(tmp_path / "given.npz", x=x, upstream=upstream, **P._asdict())
    fresh_process(REPLICAS, tmp_path)
    found = np.load(tmp_path / "found.npz")
    x, upstream = x.astype("float32"), upstream.astype("float32")
    mean, variance = moved([x], 0.5, unbiased=True)

    def check(kind: str, first: int) -> None:
        y, to_x, to_gamma, to_beta, moving_mean, moving_variance = (found[f"{kind}_{first}_{i}"] for i in range(6))
        assert_outputs(y, x, 1e-3)
        assert_gradients((to_x, to_gamma, to_beta), x, training_gradients(x, upstream, 1e-3))
        assert_within(1e-5 * (np.abs(mean) + np.sqrt(variance)), moving_mean, mean)
        assert_within(1e-5 * variance, moving_variance, variance)

    for first in (4, 6, 7):  # 4 and 3 images; 6 and 1; all and none
        check("synchronized", first)
    assert found["float16_4_0"].dtype == np.float16
    right = trained(x, 1e-3)
    assert_within(half_a_unit(right, np.float16) + tolerance(x), found["float16_4_0"], right)
    for first in (4, 6):
        with pytest.raises(AssertionError, match="times the tolerance"):
            check("apart", first)


def test_with_one_replica_synchronized_changes_nothing() -> None:
    x, upstream = uneven(IMAGE), uneven_noise(IMAGE, 6).astype("float32")
    alone, synchronized = ready(x), ready(x, synchronized=True)
    y, gradients = outputs_and_gradients(alone, x, upstream)
    same, same_gradients = outputs_and_gradients(synchronized, x, upstream)
    for right, found in zip((y, *gradients), (same, *same_gradients), strict=True):
        np.testing.assert_array_equal(found, right)
    spec = tf.TensorSpec(IMAGE)
    assert "FusedBatchNormV3" in kinds(step_of(synchronized, True), spec)


# ---- inference and freezing


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.usefixtures("formula")
def test_inference_is_algorithm_2(rank: str, epsilon: float) -> None:
    x, upstream = uneven(SHAPES[rank]), uneven_noise(SHAPES[rank], 6).astype("float32")
    layer = ready(x, epsilon=epsilon)
    y, gradients = outputs_and_gradients(layer, x, upstream, training=False)
    assert_within(tolerance(x), y, normalized(x, P.mean, P.variance, epsilon))
    factor = 1 / np.sqrt(P.variance.astype("float64") + epsilon)
    to_gamma = (upstream * (x - P.mean.astype("float64")) * factor).sum(others(x))
    right = upstream * (P.gamma * factor), to_gamma, upstream.astype("float64").sum(others(x))
    assert_gradients(gradients, x, right)
    np.testing.assert_array_equal(layer(x), y)
    np.testing.assert_array_equal(layer.moving_mean, P.mean)
    np.testing.assert_array_equal(layer.moving_variance, P.variance)


@pytest.mark.usefixtures("formula")
def test_a_frozen_layer_is_inference_and_thawed_trains_again() -> None:
    x = uneven(IMAGE)
    layer = ready(x, momentum=0.9)
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    assert_within(tolerance(x), layer(x, training=True), normalized(x, P.mean, P.variance, 1e-3))
    np.testing.assert_array_equal(layer.moving_mean, P.mean)
    np.testing.assert_array_equal(layer.moving_variance, P.variance)
    assert layer.trainable_weights == []
    layer.trainable = True
    assert_outputs(layer(x, training=True), x, 1e-3)
    assert_statistics(layer, *moved([x], 0.9, unbiased=True))
    assert [weight.name for weight in layer.trainable_weights] == ["gamma", "beta"]


# ---- the kernel


def step_of(layer: Any, training: bool) -> Callable[[Any], Any]:
    def step(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
        return tape.gradient(y, [x, layer.gamma, layer.beta])

    return step


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rank", SHAPES)
def test_forward_and_backward_are_the_fused_kernel(rank: str, training: bool) -> None:
    spec = tf.TensorSpec(SHAPES[rank])
    fused = {"FusedBatchNormV3", "FusedBatchNormGradV3"}
    assert fused <= kinds(step_of(ready(spec), training), spec)
    assert not fused & kinds(step_of(ready(spec, keras.layers.BatchNormalization), training), spec)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_activations_are_never_cast(dtype: str, training: bool) -> None:
    spec = tf.TensorSpec(IMAGE, dtype)
    found = kinds(step_of(ready(spec, dtype=f"mixed_{dtype}"), training), spec)
    assert {"FusedBatchNormV3", "FusedBatchNormGradV3"} <= found
    assert "Cast" not in found
    assert "Cast" in kinds(
        step_of(ready(spec, keras.layers.BatchNormalization, dtype=f"mixed_{dtype}"), training), spec
    )


def test_the_kernel_moves_the_averages_itself() -> None:
    """More operations than these were a quarter of a large network's first step, in which a graph is made of them."""
    known, unknown = tf.TensorSpec(IMAGE), tf.TensorSpec((None, *IMAGE[1:]))
    layer = ready(known)
    of_the_kernel = {"Placeholder", "ReadVariableOp", "FusedBatchNormV3", "AssignVariableOp", "NoOp", "Identity"}
    assert kinds(lambda x: layer(x, training=True), known) == of_the_kernel
    guarded = {"Const", "Size", "Greater", "SelectV2"}
    assert kinds(lambda x: layer(x, training=True), unknown) == of_the_kernel | guarded


def test_another_axis_and_float64_run_the_plain_formula() -> None:
    first, double = tf.TensorSpec((4, 5, 7, 6)), tf.TensorSpec(IMAGE, "float64")
    assert "FusedBatchNormV3" not in kinds(step_of(ready(first, axis=1), True), first)
    assert "FusedBatchNormV3" not in kinds(step_of(ready(double, dtype="float64"), True), double)
    last = tf.TensorSpec(IMAGE)
    assert "FusedBatchNormV3" in kinds(step_of(ready(last, axis=3), True), last)


@pytest.mark.usefixtures("deterministic")
def test_deterministic_a_frozen_layer_runs_the_plain_formula() -> None:
    spec = tf.TensorSpec(IMAGE)
    assert "FusedBatchNormV3" in kinds(step_of(ready(spec), True), spec)
    assert "FusedBatchNormV3" not in kinds(step_of(ready(spec), False), spec)
    x = uneven(IMAGE)
    assert_within(tolerance(x), ready(x)(x), normalized(x, P.mean, P.variance, 1e-3))


# ---- precision of the weights


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.usefixtures("formula")
def test_parameters_and_statistics_stay_float32(
    policy: str, everywhere: bool, set_policy: Callable[[str], None]
) -> None:
    if everywhere:
        set_policy(policy)
    layer = BatchNormalization(momentum=0.999) if everywhere else BatchNormalization(momentum=0.999, dtype=policy)
    x = tf.ones(IMAGE)
    y = layer(x, training=True)
    assert y.dtype == policy.removeprefix("mixed_")
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    # 1 - 0.999 of a difference of 1 is below half precision's rounding: there the average would stand still.
    np.testing.assert_allclose(layer.moving_mean, np.full(5, 0.001), rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, np.full(5, 0.999), rtol=1e-6)


# ---- configuration, saving, other backends

CHANGED = {
    "axis": 1,
    "momentum": 0.5,
    "epsilon": 1e-2,
    "center": False,
    "scale": False,
    "unbiased": False,
    "synchronized": True,
    "beta_initializer": keras.initializers.Constant(2.0),
    "gamma_initializer": keras.initializers.Constant(3.0),
    "moving_mean_initializer": keras.initializers.Constant(4.0),
    "moving_variance_initializer": keras.initializers.Constant(5.0),
    "beta_regularizer": keras.regularizers.L2(0.125),
    "gamma_regularizer": keras.regularizers.L1(0.5),
    "beta_constraint": keras.constraints.MaxNorm(6),
    "gamma_constraint": keras.constraints.NonNeg(),
}


def test_the_configuration_carries_every_argument() -> None:
    defaults = inspect.signature(BatchNormalization).parameters
    assert set(CHANGED) == set(defaults) - {"kwargs"}
    layer = BatchNormalization(**CHANGED, name="here", dtype="mixed_bfloat16", trainable=False)
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(twin) is BatchNormalization
    assert (twin.name, twin.dtype_policy.name, twin.trainable) == ("here", "mixed_bfloat16", False)
    unchanged = BatchNormalization()
    for name, value in CHANGED.items():
        written = value if isinstance(value, bool | int | float) else value.get_config()
        read = getattr(twin, name)
        assert (read if isinstance(read, bool | int | float) else read.get_config()) == written
        assert type(read) is type(value)
        before = getattr(unchanged, name)
        assert before != value or type(before) is not type(value), f"{name} is not changed from its default"


def test_initializers_and_regularizers_reach_their_weights() -> None:
    layer = BatchNormalization(**{**CHANGED, "axis": -1, "center": True, "scale": True})
    layer.build((None, 5))
    assert [weight.name for weight in layer.weights] == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [float(weight.numpy().max()) for weight in layer.weights] == [3, 2, 4, 5]
    assert [weight.shape for weight in layer.weights] == [(5,)] * 4
    assert sorted(float(loss) for loss in layer.losses) == [0.125 * 5 * 2**2, 0.5 * 5 * 3]


def test_the_registered_name_is_what_saved_files_say() -> None:
    assert keras.saving.get_registered_name(BatchNormalization) == "inceptions>BatchNormalization"


def small_model() -> keras.Model:
    image = keras.Input((None, None, 5))
    layers = [BatchNormalization(epsilon=1e-5, unbiased=False), BatchNormalization(scale=False)]
    model = keras.Sequential([image, *layers])
    layers[0].set_weights(P)
    layers[1].set_weights(P[1:])
    return model


@pytest.mark.slow
def test_a_saved_layer_loads_in_a_fresh_process_that_imports_models(
    tmp_path: Path, fresh_process: Callable[..., str]
) -> None:
    model, x = small_model(), uneven(IMAGE)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    script = """
import sys, keras, models, numpy as np
model = keras.models.load_model(sys.argv[1] + "/model.keras")
np.save(sys.argv[1] + "/y.npy", model(np.load(sys.argv[1] + "/x.npy")))
print(*(f"{layer.epsilon} {layer.unbiased} {layer.scale}" for layer in model.layers), sep="\\n")
"""
    assert fresh_process(script, tmp_path).splitlines() == ["1e-05 False True", "0.001 True False"]
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model(x))


NEEDS_JAX = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
# Keras 3.15's NumPy backend imports jax for Fourier transforms and convolutions, which nothing here calls: where jax is
# missing, an empty stand-in lets the import pass.
WITHOUT_TENSORFLOW = """
import importlib.util, sys
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

class StandIn:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] == "jax" else None
    def create_module(self, spec):
        return MagicMock(name=spec.name)
    def exec_module(self, module):
        pass

if importlib.util.find_spec("jax") is None:
    sys.meta_path.insert(0, StandIn())
import numpy as np, keras, models

folder = sys.argv[1]
given = np.load(folder + "/given.npz")
layer = models.BatchNormalization(momentum=0.9)
layer.build(given["x"].shape)
layer.set_weights([given["gamma"], given["beta"], given["mean"], given["variance"]])
inference = layer(given["x"])
training = layer(given["x"], training=True)
np.savez(folder + "/found.npz", inference=inference, training=training, mean=layer.moving_mean.numpy(),
         variance=layer.moving_variance.numpy())
print(keras.backend.backend(), "tensorflow" in sys.modules)
"""


@pytest.mark.parametrize("backend", ["numpy", pytest.param("jax", marks=NEEDS_JAX)])
def test_without_tensorflow_the_layer_gives_the_same_numbers(
    backend: str, tmp_path: Path, fresh_process: Callable[..., str]
) -> None:
    x = uneven(IMAGE)
    np.savez(tmp_path / "given.npz", x=x, **P._asdict())
    assert fresh_process(WITHOUT_TENSORFLOW, tmp_path, KERAS_BACKEND=backend).split() == [backend, "False"]
    found = np.load(tmp_path / "found.npz")
    assert_within(tolerance(x), found["inference"], normalized(x, P.mean, P.variance, 1e-3))
    assert_outputs(found["training"], x, 1e-3)
    mean, variance = moved([x], 0.9, unbiased=True)
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(found["variance"], variance, rtol=1e-5)


def test_the_output_has_the_shape_of_the_input() -> None:
    for shape in [(None, 5), (None, None, 5), (None, 7, None, 5), (2, None, None, None, 5)]:
        spec = keras.KerasTensor(shape)
        assert BatchNormalization()(spec).shape == shape
        assert BatchNormalization().compute_output_shape(shape) == shape


# ---- mistakes


@pytest.mark.parametrize(
    ("options", "shape", "words"),
    [
        ({"momentum": 1.5}, None, r"momentum=1.5 is outside \[0, 1\].*PyTorch's 0.1 is 0.9 here"),
        ({"momentum": -0.1}, None, r"momentum=-0.1 is outside"),
        ({"momentum": float("nan")}, None, r"momentum=nan is outside"),
        ({"momentum": "auto"}, None, r"momentum=auto is outside"),
        ({"axis": [1, 2]}, None, r"axis=\[1, 2\] must be an integer"),
        ({"epsilon": 0.0}, None, r"epsilon=0.0 must be above 0"),
        ({"epsilon": -1e-3}, None, r"epsilon=-0.001 must be above 0"),
        ({"epsilon": float("nan")}, None, r"epsilon=nan must be above 0"),
        ({"axis": 4, "name": "here"}, (2, 3, 3, 5), r"here: axis 4 does not exist in an input of shape \(2, 3, 3, 5\)"),
        ({"axis": -5, "name": "here"}, (2, 3, 3, 5), r"here: axis -5 does not exist"),
        ({"name": "here"}, (2, 3, 3, None), r"here: axis -1 of an input of shape .* must have a known size"),
    ],
)
def test_a_mistake_is_named(options: dict[str, Any], shape: tuple[int | None, ...] | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BatchNormalization(**options).build(shape or (2, 5))


@pytest.mark.parametrize("shape", [(4,), (4, 7), (4, 7, 6, 5)])
def test_a_mask_of_another_rank_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"here: a mask of shape .* does not fit an input of shape"):
        ready(uneven(IMAGE), name="here")(uneven(IMAGE), training=True, mask=tf.ones(shape, bool))


@pytest.mark.parametrize("shape", [(2, 3, 3, 4), (2, 5)])
def test_an_input_unlike_the_first_is_refused(shape: tuple[int, ...]) -> None:
    layer = ready(uneven(IMAGE))
    with pytest.raises(ValueError, match="incompatible with the layer"):
        layer(np.zeros(shape, "float32"))


@pytest.mark.parametrize("batch", [1, 3])
def test_one_image_is_normalised_apart_from_its_convolution(batch: int) -> None:
    """TensorFlow's joint kernel of both is many times slower than the two, for a batch of one alone."""
    image = keras.Input((8, 8, 4), batch_size=batch)
    model = keras.Model(image, BatchNormalization()(keras.layers.Conv2D(4, 3, use_bias=False)(image)))
    network = tf.function(lambda x: model(x, training=False), autograph=False)
    x = tf.random.stateless_normal((batch, 8, 8, 4), seed=(0, 1))
    context.enable_run_metadata()
    try:
        network(x)
        metadata = context.export_run_metadata()
    finally:
        context.disable_run_metadata()
    graphs = [*metadata.partition_graphs, *(found.post_optimization_graph for found in metadata.function_graphs)]
    joint = {node.op for graph in graphs for node in graph.node if "FusedConv2D" in node.op}
    assert graphs
    assert bool(joint) == (batch > 1)
