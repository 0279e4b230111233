"""RandAugment. Cubuk, Zoph, Shlens, Le 2019, https://arxiv.org/abs/1909.13719

The fourteen operations of its section 3, in TensorFlow, on whole pixels: uint8 (height, width, 3) in and out. Each
gives what Pillow's ImageOps, ImageEnhance and Image.transform give. `strength` is a scalar in -1..1 whose size is the
magnitude, as a share of the most in Table 6 of AutoAugment (https://arxiv.org/abs/1805.09501), and whose sign is the
direction, where there are two.
"""

import functools
import math

import tensorflow as tf

from app.recipe import RandAugment

GREY = 128.0  # where nothing is left of the picture


def randaugment(pixels: tf.Tensor, key: tf.Tensor, options: RandAugment) -> tf.Tensor:
    """`options.layers` operations after each other, each drawn from all of them, with its direction. `key` is two
    integers that decide."""
    which_key, sign_key = tf.unstack(tf.random.split(key, 2))
    which = tf.random.stateless_uniform((options.layers,), which_key, maxval=len(OPERATIONS), dtype=tf.int32)
    signs = 2 * tf.random.stateless_uniform((options.layers,), sign_key, maxval=2, dtype=tf.int32) - 1
    strengths = options.magnitude / 10 * tf.cast(signs, tf.float32)
    shape = pixels.shape
    for layer in range(options.layers):
        branches = [functools.partial(operation, pixels, strengths[layer]) for operation in OPERATIONS]
        pixels = tf.ensure_shape(tf.switch_case(which[layer], branches), shape)
    return pixels


def identity(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return tf.identity(pixels)


def autocontrast(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Each channel stretched to 0..255."""
    low, high = (tf.cast(reduce(pixels, (0, 1)), tf.float64) for reduce in (tf.reduce_min, tf.reduce_max))
    scale = (255 / (high - low))[:, tf.newaxis]
    levels = tf.range(256, dtype=tf.float64)
    stretched = levels * scale - low[:, tf.newaxis] * scale
    return _looked_up(pixels, tf.where((high > low)[:, tf.newaxis], stretched, levels))


def equalize(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Each channel with a histogram as flat as it can be."""
    counts = tf.reshape(tf.math.bincount(tf.reshape(_places(pixels), (-1,)), minlength=3 * 256), (3, 256))
    levels = tf.range(256)
    highest = tf.reduce_max(tf.where(counts > 0, levels, 0), axis=1)
    of_highest = tf.gather(counts, highest, batch_dims=1)
    step = ((tf.reduce_sum(counts, axis=1) - of_highest) // 255)[:, tf.newaxis]
    flat = (step // 2 + tf.cumsum(counts, axis=1, exclusive=True)) // tf.maximum(step, 1)
    return _looked_up(pixels, tf.where(step > 0, flat, levels))


def posterize(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Up to 4 of the 8 bits become 0."""
    bits = tf.cast(tf.round(4 * tf.abs(strength)), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(pixels, bits), bits)


def solarize(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Inverts from a threshold on, at full strength from 0."""
    threshold = 256 * (1 - tf.abs(strength))
    inverted = tf.cast(tf.cast(pixels, tf.float32) >= threshold, tf.uint8)
    return tf.bitwise.bitwise_xor(pixels, 255 * inverted)  # a third of the time that tf.where takes


def color(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return _enhanced(_grey(pixels), pixels, strength)


def contrast(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    # In float64 the sum of whole numbers is exact, in whatever order threads add them.
    mean = tf.reduce_mean(tf.cast(_grey(pixels), tf.float64))
    return _enhanced(tf.floor(mean + 0.5), pixels, strength)


def brightness(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return _enhanced(0, pixels, strength)


def sharpness(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Away from, or towards, the weighted mean of the 3 x 3 neighbours; pixels at the border stay."""
    x = tf.cast(pixels, tf.float32)
    rows = x[:-2] + x[1:-1] + x[2:]
    total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * x[1:-1, 1:-1]
    inside = _enhanced(tf.floor(total / 13 + 0.5), pixels[1:-1, 1:-1], strength)
    middle = tf.concat([pixels[1:-1, :1], inside, pixels[1:-1, -1:]], axis=1)
    return tf.concat([pixels[:1], middle, pixels[-1:]], axis=0)


def shear_x(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return _moved(pixels, (1.0, 0.3 * strength, 0.0), (0.0, 1.0, 0.0))


def shear_y(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return _moved(pixels, (1.0, 0.0, 0.0), (0.3 * strength, 1.0, 0.0))


def translate_x(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """By up to 150 of the 331 pixels of the paper's images, here as a share of the width."""
    width = tf.cast(tf.shape(pixels)[1], tf.float32)
    return _moved(pixels, (1.0, 0.0, tf.round(150 / 331 * strength * width)), (0.0, 1.0, 0.0))


def translate_y(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    height = tf.cast(tf.shape(pixels)[0], tf.float32)
    return _moved(pixels, (1.0, 0.0, 0.0), (0.0, 1.0, tf.round(150 / 331 * strength * height)))


def rotate(pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """By up to 30 degrees around the middle."""
    angle = math.radians(30) * strength
    sin, cos = tf.sin(angle), tf.cos(angle)
    y, x = tf.unstack(tf.cast(tf.shape(pixels)[:2], tf.float32) / 2)
    return _moved(pixels, (cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y))


OPERATIONS = (
    identity,
    autocontrast,
    equalize,
    rotate,
    solarize,
    color,
    posterize,
    contrast,
    brightness,
    sharpness,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
)


def _places(pixels: tf.Tensor) -> tf.Tensor:
    """Of every value its place in a table (3, 256)."""
    return tf.cast(pixels, tf.int32) + tf.constant((0, 256, 512))


def _looked_up(pixels: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Every value replaced by what its channel's row of the table (3, 256) has for it, without its fraction."""
    table = tf.cast(tf.clip_by_value(table, 0, 255), tf.uint8)
    return tf.gather(tf.reshape(table, (-1,)), _places(pixels))


def _grey(pixels: tf.Tensor) -> tf.Tensor:
    """(height, width, 1): 0.299 R + 0.587 G + 0.114 B, rounded, in 16 bits after the point."""
    red, green, blue = tf.unstack(tf.cast(pixels, tf.int32), axis=2)
    return tf.bitwise.right_shift(19595 * red + 38470 * green + 7471 * blue + 0x8000, 16)[:, :, tf.newaxis]


def _enhanced(without: tf.Tensor | int, pixels: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """From the image `without` the quality (factor 0) through the given one (1) and beyond: a factor of 0.1 to 1.9."""
    factor = 1 + 0.9 * strength
    start = tf.cast(without, tf.float32)
    blended = start + factor * (tf.cast(pixels, tf.float32) - start)
    return tf.cast(tf.clip_by_value(blended, 0, 255), tf.uint8)


def _moved(pixels: tf.Tensor, x: tuple[tf.Tensor | float, ...], y: tuple[tf.Tensor | float, ...]) -> tf.Tensor:
    """Every pixel from the nearest one to (x, y) = (x0 column + x1 row + x2, y0 column + y1 row + y2), counted from the
    corner of the picture."""
    # The operation counts from the middle of the first pixel instead.
    rows = [(a, b, c + (a + b - 1) / 2) for a, b, c in (x, y)]
    transform = tf.stack([*rows[0], *rows[1], 0.0, 0.0])
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels[tf.newaxis],
        transforms=transform[tf.newaxis],
        output_shape=tf.shape(pixels)[:2],
        fill_value=GREY,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )
    return moved[0]
