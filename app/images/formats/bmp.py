"""BMP: 1, 4 or 8 bits with a palette, 24 bits, and 32 with or without alpha; neither packed nor of 16 bits.

Read here, since TensorFlow's decoder takes the numbers of palette colours for shades of grey.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from app.images.formats import Limits, accepted, asserted
from app.images.formats.reading import case, longs, piece

MAGIC = b"BM"
FILE_HEADER, SHORTEST, LONGER = 14, 40, 56  # bytes; the second header says its own length
BITS = (1, 4, 8, 24, 32)
PLAIN, MASKED = 0, 3
MASKS = (0xFF0000, 0xFF00, 0xFF)  # of red, green and blue, as TensorFlow and Pillow write them


def decode(encoded: tf.Tensor, limits: Limits) -> tuple[tf.Tensor, tf.Tensor]:
    second, width, height, sort, packing = tf.unstack(longs(encoded, FILE_HEADER, 5))
    bits = sort // 65536  # above them stands a 1
    top_down, height = height < 0, tf.abs(height)
    encoded = accepted(encoded, "BMP", height, width, limits)
    masks = longs(encoded, 54, 4)
    masked = tf.equal(packing, MASKED) & tf.equal(bits, 32) & tf.reduce_all(tf.equal(masks[:3], MASKS))
    known = tf.reduce_any(tf.equal(bits, BITS)) & (tf.equal(packing, PLAIN) | masked) & (second >= SHORTEST)
    encoded = asserted(encoded, known, ["This BMP is packed or has a rare number of bits; save it as PNG."])
    start = longs(encoded, 10, 1)[0]
    row = (width * bits + 31) // 32 * 4  # bytes: whole groups of four
    there = tf.strings.length(encoded) - row * height
    encoded = asserted(encoded, (start > 0) & (start <= there), ["This BMP is cut short."])
    rows = tf.reshape(tf.io.decode_raw(piece(encoded, start, row * height), tf.uint8), (height, row))
    # The fourth mask belongs to the longer headers.
    transparent = masked & (second >= LONGER) & tf.not_equal(masks[3], 0)
    which = tf.argmax(tf.concat([tf.equal(bits, BITS) & ~transparent, [transparent]], 0))
    ways: list[Callable[..., tf.Tensor]] = [functools.partial(_of_palette, count) for count in BITS[:3]]
    ways += [_of_24_bits, _opaque, _transparent]
    (pixels,) = case(which, ways, rows, width, encoded)
    return tf.reverse(pixels, tf.where([~top_down])[:, 0]), tf.constant("")


def _of_24_bits(rows: tf.Tensor, width: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    return tf.reshape(rows[:, : 3 * width], (-1, width, 3))[..., ::-1]


def _opaque(rows: tf.Tensor, width: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    return tf.reshape(rows, (-1, width, 4))[..., 2::-1]


def _transparent(rows: tf.Tensor, width: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.reshape(rows, (-1, width, 4)), (2, 1, 0, 3), axis=2)


def _of_palette(bits: int, rows: tf.Tensor, width: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """Numbers of colours, the first in the highest bits; black beyond the colours that the file has."""
    shifts = tf.constant([*range(8 - bits, -1, -bits)], tf.uint8)
    numbers = tf.bitwise.bitwise_and(tf.bitwise.right_shift(rows[..., tf.newaxis], shifts), 2**bits - 1)
    numbers = tf.reshape(numbers, (-1, tf.shape(rows)[1] * (8 // bits)))[:, :width]
    named = longs(encoded, 46, 1)[0]
    count = tf.where((named > 0) & (named < 2**bits), named, 2**bits)
    stored = piece(encoded, FILE_HEADER + longs(encoded, FILE_HEADER, 1)[0], 4 * count)
    colours = tf.reshape(tf.io.decode_raw(stored, tf.uint8, fixed_length=4 * 2**bits), (-1, 4))[:, 2::-1]
    return tf.gather(colours, tf.cast(numbers, tf.int32))
