"""From bytes to network input, against Pillow bit by bit and against a resize in float64."""

import io
import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from app.images.decoding import decode, refusal
from app.images.formats import Limits, canvas
from app.images.formats.window import Window
from app.images.preprocessing import Preprocessing
from tests import ROOT
from tests.makers.image_files import FILES, NOISE, PHOTO, SMALL, by_pillow, encoded, exif

Array = np.ndarray[Any, Any]


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


def exactly(kind: str) -> int:
    """How far the pixels may be from Pillow's: it rounds where it makes RGB of CMYK, TensorFlow cuts off."""
    return 1 if "CMYK" in kind else 0


@pytest.mark.parametrize("kind", FILES)
def test_decoded_pixels_are_pillows(kind: str) -> None:
    found = decode(FILES[kind])
    assert found.dtype == tf.uint8
    np.testing.assert_allclose(
        found.numpy().astype(int), by_pillow(FILES[kind]).astype(int), rtol=0, atol=exactly(kind)
    )


def test_inside_a_pipeline_every_format_decodes_as_it_does_eagerly() -> None:
    dataset = tf.data.Dataset.from_tensor_slices(list(FILES.values())).map(decode)
    assert dataset.element_spec.shape.as_list() == [None, None, 3]
    assert dataset.element_spec.dtype == tf.uint8
    for pixels, content in zip(dataset.as_numpy_iterator(), FILES.values(), strict=True):
        np.testing.assert_array_equal(pixels, decode(content))


def test_bytes_and_tensors_are_taken_eagerly_and_in_a_function() -> None:
    content = FILES["JPEG baseline"]
    inside = tf.function(decode, input_signature=[tf.TensorSpec([], tf.string)])
    for pixels in (decode(content), decode(tf.constant(content)), inside(content), inside(tf.constant(content))):
        np.testing.assert_array_equal(pixels, by_pillow(content))
    assert inside.get_concrete_function().output_shapes.as_list() == [None, None, 3]


def test_what_is_transparent_is_laid_on_white_and_rounded_to_the_nearest() -> None:
    pixels = np.zeros((256, 256, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = np.mgrid[:256, :256]  # every value with every opacity
    pixels[..., 1] = 255 - pixels[..., 0]
    opacity = pixels[..., 3:].astype(np.float64) / 255
    right = np.rint(pixels[..., :3] * opacity + 255 * (1 - opacity))
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels), "PNG")), right)


def test_a_large_transparent_picture_is_laid_on_white_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canvas, "BAND", 61 * 10)
    unknown = tf.TensorSpec((None, None, None), tf.uint8)
    found = tf.function(canvas.on_white, input_signature=[unknown], autograph=False)(np.asarray(NOISE))
    np.testing.assert_array_equal(found, by_pillow(FILES["PNG RGBA"]))


def test_of_sixteen_bits_of_each_colour_the_upper_eight_count() -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (17, 23, 3), dtype=np.uint16)
    content = tf.io.encode_png(deep)
    np.testing.assert_array_equal(decode(content), deep >> 8)


def test_a_frame_that_covers_a_part_of_its_picture_has_white_around_it() -> None:
    """As browsers show it; Pillow fills in the first colour, TensorFlow black."""
    content = encoded(SMALL.quantize(16), "GIF")
    start = content.index(b"\x2c" + bytes(4))  # where the frame says its corner
    content = (
        content[:6]
        + struct.pack("<HH", 80, 70)
        + content[10 : start + 1]
        + struct.pack("<HH", 7, 5)
        + content[start + 5 :]
    )
    right = np.full((70, 80, 3), 255)
    right[5 : 5 + 43, 7 : 7 + 61] = by_pillow(encoded(SMALL.quantize(16), "GIF"))
    np.testing.assert_array_equal(decode(content), right)


def test_the_eight_orientations_are_eight_pictures() -> None:
    for kind in ("JPEG", "PNG", "WebP"):
        assert len({decode(FILES[f"{kind}, orientation {i}"]).numpy().tobytes() for i in range(1, 9)}) == 8


@pytest.mark.parametrize(
    "segment",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0II",
        b"Exif\0\0XX" + exif(6)[8:],
        exif(6)[:18],
        exif(9),
        exif(0),
        b"Exif\0\0II*\0" + b"\xff" * 60,
        b"Exif\0\0" + bytes(60),
        bytes(range(256)) * 20,
    ],
    ids=lambda segment: repr(segment[:20]),
)
def test_a_broken_orientation_is_none(segment: bytes) -> None:
    content = encoded(SMALL, "JPEG")
    content = content[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(segment)) + segment + content[2:]
    np.testing.assert_array_equal(decode(content), by_pillow(encoded(SMALL, "JPEG")))


def test_the_name_of_the_format_is_in_the_bytes_alone() -> None:
    assert tuple(decode(b"\xff\xd8\xff" + FILES["JPEG baseline"][3:]).shape) == (43, 61, 3)


def claiming(kind: str, width: int, height: int) -> bytes:
    """A small file whose header says that it is so large."""
    content = FILES[kind]
    if kind.startswith("JPEG"):
        at = content.index(b"\xff\xc0") + 5
        return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]
    if kind == "PNG":
        return content[:16] + struct.pack(">II", width, height) + content[24:]
    if kind == "GIF":
        return content[:6] + struct.pack("<HH", width, height) + content[10:]
    if kind == "BMP":
        return content[:18] + struct.pack("<ii", width, height) + content[26:]
    if kind == "WebP":
        return content[:26] + struct.pack("<HH", width, height) + content[30:]
    if kind == "WebP lossless":
        return content[:21] + struct.pack("<I", (width - 1) | (height - 1) << 14) + content[25:]
    return content[:24] + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little") + content[30:]


@pytest.mark.parametrize(
    "kind", ["JPEG baseline", "PNG", "GIF", "BMP", "WebP", "WebP lossless", "WebP transparent", "WebP animation"]
)
@pytest.mark.parametrize(("width", "height"), [(9000, 9000), (8193, 1), (1, 8193), (8192, 8192)])
def test_a_header_that_claims_too_much_is_refused_with_its_figures(kind: str, width: int, height: int) -> None:
    if kind == "GIF":  # which its frame, of 61 x 43, enlarges
        width, height = max(width, 61), max(height, 43)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=f"claims {width} x {height} pixels; at most .* 8192 pixels"
    ):
        decode(claiming(kind, width, height))


def test_a_frame_that_is_larger_than_it_says_is_refused() -> None:
    """An animation's frame says its size twice: what it takes is by the second, which the limits did not see."""
    content = claiming("WebP animation", 61, 43)
    at = content.index(b"VP8 ") + 14
    with pytest.raises(tf.errors.InvalidArgumentError, match="damaged"):
        decode(content[:at] + struct.pack("<HH", 16383, 16383) + content[at + 4 :])


def test_limits_can_be_set() -> None:
    content = encoded(SMALL, "PNG")
    limits = Limits(pixels=61 * 43, side=61, bytes=len(content))
    assert decode(content, limits).shape == (43, 61, 3)
    for beyond in (encoded(Image.new("1", (62, 1)), "PNG"), encoded(Image.new("1", (52, 51)), "PNG"), content + b" "):
        with pytest.raises(tf.errors.InvalidArgumentError, match="at most"):
            decode(beyond, limits)


REFUSED = {
    "text": (b"This is not a picture.", "no JPEG, PNG"),
    "nothing": (b"", "no JPEG, PNG"),
    "three bytes": (b"\xff\xd8\xff", "damaged or cut short"),
    "half a JPEG": (FILES["JPEG baseline"][:600], "damaged or cut short"),
    "a JPEG without its end": (FILES["JPEG baseline"][:-2], "damaged or cut short"),
    "half a PNG": (FILES["PNG"][: len(FILES["PNG"]) // 2], "damaged or cut short"),
    "half a GIF": (FILES["GIF"][: len(FILES["GIF"]) // 2], "damaged or cut short"),
    "a GIF without a frame": (FILES["GIF"][: FILES["GIF"].index(b"\x2c\0\0\0\0")] + b";", "GIF"),
    "half a WebP": (FILES["WebP"][: len(FILES["WebP"]) // 2], "damaged or cut short"),
    "half an animated WebP": (FILES["WebP animation"][:300], "damaged or cut short"),
    "half a BMP": (FILES["BMP"][: len(FILES["BMP"]) // 2], "cut short"),
    "a BMP of 15 bits": (FILES["BMP"][:28] + b"\x0f" + FILES["BMP"][29:], "15 bits .* save it as PNG"),
    "a PNG without pixels": (claiming("PNG", 0, 5), "claims 0 x 5"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_whole_picture_is_refused_with_the_reason(kind: str) -> None:
    content, reason = REFUSED[kind]
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason) as refused:
        decode(content)
    assert refused.value.message.endswith(".")
    assert "\n" not in refused.value.message


def test_a_pipeline_and_an_exported_graph_refuse_for_the_same_reasons(tmp_path: Path) -> None:
    module = tf.Module()
    module.decode = tf.function(decode, input_signature=[tf.TensorSpec([], tf.string)])
    tf.saved_model.save(module, str(tmp_path))
    exported = tf.saved_model.load(str(tmp_path))
    pipeline = iter(tf.data.Dataset.from_tensor_slices([content for content, _ in REFUSED.values()]).map(decode))
    for content, reason in REFUSED.values():
        with pytest.raises(tf.errors.InvalidArgumentError) as by_graph:
            exported.decode(content)
        with pytest.raises(tf.errors.InvalidArgumentError) as by_pipeline:
            next(pipeline)
        for refused in (by_graph, by_pipeline):
            sentence = refusal(refused.value)
            assert sentence.startswith("This ")
            assert sentence.endswith(".")
            assert re.search(reason, sentence)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured as Linux tells it")
@pytest.mark.parametrize("count", [100, pytest.param(20_000, marks=pytest.mark.slow)])
def test_damaged_files_are_decoded_or_refused_with_a_reason_in_little_memory(count: int) -> None:
    command = [sys.executable, "-m", "tests.makers.mutated_images", str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60 + count / 10)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["decoded"] + found["refused"] == count
    assert found["decoded"] > count / 10
    assert found["refused"] > count / 10
    assert all(reason.startswith("This ") and reason.endswith(".") for reason in found["reasons"])
    assert found["peak"] < 700
    assert found["seconds"] < 10


# ---- large pictures and windows of pictures


@pytest.mark.parametrize(
    ("size", "ratio"),
    [
        ((2600, 1800), 2),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [((2300, 1700), 1), ((8192, 4000), 4)]),
    ],
)
def test_a_large_jpeg_is_reduced_while_decoding_as_pillow_drafts_it(size: tuple[int, int], ratio: int) -> None:
    content = encoded(PHOTO.resize(size, Image.Resampling.NEAREST), "JPEG", exif=exif(6), quality=30)
    found = Preprocessing(height=64, width=64).decode(content)
    with Image.open(io.BytesIO(content)) as image:
        image.draft(None, (size[0] // ratio, size[1] // ratio))
        np.testing.assert_array_equal(found, ImageOps.exif_transpose(image))
    assert found.shape == (-(-size[0] // ratio), -(-size[1] // ratio), 3)


def windows(count: int) -> list[Window]:
    shares = np.random.default_rng(3).uniform(size=(count, 2, 2)).astype(np.float32)
    return [  # every third of a shape of its own, whatever the picture's
        Window(tf.constant(np.maximum(size, 1e-3)), tf.constant(place), tf.constant(1.5 if i % 3 == 2 else 0.0))
        for i, (size, place) in enumerate(shares)
    ]


@pytest.mark.parametrize(
    "kind",
    ["JPEG 4:2:0", "JPEG 4:2:2", "JPEG progressive", "JPEG greyscale", "JPEG CMYK", "JPEG larger", "PNG", "GIF"]
    + [f"JPEG, orientation {i}, behind a comment" for i in range(1, 9)],
)
def test_a_window_is_what_cutting_the_whole_picture_gives(kind: str) -> None:
    content = FILES[kind]
    whole = decode(content)
    preprocessing = Preprocessing(height=100, width=100)  # as large as the picture: nothing is reduced
    for window in windows(40):
        np.testing.assert_array_equal(preprocessing.decode_window(content, window), window.of(whole))


def test_a_window_of_a_large_jpeg_is_reduced_and_hardly_differs() -> None:
    content = encoded(PHOTO, "JPEG", quality=95, exif=exif(8))
    whole = decode(content)
    preprocessing = Preprocessing(height=64, width=48)
    full = Window(tf.constant([1.0, 1.0]), tf.constant([0.0, 0.0]))
    assert preprocessing.decode_window(content, full).shape == (160, 107, 3)  # a quarter: 2.2 times 48 columns
    half = Window(tf.constant([0.5, 0.5]), tf.constant([1.0, 0.0]))
    assert preprocessing.decode_window(content, half).shape == (160, 107, 3)
    for window in (full, half):
        reduced = preprocessing(preprocessing.decode_window(content, window))
        assert np.abs(reduced - preprocessing(window.of(whole))).mean() * 127.5 < 1


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


def alone_on_device(preprocessing: Preprocessing) -> Any:
    return lambda pixels: preprocessing.on_device(pixels[tf.newaxis])[0]


@WAYS
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_what_runs_on_a_device_computes_the_same(source: Any, target: Any, way: Any) -> None:
    pixels, preprocessing = noise(*source), Preprocessing(height=target[0], width=target[1])
    right = resized_in_float64(pixels, *target) / 127.5 - 1.0
    found = way(alone_on_device(preprocessing), pixels)
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found, preprocessing(pixels), rtol=0, atol=1e-5)


def test_a_device_prepares_each_picture_of_a_batch_for_itself() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (3, 20, 31, 3), dtype=np.uint8)
    preprocessing = Preprocessing(height=12, width=40, aspect="keep", crop=0.875)
    right = [preprocessing(picture) for picture in pixels]
    np.testing.assert_allclose(preprocessing.on_device(pixels), right, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"crop": 0.6, "resize": "bicubic"},
        {"aspect": "keep", "crop": 0.875, "colour": "BGR"},
        {"aspect": "pad", "mean": (104.0, 117.0, 128.0)},
        {"antialias": False},
        {"colour": "grey"},
    ],
    ids=str,
)
@pytest.mark.parametrize("source", [(20, 31), (70, 9)])
def test_pictures_of_one_size_are_prepared_together_as_each_alone(source: Any, options: dict[str, Any]) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (3, *source, 3), dtype=np.uint8)
    preprocessing = Preprocessing(height=25, width=36, **options)
    together = preprocessing(pixels)
    assert together.shape == (3, 25, 36, 1 if "grey" in options.values() else 3)
    np.testing.assert_array_equal(together, [preprocessing(picture) for picture in pixels])


def test_black_is_minus_one_and_white_is_one() -> None:
    pixels = np.zeros((9, 14, 3), np.uint8)
    pixels[:, 7:] = 255
    for size in (5, 30):
        preprocessing = Preprocessing(height=size, width=size)
        for found in (preprocessing(pixels).numpy(), alone_on_device(preprocessing)(pixels).numpy()):
            assert np.abs(found).max() <= 1 + 1e-6
            np.testing.assert_allclose(found[:, 0], -1, atol=1e-6)
            np.testing.assert_allclose(found[:, -1], 1, atol=1e-6)


def test_pixels_of_any_number_type_are_taken() -> None:
    pixels = noise(11, 13)
    preprocessing = Preprocessing(height=8, width=8)
    np.testing.assert_array_equal(preprocessing(pixels.astype(np.float32)), preprocessing(pixels))


# ---- the ways in which published weights were evaluated


def torchvision(pixels: Array, shorter: int, wanted: int, filter_: Image.Resampling) -> Array:
    """Resize(shorter) and CenterCrop(wanted) by their definitions, on Pillow, which is what they call."""
    height, width = pixels.shape[:2]
    tall, wide = (shorter, shorter * width // height) if height < width else (shorter * height // width, shorter)
    top, left = round((tall - wanted) / 2), round((wide - wanted) / 2)
    picture = Image.fromarray(pixels).resize((wide, tall), filter_).crop((left, top, left + wanted, top + wanted))
    return np.asarray(picture, np.float64)


TORCHVISION = [
    pytest.param((120, 160), 64, 56, id="wide"),
    pytest.param((161, 90), 64, 56, id="tall"),
    pytest.param((50, 50), 64, 56, id="square, growing"),
    pytest.param((375, 500), 342, 299, id="an odd pixel to spare"),
    pytest.param((211, 500), 73, 64, id="the other odd pixel"),
]


@pytest.mark.parametrize(("source", "shorter", "wanted"), TORCHVISION)
@pytest.mark.parametrize("resize", ["bilinear", "bicubic"])
def test_keeping_the_aspect_is_torchvisions_resize_and_centre_crop(
    source: Any, shorter: int, wanted: int, resize: Any
) -> None:
    pixels = 96 + noise(*source) // 4  # no cubic overshoots 0 or 255, where Pillow would cut it between the axes
    preprocessing = Preprocessing(
        height=wanted,
        width=wanted,
        aspect="keep",
        crop=wanted / shorter,
        resize=resize,
        mean=(123.675, 116.28, 103.53),
        deviation=(58.395, 57.12, 57.375),
    )
    found = preprocessing(pixels).numpy() * [58.395, 57.12, 57.375] + [123.675, 116.28, 103.53]
    right = torchvision(pixels, shorter, wanted, Image.Resampling[resize.upper()])
    assert np.abs(found - right).max() <= 1.3  # Pillow rounds to whole levels after each of the two axes


@pytest.mark.parametrize("source", [(120, 160), (161, 90), (32, 24), (20, 31), (5, 400)])
@pytest.mark.parametrize("crop", [1.0, 0.8])
def test_padding_fits_the_middle_in_its_aspect_and_fills_the_rest_with_the_mean(source: Any, crop: float) -> None:
    height, width, mean = 33, 24, np.array([30.0, 20.0, 10.0])  # BGR
    options: dict[str, Any] = {"colour": "BGR", "mean": mean, "deviation": (2, 2, 2)}
    preprocessing = Preprocessing(height=height, width=width, aspect="pad", crop=crop, **options)
    pixels = noise(*source)
    margins = [int((side - side * crop) / 2 + 1e-9) for side in source]
    taken = pixels[margins[0] : source[0] - margins[0], margins[1] : source[1] - margins[1]]
    rows, columns = taken.shape[:2]
    tall = rows / columns > height / width
    sides = (height, max(1, height * columns // rows)) if tall else (max(1, width * rows // columns), width)
    right = np.tile(mean[::-1], (height, width, 1))
    top, left = (height - sides[0]) // 2, (width - sides[1]) // 2
    right[top : top + sides[0], left : left + sides[1]] = resized_in_float64(taken, *sides)
    np.testing.assert_allclose(preprocessing.resized(pixels), right, rtol=0, atol=2e-3)
    for found in (preprocessing(pixels).numpy(), alone_on_device(preprocessing)(pixels).numpy()):
        np.testing.assert_allclose(found, (right[..., ::-1] - mean) / 2, rtol=0, atol=1e-3)
        around = np.ones((height, width), bool)
        around[preprocessing.filled(*taken.shape[:2])] = False
        assert np.count_nonzero(~around) == sides[0] * sides[1]
        assert (found[around] == 0).all()


def test_padding_is_that_of_tensorflow_where_both_round_alike() -> None:
    pixels = noise(60, 80)
    found = Preprocessing(height=40, width=40, aspect="pad", mean=(0, 0, 0), deviation=(1, 1, 1))(pixels)
    np.testing.assert_allclose(found, tf.image.resize_with_pad(pixels, 40, 40, antialias=True), rtol=0, atol=1e-3)


@pytest.mark.parametrize("source", [(120, 160), (97, 35), (20, 31)])
def test_squashing_takes_the_middle_of_both_sides(source: tuple[int, int]) -> None:
    pixels = noise(*source)
    found = Preprocessing(height=32, width=24, crop=0.875)(pixels).numpy()
    low = [int((side - side * 0.875) / 2) for side in source]
    middle = pixels[low[0] : source[0] - low[0], low[1] : source[1] - low[1]]
    np.testing.assert_allclose(found, resized_in_float64(middle, 32, 24) / 127.5 - 1.0, rtol=0, atol=1e-5)


def test_the_margin_of_a_crop_is_that_of_tf_slim_which_counts_in_float64() -> None:
    """In float32, 0.6 of 15 is more than 9."""
    for crop in (0.6, 0.8, 0.9531914893617022):
        preprocessing = Preprocessing(height=1, width=1, crop=crop)
        found = [
            preprocessing._axes(tf.constant(float(side)), tf.constant(1.0))[0].low.numpy() for side in range(1, 400)
        ]
        assert found == [int((side - side * crop) / 2) for side in range(1, 400)]


@pytest.mark.parametrize("source", [(160, 120), (97, 35), (20, 31), (1, 1)])
@pytest.mark.parametrize(
    "options",
    [
        {"crop": 0.875},
        {"crop": 0.875, "antialias": False},
        {"antialias": False},
        {"resize": "bicubic"},
        {"resize": "bicubic", "crop": 0.6},
        {"aspect": "keep", "crop": 0.875},
        {"aspect": "keep", "crop": 0.875, "resize": "bicubic"},
        {"aspect": "keep"},
        {"aspect": "pad"},
        {"aspect": "pad", "antialias": False, "crop": 0.8},
        {"aspect": "pad", "crop": 0.6, "resize": "bicubic", "colour": "BGR", "mean": (104.0, 117.0, 128.0)},
        {"colour": "BGR", "mean": (104.0, 117.0, 128.0), "deviation": (1.0, 1.0, 1.0)},
    ],
    ids=str,
)
def test_a_device_computes_every_way_the_same(source: tuple[int, int], options: dict[str, Any]) -> None:
    pixels, preprocessing = noise(*source), Preprocessing(height=40, width=56, **options)
    right = preprocessing(pixels).numpy()
    scale = 127.5 / min(preprocessing.deviation)
    found = prepare_in_a_pipeline(alone_on_device(preprocessing), pixels)
    np.testing.assert_allclose(found, right, rtol=0, atol=2e-5 * scale)


def test_blue_comes_first_where_it_is_asked_for() -> None:
    pixels = np.broadcast_to(np.array([10, 20, 30], np.uint8), (8, 8, 3))
    preprocessing = Preprocessing(height=4, width=4, colour="BGR", mean=(1.0, 2.0, 3.0), deviation=(1.0, 2.0, 4.0))
    np.testing.assert_allclose(preprocessing(pixels)[0, 0], [29, 9, 1.75], atol=1e-5)


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
        "crop": 1.0,
        "mean": (127.5, 127.5, 127.5),
        "deviation": (127.5, 127.5, 127.5),
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "299 x 299 RGB, bilinear with antialias, squashed, -1..1"),
        (
            {"width": 320, "crop": 0.875, "antialias": False, "mean": (0, 0, 0), "deviation": (255, 255, 255)},
            "299 x 320 RGB, bilinear without antialias, squashed from the middle 87.5 %, 0..1",
        ),
        (
            {
                "aspect": "keep",
                "crop": 299 / 342,
                "resize": "bicubic",
                "colour": "BGR",
                "mean": (123.675, 116.28, 103.53),
                "deviation": (58.395, 57.12, 57.375),
            },
            "299 x 299 BGR, bicubic with antialias, aspect kept to cover 342 x 342, the middle, "
            "minus 123.675, 116.28, 103.53, over 58.395, 57.12, 57.375",
        ),
        ({"mean": (104, 117, 128), "deviation": (1, 1, 1)}, "squashed, minus 104, 117, 128, over 1, 1, 1"),
        (
            {"aspect": "pad"},
            "299 x 299 RGB, bilinear with antialias, aspect of all kept, the rest filled with the mean, -1..1",
        ),
        (
            {"aspect": "pad", "crop": 0.5},
            "299 x 299 RGB, bilinear with antialias, aspect of the middle 50 % kept, the rest filled with the mean, "
            "-1..1",
        ),
        ({"colour": "grey"}, "299 x 299 grey, bilinear with antialias, squashed, -1..1"),
    ],
)
def test_a_preprocessing_says_in_one_line_what_it_does(options: dict[str, Any], words: str) -> None:
    found = Preprocessing.model_validate({"height": 299, "width": 299, **options}).described()
    assert found == words or (found.endswith(words) and words.startswith("squashed"))


@pytest.mark.parametrize(
    "changed",
    [
        {"scaling": "0..1"},
        {"height": 0},
        {"height": "tall"},
        {"crop": 0},
        {"crop": 1.1},
        {"mean": (0.5,)},
        {"deviation": (1, 0, 1)},
        {"resize": "nearest"},
        {"resize": "bicubic", "antialias": False},
        {"colour": "YUV"},
        {"colour": "grey", "mean": (104, 117, 128)},
        {"colour": "grey", "deviation": (58.4, 57.1, 57.4)},
        {"aspect": "crop"},
    ],
    ids=str,
)
def test_a_preprocessing_that_it_cannot_do_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        Preprocessing.model_validate({"height": 32, "width": 32, **changed})


def test_a_preprocessing_does_not_change() -> None:
    with pytest.raises(pydantic.ValidationError):
        setattr(Preprocessing(height=32, width=32), "height", 5)  # noqa: B010 - the type checker knows it
