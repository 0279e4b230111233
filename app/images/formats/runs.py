"""The two packings of BMP by run lengths, of 8 and of 4 bits a pixel, unpacked without a loop over the runs."""

from typing import NamedTuple

import tensorflow as tf

from app.images.formats import asserted
from app.images.formats.reading import octets

MOST = 20_000_000  # pixels, each of which takes 30 bytes on the way, and 90 where each is a run of its own
LINE, END, MOVE = 0, 1, 2  # what a pair that begins with 0 means; with a higher number, so many pixels follow it


class Pairs(NamedTuple):
    """Pairs of bytes, int32 (n,) each, and how many pairs behind each belong to it."""

    first: tf.Tensor
    second: tf.Tensor
    behind: tf.Tensor


def unpacked(encoded: tf.Tensor, start: tf.Tensor, bits: int, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Numbers of colours, int32 (height, width), in the order in which they are stored, from the bytes from `start` on;
    0 where the packing leaves pixels out. What a run would repeat beyond the end of its line is dropped.
    """
    pairs = _pairs(encoded, start, bits, height, width)
    at = _orders(pairs)
    first, second = tf.gather(pairs.first, at), tf.gather(pairs.second, at)
    escape = tf.equal(first, 0)
    line, move = escape & tf.equal(second, LINE), escape & tf.equal(second, MOVE)
    right, down = (tf.where(move, tf.gather(tf.pad(each, [[0, 1]]), at + 1), 0) for each in pairs[:2])
    count = tf.where(escape, tf.where(second > MOVE, second, 0), first)
    row = _before(tf.cast(line, tf.int32) + down)
    # Along all lines as if they were one, less where the line of each began: before that nothing is farther left.
    along, lines = _before(count + right), tf.cumsum(tf.cast(line, tf.int32), exclusive=True)
    along -= tf.gather(tf.math.segment_min(along, lines), lines)
    row, column = _at_most(row, height), _at_most(along, width)
    ended = tf.reduce_any(escape & tf.equal(second, END))
    full = (row[-1] >= height) | tf.equal(row[-1], height - 1) & (column[-1] + count[-1] >= width)
    copies = escape & (count + right > 0)
    outside = copies & (column + count + right > width) | (row >= height) & (count > 0)
    row = asserted(row, ~tf.reduce_any(outside), ["This BMP is damaged: some of its pixels are outside of it."])
    row = asserted(row, ended | full, ["This BMP is cut short."])
    # No more than the picture has, since nothing goes back in a line or to one that was left.
    seen = tf.where(row < height, tf.clip_by_value(width - column, 0, count), 0)
    order, place = _repeated(seen)
    where = tf.gather(row * width + column, order) + place
    # Runs repeat the second byte; other pixels stand behind their order.
    byte = 2 * tf.gather(at, order) + 2 + place * bits // 8
    stored = tf.reshape(tf.stack(pairs[:2], axis=1), [-1])
    copied = tf.gather(stored, tf.minimum(byte, tf.size(stored) - 1))
    value = tf.where(tf.gather(escape, order), copied, tf.gather(second, order))
    if bits == 4:
        value = tf.where(tf.equal(place % 2, 0), value // 16, value % 16)
    return tf.reshape(tf.scatter_nd(where[:, tf.newaxis], value, [height * width]), (height, width))


def _pairs(encoded: tf.Tensor, start: tf.Tensor, bits: int, height: tf.Tensor, width: tf.Tensor) -> Pairs:
    """No more than a picture of this size can need."""
    left = tf.strings.length(encoded) - start
    most = 2 * height * (width + 4) + 2
    stored = octets(encoded, start, tf.maximum(tf.minimum(left, most) // 2 * 2, 2))
    first, second = tf.unstack(tf.reshape(stored, (-1, 2)), axis=1)
    copied = (second * bits + 15) // 16
    behind = tf.where(tf.equal(second, MOVE), 1, tf.where(second > MOVE, copied, 0))
    return Pairs(first, second, tf.where(tf.equal(first, 0), behind, 0))


def _orders(pairs: Pairs) -> tf.Tensor:
    """Which pairs are orders, and not what belongs to one, int32 (m,), up to the end: those that are reached from the
    first by going from each to the next. Going twice as far each time, all are found in few rounds."""
    size = tf.size(pairs.first)
    stops = tf.equal(pairs.first, 0) & tf.equal(pairs.second, END)
    onward = tf.where(stops, size, tf.minimum(tf.range(size) + 1 + pairs.behind, size))
    onward = tf.concat([onward, [size]], 0)

    def going(far: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return far <= size

    def farther(far: tf.Tensor, onward: tf.Tensor, reached: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        reached = tf.maximum(reached, tf.math.unsorted_segment_max(reached, onward, size + 1))
        return 2 * far, tf.gather(onward, onward), reached

    first = (tf.constant(1), onward, tf.one_hot(0, size + 1, dtype=tf.int32))
    _, _, reached = tf.while_loop(going, farther, first)
    return tf.cast(tf.where(reached[:-1] > 0)[:, 0], tf.int32)


def _before(steps: tf.Tensor) -> tf.Tensor:
    """How far all steps before each have led, int64: of the bytes of one file, farther than 32 bits can count."""
    return tf.cumsum(tf.cast(steps, tf.int64), exclusive=True)


def _at_most(far: tf.Tensor, most: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.minimum(far, tf.cast(most, tf.int64)), tf.int32)


def _repeated(times: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Each position of `times` as often as it says, and which repetition of it that is; int32 (sum,) each.

    `tf.repeat` takes memory for the largest number at all of the positions.
    """
    starts, total = tf.cumsum(times, exclusive=True), tf.reduce_sum(times)
    some = tf.cast(tf.where(times > 0)[:, 0], tf.int32)
    begins = tf.scatter_nd(tf.gather(starts, some)[:, tf.newaxis], tf.ones_like(some), [total])
    order = tf.gather(some, tf.cumsum(begins) - 1)
    return order, tf.range(total) - tf.gather(starts, order)
