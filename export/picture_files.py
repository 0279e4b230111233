"""From the bytes of an image file to pixels, without TensorFlow: Pillow decodes, and what it sees otherwise than the
decoder inside the SavedModel is set right. And what is decoded at most.

Imports nothing of this project: `run_artefact` needs it where the project is not there.
"""

import io
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

# The kinds of file, by a mark at a place near the beginning.
MAGIC = {
    "jpeg": (0, b"\xff\xd8\xff"),
    "png": (0, b"\x89PNG\r\n\x1a\n"),
    "gif": (0, b"GIF8"),
    "webp": (8, b"WEBP"),
    "bmp": (0, b"BM"),
}
NAMES = {"jpeg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WebP", "bmp": "BMP"}
UNKNOWN = "This is no JPEG, PNG, GIF, WebP or BMP file."
DAMAGED = "This file is damaged or cut short."
LARGE = 4_000_000  # pixels of a JPEG beyond which it is reduced while it is decoded
ADOBE_MARK = "adobe"
# The tag of Exif; bytes of a number by its type: the standard wants a SHORT, some write a LONG. And how many entries
# are read, more than any camera writes.
ORIENTATION, SIZES, ENTRIES = 0x0112, {3: 2, 4: 4}, 512
# What turns a picture upright, by the orientation that Exif says.
UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # chunks of a PNG that change no pixel
# Headers of BMP, in bytes: of which they can say a packing, that have the masks behind them, that have a fourth mask.
SHORTEST, MASKS_BEHIND, WITH_ALPHA, LONGEST = 20, 40, 56, 124
MASKED, MASKED_WITH_ALPHA = 3, 6  # the packings of pixels with masks

FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # of JPEG: baseline, extended, progressive, coded by Huffman or by arithmetic
SORTS = dict.fromkeys((0xC3, 0xCB), "lossless") | {0xF7: "near-lossless (JPEG-LS)"}
SORTS |= dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "hierarchical")
MORE_BITS = 12  # the other number that frames may have
SCAN = 0xDA  # the marker behind which are pixels


class RefusedError(Exception):
    """A file that is not decoded: why, in one sentence. What Pillow said of it is the cause."""


class Limits(NamedTuple):
    """What is decoded at most, of which the header tells before memory is taken."""

    pixels: int = 40_000_000
    side: int = 8_192
    bytes: int = 20_000_000


LIMITS = Limits()


def kind_of(encoded: bytes) -> str | None:
    """Of MAGIC, by the first bytes."""
    return next((kind for kind, (at, mark) in MAGIC.items() if encoded.startswith(mark, at)), None)


def decode(encoded: bytes, limits: Limits = LIMITS) -> Any:
    """uint8 RGB (height, width, 3), upright, as the SavedModel decodes the file; but see `doubt`.

    Raises:
        RefusedError: no such file, a damaged one or one cut short, or beyond the limits.
    """
    kind = kind_of(encoded)
    if kind is None:
        raise RefusedError(UNKNOWN)
    if kind == "bmp" and _has_masks(encoded):
        return _of_masks(encoded, limits)
    try:
        opened = _opened(kind, encoded)
        width, height = opened.size
    except Exception as error:  # Pillow's readers raise whatever they stumble over
        raise RefusedError(_reason(kind, encoded, error)) from error
    _check_size(kind, encoded, width, height, limits)
    try:
        ratio = 1
        while kind == "jpeg" and ratio < 8 and width * height > LARGE * ratio**2:
            ratio *= 2
        opened.draft(None, (width // ratio, height // ratio))
        orientation = _said_by_exif(
            opened.info.get("exif", b"")
        )  # before the pixels are read: what stands behind them does not count
        frame = opened.tile[0][1] if kind == "gif" and opened.tile else None
        opened.load()
        return _upright(opened, frame, orientation)
    except Exception as error:
        raise RefusedError(_reason(kind, encoded, error)) from error


def _upright(opened: Any, frame: tuple[int, int, int, int] | None, orientation: int) -> Any:
    """RGB of what Pillow has loaded; of a GIF `frame` is the part of it that has pixels."""
    import numpy as np
    from PIL import Image

    image: Image.Image = opened
    if opened.mode.startswith("I"):
        # 16 bits of grey, of which Pillow would cut off all above 255: the graph's decoder takes the upper eight.
        deep = np.asarray(opened)
        image = Image.fromarray((deep >> 8).astype(np.uint8))
        if (level := opened.info.get("transparency")) is not None:
            image.putalpha(Image.fromarray(np.where(deep == level, 0, 255).astype(np.uint8)))
    if image.mode == "CMYK":
        # Rounded down, as TensorFlow does; Pillow's colours differ by up to one level. Only what bears Adobe's mark is
        # a negative; Pillow takes all files for that, and has turned them.
        inks = np.asarray(image).astype(np.uint16)
        if ADOBE_MARK in opened.info:
            inks = 255 - inks
        image = Image.fromarray((inks[..., :3] * inks[..., 3:] // 255).astype(np.uint8))
    if image.has_transparency_data or frame:
        white = Image.new("RGBA", image.size, "white")
        # Around a frame that does not cover its picture nothing is seen; Pillow puts a colour there.
        white.alpha_composite(image.convert("RGBA").crop(frame), tuple(frame[:2]) if frame else (0, 0))
        image = white
    if orientation in UPRIGHT:
        image = image.transpose(Image.Transpose[UPRIGHT[orientation]])
    return np.asarray(image.convert("RGB"))


def doubt(encoded: bytes) -> str | None:
    """Why `decode` may give other pixels than the SavedModel's decoder, where it may."""
    if incomplete(encoded):
        return "not all scans of this progressive JPEG are there, and decoders guess the rest differently"
    return None


def _check_size(kind: str, encoded: bytes, width: int, height: int, limits: Limits) -> None:
    fits = min(width, height) > 0 and max(width, height) <= limits.side and width * height <= limits.pixels
    if not fits or len(encoded) > limits.bytes:
        raise RefusedError(
            f"This {NAMES[kind]} has {len(encoded)} bytes and claims {width} x {height} pixels; at most {limits.bytes} "
            f"bytes, {limits.side} pixels a side and {limits.pixels} in all are decoded."
        )


def _opened(kind: str, encoded: bytes) -> Any:
    """By the reader of this kind alone: `Image.open` would load all of them, and refuse sizes in its own words."""
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    if kind == "png":
        encoded = _without_texts(encoded)
    readers: dict[str, Callable[[Any], Any]] = {
        "jpeg": JpegImagePlugin.JpegImageFile,  # also of telephones' MPO, several JPEGs, of which the first counts
        "png": PngImagePlugin.PngImageFile,
        "gif": GifImagePlugin.GifImageFile,
        "webp": WebPImagePlugin.WebPImageFile,
        "bmp": BmpImagePlugin.BmpImageFile,
    }
    return readers[kind](io.BytesIO(encoded))


def _has_masks(encoded: bytes) -> bool:
    """Whether this BMP has 16 or 32 bits a pixel and says which of them are red, green, blue and perhaps opacity."""
    header, bits, packing = _number(encoded, 14), _number(encoded, 28, 2), _number(encoded, 30)
    return SHORTEST <= header <= LONGEST and bits in (16, 32) and packing in (MASKED, MASKED_WITH_ALPHA)


def _of_masks(encoded: bytes, limits: Limits) -> Any:
    """Pillow reads few of these layouts, and no opacity in 16 bits."""
    import numpy as np
    from PIL import Image

    header, bits, packing = _number(encoded, 14), _number(encoded, 28, 2), _number(encoded, 30)
    width, height = (_number(encoded, at, signed=True) for at in (18, 22))
    top_down, height = height < 0, abs(height)
    _check_size("bmp", encoded, width, height, limits)
    count = 4 if header >= WITH_ALPHA or packing == MASKED_WITH_ALPHA else 3
    masks = [_number(encoded, 54 + 4 * i) for i in range(count)]
    lowest = [mask & -mask for mask in masks]
    highest = [mask // max(low, 1) for mask, low in zip(masks, lowest, strict=True)]
    if not all(lowest[:3]) or any(high & (high + 1) for high in highest):
        said = " ".join(str(_number(encoded, 54 + 4 * i, signed=True) if i < count else 0) for i in range(4))
        raise RefusedError(f"This BMP has the masks {said} which leave out a colour or have holes; save it as PNG.")
    # Some files say a place within what comes before the pixels, and mean the one behind that.
    start, behind = _number(encoded, 10, signed=True), 14 + header
    if 0 <= start <= behind:
        start = behind + (12 if header == MASKS_BEHIND else 0)
    row = (width * bits + 31) // 32 * 4  # bytes: whole groups of four, of which some leave out what fills up the last
    if not 0 < start <= len(encoded) - row * (height - 1) - (width * bits + 7) // 8:
        raise RefusedError("This BMP is cut short.")
    stored = np.frombuffer(encoded[start : start + row * height].ljust(row * height, b"\0"), f"<u{bits // 8}")
    numbers = stored.reshape(height, -1)[:: 1 if top_down else -1, :width].astype(np.uint64)
    parts = [(low, high) for low, high in zip(lowest, highest, strict=True) if low]
    pixels = np.stack([(numbers // low & high) * 255 // high for low, high in parts], axis=-1).astype(np.uint8)
    if len(parts) == 3:
        return pixels
    white = Image.new("RGBA", (width, height), "white")
    white.alpha_composite(Image.fromarray(pixels))
    return np.asarray(white.convert("RGB"))


def _number(encoded: bytes, at: int, size: int = 4, signed: bool = False) -> int:
    return int.from_bytes(encoded[at : at + size], "little", signed=signed)


def _without_texts(png: bytes) -> bytes:
    """Pillow would unpack them, and refuse a picture for a long one."""
    kept, at = [png[:8]], 8
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] not in TEXTS:
            kept.append(png[at:end])
        at = end
    return b"".join(kept)


def _reason(kind: str, encoded: bytes, error: Exception) -> str:
    """Why Pillow does not read it: damaged files are told from those that are whole and of a sort that is not read."""
    if kind == "bmp" and "nsupported" in str(error):
        return f"This BMP is of a sort that Pillow does not read ({error}); save it as PNG."
    return not_decoded(encoded)


def not_decoded(encoded: bytes) -> str:
    """Why no decoder reads a file, in one sentence: it is damaged, or of a sort that is not decoded."""
    sort = _sort_of_jpeg(encoded) if kind_of(encoded) == "jpeg" else None
    return f"This is {sort}, which is not decoded; save it as PNG." if sort else DAMAGED


def _sort_of_jpeg(encoded: bytes) -> str | None:
    """If it is whole and of one that libjpeg does not decode."""
    at = 2
    while at + 4 < len(encoded) and encoded[at] == 0xFF and encoded[at + 1] != SCAN:
        marker, bits = encoded[at + 1], encoded[at + 4]
        if marker in SORTS:
            return f"a {SORTS[marker]} JPEG"
        if marker in FRAMES:
            return f"a JPEG of {bits} bits a sample" if bits == MORE_BITS else None
        at += 1 if marker == 0xFF else 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
    return None


def _said_by_exif(segment: bytes) -> int:
    """The orientation, 1 if it says none (Exif 2.32, 4.6.4 A). Pillow would ask XMP, and texts beside PNGs, too, and
    warns of what is broken and read all the same."""
    tiff = segment.removeprefix(b"Exif\0\0")
    order: Literal["little", "big"] = "big" if tiff.startswith(b"MM") else "little"

    def read(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    start = read(4, 4)
    for at in range(start + 2, start + 2 + 12 * min(read(start, 2), ENTRIES), 12):
        if read(at, 2) == ORIENTATION and (kind := read(at + 2, 2)) in SIZES:
            return read(at + 8, SIZES[kind])
    return 1


def incomplete(encoded: bytes) -> bool:
    """Whether this is a progressive JPEG that leaves out, or sends in less than full precision, one of the coefficients
    that decoders guess then (the first nine with waves in them, as libjpeg-turbo does)."""
    if not encoded.startswith(b"\xff\xd8\xff"):
        return False
    at, progressive, missing = 2, False, dict[tuple[int, int], int]()  # what is missing, by component and coefficient
    while (at := encoded.find(b"\xff", at)) >= 0 and encoded[at + 1 : at + 2] not in (b"", b"\xd9"):
        marker, length = encoded[at + 1], int.from_bytes(encoded[at + 2 : at + 4], "big")
        if marker in (0x00, 0xFF, *range(0xD0, 0xD8)):  # within a scan
            at += 1
            continue
        segment = encoded[at + 4 : at + 2 + length]
        if marker == 0xC2:
            progressive = True
            missing = {(one, place): 1 for one in segment[6::3] for place in range(10)}
        elif marker == SCAN and progressive and len(segment) > 3:
            first, last, low = segment[-3], min(segment[-2], 9), segment[-1] & 15
            missing |= {(one, place): low for one in segment[1:-3:2] for place in range(first, last + 1)}
        at += 2 + length
    return any(missing.values())
