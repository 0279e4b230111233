"""A rectangle of a picture whose size is not yet known."""

from typing import NamedTuple

import tensorflow as tf


class Window(NamedTuple):
    """`size` is the share of the rows and of the columns, above 0 and up to 1; `place`, 0 to 1, is how much of what is
    left lies above and on the left. Of the picture as it is seen.

    Where `wide` is not 0, `size` is that of a window of a picture which is so many times as wide as it is high. Other
    pictures have one of the same area and shape, or the largest of this shape, if it is larger than they are."""

    size: tf.Tensor
    place: tf.Tensor
    wide: tf.Tensor | float = 0.0

    def shares(self, whole: tf.Tensor) -> tf.Tensor:
        """Of the rows and of the columns, of a picture that has so many; float32 (2,)."""
        rows, columns = tf.unstack(tf.cast(whole, tf.float32))
        wider = self.wide * self.size[1] / self.size[0] * rows / columns  # than the picture
        area = tf.minimum(self.size[0] * self.size[1], tf.minimum(wider, 1 / wider))
        own = tf.minimum(tf.stack([tf.sqrt(area / wider), tf.sqrt(area * wider)]), 1.0)
        return tf.where(tf.equal(self.wide, 0.0), self.size, own)

    def pixels(self, whole: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The corner and the size in whole pixels, of a picture with so many rows and columns; int32 (2,) each."""
        size = tf.maximum(tf.cast(self.shares(whole) * tf.cast(whole, tf.float32), tf.int32), 1)
        corner = tf.cast(self.place * tf.cast(whole - size + 1, tf.float32), tf.int32)
        return tf.minimum(corner, whole - size), size

    def of(self, pixels: tf.Tensor) -> tf.Tensor:
        """Cut out of a decoded picture (height, width, 3)."""
        corner, size = self.pixels(tf.shape(pixels)[:2])
        return tf.slice(pixels, tf.concat([corner, [0]], 0), tf.concat([size, [3]], 0))
