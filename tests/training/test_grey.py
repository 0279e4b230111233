"""The recipe key `image.colour=grey`: networks of one channel, from random weights and from those of colours."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from app import exporting, recipe, run_folder, training
from app.datasets import loading
from app.images.preprocessing import Preprocessing
from app.inside import explaining
from app.program.errors import UserError
from app.program.progress import unwatched
from app.recipe import Recipe
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run
from app.training import beginning, fine_tuning
from models import NETWORKS
from tests.makers.untrained_runs import untrained
from tests.oracles.weight_files import randomize

GREY = "image.colour=grey"
IMAGENET = {"mean": (123.675, 116.28, 103.53), "deviation": (58.395, 57.12, 57.375)}


def described(pictures: Path, start: Run | None = None, settings: tuple[str, ...] = (GREY,)) -> Classifier:
    wanted = recipe.load("default", settings, from_weights=start is not None)
    source = start.read_classifier() if start else None
    data = loading.load(str(pictures))
    return beginning.describe(data, "lenet_bn", wanted, start.folder if start else None, source)


def test_grey_is_the_luma_of_the_scaled_colours() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    grey = Preprocessing(height=20, width=31, colour="grey", mean=(30, 30, 30), deviation=(50, 50, 50))
    right = (pixels.astype(np.float64) @ [0.299, 0.587, 0.114] - 30) / 50
    for found in (grey(pixels), grey.on_device(pixels[np.newaxis])[0]):
        assert found.shape == (20, 31, 1)
        np.testing.assert_allclose(found[..., 0], right, rtol=0, atol=1e-5)


def test_what_is_laid_around_a_grey_picture_is_0() -> None:
    pixels = np.full((4, 40, 3), 255, np.uint8)
    grey = Preprocessing(height=20, width=20, colour="grey", aspect="pad", mean=(104, 104, 104))
    for found in (grey(pixels).numpy(), grey.on_device(pixels[np.newaxis])[0].numpy()):
        np.testing.assert_array_equal(found[:9], 0)
        np.testing.assert_allclose(found[9:11], (255 - 104) / 127.5, atol=1e-5)


def test_a_recipe_asks_for_one_channel_and_weights_that_have_it_keep_it(pictures: Path, tmp_path: Path) -> None:
    fresh = described(pictures)
    assert fresh.preprocessing.colour == "grey"
    assert fresh.arguments["input_shape"][-1] == 1
    start = untrained(tmp_path / "start", 32, ("a", "b"))
    assert described(pictures, start, ()).arguments["input_shape"] == (32, 32, 3)
    grey = start.read_classifier()
    grey = grey.model_copy(update={"preprocessing": grey.preprocessing.in_grey()})
    start.classifier.write_text(grey.model_dump_json())
    again = described(pictures, start, ())
    assert again.arguments["input_shape"] == (32, 32, 1)
    assert again.preprocessing == grey.preprocessing


def test_of_means_and_deviations_that_differ_grey_has_the_luma() -> None:
    rgb = Preprocessing(height=8, width=8, mean=(100, 200, 50), deviation=(10, 20, 30))
    bgr = Preprocessing(height=8, width=8, colour="BGR", mean=(50, 200, 100), deviation=(30, 20, 10))
    mean, deviation = 0.299 * 100 + 0.587 * 200 + 0.114 * 50, 0.299 * 10 + 0.587 * 20 + 0.114 * 30
    assert rgb.in_grey() == bgr.in_grey()
    np.testing.assert_allclose(rgb.in_grey().mean, mean)
    np.testing.assert_allclose(rgb.in_grey().deviation, deviation)
    assert Preprocessing.model_validate(rgb.in_grey().model_dump()) == rgb.in_grey()
    assert Preprocessing(height=8, width=8).in_grey().mean == (127.5,) * 3


def test_a_preprocessing_of_before_is_read_as_it_was_meant() -> None:
    old = recipe.load("default").model_dump()
    del old["image"]["colour"]
    assert Recipe.model_validate(old) == Recipe()


def test_with_trained_weights_grey_pictures_are_answered_as_before(pictures: Path, tmp_path: Path) -> None:
    labels = loading.load(str(pictures)).labels
    start = untrained(tmp_path / "start", 32, labels)
    trained = keras.models.load_model(start.model, compile=False)
    randomize(trained, seed=1)
    trained.save(start.model)
    before = run_folder.load(start.folder).logits_model
    known = described(pictures, start)
    model = known.build(activation=None)
    assert fine_tuning.take_weights(model, start.folder, labels) == {"predictions"}
    grey = np.full((3, 45, 60, 1), 20, np.uint8)
    grey[1, 10:30], grey[2, :, 10:30] = 230, 230
    pixels = tf.constant(np.repeat(grey, 3, axis=-1))
    right = before(start.read_classifier().preprocessing(pixels)).numpy()
    assert min(np.abs(right[0] - right[i]).max() for i in (1, 2)) > 1e-3
    np.testing.assert_allclose(model(known.preprocessing(pixels)), right, rtol=0, atol=1e-5)


def test_a_first_layer_that_convolves_each_colour_by_itself_cannot_be_summed(tmp_path: Path) -> None:
    options = {"classes": 2, "width": 0.1, "classifier_activation": None}
    colours, grey = (NETWORKS["inception_v2"](input_shape=(75, 75, channels), **options) for channels in (3, 1))
    before = grey.get_weights()
    with pytest.raises(UserError, match=r"start convolves each colour by itself.*leave image.colour out, or --from"):
        fine_tuning.take_summed(grey, colours, tmp_path / "start")
    for old, new in zip(before, grey.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "inception_v2"])
def test_every_other_network_has_a_first_kernel_that_can_be_summed(name: str, tmp_path: Path) -> None:
    side = {"inception_v3": 75, "inception_v4": 75}.get(name, 96)
    options = {"classes": 2, "width": 0.1, "classifier_activation": None}
    colours, grey = (NETWORKS[name](input_shape=(side, side, channels), **options) for channels in (3, 1))
    layer = fine_tuning.take_summed(grey, colours, tmp_path)
    right = colours.get_layer(layer.name).get_weights()[0].sum(axis=2, keepdims=True)
    np.testing.assert_array_equal(layer.get_weights()[0], right)


@pytest.mark.slow
def test_a_grey_network_is_trained_exported_verified_and_explained(
    finished_run: Run, pictures: Path, tmp_path: Path
) -> None:
    settings = ("steps=2", "batch_size=8", "optimizer.rate=0.001", "augmentation.colour=full", GREY)
    wanted = recipe.load("default", settings, from_weights=True)
    run = training.train(str(pictures), None, tmp_path / "run", wanted, unwatched, finished_run.folder)
    assert run_folder.load(run.folder).model.input_shape == (None, 32, 32, 1)
    said = "32 x 32 grey, "
    assert said in run.report.read_text()
    formats = exporting.FORMATS
    version, certificate = exporting.export(run.folder, tmp_path / "exports", formats)
    assert certificate["ok"]
    assert max(row["max_difference"] for row in certificate["rows"]) < 1e-5
    assert json.loads((version / "certificate.json").read_text())["networks"][0]["described"].startswith(said)
    assert exporting.verify(version)[1]["ok"]
    device = Interpreter(str(version / "model.tflite"))
    assert device.get_input_details()[0]["shape"].tolist() == [1, 32, 32, 3], "which is what MediaPipe resizes to"
    Image.new("RGB", (50, 40), (200, 30, 60)).save(tmp_path / "a.png")
    explaining.explain(run.folder, [tmp_path / "a.png"], tmp_path / "explained")
    assert [*(tmp_path / "explained").glob("*.png")]
