"""What training does to an image, beyond the preprocessing: functions of (seed, epoch, index) alone."""

import functools
import math
from collections.abc import Sequence

import tensorflow as tf

from app.images.formats.window import Window
from app.images.preprocessing import Preprocessing
from app.pipeline.randaugment import randaugment
from app.recipe import Augmentation

ASPECT = (3 / 4, 4 / 3)
# The orders in which TF-slim changes colours; which of them is drawn for every image.
ORDERS = {
    "fast": (("brightness", "saturation"), ("saturation", "brightness")),
    "full": (
        ("brightness", "saturation", "hue", "contrast"),
        ("saturation", "brightness", "contrast", "hue"),
        ("contrast", "hue", "brightness", "saturation"),
        ("hue", "saturation", "contrast", "brightness"),
    ),
}


def augmented(pixels: tf.Tensor, key: tf.Tensor, options: Augmentation, preprocessing: Preprocessing) -> tf.Tensor:
    """Decoded pixels (height, width, 3) -> network input. `key` is two integers that decide what happens."""
    _, flip_key, colour_key, operations_key = tf.unstack(tf.random.split(key, 4))  # the first decides the window
    if options.crop_area < 1:
        preprocessing = preprocessing.of_windows()
    image = preprocessing.resized(pixels)
    if options.flip:
        image = tf.image.stateless_random_flip_left_right(image, flip_key)
    if options.colour:
        image = _distorted_colours(image, colour_key, ORDERS[options.colour])
    if options.randaugment.layers:
        image = tf.saturate_cast(tf.round(image), tf.uint8)
        image = tf.cast(randaugment(image, operations_key, options.randaugment), tf.float32)
    return preprocessing.scaled(image)


def random_window(key: tf.Tensor, smallest: float, preprocessing: Preprocessing | None = None) -> Window:
    """`smallest` to 1 of the area, its aspect ratio between 3/4 and 4/3 (1409.4842, 6) of the picture's; or, where the
    preprocessing keeps the aspect to cover the input, of the input's, so that what is squashed to it is squashed by no
    more than that. Of a picture too long for such a window of this area, the largest that there is."""
    area, aspect, top, left = tf.unstack(tf.random.stateless_uniform((4,), tf.random.split(key, 4)[0]))
    area = smallest + (1 - smallest) * area
    aspect = tf.exp(math.log(ASPECT[0]) + (math.log(ASPECT[1]) - math.log(ASPECT[0])) * aspect)
    if preprocessing and preprocessing.aspect == "keep":
        size = tf.stack([tf.sqrt(area / aspect), tf.sqrt(area * aspect)])
        return Window(size, tf.stack([top, left]), tf.constant(preprocessing.width / preprocessing.height))
    # Both relative to the picture. A large window has to be nearly of its shape, or it would not fit.
    aspect = tf.clip_by_value(aspect, area, 1 / area)
    size = tf.minimum(tf.stack([tf.sqrt(area / aspect), tf.sqrt(area * aspect)]), 1.0)
    return Window(size, tf.stack([top, left]))


def _distorted_colours(image: tf.Tensor, key: tf.Tensor, orders: Sequence[Sequence[str]]) -> tf.Tensor:
    """RGB of 0 to 255 (height, width, 3), changed in one of the orders by as much as TF-slim does, and clipped."""
    order_key, *keys = tf.unstack(tf.random.split(key, 5))
    changes = {
        "brightness": lambda x: tf.image.stateless_random_brightness(x, 32 / 255, keys[0]),
        "saturation": lambda x: tf.image.stateless_random_saturation(x, 0.5, 1.5, keys[1]),
        "hue": lambda x: tf.image.stateless_random_hue(x, 0.2, keys[2]),
        "contrast": lambda x: tf.image.stateless_random_contrast(x, 0.5, 1.5, keys[3]),
    }

    def changed(order: Sequence[str]) -> tf.Tensor:
        return functools.reduce(lambda x, name: changes[name](x), order, image / 255)

    chosen = tf.random.stateless_uniform((), order_key, maxval=len(orders), dtype=tf.int32)
    image = tf.switch_case(chosen, [functools.partial(changed, order) for order in orders])
    return tf.clip_by_value(image, 0.0, 1.0) * 255
