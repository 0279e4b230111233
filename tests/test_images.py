"""From bytes to network input, against Pillow bit by bit and against a resize in float64."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pydantic
import pytest
import sklearn.datasets
import tensorflow as tf
from PIL import Image

from app.images import Preprocessing, decode

Array = np.ndarray[Any, Any]

PHOTO = Image.fromarray(sklearn.datasets.load_sample_images().images[1])
SMALL = PHOTO.crop((180, 120, 180 + 61, 120 + 43))  # odd sides, not square
FILES: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
    "JPEG baseline": (SMALL, "JPEG", {"subsampling": 0}),
    "JPEG 4:2:0": (SMALL, "JPEG", {"subsampling": 2, "quality": 60}),
    "JPEG 4:2:2": (SMALL, "JPEG", {"subsampling": 1}),
    "JPEG progressive": (SMALL, "JPEG", {"progressive": True, "quality": 85}),
    "JPEG greyscale": (SMALL.convert("L"), "JPEG", {}),
    "JPEG CMYK": (SMALL.convert("CMYK"), "JPEG", {}),
    "JPEG of one pixel": (SMALL.crop((0, 0, 1, 1)), "JPEG", {}),
    "JPEG larger": (PHOTO.crop((0, 0, 317, 201)), "JPEG", {}),
    "PNG": (SMALL, "PNG", {}),
    "PNG RGBA": (SMALL.convert("RGBA"), "PNG", {}),
    "PNG palette": (SMALL.quantize(16), "PNG", {}),
    "PNG greyscale": (SMALL.convert("L"), "PNG", {}),
    "PNG of one bit": (SMALL.convert("1"), "PNG", {}),
    "BMP": (SMALL, "BMP", {}),
    "GIF": (SMALL, "GIF", {}),
    "WebP": (SMALL, "WEBP", {}),
    "WebP lossless": (SMALL, "WEBP", {"lossless": True}),
}


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def by_pillow(content: bytes) -> Array:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def resized_in_float64(pixels: Array, height: int, width: int) -> Array:
    """A triangle filter per axis; it is as wide as an output pixel where the picture shrinks."""

    def weights(source: int, size: int) -> Array:
        scale = source / size
        centres = (np.arange(size) + 0.5) * scale
        distance = np.abs(centres[:, np.newaxis] - (np.arange(source) + 0.5))
        found = np.maximum(0.0, 1.0 - distance / max(scale, 1.0))
        return found / found.sum(axis=1, keepdims=True)

    rows, columns = weights(pixels.shape[0], height), weights(pixels.shape[1], width)
    return np.einsum("hr,rcd,wc->hwd", rows, pixels.astype(np.float64), columns)


# ---- decoding


@pytest.mark.parametrize("kind", FILES)
def test_decoded_pixels_are_pillows(kind: str) -> None:
    image, format_, options = FILES[kind]
    content = encoded(image, format_, **options)
    found = decode(content)
    assert found.dtype == tf.uint8
    np.testing.assert_array_equal(found, by_pillow(content))


def test_inside_a_pipeline_every_format_decodes_as_it_does_eagerly() -> None:
    contents = [encoded(image, format_, **options) for image, format_, options in FILES.values()]
    dataset = tf.data.Dataset.from_tensor_slices(contents).map(decode)
    assert dataset.element_spec.shape.as_list() == [None, None, 3]
    assert dataset.element_spec.dtype == tf.uint8
    found = list(dataset.as_numpy_iterator())
    assert len(found) == len(contents)
    for pixels, content in zip(found, contents, strict=True):
        np.testing.assert_array_equal(pixels, by_pillow(content))


def test_bytes_and_tensors_are_taken_eagerly_and_in_a_function() -> None:
    content = encoded(SMALL, "JPEG")
    inside = tf.function(decode, input_signature=[tf.TensorSpec([], tf.string)])
    for pixels in (decode(content), decode(tf.constant(content)), inside(content), inside(tf.constant(content))):
        np.testing.assert_array_equal(pixels, by_pillow(content))
    assert inside.get_concrete_function().output_shapes.as_list() == [None, None, 3]


def test_of_an_animation_the_first_frame_counts() -> None:
    content = encoded(SMALL, "GIF", save_all=True, append_images=[SMALL.rotate(90, expand=True)])
    np.testing.assert_array_equal(decode(content), by_pillow(content))


def test_of_sixteen_bits_the_upper_eight_count() -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (17, 23), dtype=np.uint16)
    found = decode(encoded(Image.fromarray(deep), "PNG")).numpy()
    np.testing.assert_array_equal(found, np.repeat((deep >> 8)[..., np.newaxis], 3, axis=2))


WHOLE = {kind: encoded(SMALL, format_) for kind, format_ in (("JPEG", "JPEG"), ("PNG", "PNG"), ("WebP", "WEBP"))}
REFUSED = {
    "text": b"This is not a picture.",
    "nothing": b"",
    "three bytes": b"\xff\xd8\xff",
    "half a JPEG": WHOLE["JPEG"][: len(WHOLE["JPEG"]) // 2],
    "a JPEG without its end": WHOLE["JPEG"][:-2],
    "half a PNG": WHOLE["PNG"][: len(WHOLE["PNG"]) // 2],
    "half a WebP": WHOLE["WebP"][: len(WHOLE["WebP"]) // 2],
    # TensorFlow reads alpha only where four channels are asked for, and crashes then on animated files.
    "a WebP with alpha": encoded(SMALL.convert("RGBA").rotate(45), "WEBP"),
    "an animated WebP": encoded(SMALL, "WEBP", save_all=True, append_images=[SMALL.rotate(180)]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_whole_picture_is_refused(kind: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(REFUSED[kind])
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(tf.data.Dataset.from_tensors(REFUSED[kind]).map(decode))


# ---- resizing

SIZES = [
    pytest.param((120, 160), (32, 32), id="shrinking"),
    pytest.param((20, 31), (64, 64), id="growing"),
    pytest.param((97, 35), (43, 71), id="odd, one side shrinks and one grows"),
    pytest.param((201, 63), (29, 27), id="far from square"),
    pytest.param((33, 33), (33, 33), id="same size"),
    pytest.param((1, 1), (5, 7), id="one pixel"),
    pytest.param((64, 64), (1, 1), id="to one pixel"),
]


def noise(height: int, width: int) -> Array:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def prepare_eagerly(prepare: Callable[[Any], Any], pixels: Array) -> Array:
    found: Array = prepare(pixels).numpy()
    return found


def prepare_in_a_pipeline(prepare: Callable[[Any], Any], pixels: Array) -> Array:
    dataset = tf.data.Dataset.from_tensors(pixels)
    # The pipeline sees no more than (height, width, 3) of unknown size, as after decoding.
    unknown = dataset.map(lambda x: tf.ensure_shape(tf.reshape(x, tf.identity(tf.shape(x))), (None, None, 3)))
    (found,) = unknown.map(prepare).as_numpy_iterator()
    return np.asarray(found)


WAYS = pytest.mark.parametrize("way", [prepare_eagerly, prepare_in_a_pipeline])


@WAYS
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_resizing_is_the_widening_triangle_filter(source: Any, target: Any, way: Any) -> None:
    pixels = noise(*source)
    found = way(Preprocessing(height=target[0], width=target[1]), pixels)
    right = resized_in_float64(pixels, *target) / 127.5 - 1.0
    assert found.dtype == np.float32
    assert found.shape == (*target, 3)
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_resizing_is_pillows_to_a_rounding(source: Any, target: Any) -> None:
    pixels = noise(*source)
    pillow = Image.fromarray(pixels).resize((target[1], target[0]), Image.Resampling.BILINEAR)
    found = (Preprocessing(height=target[0], width=target[1])(pixels).numpy() + 1.0) * 127.5
    # Pillow rounds to whole levels after each of the two axes.
    assert np.abs(found - np.asarray(pillow, np.float64)).max() <= 1.01


@WAYS
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_what_runs_on_a_device_computes_the_same(source: Any, target: Any, way: Any) -> None:
    pixels, preprocessing = noise(*source), Preprocessing(height=target[0], width=target[1])
    right = resized_in_float64(pixels, *target) / 127.5 - 1.0
    found = way(preprocessing.on_device, pixels)
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found, preprocessing(pixels), rtol=0, atol=1e-5)


def test_black_is_minus_one_and_white_is_one() -> None:
    pixels = np.zeros((9, 14, 3), np.uint8)
    pixels[:, 7:] = 255
    for size in (5, 30):
        preprocessing = Preprocessing(height=size, width=size)
        for found in (preprocessing(pixels).numpy(), preprocessing.on_device(pixels).numpy()):
            assert np.abs(found).max() <= 1 + 1e-6
            np.testing.assert_allclose(found[:, 0], -1, atol=1e-6)
            np.testing.assert_allclose(found[:, -1], 1, atol=1e-6)


def test_pixels_of_any_number_type_are_taken() -> None:
    pixels = noise(11, 13)
    preprocessing = Preprocessing(height=8, width=8)
    np.testing.assert_array_equal(preprocessing(pixels.astype(np.float32)), preprocessing(pixels))


# ---- as a record


def test_preprocessing_survives_json() -> None:
    wanted = Preprocessing(height=31, width=47)
    assert Preprocessing.model_validate_json(wanted.model_dump_json()) == wanted
    assert wanted.model_dump() == {
        "height": 31,
        "width": 47,
        "colour": "RGB",
        "resize": "bilinear",
        "antialias": True,
        "aspect": "squash",
        "scaling": "-1..1",
    }


@pytest.mark.parametrize(
    "changed",
    [{"mean": 0.5}, {"height": 0}, {"height": "tall"}, {"antialias": False}, {"resize": "nearest"}, {"colour": "BGR"}],
    ids=str,
)
def test_a_preprocessing_that_it_cannot_do_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        Preprocessing.model_validate({"height": 32, "width": 32, **changed})


def test_a_preprocessing_does_not_change() -> None:
    with pytest.raises(pydantic.ValidationError):
        setattr(Preprocessing(height=32, width=32), "height", 5)  # noqa: B010 - the type checker knows it
