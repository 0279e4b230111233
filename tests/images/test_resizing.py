"""The resize in two passes, against TensorFlow's own operation, to the last bit."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from app.images import resizing

SIZES = [
    pytest.param((43, 61), (16, 24), id="shrinking"),
    pytest.param((20, 31), (45, 17), id="one side grows"),
    pytest.param((5, 7), (11, 12), id="growing"),
    pytest.param((1, 9), (3, 4), id="one row"),
    pytest.param((64, 40), (1, 1), id="to one pixel"),
]


def whole(pixels: Any, size: tuple[int, int], filter_: str) -> Any:
    return tf.image.resize(pixels, size, filter_, antialias=True).numpy()


@pytest.mark.parametrize("filter_", resizing.KERNELS)
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_two_passes_give_bit_by_bit_what_tensorflow_gives(source: Any, target: Any, filter_: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*source, 3), dtype=np.uint8)
    found = resizing.antialiased(pixels, target[0], target[1], filter_)
    np.testing.assert_array_equal(found, whole(pixels, target, filter_))


@pytest.mark.parametrize("filter_", resizing.KERNELS)
@pytest.mark.parametrize("source", [(97, 61), (14, 200), (9, 7), (2, 3)], ids=str)
@pytest.mark.parametrize("target", [(40, 33), (11, 90), (30, 29)], ids=str)
def test_of_a_part_the_bits_are_those_of_the_whole(source: Any, target: tuple[int, int], filter_: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*source, 3), dtype=np.uint8)
    right = whole(pixels, target, filter_)
    for first in (target, (target[0] * 2 // 3, target[1] // 2), (1, 1)):
        found = resizing.antialiased(pixels, target[0], target[1], filter_, first)
        np.testing.assert_array_equal(found, right[: first[0], : first[1]])


@pytest.mark.parametrize("shape", [(2, 19, 23, 3), (1, 19, 23, 1), (19, 23, 4)], ids=str)
def test_pictures_in_batches_of_any_channels_and_number_type_are_taken(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
    found = resizing.antialiased(pixels, 8, 11, "bilinear")
    np.testing.assert_array_equal(found, whole(pixels, (8, 11), "bilinear"))


def test_sizes_that_are_known_stay_known_and_those_of_a_graph_are_taken() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    right = whole(pixels, (9, 12), "bilinear")

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)], autograph=False)
    def known(picture: tf.Tensor) -> tf.Tensor:
        return resizing.antialiased(picture, 9, 12, "bilinear")

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)], autograph=False)
    def counted(picture: tf.Tensor) -> tf.Tensor:
        rows, columns = tf.unstack(tf.shape(picture)[:2])
        return resizing.antialiased(picture, rows * 3 // 10, columns * 3 // 10, "bilinear")

    assert known.get_concrete_function().output_shapes.as_list() == [9, 12, 3]
    assert counted.get_concrete_function().output_shapes.as_list() == [None, None, 3]
    for way in (known, counted):
        np.testing.assert_array_equal(way(pixels), right)
