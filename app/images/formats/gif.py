"""GIF: the first frame, on white where it is transparent or leaves the picture uncovered."""

import tensorflow as tf

from app.images.formats import Limits, accepted, asserted
from app.images.formats.canvas import placed
from app.images.formats.reading import octets, piece, shorts

MAGIC = b"GIF8"
SCREEN = 13  # bytes of signature and screen, before the common colours
EXTENSION, GRAPHICS, FRAME = 0x21, 0xF9, 0x2C
EXTENSIONS, RUNS = 1_000, 10_000  # nobody writes more, and a broken file shall not keep us busy
LOOK = 1_024  # blocks at a time


def decode(encoded: tf.Tensor, limits: Limits) -> tuple[tf.Tensor, tf.Tensor]:
    """TensorFlow would unpack every frame of an animation, so it is given a file of the first frame alone, which is
    then put at its place."""
    wide, high, flags, _ = tf.unstack(shorts(encoded, 6, 4))
    common = _colours(flags % 256)
    start, graphics = _first_frame(encoded, SCREEN + common)
    left, top, width, height, flags = tf.unstack(shorts(encoded, start + 1, 5))
    own = _colours(flags % 256)
    high, wide = tf.maximum(high, top + height), tf.maximum(wide, left + width)
    encoded = accepted(encoded, "GIF", high, wide, limits)
    end = _behind_blocks(encoded, start + 11 + own)
    is_frame = tf.equal(octets(encoded, start, 1)[0], FRAME)
    encoded = asserted(encoded, is_frame & (end <= tf.strings.length(encoded)), ["This GIF is damaged or cut short."])
    parts = [
        b"GIF89a",
        piece(encoded, start + 5, 4),  # the frame is the screen, its corner in the corner
        piece(encoded, 10, 3 + common),
        b"\x2c\0\0\0\0",
        piece(encoded, start + 5, end - start - 5),
        b";",
    ]
    flags, _, _, transparent = tf.unstack(octets(encoded, graphics + 3, 4))
    colours, size = tf.where(own > 0, SCREEN + common + 10, SCREEN), tf.where(own > 0, own, common)
    # White for the transparent colour: pixels of no other colour change.
    at = tf.where((graphics > 0) & (flags % 2 > 0) & (3 * transparent < size), colours + 3 * transparent, 0)
    file = tf.strings.join(parts)
    white = tf.where(at > 0, b"\xff\xff\xff", b"")
    behind = at + tf.strings.length(white)
    file = tf.strings.join([piece(file, 0, at), white, piece(file, behind, tf.strings.length(file))])
    return placed(tf.io.decode_gif(file)[0], top, left, high, wide), tf.constant("")


def _colours(flags: tf.Tensor) -> tf.Tensor:
    """Bytes of the table of colours that these flags announce."""
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)


def _first_frame(encoded: tf.Tensor, start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the first frame begins, and where the last graphics extension before it, 0 if there is none."""

    def searching(start: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return tf.equal(octets(encoded, start, 1)[0], EXTENSION)

    def following(start: tf.Tensor, graphics: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        graphics = tf.where(tf.equal(octets(encoded, start + 1, 1)[0], GRAPHICS), start, graphics)
        return _behind_blocks(encoded, start + 2), graphics

    first = (start, tf.constant(0))
    start, graphics = tf.while_loop(searching, following, first, maximum_iterations=EXTENSIONS)
    return start, graphics


def _behind_blocks(encoded: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Where a chain of blocks ends, each of which says its length first; behind the file's end if nothing ends it.

    Nearly all blocks of a chain are of one length, so a run of these is passed at once.
    """
    size = tf.strings.length(encoded)

    def searching(start: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        return (length > 0) & (start < size)

    def following(start: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        lengths = octets(encoded, start, LOOK * (length + 1))[:: length + 1]
        others = tf.where(tf.not_equal(lengths, length))[:, 0]
        run = tf.concat([tf.cast(others, tf.int32), [LOOK]], 0)[0]
        start += run * (length + 1)
        return start, octets(encoded, start, 1)[0]

    start, length = tf.while_loop(searching, following, (start, octets(encoded, start, 1)[0]), maximum_iterations=RUNS)
    return tf.where(length > 0, size, start) + 1
