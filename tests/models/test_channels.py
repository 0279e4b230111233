"""Trained weights for images with another number of channels."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models import NETWORKS
from models.weights import WeightsError, take_channels
from tests.oracles.weight_files import randomize

CASES = [
    pytest.param("lenet_bn", {}, id="lenet_bn"),
    pytest.param("bn_inception", {"width": 0.1}, id="bn_inception", marks=pytest.mark.slow),
    pytest.param("densenet121", {"width": 0.25}, id="densenet121", marks=pytest.mark.slow),
]


def build(name: str, channels: int, **arguments: Any) -> Any:
    return NETWORKS[name](input_shape=(32, 32, channels), classes=5, classifier_activation=None, **arguments)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_grey_pictures_are_answered_as_three_equal_channels_were(name: str, arguments: dict[str, Any]) -> None:
    trained, model = build(name, 3, **arguments), build(name, 1, **arguments)
    randomize(trained, seed=1)
    take_channels(model, trained)
    grey = np.random.default_rng(2).uniform(-1, 1, (3, 32, 32, 1)).astype(np.float32)
    right = np.asarray(trained(np.repeat(grey, 3, axis=-1)))
    assert np.abs(right[0] - right[1]).max() > 1e-3
    np.testing.assert_allclose(model(grey), right, rtol=1e-4, atol=1e-4 * np.abs(right).max())


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_a_fourth_channel_says_nothing_until_it_is_trained(name: str, arguments: dict[str, Any]) -> None:
    trained, model = build(name, 3, **arguments), build(name, 4, **arguments)
    randomize(trained, seed=1)
    take_channels(model, trained)
    images = np.random.default_rng(2).uniform(-1, 1, (3, 32, 32, 4)).astype(np.float32)
    right = np.asarray(trained(images[..., :3]))
    np.testing.assert_allclose(model(images), right, rtol=1e-4, atol=1e-4 * np.abs(right).max())
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True) ** 2)
    gradient = np.asarray(tape.gradient(loss, model.trainable_weights[0].value))
    assert np.abs(gradient[:, :, 3]).max() > 0, "it can be trained"


def test_what_differs_in_more_than_channels_is_refused_and_nothing_is_set() -> None:
    trained = build("lenet_bn", 3)
    for other, words in (
        (
            NETWORKS["lenet_bn"](input_shape=(32, 32, 4), classes=6),
            r"predictions/kernel is \(84, 6\) and was \(84, 5\)",
        ),
        (build("lenet_bn", 2), "takes 2 channels, of 3: it can take 1, or more than 3"),
        (NETWORKS["lenet_bn"](input_shape=(32, 32, 4), include_top=False), "has 12 weights, lenet_bn 26"),
    ):
        before = other.get_weights()
        with pytest.raises(WeightsError, match=words):
            take_channels(other, trained)
        for old, new in zip(before, other.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
