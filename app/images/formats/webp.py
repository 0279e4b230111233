"""WebP: lossy and lossless; of an animation the first frame."""

import tensorflow as tf

from app.images.formats import Limits, accepted, asserted
from app.images.formats.canvas import placed
from app.images.formats.reading import case, is_at, longs, octets, piece, shorts, written

MAGIC, PLACE = b"WEBP", 8  # after RIFF and a length
CHUNKS = 100
ANIMATED = 2  # a bit of the flags


def decode(encoded: tf.Tensor, limits: Limits) -> tuple[tf.Tensor, tf.Tensor]:
    kind = piece(encoded, 12, 4)
    # Two shorts after a mark; 28 bits after a mark; two times three bytes after flags. The latter two say one less.
    lossy = tf.bitwise.bitwise_and(shorts(encoded, 26, 2), 0x3FFF)
    lossless = tf.bitwise.bitwise_and(tf.bitwise.right_shift(longs(encoded, 21, 1), [0, 14]), 0x3FFF) + 1
    extended = tf.where(tf.equal(kind, b"VP8L"), lossless, _threes(encoded, 24, 2) + 1)
    width, height = tf.unstack(tf.where(tf.equal(kind, b"VP8 "), lossy, extended))
    encoded = accepted(encoded, "WebP", height, width, limits)
    ways = [lambda encoded, *size: (_pixels(encoded), tf.constant("")), _with_segment, _first_frame]
    pixels, segment = case(_sort(encoded), ways, encoded, height, width)
    return pixels, segment


def segment(encoded: tf.Tensor) -> tf.Tensor:
    """Of an animation none: its frames are as they are."""
    extended = tf.equal(_sort(encoded), 1)
    (found,) = case(extended, [lambda encoded: tf.constant(""), lambda encoded: _chunk(encoded, b"EXIF")], encoded)
    return found


def _sort(encoded: tf.Tensor) -> tf.Tensor:
    """0 of what has pixels alone, 1 of what may have more, 2 of an animation."""
    is_extended = is_at(encoded, 12, b"VP8X")
    animated = is_extended & (tf.bitwise.bitwise_and(octets(encoded, 20, 1)[0], ANIMATED) > 0)
    return tf.cast(is_extended, tf.int32) + tf.cast(animated, tf.int32)


def _pixels(encoded: tf.Tensor) -> tf.Tensor:
    # As many channels as the file has: no other number is taken.
    return tf.ensure_shape(tf.io.decode_webp(encoded)[0], (None, None, None))


def _with_segment(encoded: tf.Tensor, *size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return _pixels(encoded), _chunk(encoded, b"EXIF")


def _first_frame(encoded: tf.Tensor, high: tf.Tensor, wide: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A frame holds what a still file holds, so a file is made of it: TensorFlow would unpack all frames."""
    frame = _chunk(encoded, b"ANMF")
    left, top, width, height = tf.unstack(_threes(frame, 0, 4))
    left, top, width, height = 2 * left, 2 * top, width + 1, height + 1
    is_frame = (tf.strings.length(frame) > 16) & (left + width <= wide) & (top + height <= high)
    frame = asserted(frame, is_frame, ["This WebP is damaged or cut short."])
    # With a header that may have alpha and repeats the size, which the decoder compares with that of the pixels.
    header = [MAGIC, b"VP8X\x0a\0\0\0\x10\0\0\0", written(tf.stack([width, height]) - 1, 3)]
    content = tf.strings.join([*header, piece(frame, 16, tf.strings.length(frame))])
    file = tf.strings.join([b"RIFF", written(tf.strings.length(content), 4), content])
    return placed(_pixels(file), top, left, high, wide), tf.constant("")


def _threes(encoded: tf.Tensor, start: int, count: int) -> tf.Tensor:
    """int32 (count,) of three bytes each, the lowest first."""
    return tf.reduce_sum(tf.reshape(octets(encoded, start, 3 * count), (count, 3)) * [1, 256, 65536], axis=1)


def _chunk(encoded: tf.Tensor, name: bytes) -> tf.Tensor:
    """The content of the first chunk of this name; empty if there is none."""
    end = tf.strings.length(encoded)

    def length(start: tf.Tensor) -> tf.Tensor:
        # A broken one leads to the end.
        found = longs(encoded, start + 4, 1)[0]
        return tf.where((found < 0) | (found > end), end, found)

    def searching(start: tf.Tensor) -> tf.Tensor:
        return (start < end) & ~is_at(encoded, start, name)

    def following(start: tf.Tensor) -> list[tf.Tensor]:
        return [start + 8 + length(start) + length(start) % 2]

    (start,) = tf.while_loop(searching, following, [tf.constant(12)], maximum_iterations=CHUNKS)
    return piece(encoded, start + 8, tf.where(is_at(encoded, start, name), length(start), 0))
