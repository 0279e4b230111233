"""Pictures of kinds that are not decoded, as PNGs: that these show what whoever wrote the files meant."""

import importlib.util
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from app.images import converting, decoding
from app.images.converting import NotConvertedError, convert
from export.picture_files import Limits
from tests.makers.image_files import exif

Array = NDArray[Any]
RNG = np.random.default_rng(0)
SMOOTH = np.stack(np.meshgrid(np.arange(0, 240, 5), np.arange(0, 160, 5)), -1).astype(np.uint8)  # 32 x 48
RGB = np.concatenate([SMOOTH, 255 - SMOOTH[..., :1]], -1)
ALPHA = np.where(np.arange(48) < 24, 0, 255).astype(np.uint8) * np.ones((32, 1), np.uint8)
GREY16 = RNG.integers(0, 65536, (32, 48), dtype=np.uint16)
INKS = RNG.integers(0, 256, (32, 48, 4), dtype=np.uint8)


def written(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def heic(image: Image.Image, **options: Any) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    return written(image, "HEIF", quality=-1, matrix_coefficients=0, chroma=444, **options)


def grey(values: Array) -> Array:
    return np.repeat(values[..., np.newaxis], 3, axis=-1).astype(np.uint8)


def on_white(pixels: Array, alpha: Array) -> Array:
    return np.where(alpha[..., np.newaxis] == 0, 255, pixels)


def of_inks(inks: Array) -> Array:
    """Red is what neither cyan nor black takes away."""
    light = 1 - inks / 255
    return np.asarray(light[..., :3] * light[..., 3:] * 255)


def negative_16() -> bytes:
    """Pillow writes none, but reads what says so in its tag 262."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    return written(Image.fromarray(GREY16), "TIFF", tiffinfo=tags)


RGBA = np.dstack([RGB, ALPHA])
# What is written, what it shows, and by how many levels that may differ.
CASES: dict[str, tuple[Callable[[], bytes], Array, float]] = {
    "TIFF": (lambda: written(Image.fromarray(RGB), "TIFF"), RGB, 0),
    "TIFF packed by LZW": (lambda: written(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"), RGB, 0),
    "TIFF of greys": (lambda: written(Image.fromarray(RGB[..., 0]), "TIFF"), grey(RGB[..., 0]), 0),
    "TIFF of 16 bits": (lambda: written(Image.fromarray(GREY16), "TIFF"), grey(GREY16 // 256), 0),
    "TIFF of 16 bits, 0 is white": (negative_16, grey(255 - GREY16 // 256), 0),
    "TIFF that is transparent": (lambda: written(Image.fromarray(RGBA), "TIFF"), on_white(RGB, ALPHA), 0),
    "TIFF of inks": (lambda: written(Image.fromarray(INKS, "CMYK"), "TIFF"), of_inks(INKS), 1),
    "TIFF of black and white": (
        lambda: written(Image.fromarray(RGB[..., 0]).point(lambda v: 255 * (v > 99), "1"), "TIFF"),
        grey(255 * (RGB[..., 0] > 99)),
        0,
    ),
    "TIFF on its side": (lambda: written(Image.fromarray(RGB), "TIFF", tiffinfo={274: 6}), np.rot90(RGB, -1), 0),
    "AVIF": (lambda: written(Image.fromarray(RGB), "AVIF", quality=100, subsampling="4:4:4"), RGB, 3),
    "AVIF that is transparent": (
        lambda: written(Image.fromarray(RGBA), "AVIF", quality=100, subsampling="4:4:4"),
        on_white(RGB, ALPHA),
        3,
    ),
    "AVIF on its side": (
        lambda: written(Image.fromarray(RGB), "AVIF", quality=100, subsampling="4:4:4", exif=exif(6)),
        np.rot90(RGB, -1),
        3,
    ),
    "HEIC": (lambda: heic(Image.fromarray(RGB)), RGB, 1),
    "HEIC that is transparent": (lambda: heic(Image.fromarray(RGBA)), on_white(RGB, ALPHA), 1),
    "HEIC on its side": (lambda: heic(Image.fromarray(RGB), exif=exif(6)), np.rot90(RGB, -1), 1),
    "JPEG 2000": (lambda: written(Image.fromarray(RGB), "JPEG2000"), RGB, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_the_png_shows_what_was_meant(case: str) -> None:
    make, wanted, tolerance = CASES[case]
    found = convert(make())
    assert found.kind == next(kind for kind in ("TIFF", "AVIF", "HEIC", "JPEG 2000") if case.startswith(kind))
    assert found.pages == 1
    pixels = decoding.decode(found.png).numpy()
    assert pixels.shape == wanted.shape
    # Broken rows or colours in another order would be a hundred levels away.
    np.testing.assert_allclose(pixels.astype(float), wanted.astype(float), atol=tolerance)


def test_of_several_pages_the_first_is_taken() -> None:
    first, second = (Image.fromarray(pixels) for pixels in (RGB, 255 - RGB))
    found = convert(written(first, "TIFF", save_all=True, append_images=[second, second]))
    assert found.pages == 3
    assert (decoding.decode(found.png).numpy() == RGB).all()


def test_what_needs_no_conversion_is_none_of_its_kinds() -> None:
    for format_ in ("JPEG", "PNG", "GIF", "BMP", "WEBP"):
        assert converting.kind_of(written(Image.fromarray(RGB), format_)[:32]) is None


def test_boxes_are_told_by_the_brands_in_them() -> None:
    assert converting.kind_of(b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1miaf") == "AVIF"
    assert converting.kind_of(b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf") == "HEIC"
    assert converting.kind_of(b"\0\0\0\x1cftypisom\0\0\0\0isomiso2mp41") is None


def raw() -> bytes:
    """As Nikon's and Sony's begin: with a preview of less resolution."""
    return written(Image.fromarray(RGB), "TIFF", tiffinfo={254: 1})


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "a raw file": (raw, "This is a camera's raw file; develop it"),
    "fractions": (lambda: written(Image.fromarray(RGB[..., 0].astype(np.float32)), "TIFF"), "has 32 bits, or signs"),
    "cut": (lambda: written(Image.fromarray(RGB), "TIFF")[:2000], "This TIFF is damaged, or of a sort"),
    "cut AVIF": (lambda: written(Image.fromarray(RGB), "AVIF")[:300], "This AVIF is damaged, or of a sort"),
    "a picture": (lambda: written(Image.fromarray(RGB), "PNG"), "no picture that could be converted"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_converted_is_told_in_one_sentence(case: str) -> None:
    make, words = REFUSED[case]
    with pytest.raises(NotConvertedError, match=words) as caught:
        convert(make())
    assert str(caught.value).count(". ") == 0


def test_limits_are_those_of_all_pictures() -> None:
    tiff = written(Image.fromarray(RGB), "TIFF")
    with pytest.raises(NotConvertedError, match="claims 48 x 32 pixels; at most"):
        convert(tiff, Limits(pixels=48 * 32 - 1))
    with pytest.raises(NotConvertedError, match=f"has {len(tiff)} bytes; at most"):
        convert(tiff, Limits(bytes=len(tiff) - 1))


def test_a_png_that_would_be_too_large_is_a_webp_without_loss() -> None:
    noisy = np.clip(RGB.astype(int) + RNG.integers(-40, 40, RGB.shape), 0, 255).astype(np.uint8)
    avif = written(Image.fromarray(noisy), "AVIF", quality=60)
    png = convert(avif).png
    assert decoding.kind_of(png) == "png"
    assert len(avif) < len(png) - 1
    webp = convert(avif, Limits(bytes=len(png) - 1)).png
    assert decoding.kind_of(webp) == "webp"
    assert (decoding.decode(webp).numpy() == decoding.decode(png).numpy()).all()
    with pytest.raises(NotConvertedError, match=r"would be a PNG of more than .* make it smaller"):
        converting._written(Image.fromarray(RNG.integers(0, 256, (99, 99, 3), np.uint8)), "TIFF", Limits(bytes=99))


def test_heic_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pillow_heif" else there(name))
    with pytest.raises(NotConvertedError, match=r"This is a HEIC picture; `pip install -e '\.\[heif\]'`"):
        convert(b"\0\0\0\x18ftypheic" + bytes(20))
