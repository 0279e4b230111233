"""What lies under a picture: white under what is transparent, and around a frame of an animation."""

import tensorflow as tf

from app.images.formats.reading import case

BAND = 4_000_000  # pixels at a time: products take twice the memory of the pixels


def on_white(pixels: tf.Tensor) -> tf.Tensor:
    """uint8 (height, width, 3), or with opacity (height, width, 4) -> (height, width, 3), rounded to the nearest."""
    transparent = tf.equal(tf.shape(pixels)[2], 4)
    (found,) = case(transparent, [lambda pixels: tf.ensure_shape(pixels, (None, None, 3)), _laid], pixels)
    return found


def _laid(pixels: tf.Tensor) -> tf.Tensor:
    height, width, _ = tf.unstack(tf.shape(pixels))
    rows = tf.maximum(BAND // width, 1)
    count = -(-height // rows)
    eight = tf.constant(8, tf.uint16)
    bands = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=(None, None, 3))

    def lay(i: tf.Tensor, bands: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        band = tf.cast(pixels[i * rows : (i + 1) * rows], tf.uint16)
        colour, opacity = band[..., :3], band[..., 3:]
        # At most 255 * 255 + 128 + 254, which 16 bits hold; x / 255 rounded is (y + y / 256) / 256 with y = x + 128.
        y = colour * opacity + (255 * (255 - opacity) + 128)
        rounded = tf.bitwise.right_shift(y + tf.bitwise.right_shift(y, eight), eight)
        return i + 1, bands.write(i, tf.cast(rounded, tf.uint8))

    _, bands = tf.while_loop(lambda i, _: i < count, lay, (tf.constant(0), bands), parallel_iterations=1)
    return bands.concat()


def placed(frame: tf.Tensor, top: tf.Tensor, left: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """The picture (height, width, channels), white where this frame (rows, columns, channels) is not."""
    rows, columns, _ = tf.unstack(tf.shape(frame))
    margins = [[top, height - top - rows], [left, width - left - columns], [0, 0]]
    return tf.pad(frame, margins, constant_values=255)
