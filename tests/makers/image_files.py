"""Image files of every kind and sort that is decoded, made by Pillow or byte by byte, and Pillow's pixels of them."""

import io
import struct
from typing import Any

import numpy as np
import sklearn.datasets
from PIL import Image, ImageOps

Array = np.ndarray[Any, Any]

PHOTO = Image.fromarray(sklearn.datasets.load_sample_images().images[1])
SMALL = PHOTO.crop((180, 120, 180 + 61, 120 + 43))  # odd sides, not square
RNG = np.random.default_rng(0)
NOISE = Image.fromarray(RNG.integers(0, 256, (43, 61, 4), dtype=np.uint8))  # every opacity
SEEN_THROUGH = SMALL.copy()
SEEN_THROUGH.putalpha(NOISE.getchannel("A"))
OPACITIES = bytes(RNG.integers(0, 256, 16).tolist())


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def by_pillow(content: bytes) -> Array:
    """Upright, on white where it is transparent; of 16 grey bits the upper eight, of which Pillow would take none."""
    with Image.open(io.BytesIO(content)) as image:
        upright: Image.Image = image
        if image.mode.startswith("I"):
            upright = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        upright = ImageOps.exif_transpose(upright)
        if upright.has_transparency_data:
            white = Image.new("RGBA", upright.size, "white")
            white.alpha_composite(upright.convert("RGBA"))
            upright = white
        return np.asarray(upright.convert("RGB"))


def exif(orientation: int, order: str = "<") -> bytes:
    """A segment of two entries."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    make = struct.pack(order + "HHI", 0x010F, 2, 3) + b"ab\0\0"
    turned = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 2) + make + turned + bytes(4)


def top_down(bmp: bytes) -> bytes:
    (height,) = struct.unpack("<i", bmp[22:26])
    return bmp[:22] + struct.pack("<i", -height) + bmp[26:]


def bmp_with_masks(image: Image.Image, alpha: int) -> bytes:
    """A BMP of 32 bits with the longer header that says where red, green, blue and alpha are."""
    pixels = np.asarray(image)[::-1, :, [2, 1, 0, 3]].tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, *image.size, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, alpha) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels


def with_transparent(gif: bytes, number: int = 200) -> bytes:
    at = gif.index(b"!\xf9\x04") + 6
    return gif[:at] + bytes([number]) + gif[at + 1 :]


def _files() -> dict[str, bytes]:
    small, grey, animation = SMALL, SMALL.convert("L"), [SMALL.rotate(90).quantize(8)] * 5
    moving: dict[str, Any] = {"save_all": True, "append_images": [NOISE.rotate(180)]}
    files = {
        "JPEG baseline": encoded(small, "JPEG", subsampling=0),
        "JPEG 4:2:0": encoded(small, "JPEG", subsampling=2, quality=60),
        "JPEG 4:2:2": encoded(small, "JPEG", subsampling=1),
        "JPEG progressive": encoded(small, "JPEG", progressive=True, quality=85),
        "JPEG greyscale": encoded(grey, "JPEG"),
        "JPEG CMYK": encoded(small.convert("CMYK"), "JPEG"),
        "JPEG of one pixel": encoded(small.crop((0, 0, 1, 1)), "JPEG"),
        "JPEG larger": encoded(PHOTO.crop((0, 0, 317, 201)), "JPEG"),
        "PNG": encoded(small, "PNG"),
        "PNG RGBA": encoded(NOISE, "PNG"),
        "PNG grey and alpha": encoded(NOISE.convert("LA"), "PNG"),
        "PNG greyscale": encoded(grey, "PNG"),
        "PNG of one bit": encoded(small.convert("1"), "PNG"),
        "PNG of 16 bits": encoded(Image.fromarray(RNG.integers(0, 2**16, (43, 61), dtype=np.uint16)), "PNG"),
        "PNG palette with opacities": encoded(small.quantize(16), "PNG", transparency=OPACITIES),
        "PNG palette with a transparent colour": encoded(small.quantize(4), "PNG", transparency=3),
        "PNG RGB with a transparent colour": encoded(small, "PNG", transparency=small.getpixel((5, 5))),
        "PNG greyscale with a transparent level": encoded(grey, "PNG", transparency=grey.getpixel((5, 5))),
        "PNG of one bit, black transparent": encoded(small.convert("1"), "PNG", transparency=0),
        "GIF": encoded(small, "GIF"),
        "GIF interlaced": encoded(small.quantize(64), "GIF", interlace=1),
        "GIF transparent": encoded(small.quantize(16), "GIF", transparency=3),
        "GIF with a transparent colour that it has not": with_transparent(
            encoded(small.quantize(16), "GIF", transparency=3)
        ),
        "GIF from RGBA": encoded(SEEN_THROUGH, "GIF"),
        "GIF of many blocks": encoded(PHOTO, "GIF"),
        "GIF animation": encoded(
            small.quantize(32), "GIF", save_all=True, append_images=animation, transparency=2, comment=b"abc" * 200
        ),
        "WebP": encoded(small, "WEBP"),
        "WebP lossless": encoded(small, "WEBP", lossless=True),
        "WebP transparent": encoded(NOISE, "WEBP"),
        "WebP lossless, transparent": encoded(NOISE, "WEBP", lossless=True, exact=True),
        "WebP animation": encoded(small, "WEBP", save_all=True, append_images=animation),
        "WebP animation, transparent": encoded(NOISE, "WEBP", **moving),
        "WebP animation, lossless": encoded(
            NOISE, "WEBP", lossless=True, save_all=True, append_images=[NOISE.rotate(180)]
        ),
        "BMP": encoded(small, "BMP"),
        "BMP top-down": top_down(encoded(small, "BMP")),
        "BMP greyscale": encoded(grey, "BMP"),
        "BMP of one bit": encoded(small.convert("1"), "BMP"),
        "BMP of 32 bits": encoded(NOISE, "BMP"),
        "BMP of 32 bits with masks": bmp_with_masks(NOISE, 0),
        "BMP of 32 bits with alpha": bmp_with_masks(NOISE, 0xFF000000),
    }
    for count in (2, 3, 16, 17, 200):  # 1, 2, 4 and 8 bits
        for format_ in ("PNG", "GIF", "BMP"):
            files[f"{format_} of {count} colours"] = encoded(small.quantize(count), format_)
    files["BMP palette, top-down"] = top_down(files["BMP of 16 colours"])
    for i in range(1, 9):
        big = exif(i, ">")
        files[f"JPEG, orientation {i}"] = encoded(small, "JPEG", exif=exif(i))
        files[f"JPEG, orientation {i}, behind a comment"] = encoded(
            small, "JPEG", exif=big, subsampling=2, comment=b"abc"
        )
        files[f"PNG, orientation {i}"] = encoded(SEEN_THROUGH, "PNG", exif=big)
        files[f"WebP, orientation {i}"] = encoded(SEEN_THROUGH, "WEBP", exif=exif(i))
    return files


FILES = _files()
