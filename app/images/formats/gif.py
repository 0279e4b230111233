"""GIF: the first frame, on white where it is transparent or leaves the picture uncovered."""

import tensorflow as tf

from app.images.formats import Limits, accepted, asserted
from app.images.formats.canvas import placed
from app.images.formats.reading import octets, piece, shorts

MAGIC = b"GIF8"
SCREEN = 13  # bytes of signature and screen, before the common colours
EXTENSION, GRAPHICS, FRAME = 0x21, 0xF9, 0x2C
INTERLACED = 0x40  # a bit of a frame's flags
TABLE = 3 * 256  # bytes of the longest table of colours
SHADES = bytes(value for value in range(256) for _ in range(3))
EXTENSIONS, RUNS = 1_000, 10_000  # nobody writes more, and a broken file shall not keep us busy
LOOK = 1_024  # blocks at a time


def decode(encoded: tf.Tensor, limits: Limits) -> tuple[tf.Tensor, tf.Tensor]:
    """TensorFlow would unpack every frame of an animation, so it is given a file of the first frame alone, which is
    then put at its place."""
    broad, tall, flags, _ = tf.unstack(shorts(encoded, 6, 4))
    common = _colours(flags % 256)
    start, graphics = _first_frame(encoded, SCREEN + common)
    left, top, width, height, flags = tf.unstack(shorts(encoded, start + 1, 5))
    own = _colours(flags % 256)
    tall, broad = tf.maximum(tall, top + height), tf.maximum(broad, left + width)
    encoded = accepted(encoded, "GIF", tall, broad, limits)
    end = _behind_blocks(encoded, start + 11 + own)
    is_frame = tf.equal(octets(encoded, start, 1)[0], FRAME)
    encoded = asserted(encoded, is_frame & (end <= tf.strings.length(encoded)), ["This GIF is damaged or cut short."])
    codes = octets(encoded, start + 10 + own, 1)[0]
    unknown = ["This GIF packs its pixels in codes of", codes, "bits, which is not decoded; save it as PNG."]
    encoded = asserted(encoded, codes <= 8, unknown)
    # A pixel may have a number beyond the colours that there are, and a file no colours: then its numbers are shades.
    stored = tf.where(own > 0, piece(encoded, start + 10, own), piece(encoded, SCREEN, common))
    colours = tf.strings.substr(tf.strings.join([tf.where(own + common > 0, stored, SHADES), bytes(TABLE)]), 0, TABLE)
    of_graphics, _, _, transparent = tf.unstack(octets(encoded, graphics + 3, 4))
    # White for the transparent colour: pixels of no other colour change.
    at = tf.where((graphics > 0) & (of_graphics % 2 > 0), 3 * transparent, TABLE)
    white = tf.where(at < TABLE, b"\xff\xff\xff", b"")
    parts = [
        b"GIF89a",
        piece(encoded, start + 5, 4),  # the frame is the screen, its corner in the corner
        b"\xf7\0\0",  # with 256 colours
        piece(colours, 0, at),
        white,
        piece(colours, at + 3, TABLE),
        b"\x2c\0\0\0\0",
        piece(encoded, start + 5, 4),
        tf.where(tf.bitwise.bitwise_and(flags, INTERLACED) > 0, b"\x40", b"\0"),
        piece(encoded, start + 10 + own, end - start - 10 - own),
        b";",
    ]
    return placed(tf.io.decode_gif(tf.strings.join(parts))[0], top, left, tall, broad), tf.constant("")


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
