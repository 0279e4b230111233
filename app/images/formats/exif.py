"""The orientation that a camera wrote beside its pixels, and turning them upright by it (Exif 2.32, 4.6.4 A)."""

import tensorflow as tf

from app.images.formats.reading import case, is_at, piece, shorts

MARK = b"Exif\x00\x00"
TAG, SHORT, LONG = 0x0112, 3, 4  # the standard wants a SHORT; some write the other
ENTRIES = 512  # more than any camera writes into the first directory


def orientation(segment: tf.Tensor) -> tf.Tensor:
    """A TIFF structure as a string, `MARK` before it or not -> 1 to 8; 1 where it does not say, is broken or empty.

    1 is upright, 2 mirrored, 3 upside down, 4 both; 5 to 8 are these with rows and columns exchanged.
    """
    (found,) = case(tf.strings.length(segment) > 0, [lambda segment: tf.constant(1), _read], segment)
    return found


def _read(segment: tf.Tensor) -> tf.Tensor:
    tiff = piece(segment, tf.where(is_at(segment, 0, MARK), len(MARK), 0), tf.strings.length(segment))
    big = is_at(tiff, 0, b"MM")

    def read(start: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
        stored = shorts(tiff, start, count)
        return tf.where(big, stored // 256 + stored % 256 * 256, stored)

    place = read(4, 2)
    start = tf.where(big, place[1], place[0])  # the higher half is 0: a segment has no more than 65,535 bytes
    count = tf.clip_by_value(read(start, 1)[0], 1, ENTRIES)
    # Twelve bytes each: tag, type, how many (two shorts), and the value, which begins with a short or is a long.
    entries = tf.reshape(read(start + 2, 6 * count), (-1, 6))
    is_long = tf.equal(entries[:, 1], LONG)
    fits = tf.equal(entries[:, 0], TAG) & (tf.equal(entries[:, 1], SHORT) | is_long)
    lower, higher = (tf.where(big, entries[:, 5 - i], entries[:, 4 + i]) for i in (0, 1))
    values = tf.where(is_long, lower + 65536 * tf.minimum(higher, 1), entries[:, 4])
    found = tf.concat([tf.boolean_mask(values, fits), [1]], 0)[0]
    return tf.where((big | is_at(tiff, 0, b"II")) & (found >= 1) & (found <= 8), found, 1)


def upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Pixels (rows, columns, 3) as stored -> as they are seen."""
    (found,) = case(orientation > 1, [lambda pixels, orientation: pixels, _turned], pixels, orientation)
    return found


def _turned(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    order = tf.where(orientation >= 5, (1, 0, 2), (0, 1, 2))
    return tf.reverse(tf.transpose(pixels, order), tf.where(_mirrored(orientation))[:, 0])


def as_stored(
    corner: tf.Tensor, size: tf.Tensor, seen: tf.Tensor, orientation: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Corner and size of a rectangle on the picture as it is seen, of `seen` rows and columns -> on that as stored."""
    corner = tf.where(_mirrored(orientation), seen - corner - size, corner)
    exchanged = orientation >= 5
    return tf.where(exchanged, corner[::-1], corner), tf.where(exchanged, size[::-1], size)


def _mirrored(orientation: tf.Tensor) -> tf.Tensor:
    """Whether the order of the rows is reversed and that of the columns, once the two are exchanged where they are."""
    return tf.reduce_any(tf.equal(orientation, [[3, 4, 7, 8], [2, 3, 6, 7]]), axis=1)
