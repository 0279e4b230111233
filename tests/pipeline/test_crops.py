"""Many crops: where they lie, by NumPy and Pillow; that each image is counted once; what averaging costs."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from app import evaluation
from app.datasets.dataset import Split
from app.evaluation import evaluating
from app.images.preprocessing import Preprocessing
from app.pipeline import crops, input_pipeline
from tests.makers.image_folders import picture

Array = np.ndarray[Any, Any]
CORNERS_AND_CENTRE = ("top left", "top right", "bottom left", "bottom right", "centre")


@dataclass(frozen=True)
class Pictures:
    """A split of so many small pictures, in memory; the label is the index modulo 3."""

    images: int

    @property
    def count(self) -> int:
        return self.images

    def in_order(self) -> tf.data.Dataset:
        encoded = [picture(seed) for seed in range(self.count)]
        return tf.data.Dataset.from_tensor_slices((encoded, np.arange(self.count, dtype=np.int64) % 3))

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        raise NotImplementedError

    at = Split.at


def noise(height: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def preprocessing(side: int, **options: Any) -> Preprocessing:
    return Preprocessing(height=side, width=side, **options)


def part(pixels: Array, place: str, side: int) -> Array:
    """Written by hand for each place, so that no arithmetic is shared with the program."""
    height, width = pixels.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    return {
        "top left": pixels[:side, :side],
        "top right": pixels[:side, width - side :],
        "bottom left": pixels[height - side :, :side],
        "bottom right": pixels[height - side :, width - side :],
        "centre": pixels[top : top + side, left : left + side],
    }[place]


def resized(pixels: Array, height: int, width: int, filter_: Image.Resampling) -> Array:
    """Pillow, in floating point, channel by channel."""
    planes = [Image.fromarray(np.float32(pixels[..., channel])) for channel in range(3)]
    return np.stack([np.asarray(plane.resize((width, height), filter_)) for plane in planes], axis=-1)


def expected(pixels: Array, side: int, count: int, filter_: Image.Resampling = Image.Resampling.BILINEAR) -> Array:
    """1409.4842, section 7, word by word, with Pillow."""
    found = []
    height, width = pixels.shape[:2]
    for scale in (256, 288, 320, 352) if count == 144 else (256,):
        short = round(scale * side / 224)
        if height < width:
            scaled = resized(pixels, short, width * short // height, filter_)
            ends = scaled[:, :short], scaled[:, -short:]
        else:
            scaled = resized(pixels, height * short // width, short, filter_)
            ends = scaled[:short], scaled[-short:]
        middle = part(scaled, "centre", short)
        for square in (ends[0], middle, ends[1]) if count == 144 else (middle,):
            found += [part(square, place, side) for place in CORNERS_AND_CENTRE]
            if count != 10:
                found.append(resized(square, side, side, filter_))
    plain = np.stack(found)
    return np.concatenate([plain, plain[:, :, ::-1]]) / 127.5 - 1


@pytest.mark.parametrize(("height", "width"), [(256, 401), (400, 256), (256, 256)])
def test_ten_crops_of_a_picture_of_the_right_size_are_plain_slices(height: int, width: int) -> None:
    pixels = noise(height, width)
    found = crops.crops(pixels, preprocessing(224), 10).numpy()
    square = part(pixels, "centre", 256)
    for i, place in enumerate(CORNERS_AND_CENTRE):
        wanted = (np.float32(part(square, place, 224)) - 127.5) / 127.5
        np.testing.assert_allclose(found[i], wanted, atol=1e-6)
        np.testing.assert_allclose(found[5 + i], np.fliplr(wanted), atol=1e-6)
    assert len({crop.tobytes() for crop in found}) == 10


@pytest.mark.parametrize("count", [10, 12, 144])
@pytest.mark.parametrize(("height", "width", "side"), [(90, 61, 32), (60, 93, 32), (77, 77, 33), (30, 41, 75)])
def test_crops_are_those_of_pillow(count: int, height: int, width: int, side: int) -> None:
    pixels = noise(height, width, seed=1)
    found = crops.crops(pixels, preprocessing(side), count).numpy()
    assert found.shape == (count, side, side, 3)
    np.testing.assert_allclose(found, expected(pixels, side, count), atol=2e-3)
    if count != 144:  # of which some may coincide
        assert len({crop.tobytes() for crop in found}) == count


def test_crops_take_the_filter_and_the_numbers_of_the_preprocessing() -> None:
    pixels = noise(70, 100, seed=2)
    bicubic = preprocessing(32, resize="bicubic", aspect="keep", crop=0.875)
    wanted = expected(pixels, 32, 144, Image.Resampling.BICUBIC)
    np.testing.assert_allclose(crops.crops(pixels, bicubic, 144), wanted, atol=2e-3)
    caffe = preprocessing(32, colour="BGR", mean=(104.0, 117.0, 128.0), deviation=(1.0, 1.0, 1.0))
    wanted = (expected(pixels, 32, 12) + 1)[..., ::-1] * 127.5 - [104, 117, 128]
    np.testing.assert_allclose(crops.crops(pixels, caffe, 12), wanted, atol=0.3)


def test_crops_for_a_grey_network_are_the_luma_of_those_in_colours() -> None:
    pixels = noise(50, 70)
    found = crops.crops(pixels, preprocessing(24, colour="grey"), 10)
    right = crops.crops(pixels, preprocessing(24), 10).numpy() @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(found[..., 0], right, rtol=0, atol=1e-6)


def test_crops_of_one_colour_are_one_colour() -> None:
    found = crops.crops(np.full((300, 200, 3), 51, np.uint8), preprocessing(64), 144)
    np.testing.assert_allclose(found, np.full((144, 64, 64, 3), 51 / 127.5 - 1), atol=1e-6)


@pytest.mark.parametrize("count", [10, 12, 144])
def test_half_of_the_crops_are_the_others_mirrored(count: int) -> None:
    found = crops.crops(noise(50, 70), preprocessing(32), count).numpy()
    assert np.array_equal(found[count // 2 :, :, ::-1], found[: count // 2])


def test_an_input_that_is_no_square_has_its_own_squares() -> None:
    found = crops.crops(noise(80, 80), Preprocessing(height=32, width=48), 144)
    assert found.shape == (144, 32, 48, 3)


@pytest.mark.parametrize("memory", [input_pipeline.CROPPED, 1])
def test_batches_hold_every_crop_of_every_image_once(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_pipeline, "CROPPED", memory)
    split, prepared = Pictures(5), preprocessing(16)
    batches = list(input_pipeline.evaluation_batches(split, prepared, 32, 12))
    assert [len(images) for images, _ in batches] == [32, 28]
    wanted = [crops.crops(prepared.decode(picture(seed)), prepared, 12) for seed in range(5)]
    np.testing.assert_allclose(np.concatenate([images for images, _ in batches]), np.concatenate(wanted), atol=1e-6)
    assert np.concatenate([labels for _, labels in batches]).tolist() == [i % 3 for i in range(5) for _ in range(12)]


def colour_network(side: int) -> keras.Model:
    """Three classes: the softmax of ten times the mean of each channel."""
    image = keras.Input((side, side, 3))
    means = keras.layers.GlobalAveragePooling2D()(image)
    return keras.Model(image, keras.layers.Softmax()(keras.layers.Rescaling(10.0)(means)))


@pytest.mark.parametrize("count", [1, 10, 12, 144])
def test_an_answer_is_the_mean_of_the_crops_of_its_image(count: int) -> None:
    images, prepared = 3, preprocessing(16)
    found, truth = evaluating.predict(colour_network(16), Pictures(images), prepared, crops=count)
    assert truth.tolist() == [i % 3 for i in range(images)]
    for seed in range(images):
        pixels = prepared.decode(picture(seed))
        seen = crops.crops(pixels, prepared, count) if count > 1 else prepared(pixels)[tf.newaxis]
        scores = np.exp(10 * np.float64(seen).mean(axis=(1, 2)))
        np.testing.assert_allclose(found[seed], (scores / scores.sum(axis=1, keepdims=True)).mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(("images", "count"), [(32, 1), (33, 1), (8, 12), pytest.param(2, 144, marks=pytest.mark.slow)])
def test_every_image_is_counted_once_whatever_the_last_batch(images: int, count: int) -> None:
    asked: Counter[bytes] = Counter()
    model = colour_network(16)
    answer = model.predict_on_batch

    def counting(batch: Any) -> Any:
        assert batch.shape == (evaluating.BATCH, 16, 16, 3), "one shape is compiled, and no other"
        asked.update(image.tobytes() for image in batch)
        return answer(batch)

    model.predict_on_batch = counting
    shown: list[int] = []

    def watch(items: Any, total: int, what: str) -> Any:
        shown.append(total)
        return items

    found, truth = evaluating.predict(model, Pictures(images), preprocessing(16), watch, count)
    del asked[np.zeros((16, 16, 3), np.float32).tobytes()]  # what fills the last batch
    assert asked.total() == images * count
    assert len(asked) == asked.total() or count == 144  # of a small picture, a few of the 144 coincide
    assert shown == [-(-images * count // evaluating.BATCH)]
    np.testing.assert_allclose(found.sum(axis=1), np.ones(images), atol=1e-6)
    figures = evaluation.metrics(found, truth, ["red", "green", "blue"])
    assert figures["count"] == images
    assert sum(map(sum, figures["confusion"])) == images
    assert sum(row["count"] for row in figures["per_class"].values()) == images


def test_the_network_is_compiled_once() -> None:
    model = colour_network(16)
    for images, count in ((33, 1), (1, 10)):
        evaluating.predict(model, Pictures(images), preprocessing(16), crops=count)
    assert model.predict_function.experimental_get_tracing_count() == 1
