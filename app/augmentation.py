"""What training does to its images, beyond the preprocessing: functions of (seed, epoch, index) alone."""

import math

import tensorflow as tf

from app.images import Preprocessing
from app.recipe import Augmentation

ASPECT = (3 / 4, 4 / 3)


def augmented(pixels: tf.Tensor, key: tf.Tensor, options: Augmentation, preprocessing: Preprocessing) -> tf.Tensor:
    """Decoded pixels (height, width, 3) -> network input. `key` is two integers that decide what happens."""
    if options.crop_area < 1:
        pixels = _random_crop(pixels, key, options.crop_area)
    image = preprocessing(pixels)
    if options.flip:
        image = tf.image.stateless_random_flip_left_right(image, tf.bitwise.invert(key))
    return image


def _random_crop(pixels: tf.Tensor, key: tf.Tensor, smallest: float) -> tf.Tensor:
    """A window of `smallest` to 1 of the area, its aspect ratio between 3/4 and 4/3 of the picture's (1409.4842, 6)."""
    area, aspect, top, left = tf.unstack(tf.random.stateless_uniform((4,), key))
    area = smallest + (1 - smallest) * area
    aspect = tf.exp(math.log(ASPECT[0]) + (math.log(ASPECT[1]) - math.log(ASPECT[0])) * aspect)
    # Both relative to the picture. A large window has to be nearly of its shape, or it would not fit.
    aspect = tf.clip_by_value(aspect, area, 1 / area)
    size = tf.minimum(tf.stack([tf.sqrt(area / aspect), tf.sqrt(area * aspect)]), 1.0)
    whole = tf.shape(pixels)[:2]
    window = tf.maximum(tf.cast(size * tf.cast(whole, tf.float32), tf.int32), 1)
    corner = tf.cast(tf.stack([top, left]) * tf.cast(whole - window + 1, tf.float32), tf.int32)
    return tf.slice(pixels, tf.concat([corner, [0]], 0), tf.concat([window, [3]], 0))
