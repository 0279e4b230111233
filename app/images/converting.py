"""Pictures of other kinds than are decoded, as Pillow reads them: TIFF, HEIC, AVIF and JPEG 2000. They become PNGs that
show what `decoding.decode` would, could it read them.
"""

import importlib.util
import io
import threading
from typing import Any, NamedTuple

from PIL import Image, ImageOps

from export.picture_files import LIMITS, Limits

# How kinds begin, as their specifications say, and of files in boxes which brand they name first.
MARKS = {
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "JPEG 2000": (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
}
BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}
READERS = {"TIFF": "TIFF", "JPEG 2000": "JPEG2000", "AVIF": "AVIF", "HEIC": "HEIF"}  # as Pillow calls them
WHOLE_PICTURE, REDUCED, DNG, INKS, BITS = 0, 254, 50706, 262, 258  # of TIFF: tags, and a kind of first page
LOCK = threading.Lock()


class NotConvertedError(Exception):
    """Why a picture cannot be converted, in one sentence."""


class Converted(NamedTuple):
    """`png` is the content of a PNG, or of a lossless WebP where that PNG would be too large a file; `kind` what it
    was, one of READERS, and `pages` how many pictures that had: the first is taken."""

    png: bytes
    kind: str
    pages: int


def kind_of(start: bytes) -> str | None:
    """Which of READERS a file is, by its first 32 bytes; None of all others, those that need no conversion too."""
    if start[4:8] == b"ftyp":
        # Both kinds may name the brand of the box first, and their own behind it.
        return "AVIF" if b"avif" in start[16:32] else BRANDS.get(start[8:12])
    return next((kind for kind, marks in MARKS.items() if start.startswith(marks)), None)


def named(kind: str) -> str:
    return f"an {kind}" if kind == "AVIF" else f"a {kind}"


def convert(encoded: bytes, limits: Limits = LIMITS) -> Converted:
    """A picture of READERS as the content of a PNG of 8 bits RGB, upright as its Exif says.

    - What is transparent is laid on white.
    - Of 16 bits the upper eight count, of 12 too. What has 32, or fractions, has no white that anybody knows.
    - Inks, cyan to black, are converted without a profile of colours, which is not asked for other kinds either.
    - Of several pages or pictures the first, or that which the file calls the main one, is taken.

    Raises:
        NotConvertedError: it is damaged, beyond `limits`, or none of these kinds; a camera's raw file; HEIC without
            pillow-heif.
    """
    kind = kind_of(encoded[:32])
    if kind is None:
        raise NotConvertedError("This is no picture that could be converted.")
    if kind == "HEIC":
        _read_heic()
    most = f"at most {limits.bytes} bytes, {limits.side} pixels a side and {limits.pixels} in all are converted"
    if len(encoded) > limits.bytes:
        raise NotConvertedError(f"This {kind} has {len(encoded)} bytes; {most}.")
    try:
        with Image.open(io.BytesIO(encoded), formats=[READERS[kind]]) as opened:
            _check_is_no_raw(opened, encoded)
            width, height = opened.size
            if max(width, height) > limits.side or width * height > limits.pixels:
                raise NotConvertedError(f"This {kind} claims {width} x {height} pixels; {most}.")
            pages = getattr(opened, "n_frames", 1)
            picture = _seen(opened)
    except NotConvertedError:
        raise
    except Image.DecompressionBombError as error:
        raise NotConvertedError(f"This {kind} claims far more pixels; {most}.") from error
    except Exception as error:  # Pillow's readers raise whatever they stumble over
        raise NotConvertedError(f"This {kind} is damaged, or of a sort that Pillow does not read.") from error
    return Converted(_written(picture, kind, limits), kind, pages)


def _read_heic() -> None:
    if importlib.util.find_spec("pillow_heif") is None:
        raise NotConvertedError("This is a HEIC picture; `pip install -e '.[heif]'` installs what reads it.")
    import pillow_heif

    with LOCK:
        pillow_heif.register_heif_opener()


def _check_is_no_raw(opened: Image.Image, encoded: bytes) -> None:
    """Cameras' raw files are TIFFs whose first page is a small preview: nobody wants that for the photograph."""
    tags = getattr(opened, "tag_v2", {})
    if encoded[8:10] == b"CR" or DNG in tags or tags.get(REDUCED, WHOLE_PICTURE) & 1:
        raise NotConvertedError("This is a camera's raw file; develop it, and save it as JPEG or PNG.")


def _seen(opened: Image.Image) -> Image.Image:
    """RGB as a person sees it."""
    import numpy as np  # not for every command that finds pictures

    tags = getattr(opened, "tag_v2", {})
    is_negative, bits = tags.get(INKS) == 0, tags.get(BITS, (16,))[0]
    opened.info.pop("xmp", None)  # Exif turns a picture, here as everywhere
    opened.load()
    if opened.mode in ("I", "F"):
        raise NotConvertedError(f"This {opened.format} has 32 bits, or signs, a sample; save it with 8 or 16.")
    picture: Image.Image = ImageOps.exif_transpose(opened)
    if picture.mode.startswith("I;16"):
        grey = (np.asarray(picture).astype(np.uint16) >> (bits - 8)).astype(np.uint8)
        picture = Image.fromarray(255 - grey if is_negative else grey)
    if picture.mode == "CMYK":
        light = 255 - np.asarray(picture).astype(np.uint16)
        picture = Image.fromarray((light[..., :3] * light[..., 3:] // 255).astype(np.uint8))
    if picture.mode == "La":
        picture = picture.convert("LA")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture.convert("RGBA"))
        picture = white
    return picture.convert("RGB")


def _written(picture: Image.Image, kind: str, limits: Limits) -> bytes:
    """The smaller file is the slower one to write, and so comes second."""
    ways: tuple[tuple[str, dict[str, Any]], ...] = (("PNG", {}), ("WEBP", {"lossless": True, "quality": 50}))
    for format_, options in ways:
        buffer = io.BytesIO()
        picture.save(buffer, format_, **options)
        if buffer.tell() <= limits.bytes:
            return buffer.getvalue()
    raise NotConvertedError(
        f"This {kind} of {picture.width} x {picture.height} pixels would be a PNG of more than {limits.bytes} bytes; "
        "make it smaller, or save it as JPEG."
    )
