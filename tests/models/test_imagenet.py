"""ImageNet's classes by name, and what users of `keras.applications` call before and after a network."""

import importlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.networks import synsets
from models import imagenet

Array = np.ndarray[Any, Any]
# Our module of every network, and that of Keras whose published weights take the same images.
MODULES = {
    "lenet": "inception_v3",
    "googlenet": "inception_v3",
    "bn_inception": "inception_v3",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v3",
    "inception_resnet": "inception_resnet_v2",
    "inception_resnet_v2": "inception_resnet_v2",
    "densenet": "densenet",
    "resnet": "densenet",  # as torchvision's: Keras' own networks of this name take BGR
}


def pixels(*shape: int) -> Array:
    return np.random.default_rng(3).integers(0, 256, shape)


def test_a_thousand_synsets_have_their_english_names() -> None:
    names = imagenet.names()
    assert len(names) == 1000
    assert list(names.items())[:3] == [
        ("n01440764", "tench"),
        ("n01443537", "goldfish"),
        ("n01484850", "great white shark"),
    ]
    assert (names["n02510455"], names["n15075141"]) == ("giant panda", "toilet tissue")
    assert {name for name in names.values() if list(names.values()).count(name) > 1} == {"crane", "maillot"}
    assert all(name == name.strip() and name for name in names.values())


def test_the_order_is_that_of_tensorflow_datasets() -> None:
    assert synsets.names() == imagenet.names()
    assert synsets.synsets() == (*imagenet.names(),) == (*synsets.listing("labels.txt"),)
    assert synsets.BACKGROUND == imagenet.BACKGROUND


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_pixels_are_prepared_as_keras_applications_prepares_them(module: str, dtype: str) -> None:
    ours = importlib.import_module(f"models.{module}").preprocess_input
    theirs = getattr(keras.applications, MODULES[module]).preprocess_input
    for shape in ((2, 5, 4, 3), (5, 4, 3)):
        x = pixels(*shape).astype(dtype)
        before = x.copy()
        right = theirs(x.copy())
        found = ours(x)
        assert found.dtype == right.dtype
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(x, before)  # Keras writes into arrays of floats
        tensor = ours(tf.constant(x))
        assert tensor.dtype == right.dtype
        np.testing.assert_allclose(tensor, right, rtol=0, atol=1e-6)


def test_pixels_are_prepared_inside_a_network() -> None:
    image = keras.Input((5, 4, 3), dtype="uint8")
    model = keras.Model(image, importlib.import_module("models.densenet").preprocess_input(image))
    x = pixels(2, 5, 4, 3).astype("uint8")
    right = keras.applications.densenet.preprocess_input(x.astype("float32"))
    np.testing.assert_allclose(model(x), right, rtol=0, atol=1e-6)


def test_images_of_other_channels_or_with_the_channels_first_are_refused() -> None:
    with pytest.raises(ValueError, match=r"red, green and blue.*\(2, 5, 4, 1\)"):
        imagenet.standardized(pixels(2, 5, 4, 1))
    for prepare in (imagenet.scaled, imagenet.standardized):
        with pytest.raises(ValueError, match='images as "channels_last" alone'):
            prepare(pixels(3, 5, 3), data_format="channels_first")


def test_predictions_are_decoded_as_keras_applications_decodes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # Keras fetches this table at the first call, here it is ours: what is compared is the order and the form.
    index = {str(i): [*row] for i, row in enumerate(imagenet.names().items())}
    decode = keras.applications.imagenet_utils.decode_predictions
    monkeypatch.setitem(decode.__globals__, "CLASS_INDEX", index)
    scores = np.random.default_rng(2).permutation(3000).reshape(3, 1000).astype("float32") / 3000
    for module in MODULES:
        ours = importlib.import_module(f"models.{module}").decode_predictions
        assert ours(scores) == decode(scores)
        assert ours(tf.constant(scores), top=3) == decode(scores, top=3)


def test_the_background_of_tf_slim_is_a_class_of_its_own() -> None:
    scores = np.zeros((1, 1001), "float32")
    scores[0, [0, 1, 1000]] = 0.2, 0.5, 0.3
    assert imagenet.decode_predictions(scores, top=3) == [
        [
            ("n01440764", "tench", np.float32(0.5)),
            ("n15075141", "toilet tissue", np.float32(0.3)),
            ("background", "background", np.float32(0.2)),
        ]
    ]


@pytest.mark.parametrize("shape", [(2, 10), (1000,)])
def test_predictions_of_other_classes_are_not_decoded(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="your own classes has your own labels"):
        imagenet.decode_predictions(np.zeros(shape))
