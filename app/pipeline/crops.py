"""Many crops of one picture, whose answers are averaged: 10 (Krizhevsky et al. 2012), 12, or 144 (1409.4842, 7).

All are measured against the input of the network, which was 224 x 224 in both papers: another side scales with it, so
that 256 becomes 342 for 299 x 299.

     10   The picture resized until its shorter side is 256, the middle square of it, the four corners and the centre of
          that, each also mirrored. (https://papers.nips.cc/paper/4824; 1512.03385 calls it the standard testing.)
     12   Those, and the square itself resized to the input. 1512.00567 and 1602.07261 report 12 crops and do not say
          which; these are the twelve that 1409.4842 takes of a square.
    144   The same twelve of three squares (left, middle and right, or top, middle and bottom) at each of four scales,
          the shorter side 256, 288, 320 and 352.

With 1, the network's own preprocessing decides.
"""

from typing import NamedTuple

import tensorflow as tf

from app.images.preprocessing import Preprocessing

REFERENCE = 224  # pixels: the input that the scales are told for


class Scheme(NamedTuple):
    """`scales` are lengths of the shorter side; `squares` say where along the longer one: 0 begin, 1 middle, 2 end."""

    scales: tuple[int, ...]
    squares: tuple[int, ...]
    whole: bool


SCHEMES = {
    10: Scheme((256,), (1,), whole=False),
    12: Scheme((256,), (1,), whole=True),
    144: Scheme((256, 288, 320, 352), (0, 1, 2), whole=True),
}
COUNTS = (1, *SCHEMES)
PLACES = ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))  # the corners and the centre, as in `squares`


def crops(pixels: tf.Tensor, preprocessing: Preprocessing, count: int) -> tf.Tensor:
    """Pixels of 0 to 255 (height, width, 3), RGB, of any size -> float32 (count, input height, input width,
    channels), as the network takes them.

    Their order: scale, square, then top left, top right, bottom left, bottom right, centre, the whole square; the
    second half are the first, mirrored. Filter and numbers are the preprocessing's; its own crop counts for nothing.
    """
    scheme = SCHEMES[count]
    wanted = (preprocessing.height, preprocessing.width)
    found = []
    for scale in scheme.scales:
        square = tuple(round(side * scale / REFERENCE) for side in wanted)
        covering = _covering(pixels, preprocessing, square)
        for place in scheme.squares:
            taken = _part(covering, square, (place, place))  # along the shorter side nothing is spare
            found += [_part(taken, wanted, corner) for corner in PLACES]
            if scheme.whole:
                found.append(preprocessing.filtered(taken, *wanted))
    plain = preprocessing.scaled(tf.stack(found))
    return tf.ensure_shape(tf.concat([plain, plain[:, :, ::-1]], 0), (count, *wanted, preprocessing.channels))


def _covering(pixels: tf.Tensor, preprocessing: Preprocessing, box: tuple[int, ...]) -> tf.Tensor:
    """The whole picture in its aspect, as small as it covers the box; what is not a whole pixel is cut off."""
    rows, columns = tf.unstack(tf.shape(pixels)[:2])
    height = tf.maximum(box[0], rows * box[1] // columns)
    width = tf.maximum(box[1], columns * box[0] // rows)
    return preprocessing.filtered(pixels, height, width)


def _part(pixels: tf.Tensor, size: tuple[int, ...], place: tuple[int, int]) -> tf.Tensor:
    """The part of this size (height, width); `place` says where it lies from top and left, 0, 1 or 2 halves of what is
    spare; of an odd pixel, the smaller half is above or left."""
    rows, columns = tf.unstack(tf.shape(pixels)[:2])
    top, left = (rows - size[0]) * place[0] // 2, (columns - size[1]) * place[1] // 2
    return tf.ensure_shape(pixels[top : top + size[0], left : left + size[1]], (*size, 3))
