"""JPEG: baseline and progressive; grey, colour, and CMYK, which becomes RGB. One that ends, with its mark of the end,
before its last scan is a picture, coarser than it was to be, as browsers show it.
"""

import functools
from typing import Any

import tensorflow as tf

from app.images.formats import Limits, accepted, exif
from app.images.formats.reading import case, is_at, octets, piece
from app.images.formats.window import Window

MAGIC = b"\xff\xd8\xff"
RATIOS = (1, 2, 4, 8)  # by which the sides can shrink while decoding, rounded up: less memory and less time
# The pixels equal Pillow's; those of TensorFlow's default differ in two thirds of the places.
DECODING: dict[str, Any] = {"channels": 3, "dct_method": "INTEGER_ACCURATE"}
# A colour sample may belong to two pixels, and is smoothed with its neighbours, which a window's edge lacks.
MARGIN = 2
SEGMENTS = 64
SCAN = 0xDA  # the marker behind which are pixels
# The commonest beginning: an APP0 segment of 16 bytes, and then the tables. Other segments can still stand among those,
# which take less than so many bytes.
PLACES, PLAIN = (2, 3, 4, 5, 20, 21), (0xFF, 0xE0, 0, 16, 0xFF, 0xDB)
TABLES = 4_096
ANYWHERE = r"\C*Exif\x00\x00\C*"


def decode(encoded: tf.Tensor, limits: Limits, most: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Reduced by the smallest of `RATIOS` that leaves no more pixels than `most`."""
    encoded, height, width = _opened(encoded, limits)

    def at(ratio: int) -> tf.Tensor:
        return tf.io.decode_jpeg(encoded, ratio=ratio, **DECODING)

    count = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    most_at = tf.cast(most, tf.int64) * [ratio**2 for ratio in RATIOS[:-1]]
    return _reduced(at, count > most_at), segment(encoded)


def decode_window(encoded: tf.Tensor, limits: Limits, window: Window, wanted: tuple[float, float]) -> tf.Tensor:
    """The window alone, upright, decoded with little more than itself; reduced by the largest of `RATIOS` that leaves
    `wanted` rows and columns. Where that is 1, bit by bit what cutting it out of the whole picture gives."""
    encoded, height, width = _opened(encoded, limits)
    orientation = exif.orientation(segment(encoded))
    stored = tf.stack([height, width])
    seen = tf.where(orientation >= 5, stored[::-1], stored)
    sides = window.shares(seen) * tf.cast(seen, tf.float32)
    enough = sides >= [[side * ratio for side in wanted] for ratio in RATIOS[1:]]
    can = tf.reduce_all(enough, axis=1)
    ratio = tf.gather(RATIOS, tf.math.count_nonzero(can))
    stored, seen = -(-stored // ratio), -(-seen // ratio)
    corner, size = exif.as_stored(*window.pixels(seen), seen, orientation)
    low = tf.maximum(corner - MARGIN, 0)
    high = tf.minimum(corner + size + MARGIN, stored)
    around = tf.concat([low, high - low], 0)

    def at(ratio: int) -> tf.Tensor:
        return tf.image.decode_and_crop_jpeg(encoded, around, ratio=ratio, **DECODING)

    pixels = tf.slice(_reduced(at, can), tf.concat([corner - low, [0]], 0), tf.concat([size, [3]], 0))
    return exif.upright(pixels, orientation)


def size(encoded: tf.Tensor) -> tf.Tensor:
    """Of how many pixels its header speaks; no more than 2^32, int64."""
    return tf.reduce_prod(tf.cast(tf.image.extract_jpeg_shape(encoded)[:2], tf.int64))


def _opened(encoded: tf.Tensor, limits: Limits) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The bytes, found acceptable, with their height and width."""
    height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(encoded))
    return accepted(encoded, "JPEG", height, width, limits), height, width


def _reduced(at: Any, times: tf.Tensor) -> tf.Tensor:
    return tf.switch_case(
        tf.math.count_nonzero(times, dtype=tf.int32), [functools.partial(at, ratio) for ratio in RATIOS]
    )


def segment(encoded: tf.Tensor) -> tf.Tensor:
    """The Exif segment, which stands before the pixels: first in most files, and behind tables or the frame in some."""
    beginning = tf.gather(octets(encoded, 0, 24), PLACES)
    plain = tf.reduce_all(tf.equal(beginning, PLAIN))
    plain &= ~tf.strings.regex_full_match(piece(encoded, 0, TABLES), ANYWHERE)
    (found,) = case(plain, [_searched, lambda encoded: tf.constant("")], encoded)
    return found


def _searched(encoded: tf.Tensor) -> tf.Tensor:
    def searching(start: tf.Tensor, marker: tf.Tensor, segment: tf.Tensor) -> tf.Tensor:
        return tf.equal(marker[0], 0xFF) & tf.not_equal(marker[1], SCAN) & tf.equal(segment, "")

    def following(start: tf.Tensor, marker: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        length = 256 * marker[2] + marker[3]
        found = tf.equal(marker[1], 0xE1) & is_at(encoded, start + 4, exif.MARK)
        segment = piece(encoded, start + 4, tf.where(found & (length > 2), length - 2, 0))
        # A marker may have more than one 0xFF before it.
        start += tf.where(tf.equal(marker[1], 0xFF), 1, 2 + length)
        return start, octets(encoded, start, 4), segment

    first = (tf.constant(2), octets(encoded, 2, 4), tf.constant(""))
    return tf.while_loop(searching, following, first, maximum_iterations=SEGMENTS)[2]
