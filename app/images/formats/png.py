"""PNG: grey, colour or palette, with or without alpha, of 1 to 16 bits; of 16 bits the upper eight count."""

import tensorflow as tf

from app.images.formats import Limits, accepted
from app.images.formats.reading import case, is_at, longs, octets, piece

MAGIC = b"\x89PNG\r\n\x1a\n"
FIRST = 33  # where the second chunk begins: the first has 13 bytes, and each has twelve more
CHUNKS = 1_000
ALPHA = 4  # the bit of the colour type


def decode(encoded: tf.Tensor, limits: Limits) -> tuple[tf.Tensor, tf.Tensor]:
    width, height = tf.unstack(longs(encoded, 16, 2, big=True))
    encoded = accepted(encoded, "PNG", height, width, limits)
    plain = [_searched, lambda encoded: (tf.constant(False), tf.constant(""))]
    transparent, segment = case(is_at(encoded, FIRST + 4, b"IDAT"), plain, encoded)
    transparent |= tf.bitwise.bitwise_and(octets(encoded, 25, 1)[0], ALPHA) > 0
    # Four channels only of what has alpha: TensorFlow fills in the wrong opacity where pixels have less than 8 bits.
    pixels = tf.cond(
        transparent, lambda: tf.io.decode_png(encoded, channels=4), lambda: tf.io.decode_png(encoded, channels=3)
    )
    return pixels, segment


def segment(encoded: tf.Tensor) -> tf.Tensor:
    return _searched(encoded)[1]


def _searched(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether a tRNS chunk makes colours transparent, and what the eXIf chunk holds; both stand before the pixels."""
    end = tf.strings.length(encoded)

    def searching(start: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return (start < end) & ~is_at(encoded, start + 4, b"IDAT")

    def following(
        start: tf.Tensor, transparent: tf.Tensor, segment: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        length, name = longs(encoded, start, 1, big=True)[0], piece(encoded, start + 4, 4)
        # A broken length leads to the end.
        length = tf.where((length < 0) | (length > end), end, length)
        segment = tf.where(tf.equal(name, b"eXIf"), piece(encoded, start + 8, length), segment)
        return start + 12 + length, transparent | tf.equal(name, b"tRNS"), segment

    first = (tf.constant(FIRST), tf.constant(False), tf.constant(""))
    _, transparent, segment = tf.while_loop(searching, following, first, maximum_iterations=CHUNKS)
    return transparent, segment
