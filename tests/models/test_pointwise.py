"""1 x 1 convolutions compute in training, as products, what they compute as convolutions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from models import blocks
from models.pointwise import Conv2D as PointwiseConv2D

SHAPE = (3, 5, 4, 6)


def filled(layer: layers.Layer, shape: tuple[int | None, ...] = SHAPE) -> layers.Layer:
    layer.build(shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return layer


def normal(*shape: int, seed: int = 2, dtype: str = "float32") -> Any:
    return tf.cast(np.random.default_rng(seed).normal(size=shape), dtype)


def step(layer: layers.Layer, x: Any) -> list[Any]:
    """The outputs in training, and the gradients of a weighted sum of them, that of the input first."""
    variables = [weight.value for weight in layer.trainable_weights]
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, training=True)
        loss = tf.reduce_sum(outputs * normal(*outputs.shape, seed=3, dtype=outputs.dtype))
    return [outputs, *tape.gradient(loss, [x, *variables])]


def operations(layer: layers.Layer, x: Any, training: bool) -> set[str]:
    traced = tf.function(lambda x: layer(x, training=training), autograph=False)
    return {operation.type for operation in traced.get_concrete_function(x).graph.get_operations()}


def assert_close(found: list[Any], wanted: list[Any], largest: float) -> None:
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=largest * float(tf.reduce_max(tf.abs(theirs))))


@pytest.mark.parametrize("in_a_graph", [True, False])
@pytest.mark.parametrize("options", [{"use_bias": False}, {"activation": "relu", "padding": "same"}])
def test_training_has_the_outputs_and_gradients_of_the_convolution(options: dict[str, Any], in_a_graph: bool) -> None:
    ours, theirs = filled(PointwiseConv2D(7, 1, **options)), filled(layers.Conv2D(7, 1, **options))
    x = normal(*SHAPE)
    of = tf.function(step, autograph=False, jit_compile=False) if in_a_graph else step
    found = of(ours, x)
    assert_close(found, of(theirs, x), 1e-6)
    assert found[0].shape == (3, 5, 4, 7)
    assert "Conv2D" not in operations(ours, x, training=True)
    assert "Conv2D" in operations(theirs, x, training=True)


def test_sides_may_be_unknown() -> None:
    layer = filled(PointwiseConv2D(2, 1), (None, None, None, 6))
    signature = tf.TensorSpec((None, None, None, 6))
    traced = tf.function(lambda x: layer(x, training=True), input_signature=[signature], autograph=False)
    assert traced.get_concrete_function().structured_outputs.shape.as_list() == [None, None, None, 2]
    for shape in ((2, 3, 4, 6), (1, 1, 1, 6)):
        np.testing.assert_allclose(traced(normal(*shape)), layer(normal(*shape), training=False), rtol=1e-5, atol=1e-6)


def test_a_batch_without_images_has_no_outputs_and_gradients_of_nothing() -> None:
    found = step(filled(PointwiseConv2D(7, 1)), tf.zeros((0, 5, 4, 6)))
    assert [gradient.shape for gradient in found[:2]] == [(0, 5, 4, 7), (0, 5, 4, 6)]
    assert all(np.all(gradient == 0) for gradient in found[2:])


def test_inference_stays_a_convolution() -> None:
    """TensorFlow makes one operation of it, the normalisation and the activation; of a product it would not."""
    for training in (False, None):
        assert "Conv2D" in operations(filled(PointwiseConv2D(7, 1)), normal(*SHAPE), training=bool(training))


@pytest.mark.parametrize(
    "options",
    [{"kernel_size": 3}, {"strides": 2}, {"dtype": "mixed_bfloat16"}, {"kernel_size": (1, 2)}],
)
def test_what_is_no_product_stays_a_convolution(options: dict[str, Any]) -> None:
    arguments = {"filters": 7, "kernel_size": 1} | options
    ours, theirs = filled(PointwiseConv2D(**arguments)), filled(layers.Conv2D(**arguments))
    assert "Conv2D" in operations(ours, normal(*SHAPE), training=True)
    assert_close(step(ours, normal(*SHAPE)), step(theirs, normal(*SHAPE)), 0)


def test_it_is_read_from_its_configuration() -> None:
    layer = PointwiseConv2D(7, 1, use_bias=False, name="here")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is PointwiseConv2D
    assert again.get_config() == layer.get_config() == layers.Conv2D(7, 1, use_bias=False, name="here").get_config()


def inception(image: Any) -> keras.Model:
    columns = blocks.conv(4, 1), blocks.column(blocks.conv(3, 1), blocks.conv(5, 3)), blocks.conv(2, 3, 2)
    style = blocks.Style()
    x = blocks.filter_concat(*columns[:2])(image, "module", style)
    x = blocks.residual(*columns[:2], scale=0.5)(x, "sum", style)
    return keras.Model(image, columns[2](x, "last", style))


def test_networks_train_alike_with_and_without(
    monkeypatch: pytest.MonkeyPatch, set_policy: Callable[[str], None]
) -> None:
    set_policy("float64")  # normalisations would make much of what float32 rounds
    x = normal(4, 8, 8, 3, dtype="float64")
    found = []
    for kind in (PointwiseConv2D, layers.Conv2D):
        monkeypatch.setattr(blocks, "PointwiseConv2D", kind)
        model = inception(keras.Input((8, 8, 3), name="image"))
        assert sum(type(layer) is PointwiseConv2D for layer in model.layers) == (5 if kind is PointwiseConv2D else 0)
        found.append((step(filled(model, (None, 8, 8, 3)), x), model.get_weights(), [w.path for w in model.weights]))
    (ours, ours_after, names), (theirs, theirs_after, their_names) = found
    assert_close(ours, theirs, 1e-12)
    assert_close([tf.constant(w) for w in ours_after], [tf.constant(w) for w in theirs_after], 1e-12)
    assert names == their_names


@pytest.mark.parametrize("ending", [pytest.param(".weights.h5", marks=pytest.mark.slow), ".keras"])
def test_files_with_and_without_are_the_same(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was saved before these layers were there is read into them, and the reverse."""
    image = keras.Input((8, 8, 3), name="image")
    ours = filled(inception(image), (None, 8, 8, 3))
    monkeypatch.setattr(blocks, "PointwiseConv2D", layers.Conv2D)
    theirs = inception(image)
    for source, target in ((ours, theirs), (theirs, ours)):
        file = tmp_path / f"source{ending}"
        (source.save if ending == ".keras" else source.save_weights)(file)
        wanted = source.get_weights()
        target.set_weights([np.zeros_like(weight) for weight in wanted])
        target.load_weights(file)
        assert all(map(np.array_equal, target.get_weights(), wanted))
        if ending == ".keras":
            again = keras.models.load_model(file)
            assert [type(layer) for layer in again.layers] == [type(layer) for layer in source.layers]
            assert all(map(np.array_equal, again.get_weights(), wanted))
