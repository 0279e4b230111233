"""What a layer answers: against a convolution in NumPy; the strongest patches against a search of its own; and what
`activations` writes and refuses."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image

from app import run_folder
from app.__main__ import main
from app.datasets.files.image_files import FileSplit
from app.images import view
from app.images.preprocessing import Preprocessing
from app.inside import activation_figures, activations, survey
from app.networks import feature_maps, receptive_field
from app.program.errors import UserError
from app.program.progress import unwatched
from app.run_folder.folder import Run
from models import NETWORKS

Array = np.ndarray[Any, Any]
SIDE = 20
PREPROCESSING = Preprocessing(height=SIDE, width=SIDE)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """One convolution whose last channel is dead."""
    keras.utils.set_random_seed(2)
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Conv2D(5, (3, 5), (2, 1), "valid", activation="relu", name="edges")(image)
    model = keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)), name="small")
    model.get_layer("edges").bias.assign([0, 0, 0, 0, -1000])
    return model


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> FileSplit:
    """40 pictures of noise, more than a batch, of two classes."""
    folder, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(4)
    paths = [str(folder / f"{number:02}.png") for number in range(40)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(path)
    return FileSplit(tuple(paths), tuple(number % 2 for number in range(40)))


def convolved(model: keras.Model, image: Array) -> Array:
    kernel, bias = (np.asarray(weight, np.float64) for weight in model.get_layer("edges").get_weights())
    windows = np.lib.stride_tricks.sliding_window_view(image.astype(np.float64), (3, 5), axis=(0, 1))[::2]
    return np.maximum(np.einsum("hwcij,ijco->hwo", windows, kernel) + bias, 0)


def test_the_strongest_patches_are_those_of_a_search_in_numpy(network: keras.Model, split: FileSplit) -> None:
    found = survey.survey(network, network.get_layer("edges"), split, PREPROCESSING, (3, 0))
    pictures = [np.asarray(Image.open(path)) for path in split.paths]
    answers = np.stack([convolved(network, picture / 127.5 - 1) for picture in pictures])
    np.testing.assert_allclose(found.highest, answers.max(axis=(0, 1, 2)), rtol=1e-5)
    assert found.images == 40
    assert list(found.patches) == [3, 0]
    for channel, best in found.patches.items():
        order = np.argsort(-answers[..., channel].max(axis=(1, 2)))[: survey.PATCHES]
        assert [patch.value for patch in best] == pytest.approx(
            [answers[image, ..., channel].max() for image in order], rel=1e-5
        )
        for patch, image in zip(best, order, strict=True):
            assert patch.label == image % 2
            row, column = np.unravel_index(answers[image, ..., channel].argmax(), answers.shape[1:3])
            np.testing.assert_array_equal(patch.pixels, pictures[image][2 * row : 2 * row + 3, column : column + 5])
            assert patch.middle == (1, 2)


def test_dead_channels_are_those_never_above_zero(network: keras.Model, split: FileSplit) -> None:
    found = survey.survey(network, network.get_layer("edges"), split, PREPROCESSING)
    assert np.flatnonzero(found.highest <= 0).tolist() == [4]
    assert found.patches == {}


def test_a_patch_ends_where_the_image_does() -> None:
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(1, 9, padding="same", name="wide")(image)
    model = keras.Model(image, layers.Flatten()(x))
    looks = receptive_field.fields(model)["wide"]
    answer = np.zeros((SIDE, SIDE), np.float32)
    answer[1, 18] = 2.0
    picture = np.arange(SIDE * SIDE * 3, dtype=np.uint8).reshape(SIDE, SIDE, 3)
    patch = survey._patch(answer, picture, 7, looks)
    np.testing.assert_array_equal(patch.pixels, picture[0:6, 14:20])
    assert (patch.value, patch.label, patch.middle) == (2.0, 7, (1.0, 4.0))


def test_tiles_stand_in_lines_each_at_its_own_scale() -> None:
    block = np.stack([np.full((2, 3), 4.0), np.zeros((2, 3)), np.full((2, 3), -1.0)], axis=-1).astype(np.float32)
    block[0, 0, 0], block[1, 2, 2] = 1.0, 3.0
    sheet = activation_figures.tiled(block, 2)
    nothing = np.nan
    dead = activation_figures.DEAD
    np.testing.assert_allclose(
        sheet,
        [
            [0.25, 1, 1, nothing, dead, dead, dead],
            [1, 1, 1, nothing, dead, dead, dead],
            [nothing] * 7,
            [0, 0, 0, *[nothing] * 4],
            [0, 0, 1, *[nothing] * 4],
        ],
    )


def test_a_layers_answer_is_what_the_network_computes() -> None:
    """The columns of a module, side by side, are the module."""
    model = NETWORKS["bn_inception"](input_shape=(48, 48, 3), width=0.1, classes=3)
    images = np.random.default_rng(1).normal(0, 1, (2, 48, 48, 3)).astype(np.float32)
    top = model.get_layer("inception_3a")
    whole = activations.of_layer(model, top, images)
    for name, part in feature_maps.branches(top).items():
        np.testing.assert_array_equal(activations.of_layer(model, model.get_layer(name), images), whole[..., part])
    rest = keras.Model(top.output, model.output)
    np.testing.assert_allclose(rest(whole, training=False), model(images, training=False), rtol=1e-5)


# ---- the command


def printed(run: Run, capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    with pytest.raises(SystemExit) as ended:
        main(["activations", str(run.folder), *map(str, arguments), "--json"])
    assert ended.value.code == 0
    return json.loads(capsys.readouterr().out)


def test_activations_draws_a_layer_and_says_what_it_sees(
    finished_run: Run, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, to = pictures / "temple" / "00.jpg", tmp_path / "new" / "stem_3.png"
    found = printed(finished_run, capsys, image, "--layer", "stem_3", "--to", to)
    # LeNet at 32 x 32: 5 x 5 without padding, a pool of 2 x 2, 5 x 5 again.
    assert found == {
        "layer": "stem_3",
        "grid": [10, 10],
        "channels": 16,
        "branches": [{"name": "stem_3", "first": 0, "channels": 16}],
        "receptive_field": {"size": [14, 14], "stride": [2, 2], "offset": [6.5, 6.5]},
        "dead": [],  # a sigmoid is never 0
        "images": 1,
    }
    with Image.open(to) as picture:
        assert picture.format == "PNG"
        assert picture.width > 800


@pytest.mark.slow
def test_data_adds_the_patches_of_its_training_images(
    finished_run: Run, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [pictures / "temple" / "00.jpg", "--layer", "stem_1_conv", "--data", pictures]
    found = printed(finished_run, capsys, *arguments, "--to", tmp_path / "a.png", "--channel", 2, "--channel", 5)
    record = finished_run.read_classifier().data
    assert record is not None
    assert found["images"] == record.train
    assert printed(finished_run, capsys, *arguments, "--to", tmp_path / "b.png") == found
    with Image.open(tmp_path / "a.png") as two, Image.open(tmp_path / "b.png") as strongest:
        assert strongest.height > 2 * two.height
        assert strongest.width == two.width


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "stem3"], "no layer 'stem3' with a map; the nearest names are stem_3, "),
        (["--layer", "predictions"], "no layer 'predictions' with a map"),
        (["--channel", "16", "--data", "digits"], "stem_3 has no channel 16; its channels go from 0 to 15"),
        (["--channel", "-1", "--data", "digits"], "stem_3 has no channel -1"),
        (["--channel", "1"], "name a data set with --data"),
        (["--data", "nosuch"], "nosuch does not exist"),
        (["--to", "picture.jpg"], "picture.jpg would be a PNG: let its name end in .png"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_named_and_nothing_written(
    options: list[str],
    message: str,
    finished_run: Run,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["--layer", "stem_3", "--to", "a.png"]
    with pytest.raises(SystemExit, match=f"^Error: .*{message}"):
        main(["activations", str(finished_run.folder), str(pictures / "temple" / "00.jpg"), *given, *options])
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_cannot_be_read_and_a_picture_that_exists_are_named(
    finished_run: Run, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_text("no picture")
    for file, why in (("broken.jpg", "This is no JPEG, PNG"), ("nosuch.jpg", "No such file")):
        with pytest.raises(UserError, match=f"{file} cannot be read: {why}"):
            activations.activations(finished_run.folder, tmp_path / file, "stem_3", tmp_path / "a.png")
    (tmp_path / "a.png").write_text("years of work")
    with pytest.raises(UserError, match=r"a.png exists; choose another --to"):
        activations.activations(
            finished_run.folder, pictures / "temple" / "00.jpg", "stem_3", tmp_path / "a.png", watch=unwatched
        )
    assert (tmp_path / "a.png").read_text() == "years of work"


def test_a_view_is_the_image_of_training_and_the_same_picture_for_people(finished_run: Run, pictures: Path) -> None:
    preprocessing = run_folder.load(finished_run.folder).preprocessing
    for file in sorted((pictures / "flower").iterdir())[:3]:
        seen = view.read(file, preprocessing)
        np.testing.assert_array_equal(seen.image, preprocessing(preprocessing.decode(file.read_bytes())))
        assert seen.picture.dtype == np.uint8
        np.testing.assert_allclose(seen.picture, (seen.image + 1) * 127.5, atol=0.501)
    with pytest.raises(tf.errors.InvalidArgumentError):
        view.view(b"no picture", preprocessing)
