"""What the layer takes from `keras.layers.BatchNormalization`, and where it does better."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from models import BatchNormalization, LocalResponseNormalization

Array = np.ndarray[Any, Any]
# As TensorFlow 2.15 with Keras 2 wrote them into files.
KERAS_2 = {
    "name": "bn",
    "trainable": True,
    "dtype": "float32",
    "axis": [3],
    "momentum": 0.75,
    "epsilon": 0.01,
    "center": True,
    "scale": False,
    "beta_initializer": {"class_name": "Zeros", "config": {}},
    "gamma_initializer": {"class_name": "Ones", "config": {}},
    "moving_mean_initializer": {"class_name": "Zeros", "config": {}},
    "moving_variance_initializer": {"class_name": "Ones", "config": {}},
    "beta_regularizer": None,
    "gamma_regularizer": None,
    "beta_constraint": None,
    "gamma_constraint": None,
    "renorm": False,
    "fused": None,
    "virtual_batch_size": None,
}


def integers(dtype: str) -> Array:
    return np.random.default_rng(3).integers(0, 120, (8, 3, 3, 4)).astype(dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64", "bool"])
@pytest.mark.parametrize("axis", [-1, 1])
def test_integers_are_normalized_as_keras_normalizes_them(axis: int, dtype: str, training: bool) -> None:
    x = integers(dtype)
    ours, theirs = BatchNormalization(axis=axis, unbiased=False), keras.layers.BatchNormalization(axis=axis)
    found, right = ours(x, training=training), theirs(x, training=training)
    assert found.dtype == right.dtype == tf.float32
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5)
    for of_ours, of_theirs in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(of_ours, of_theirs, rtol=1e-5, atol=1e-6)


def test_the_answer_to_integers_has_the_type_that_the_network_says() -> None:
    image = keras.Input((5,), dtype="uint8")
    model = keras.Model(image, BatchNormalization()(image))
    found = model.predict(np.arange(5, dtype="uint8")[None], verbose=0)
    assert model.output.dtype == found.dtype == "float32"
    np.testing.assert_allclose(found, np.arange(5)[None] / np.sqrt(1.001), rtol=1e-6)


def test_integers_beyond_half_precision_are_normalized_before_they_become_it() -> None:
    x = np.array([[70_000], [70_002]], "int32")
    found = BatchNormalization(dtype="mixed_float16", epsilon=1e-9)(x, training=True)
    assert found.dtype == tf.float16
    np.testing.assert_allclose(found, [[-1], [1]])


def test_local_response_normalization_does_not_cut_integers_off_either() -> None:
    x = integers("uint8")
    layer = LocalResponseNormalization(alpha=0.01)
    assert layer(x).dtype == tf.float32
    np.testing.assert_array_equal(layer(x), layer(x.astype("float32")))


@pytest.mark.parametrize("renorm_clipping", [None, {"rmax": 3.0}])
def test_a_configuration_of_keras_is_read(renorm_clipping: Any) -> None:
    theirs = keras.layers.BatchNormalization(momentum=0.75, scale=False, renorm_clipping=renorm_clipping)
    config = theirs.get_config() | {"renorm": False, "renorm_clipping": renorm_clipping, "renorm_momentum": 0.9}
    ours = BatchNormalization.from_config(config)
    assert (ours.momentum, ours.scale, ours.name) == (0.75, False, theirs.name)
    assert "renorm" not in ours.get_config()


def test_a_configuration_of_keras_2_is_read() -> None:
    layer = BatchNormalization.from_config(KERAS_2 | {"fused": True})
    assert (layer.axis, layer.momentum, layer.epsilon, layer.scale) == (3, 0.75, 0.01, False)
    assert layer(np.ones((2, 3, 3, 4), "float32")).shape == (2, 3, 3, 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"renorm": True}, "renorm=True is of keras.layers.BatchNormalization"),
        ({"virtual_batch_size": 4}, "virtual_batch_size=4 is of"),
        ({"adjustment": len}, "adjustment=<built-in function len> is of"),
    ],
)
def test_what_the_layer_does_not_have_is_refused_by_its_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BatchNormalization(**options)
    with pytest.raises(TypeError, match=words):  # Keras' own, which repeats ours
        BatchNormalization.from_config(KERAS_2 | options)


@pytest.mark.parametrize("axis", [np.int64(-1), np.int32(3), np.array(3)])
def test_an_axis_of_numpy_is_an_integer(axis: Any) -> None:
    layer = BatchNormalization(axis=axis)
    assert type(layer.axis) is int
    assert BatchNormalization.from_config(layer.get_config()).axis == int(axis)
    for wrong in (np.float64(1), "1", None, [1, 2], []):
        with pytest.raises(ValueError, match=r"axis=.* must be an integer"):
            BatchNormalization(axis=wrong)


# ---- second derivatives


def first(layer: Any, x: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """The gradient of sum(weights * y^2) to x, in training."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(weights * tf.square(layer(x, training=True)))
    return tape.gradient(loss, x)


def along(layer: Any, x: tf.Tensor, weights: tf.Tensor, direction: tf.Tensor) -> Array:
    """The second derivatives times a direction."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        change = tf.reduce_sum(first(layer, x, weights) * direction)
    found: Array = tape.gradient(change, x).numpy()
    return found


def of_finite_differences(layer: Any, x: tf.Tensor, weights: tf.Tensor, direction: tf.Tensor) -> Array:
    step = 1e-5
    ahead, behind = (first(layer, x + sign * step * direction, weights) for sign in (1, -1))
    found: Array = ((ahead - behind) / (2 * step)).numpy()
    return found


def drawn() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(7)
    return tuple(tf.constant(rng.normal(1, 2, (4, 3, 3, 2))) for _ in range(3))


def test_second_derivatives_are_those_of_finite_differences() -> None:
    """On the fused kernel, too, which is float32; Keras' own layer takes the mean for a constant the second time."""
    x, weights, direction = drawn()
    right = of_finite_differences(BatchNormalization(dtype="float64"), x, weights, direction)
    size = np.abs(right).max()
    assert np.abs(along(BatchNormalization(dtype="float64"), x, weights, direction) - right).max() < 1e-6 * size
    halves = [tf.cast(value, "float32") for value in (x, weights, direction)]
    assert np.abs(along(BatchNormalization(), *halves) - right).max() < 1e-5 * size
    theirs = keras.layers.BatchNormalization(dtype="float64")
    assert np.abs(of_finite_differences(theirs, x, weights, direction) - right).max() < 1e-6 * size
    # The README says so; where Keras has mended it, this line and that sentence go.
    assert np.abs(along(theirs, x, weights, direction) - right).max() > 0.02 * size
