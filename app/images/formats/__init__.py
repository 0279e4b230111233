"""The kinds of image file that are decoded, each by a module of its own, inside TensorFlow graphs.

Every module has `decode(encoded, limits)`: scalar string -> pixels as stored, uint8 (height, width, 3 or 4), the fourth
channel opacity; and the Exif segment, a string that may be empty. It reads the header first and refuses there. Where
a kind has such a segment, `segment(encoded)` gives it alone.
"""

from typing import NamedTuple

import tensorflow as tf


class Limits(NamedTuple):
    """What is decoded at most, of which the header tells before memory is taken."""

    pixels: int = 40_000_000
    side: int = 8_192
    bytes: int = 20_000_000


def accepted(encoded: tf.Tensor, kind: str, height: tf.Tensor, width: tf.Tensor, limits: Limits) -> tf.Tensor:
    """`encoded`, if a picture of so many pixels is within the limits."""
    size = tf.strings.length(encoded)
    sides = tf.stack([height, width])
    fits = tf.reduce_all((sides > 0) & (sides <= limits.side)) & (size <= limits.bytes)
    fits &= height <= limits.pixels // tf.maximum(width, 1)  # the product may have more than 32 bits
    most = f"pixels; at most {limits.bytes} bytes, {limits.side} pixels a side and {limits.pixels} in all are decoded."
    return asserted(encoded, fits, [f"This {kind} has", size, "bytes and claims", width, "x", height, most])


def asserted(encoded: tf.Tensor, condition: tf.Tensor, words: list[tf.Tensor | str]) -> tf.Tensor:
    """`encoded`, if the condition holds; nothing that takes the result runs before."""
    # The bare operation: what TensorFlow builds around it costs more than it saves.
    with tf.control_dependencies([tf.raw_ops.Assert(condition=condition, data=words)]):
        return tf.identity(encoded)
