"""From the bytes of an image file to pixels: the one definition, used in training and in artefacts.

Everything here is TensorFlow, so that it runs in input pipelines and travels inside exported graphs.
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from app.images.formats import Limits, asserted, bmp, exif, gif, jpeg, noting, png, webp
from app.images.formats.canvas import on_white
from app.images.formats.reading import case, is_at
from app.images.formats.window import Window
from export import picture_files

LIMITS, UNKNOWN = picture_files.LIMITS, picture_files.UNKNOWN
KINDS = (jpeg, png, gif, webp, bmp)


def decode(encoded: Any, limits: Limits = LIMITS) -> tf.Tensor:
    """Bytes, or a scalar string tensor, of a JPEG, PNG, GIF, WebP or BMP file -> uint8 RGB (height, width, 3), upright.

    The first bytes tell the kind, whatever the file is called. The pixels are those of Pillow's
    `ImageOps.exif_transpose` and `convert("RGB")`, except that
    - what is transparent is laid on white, and so is what the first frame of an animation leaves uncovered;
    - of 16 grey bits the upper eight count;
    - CMYK differs by up to one level, and without Adobe's mark is no negative, for which Pillow takes it all the same;
    - Exif before the pixels is what turns a picture: not XMP, nor a text, nor Exif behind them;
    - a progressive JPEG that ends before its last scan is smoothed by another release of libjpeg-turbo.

    Raises:
        tf.errors.InvalidArgumentError: what is no such file, is damaged or cut short, or exceeds `limits`; with the
            reason.
    """
    return answered(decoded, encoded, limits, count(limits.pixels))


def count(pixels: int) -> tf.Tensor:
    """As a tensor: for every number that is none, the decoder would be compiled anew. Of 32 bits: those stay in the
    memory of the host."""
    return tf.constant(pixels, tf.int32)


def decoded(encoded: tf.Tensor, limits: Limits, most: tf.Tensor) -> tf.Tensor:
    def by(kind: Any, encoded: tf.Tensor, most: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        found = kind.decode(encoded, limits, most) if kind is jpeg else kind.decode(encoded, limits)
        return tf.ensure_shape(found[0], (None, None, None)), found[1]

    is_kind = _is_kind(encoded)
    encoded = asserted(encoded, tf.reduce_any(is_kind), [UNKNOWN])
    pixels, segment = case(tf.argmax(is_kind), [functools.partial(by, kind) for kind in KINDS], encoded, most)
    return exif.upright(on_white(pixels), exif.orientation(segment))


def refused(encoded: tf.Tensor, limits: Limits = LIMITS) -> tf.Tensor:
    """Scalar string -> scalar string: why `decode` refuses it, as its header tells, inside a graph; empty where that
    says nothing. What cannot even be looked for fails."""

    def by(kind: Any, encoded: tf.Tensor) -> tf.Tensor:
        with noting() as notes:
            _ = kind.decode(encoded, limits, count(limits.pixels)) if kind is jpeg else kind.decode(encoded, limits)
        # Those of inner ways cannot be seen from here.
        own = [note for note in notes if note[0].graph is encoded.graph]
        reason = tf.constant("")
        for condition, words in reversed(own):
            reason = tf.where(condition, reason, words)
        return reason

    is_kind = tf.concat([_is_kind(encoded), [True]], 0)
    ways: list[Callable[..., tf.Tensor]] = [functools.partial(by, kind) for kind in KINDS]
    (reason,) = case(tf.argmax(is_kind), [*ways, lambda encoded: tf.constant(UNKNOWN)], encoded)
    return reason


def _is_kind(encoded: tf.Tensor, kinds: Sequence[Any] = KINDS) -> tf.Tensor:
    return tf.stack([is_at(encoded, webp.PLACE if kind is webp else 0, kind.MAGIC) for kind in kinds])


def decoded_window(encoded: tf.Tensor, window: Window, limits: Limits, wanted: tuple[float, float]) -> tf.Tensor:
    def fused(encoded: tf.Tensor, *window: tf.Tensor) -> tf.Tensor:
        return jpeg.decode_window(encoded, limits, Window(*window), wanted)

    def other(encoded: tf.Tensor, *window: tf.Tensor) -> tf.Tensor:
        return Window(*window).of(_compiled(decoded)(encoded, limits, count(limits.pixels)))

    (pixels,) = case(is_at(encoded, 0, jpeg.MAGIC), [other, fused], encoded, *map(tf.convert_to_tensor, window))
    return pixels


def answered(function: Callable[..., tf.Tensor], encoded: Any, *options: Any) -> tf.Tensor:
    """Compiled once for all graphs that call it. Outside of graphs, an error says no more than why."""
    encoded = tf.convert_to_tensor(encoded, tf.string)
    try:
        return tf.ensure_shape(_compiled(function)(encoded, *options), (None, None, 3))
    except tf.errors.InvalidArgumentError as error:
        raise tf.errors.InvalidArgumentError(None, None, refusal(error, encoded.numpy())) from None


def orientation(encoded: bytes) -> int:
    """How `decode` turns the picture: 1 to 8 as Exif numbers it, 1 where it does not."""
    return int(_compiled(_orientation)(tf.constant(encoded)))


def _orientation(encoded: tf.Tensor) -> tf.Tensor:
    said = (jpeg, png, webp)
    is_kind = _is_kind(encoded, said)
    which = tf.where(tf.reduce_any(is_kind), tf.argmax(is_kind), len(said))
    ways = [kind.segment for kind in said]
    (segment,) = case(which, [*ways, lambda encoded: tf.constant("")], encoded)
    return exif.orientation(segment)


def kind_of(encoded: bytes) -> str:
    """ "jpeg", "png", "gif", "webp" or "bmp", by the first bytes, as `decode` goes by; "img" for what it refuses."""
    return picture_files.kind_of(encoded) or "img"


def refusal(error: tf.errors.InvalidArgumentError, encoded: bytes = b"") -> str:
    """Why a file was refused, one sentence, wherever it was decoded: a pipeline or an exported graph says more. With
    the bytes, where somebody has them, it tells what is damaged from what is whole and of a sort that is not decoded.
    """
    said = re.search(r"assertion failed: (\[.*?\])$", error.message, re.MULTILINE)
    if said:
        return said[1][1:-1].replace("] [", " ")
    if error.message.startswith("This "):
        return error.message
    return picture_files.not_decoded(encoded)


@functools.cache
def _compiled(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    return tf.function(function, autograph=False)


def reason(error: Exception) -> str:
    """The sentence in an error of TensorFlow, without the names of its functions and operations."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = getattr(error, "message", str(error))
    return re.sub(r"\{\{.*?\}\} ?|\[Op:.*?\].*|\s+", " ", text.splitlines()[0]).strip()
