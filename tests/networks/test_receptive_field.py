"""What a unit sees: against published tables, by hand, and against where the gradient of a unit is not zero."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from app.networks import receptive_field
from app.networks.receptive_field import Axis, Field
from models import NETWORKS

Array = np.ndarray[Any, Any]


# The README of github.com/google-research/receptive_field, of TF-slim's networks: size, stride, padding. The padding is
# what the first unit sees of the image's outside; at 224 pixels where TensorFlow's "same" depends on the size.
PUBLISHED = {
    ("inception_v2", 224, "inception_5b"): (699, 32, 318),
    ("inception_v3", 299, "inception_c_2"): (1311, 32, 618),
    ("inception_v4", 299, "inception_c_3"): (2071, 32, 998),
    ("inception_resnet_v2", 299, "final"): (3039, 32, 1482),
}


@pytest.mark.parametrize(
    ("network", "side", "layer"),
    [row if row[0] == "inception_v2" else pytest.param(*row, marks=pytest.mark.slow) for row in PUBLISHED],
    ids=str,
)
def test_it_is_the_published_one(network: str, side: int, layer: str) -> None:
    with keras.StatelessScope(initialize_variables=False):
        model = NETWORKS[network](input_shape=(side, side, 3), width=0.05)
    for axis in receptive_field.fields(model)[layer]:
        assert (axis.size, axis.stride, -axis.first) == PUBLISHED[network, side, layer]


def small(side: int = 12) -> keras.Model:
    """A stem, then two columns of different reach; both paddings, an even and an odd side of the second step."""
    image = keras.Input((side, side + 1, 2), name="image")
    x = layers.Conv2D(3, (3, 5), 2, "same", name="stem")(image)
    x = layers.ZeroPadding2D(((2, 0), (1, 1)), name="pad")(x)
    left = layers.Conv2D(3, 1, name="left")(x)
    right = layers.Conv2D(3, 3, padding="same", name="right")(layers.ReLU(name="relu")(x))
    x = layers.Concatenate(name="module")([left, right])
    x = layers.AveragePooling2D(2, 2, "valid", name="pool")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x))


def test_it_is_what_was_counted_by_hand() -> None:
    found = receptive_field.fields(small())
    assert found == {
        "image": Field(Axis(0, 0, 1), Axis(0, 0, 1)),
        # 12 rows: 6 windows of 3, one row hangs over, after. 13 columns: 7 windows of 5, two before, two after.
        "stem": Field(Axis(0, 2, 2), Axis(-2, 2, 2)),
        "pad": Field(Axis(-4, -2, 2), Axis(-4, 0, 2)),
        "left": Field(Axis(-4, -2, 2), Axis(-4, 0, 2)),
        "relu": Field(Axis(-4, -2, 2), Axis(-4, 0, 2)),
        "right": Field(Axis(-6, 0, 2), Axis(-6, 2, 2)),
        "module": Field(Axis(-6, 0, 2), Axis(-6, 2, 2)),
        "pool": Field(Axis(-6, 2, 4), Axis(-6, 4, 4)),
    }
    axis = found["pool"].rows
    assert (axis.size, axis.offset) == (9, -2.0)
    assert [axis.window(unit, 12) for unit in (0, 1, 3)] == [slice(0, 3), slice(0, 7), slice(6, 12)]


def support(model: keras.Model, layer: str, units: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The first and last row and column where the gradient of these units, all channels together, is not zero.

    A max pool passes on the gradient of its largest input only. On images that rise, or fall, along both sides that is
    its last, or its first, and the outermost of all are reached once.
    """
    height, width, channels = model.input.shape[1:]
    ramp = np.add.outer(np.arange(height), np.arange(width)) + 1.0
    images = np.stack([ramp, ramp[::-1, ::-1]])[..., np.newaxis].repeat(channels, axis=-1).astype(np.float32)
    probe, x = keras.Model(model.input, model.get_layer(layer).output), tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        answer = tf.reduce_sum(probe(x, training=False)[:, units[0], units[1]])
    seen: Array = np.any(tape.gradient(answer, x).numpy() != 0, axis=(0, 3))
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    return (rows[0], rows[-1]), (columns[0], columns[-1])


def made_positive(model: keras.Model) -> keras.Model:
    """Every kernel gives a mean of its inputs: nothing cancels, and no ReLU is shut."""
    for layer in model.layers:
        for weight in layer.weights:
            if "kernel" in weight.name:
                weight.assign(np.full(weight.shape, 1 / np.prod(weight.shape[:-1]), np.float32))
    return model


def assert_supported(model: keras.Model, *names: str) -> None:
    """Equal where the field lies inside of the image; never more where it does not, since padding hides some of it."""
    fields = receptive_field.fields(model)
    sides = model.input.shape[1:3]
    for name in names:
        grid = model.get_layer(name).output.shape[1:3]
        inside = 0
        for units in ((1, 1), (grid[0] // 2, grid[1] // 2), (grid[0] - 1, grid[1] // 3)):
            found = support(model, name, units)
            for axis, unit, side, (first, last) in zip(fields[name], units, sides, found, strict=True):
                start, end = axis.first + unit * axis.stride, axis.last + unit * axis.stride
                assert start <= first <= last <= end
                if start >= 0 and end < side:
                    inside += 1
                    assert (first, last) == (start, end), (name, units)
        assert inside >= 2, "no unit of this layer sees only image"


def test_the_gradient_of_a_unit_ends_where_its_field_does() -> None:
    assert_supported(made_positive(small(36)), "stem", "right", "module", "pool")


@pytest.mark.parametrize(
    ("network", "side", "names"),
    [
        ("bn_inception", 110, ("stem_5", "inception_3a_b2", "inception_3b")),
        pytest.param("inception_v3", 179, ("stem_7", "inception_a_1", "reduction_a_b1"), marks=pytest.mark.slow),
        ("resnet18", 90, ("stem_2", "residual_2_1", "residual_3_1")),
        pytest.param("densenet121", 90, ("stem_2", "dense_block_1_2"), marks=pytest.mark.slow),
    ],
)
def test_the_gradient_of_a_unit_ends_where_its_field_does_in_the_family(
    network: str, side: int, names: tuple[str, ...]
) -> None:
    assert_supported(made_positive(NETWORKS[network](input_shape=(side, side + 3, 3), width=0.05, classes=3)), *names)


def test_values_are_spread_to_where_their_units_look() -> None:
    field = Field(Axis(2, 4, 4), Axis(-1, 1, 2))  # rows 3, 7, 11 and columns 0, 2, 4, 6
    values = np.arange(12.0).reshape(3, 4)
    heat = field.spread(values, 14, 9)
    assert heat.shape == (14, 9)
    np.testing.assert_allclose(heat[3::4, 0:8:2], values)
    np.testing.assert_allclose(heat[5, :7:2], (values[0] + values[1]) / 2)
    np.testing.assert_allclose(heat[3, 3], (values[0, 1] + values[0, 2]) / 2)
    np.testing.assert_array_equal(heat[:3], np.broadcast_to(heat[3], (3, 9)))
    np.testing.assert_array_equal(heat[:, 7:], np.broadcast_to(heat[:, 6:7], (14, 2)))
