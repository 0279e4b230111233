"""BMP: 1, 4 or 8 bits with a palette, 24 bits, and 16 or 32 bits with or without masks and alpha, with the headers of
OS/2 and of Windows; plain, or packed by run lengths.

Read here, since TensorFlow's decoder takes the numbers of palette colours for shades of grey.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from app.images.formats import Limits, accepted, asserted, runs
from app.images.formats.reading import case, longs, octets, piece, shorts

MAGIC = b"BM"
FILE_HEADER = 14  # bytes; the second header says its own length:
OLD = 12  # the first of OS/2, with sizes of two bytes and colours of three,
SHORTEST, LONGEST = 16, 124  # all others, of which the shorter leave out what comes late in the longer
PACKING, COLOURS, MASKS, ALPHA = 20, 36, 40, 56  # from which length on each of these is inside
BITS = (1, 4, 8, 24)
PLAIN, RUNS_OF_8, RUNS_OF_4, MASKED, MASKED_WITH_ALPHA = 0, 1, 2, 3, 6
# Of red, green, blue and opacity, where a file names none.
OF_16_BITS, OF_32_BITS = (0x7C00, 0x3E0, 0x1F, 0), (0xFF0000, 0xFF00, 0xFF, 0)


def decode(encoded: tf.Tensor, limits: Limits) -> tuple[tf.Tensor, tf.Tensor]:
    second = longs(encoded, FILE_HEADER, 1)[0]
    known = tf.equal(second, OLD) | (second >= SHORTEST) & (second <= LONGEST)
    unknown = ["This BMP has a header of", second, "bytes, which is of no known kind; save it as PNG."]
    encoded = asserted(encoded, known, unknown)
    old = shorts(encoded, 18, 4)  # width, height, a 1 and the bits
    width, height = tf.unstack(tf.where(tf.equal(second, OLD), old[:2], longs(encoded, 18, 2)))
    bits = tf.where(tf.equal(second, OLD), old[3], shorts(encoded, 28, 1)[0])
    packing = tf.where(second >= PACKING, longs(encoded, 30, 1)[0], PLAIN)
    top_down, height = height < 0, tf.abs(height)
    encoded = accepted(encoded, "BMP", height, width, limits)
    deep = tf.equal(bits, 16) | tf.equal(bits, 32)
    masked = deep & (tf.equal(packing, MASKED) | tf.equal(packing, MASKED_WITH_ALPHA))
    masks = _masks(encoded, second, bits, masked, tf.equal(packing, MASKED_WITH_ALPHA))
    is_plain = tf.equal(packing, PLAIN) & (deep | tf.reduce_any(tf.equal(bits, BITS)))
    unknown = ["This BMP has", bits, "bits a pixel in packing", packing, "which is not decoded; save it as PNG."]
    packed = tf.reduce_any(tf.equal(bits, [8, 4]) & tf.equal(packing, [RUNS_OF_8, RUNS_OF_4]))
    encoded = asserted(encoded, is_plain | masked | packed, unknown)
    large = ["This BMP is packed and claims", width, "x", height, f"pixels; at most {runs.MOST} of such are decoded."]
    encoded = asserted(encoded, ~packed | (width * height <= runs.MOST), large)
    unknown = ["This BMP has the masks", *tf.unstack(masks), "which leave out a colour or have holes; save it as PNG."]
    encoded = asserted(encoded, tf.reduce_all(_are_masks(masks)), unknown)
    row = (width * bits + 31) // 32 * 4  # bytes: whole groups of four
    start = _start(encoded, second, bits, masked)
    # Some leave out what fills up the last row.
    needed = row * height - (row - (width * bits + 7) // 8)
    whole = (start > 0) & (start <= tf.strings.length(encoded) - needed)
    encoded = asserted(encoded, whole | packed & (start > 0), ["This BMP is cut short."])
    stored = tf.io.decode_raw(piece(encoded, start, row * height), tf.uint8, fixed_length=row * height)
    rows = tf.reshape(stored, (height, row))
    usual = tf.equal(bits, 32) & tf.reduce_all(tf.equal(masks[:3], OF_32_BITS[:3]))
    transparent = tf.not_equal(masks[3], 0)
    usual &= ~transparent | tf.equal(masks[3], -(2**24))
    ways: list[Callable[..., tf.Tensor]] = [functools.partial(_of_palette, count) for count in BITS[:3]]
    ways += [_of_24_bits, _opaque, _transparent]
    ways += [functools.partial(_of_masks, kind, count) for kind in (tf.uint16, tf.uint32) for count in (3, 4)]
    ways += [functools.partial(_of_runs, count) for count in (8, 4)]
    others = tf.where(usual, 4, tf.where(tf.equal(bits, 16), 6, 8)) + tf.cast(transparent, tf.int32)
    is_one = tf.equal(bits, BITS)
    which = tf.where(tf.reduce_any(is_one), tf.argmax(is_one, output_type=tf.int32), others)
    which = tf.where(packed, tf.where(tf.equal(bits, 8), len(ways) - 2, len(ways) - 1), which)
    (pixels,) = case(which, ways, rows, width, encoded, masks, start)
    return tf.reverse(pixels, tf.where([~top_down])[:, 0]), tf.constant("")


def _masks(
    encoded: tf.Tensor, second: tf.Tensor, bits: tf.Tensor, masked: tf.Tensor, with_alpha: tf.Tensor
) -> tf.Tensor:
    """int32 (4,); the fourth, 0 where nothing is transparent, belongs to the longer headers and to one packing."""
    stored = longs(encoded, FILE_HEADER + MASKS, 4)
    stored *= tf.concat([[1, 1, 1], [tf.cast((second >= ALPHA) | with_alpha, tf.int32)]], 0)
    return tf.where(masked, stored, tf.where(tf.equal(bits, 16), OF_16_BITS, OF_32_BITS))


def _are_masks(masks: tf.Tensor) -> tf.Tensor:
    """Whether each is one run of bits, and those of colours have some."""
    lowest, highest = _split(masks)
    return tf.equal(tf.bitwise.bitwise_and(highest, highest + 1), 0) & ((lowest > 0) | [False, False, False, True])


def _split(masks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The lowest bit of each, 0 if it has none, and the highest number that it can hold; int64 (4,)."""
    wide = tf.bitwise.bitwise_and(tf.cast(masks, tf.int64), 2**32 - 1)
    lowest = tf.bitwise.bitwise_and(wide, -wide)
    return lowest, wide // tf.maximum(lowest, 1)


def _start(encoded: tf.Tensor, second: tf.Tensor, bits: tf.Tensor, masked: tf.Tensor) -> tf.Tensor:
    """Where the pixels are: some files say a place within what comes before them, and mean the one behind that."""
    said, behind = longs(encoded, 10, 1)[0], FILE_HEADER + second
    masks = tf.where(masked & tf.equal(second, MASKS), 12, 0)
    count, size = _colours(encoded, second, tf.where(bits <= 8, bits, 0))
    palette = tf.where(bits <= 8, count * size, 0)
    return tf.where((said >= 0) & (said <= behind), behind + masks + palette, said)


def _colours(encoded: tf.Tensor, second: tf.Tensor, bits: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
    """How many colours the palette of so many bits has, and the bytes of each."""
    named = tf.where(second >= COLOURS, longs(encoded, 46, 1)[0], 0)
    most = tf.bitwise.left_shift(1, bits)
    return tf.where((named > 0) & (named < most), named, most), tf.where(tf.equal(second, OLD), 3, 4)


def _of_24_bits(rows: tf.Tensor, width: tf.Tensor, encoded: tf.Tensor, *unused: tf.Tensor) -> tf.Tensor:
    return tf.reshape(rows[:, : 3 * width], (-1, width, 3))[..., ::-1]


def _opaque(rows: tf.Tensor, width: tf.Tensor, encoded: tf.Tensor, *unused: tf.Tensor) -> tf.Tensor:
    return tf.reshape(rows, (-1, width, 4))[..., 2::-1]


def _transparent(rows: tf.Tensor, width: tf.Tensor, encoded: tf.Tensor, *unused: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.reshape(rows, (-1, width, 4)), (2, 1, 0, 3), axis=2)


def _of_masks(
    kind: tf.DType,
    count: int,
    rows: tf.Tensor,
    width: tf.Tensor,
    encoded: tf.Tensor,
    masks: tf.Tensor,
    *unused: tf.Tensor,
) -> tf.Tensor:
    """What lies under each of the first `count` masks, as a share of the most that fits there, rounded down."""
    stored = tf.reshape(rows[:, : width * kind.size], (-1, width, kind.size))
    pixels = tf.cast(tf.bitcast(stored, kind), tf.int64)
    lowest, highest = _split(masks)

    def channel(i: int) -> tf.Tensor:
        value = tf.bitwise.bitwise_and(pixels // tf.maximum(lowest[i], 1), highest[i])
        return tf.cast(value * 255 // tf.maximum(highest[i], 1), tf.uint8)

    return tf.stack([channel(i) for i in range(count)], axis=2)


def _of_palette(bits: int, rows: tf.Tensor, width: tf.Tensor, encoded: tf.Tensor, *unused: tf.Tensor) -> tf.Tensor:
    """Numbers of colours, the first in the highest bits."""
    shifts = tf.constant([*range(8 - bits, -1, -bits)], tf.uint8)
    numbers = tf.bitwise.bitwise_and(tf.bitwise.right_shift(rows[..., tf.newaxis], shifts), 2**bits - 1)
    numbers = tf.reshape(numbers, (-1, tf.shape(rows)[1] * (8 // bits)))[:, :width]
    return _coloured(bits, tf.cast(numbers, tf.int32), encoded)


def _of_runs(
    bits: int, rows: tf.Tensor, width: tf.Tensor, encoded: tf.Tensor, masks: tf.Tensor, start: tf.Tensor
) -> tf.Tensor:
    return _coloured(bits, runs.unpacked(encoded, start, bits, tf.shape(rows)[0], width), encoded)


def _coloured(bits: int, numbers: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """Black beyond the colours that the file has."""
    second = longs(encoded, FILE_HEADER, 1)[0]
    count, size = _colours(encoded, second, bits)
    stored = octets(encoded, FILE_HEADER + second, count * size)
    colours = tf.pad(tf.reshape(stored, (count, size))[:, 2::-1], [[0, 2**bits - count], [0, 0]])
    return tf.gather(tf.cast(colours, tf.uint8), numbers)
