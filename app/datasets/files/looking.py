"""What is to be said about one image file: why it cannot be used, or what its owner may not know."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from app.datasets.files.likeness import likeness as of_picture
from app.datasets.index import Known
from app.images import converting, decoding, finding
from app.images.decoding import LIMITS, reason

TINY = 16  # pixels of the shorter side
ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
}
EXIF = (b"Exif", b"eXIf", b"EXIF")


def look(name: str, encoded: bytes, likeness: bool = False) -> Known:
    """What is known of an image file after decoding it, with its `likeness` where that is wanted; `name` is only looked
    at for its ending, where there is one."""
    found: list[tuple[str, str]] = []
    shown, refused, bits = None, "", None
    try:
        with Image.open(io.BytesIO(encoded)) as header:
            found += _of_header(header, encoded, Path(name).suffix.lower() if name else None)
    except Image.DecompressionBombError:
        found.append(("huge", f"its header claims far more than {LIMITS.pixels / 1e6:g} megapixels"))
    except Exception:  # damaged headers raise whatever Pillow's readers stumble over; the decoder judges
        pass
    if len(encoded) > LIMITS.bytes:
        found.append(("huge", f"{len(encoded) / 1e6:.1f} MB; the limit is {LIMITS.bytes / 1e6:g}"))
    try:
        picture = decoding.decode(encoded).numpy()
    except tf.errors.InvalidArgumentError as error:
        refused = reason(error)
        if kind := converting.kind_of(encoded):
            refused = f"This is {converting.named(kind)} picture; {finding.CONVERTS}, or save it as JPEG or PNG."
        if not encoded:
            found.append(("undecodable", "the file is empty"))
        elif not any(kind == "huge" for kind, _ in found):
            found.append(("truncated" if _is_cut(encoded) else "undecodable", refused))
    else:
        shown = _hash(picture)
        if likeness:
            bits = of_picture(picture)
        # As the decoder says, which alone turns it; only where there is something to ask it for.
        if any(mark in encoded for mark in EXIF) and (orientation := decoding.orientation(encoded)) > 1:
            found.append(("rotated", f"EXIF orientation {orientation}"))
        found = [note for note in found if note[0] != "huge"]  # as a damaged header says, which only Pillow believes
        if min(picture.shape[:2]) < TINY:
            found.append(("tiny", f"{picture.shape[1]} x {picture.shape[0]} pixels"))
        if (picture[0] == picture[0, 0]).all() and (picture == picture[0, 0]).all():
            found.append(("constant", "all pixels are equal"))
    return Known(len(encoded), 0, hashlib.sha256(encoded).hexdigest(), shown, refused, tuple(found), bits)


def _hash(picture: NDArray[np.uint8]) -> str:
    content = hashlib.sha256(str(picture.shape).encode())
    content.update(picture.tobytes())
    return content.hexdigest()


def _of_header(header: Image.Image, encoded: bytes, suffix: str | None) -> Iterator[tuple[str, str]]:
    width, height = header.size
    if max(width, height) > LIMITS.side or width * height > LIMITS.pixels:
        most = f"{LIMITS.side} a side and {LIMITS.pixels / 1e6:g} megapixels"
        yield "huge", f"{width} x {height} pixels; the limits are {most}"
    # Several pictures in one file, as telephones write them, begin with an ordinary JPEG.
    kind = "JPEG" if header.format == "MPO" else header.format or ""
    if suffix is not None and suffix not in ENDINGS.get(kind, ()):
        yield "wrong extension", f"it is a {kind} file"
    if header.mode == "CMYK":
        yield "cmyk", "colours as for printing"
    if header.has_transparency_data:
        yield "alpha", f"transparency ({header.mode})"
    if header.format != "MPO" and getattr(header, "is_animated", False):
        yield "animated", f"{getattr(header, 'n_frames', 0)} frames"


def _is_cut(encoded: bytes) -> bool:
    """Whether a file that cannot be decoded lacks the end that its format prescribes."""
    if encoded.startswith(b"\xff\xd8\xff"):
        return not encoded.rstrip(b"\0").endswith(b"\xff\xd9")
    if encoded.startswith(b"\x89PNG"):
        return b"IEND" not in encoded[-16:]
    if encoded.startswith(b"GIF8"):
        return not encoded.endswith(b";")
    if encoded.startswith(b"BM"):
        return int.from_bytes(encoded[2:6], "little") > len(encoded)
    if encoded.startswith(b"RIFF"):
        return int.from_bytes(encoded[4:8], "little") + 8 > len(encoded)
    return False
