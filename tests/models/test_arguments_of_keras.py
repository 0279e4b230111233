"""The builders take the arguments of `keras.applications`, and answer a wrong one in their own words."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from models import NETWORKS, BatchNormalization, DenseNet121, InceptionV3, LeNetBN, ResNet18
from models.weights import WeightsError
from tests.models.test_networks import HEADS, OF_EACH_KIND
from tests.models.test_weights import keras_2_names, keras_file
from tests.oracles import weight_files
from tests.oracles.weight_files import image, randomize, relative_error

KERAS = inspect.signature(keras.applications.InceptionV3).parameters
SIDE = 75


@pytest.mark.parametrize("name", NETWORKS)
def test_the_first_seven_arguments_are_those_of_keras_applications(name: str) -> None:
    ours = inspect.signature(NETWORKS[name]).parameters
    seven = ["include_top", "weights", "input_tensor", "input_shape", "pooling", "classes", "classifier_activation"]
    assert [*KERAS][:7] == [*ours][:7] == seven
    assert all(ours[argument].kind is inspect.Parameter.KEYWORD_ONLY for argument in [*ours][7:])
    differ = {argument for argument in seven if ours[argument].default != KERAS[argument].default}
    assert differ == ({"weights", "classes"} if name in ("lenet_bn", "resnet18_d2l", "densenet_d2l") else {"weights"})
    assert ours["weights"].default is None


def test_arguments_by_position_mean_what_they_mean_in_keras() -> None:
    arguments: Any = False, None, None, (SIDE, SIDE + 3, 3), "avg"
    with keras.StatelessScope(initialize_variables=False):
        ours, theirs = InceptionV3(*arguments), keras.applications.InceptionV3(*arguments)
    assert ours.output_shape == theirs.output_shape == (None, 2048)
    assert ours.input_shape == theirs.input_shape == (None, SIDE, SIDE + 3, 3)


# ---- input_tensor


def test_a_network_stands_on_the_input_that_it_is_given() -> None:
    given = keras.Input((30, 32, 1), name="mine")
    model = LeNetBN(input_tensor=given, input_shape=(30, 32, 1))
    assert model.input is given
    assert [type(layer).__name__ for layer in model.layers[:2]] == ["InputLayer", "Conv2D"]


def test_a_network_stands_on_what_comes_before_it() -> None:
    """As in Keras the model begins where the tensor comes from, and computes all of it."""
    pixels = keras.Input((60, 64, 3), dtype="uint8")
    tensor = layers.Resizing(30, 32)(layers.Rescaling(1 / 127.5, -1)(pixels))
    model = LeNetBN(input_tensor=tensor, classes=4)
    alone = LeNetBN(input_shape=(30, 32, 3), classes=4)
    alone.set_weights(model.get_weights())
    assert model.input is pixels
    x = np.random.default_rng(2).integers(0, 256, (2, 60, 64, 3), dtype="uint8")
    prepared = keras.Model(pixels, tensor)(x)
    np.testing.assert_allclose(model(x, training=False), alone(prepared, training=False), atol=1e-6)


def test_two_inputs_may_meet_below_the_network() -> None:
    left, right = keras.Input((28, 28, 1)), keras.Input((28, 28, 1))
    model = LeNetBN(input_tensor=layers.Add()([left, right]))
    assert model.inputs == [left, right]
    assert model([np.ones((2, 28, 28, 1)), np.ones((2, 28, 28, 1))]).shape == (2, 10)


def test_the_smallest_images_are_those_of_the_tensor() -> None:
    """What comes before it, here a pool, is not counted."""
    tensor = layers.MaxPooling2D(2)(keras.Input((300, 300, 3)))
    with pytest.raises(ValueError, match="the smallest images that work are 299 x 299"):
        InceptionV3(input_tensor=tensor, auxiliary=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input_tensor": np.zeros((1, 28, 28, 1))}, "input_tensor is of type ndarray, and has to be a Keras tensor"),
        ({"input_tensor": keras.Input((28, 28))}, "shape without the batch=(28, 28) must be (height, width, channels)"),
        ({"input_tensor": keras.Input((28, 28, None))}, "with the channels known"),
        ({"input_tensor": keras.Input((15, 28, 1))}, "Images of 15 x 28 pixels are too small"),
        (
            {"input_tensor": keras.Input((28, 28, 1)), "input_shape": (28, 28, 3)},
            "input_shape=(28, 28, 3) and an input_tensor of (28, 28, 1) contradict",
        ),
    ],
)
def test_a_tensor_that_is_no_image_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        LeNetBN(**options)


# ---- channels last


@pytest.fixture
def channels_first() -> Iterator[None]:
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


@OF_EACH_KIND
@pytest.mark.usefixtures("channels_first")
def test_every_network_is_channels_last_whatever_keras_is_set_to(name: str) -> None:
    side = 299 if name in dict(HEADS) and name != "googlenet" else 96
    options = {"auxiliary": name in dict(HEADS), "width": 1e-6, "input_shape": (side, side + 2, 3)}
    with keras.StatelessScope(initialize_variables=False):
        model = NETWORKS[name](**options)
    laid_out = [layer for layer in model.layers if hasattr(layer, "data_format")]
    # Rescaling by one number does not ask for it.
    formats = {layer.data_format for layer in laid_out if not isinstance(layer, layers.Rescaling)}
    assert formats == {"channels_last"}
    assert {layer.axis for layer in model.layers if isinstance(layer, BatchNormalization)} <= {-1}
    assert model.get_layer("stem_1_conv").input.shape[1] > model.get_layer("stem_1_conv").input.shape[3]


@pytest.mark.usefixtures("channels_first")
def test_a_network_gives_the_same_answers_where_keras_is_set_to_channels_first() -> None:
    x = image(32, 40)
    found = []
    for setting in ("channels_first", "channels_last"):
        keras.config.set_image_data_format(setting)
        keras.utils.set_random_seed(5)
        found.append(np.asarray(ResNet18(width=0.1, classes=3, input_shape=(32, 40, 3))(x)))
    np.testing.assert_array_equal(found[0], found[1])


# ---- weights


def test_a_wrong_name_of_weights_is_answered_by_the_right_ones() -> None:
    wrong: Any
    for wrong in ("imagenett", "ImageNet", Path("nowhere.weights.h5"), True):
        with pytest.raises(WeightsError, match=r'weights=.* is neither "imagenet" nor a file that exists; None starts'):
            LeNetBN(weights=wrong)
    with pytest.raises(WeightsError, match=r'No weights="imagenet" of lenet_bn .*weights=None starts from random ones'):
        LeNetBN(weights="imagenet")


def test_a_file_of_another_kind_is_named_with_its_reader(tmp_path: Path) -> None:
    for name in ("resnet18-f37072fd.pth", "inception_v3.ckpt", "model.safetensors"):
        (tmp_path / name).write_bytes(b"any")
        with pytest.raises(WeightsError, match=rf"{re.escape(name)} is no file of Keras.*`weights\.read`"):
            LeNetBN(weights=tmp_path / name)
    (tmp_path / "broken.h5").write_bytes(b"any")
    with pytest.raises(WeightsError, match=r"broken\.h5 is no HDF5 file, or is cut off"):
        LeNetBN(weights=tmp_path / "broken.h5")
    (tmp_path / "broken.weights.h5").write_bytes(b"any")
    with pytest.raises(WeightsError, match=r"broken\.weights\.h5 does not fit lenet_bn as it is built here"):
        LeNetBN(weights=tmp_path / "broken.weights.h5")


def test_a_file_of_other_arguments_says_which(tmp_path: Path) -> None:
    LeNetBN(scale=False).save_weights(without := tmp_path / "without.weights.h5")
    LeNetBN().save_weights(full := tmp_path / "with.weights.h5")
    with pytest.raises(WeightsError, match=r"without\.weights\.h5 .*have no gamma, build it with scale=False"):
        LeNetBN(weights=without)
    with pytest.raises(WeightsError, match=r"with\.weights\.h5 .*have a gamma, build it with scale=True"):
        LeNetBN(weights=full, scale=False)
    with pytest.raises(WeightsError, match=r"build it with the arguments that the file was saved with"):
        LeNetBN(weights=full, classes=11)
    LeNetBN(weights=str(full))


def test_a_whole_model_in_the_old_format_gives_its_weights(tmp_path: Path) -> None:
    model = LeNetBN(classes=3)
    randomize(model, seed=1)
    model.save(tmp_path / "whole.h5")
    x = np.ones((1, 28, 28, 1))
    np.testing.assert_array_equal(LeNetBN(classes=3, weights=tmp_path / "whole.h5")(x), model(x))


def test_a_file_without_gamma_as_keras_publishes_it_is_taken_by_its_path(tmp_path: Path) -> None:
    """Gamma is 1 then."""
    options: dict[str, Any] = {"width": 0.05, "include_top": False, "pooling": "avg", "input_shape": (SIDE, SIDE, 3)}
    right = InceptionV3(scale=False, **options)
    randomize(right, seed=1)
    model = InceptionV3(weights=keras_file(right, tmp_path / "published.h5"), **options)
    x = image(SIDE, SIDE)
    assert relative_error(model(x, training=False), np.asarray(right(x, training=False))) < 1e-5


APPLICATIONS = [
    (InceptionV3, keras.applications.InceptionV3),
    (DenseNet121, keras.applications.DenseNet121),
    (NETWORKS["inception_resnet_v2"], keras.applications.InceptionResNetV2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("builder", "application"), APPLICATIONS)
def test_a_file_without_the_classifier_as_keras_publishes_it_is_taken_by_its_path(
    builder: Callable[..., keras.Model], application: Callable[..., keras.Model], tmp_path: Path
) -> None:
    """Files of Keras 2, and of Keras 3 as `Model.save_weights` writes them."""
    options = {"include_top": False, "input_shape": (SIDE, SIDE, 3), "pooling": "avg"}
    theirs = application(weights=None, **options)
    randomize(theirs, seed=1)
    x = image(SIDE, SIDE)
    right = np.asarray(theirs(x, training=False))
    weight_files.write_keras_2(theirs, tmp_path / "keras_2_notop.h5", keras_2_names(theirs))
    model = builder(weights=str(tmp_path / "keras_2_notop.h5"), **options)
    assert relative_error(model(x, training=False), right) < 1e-5
    theirs.save_weights(tmp_path / "keras_3.weights.h5")
    gamma = builder is DenseNet121
    model = builder(weights=tmp_path / "keras_3.weights.h5", scale=gamma, **options)
    assert relative_error(model(x, training=False), right) < 1e-5
    with pytest.raises(WeightsError, match=f"build it with scale={gamma}"):
        builder(weights=tmp_path / "keras_3.weights.h5", scale=not gamma, **options)
    with pytest.raises(WeightsError, match=r"keras_2_notop\.h5: it has no predictions/kernel .*include_top=False"):
        builder(weights=tmp_path / "keras_2_notop.h5", input_shape=(SIDE, SIDE, 3))
