"""Numbers out of encoded bytes, and one of several ways to go on, decided inside a graph. Reading behind the end gives
zeros and never fails.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from app.images.formats import NOTES

BYTES = [bytes([value]) for value in range(256)]


def piece(encoded: tf.Tensor, start: tf.Tensor | int, length: tf.Tensor | int) -> tf.Tensor:
    """At most `length` bytes from `start` on, as a string; neither is negative."""
    return tf.strings.substr(encoded, tf.minimum(start, tf.strings.length(encoded)), length)


def octets(encoded: tf.Tensor, start: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
    """int32 (count,) of 0 to 255; one at least."""
    return tf.cast(tf.io.decode_raw(piece(encoded, start, count), tf.uint8, fixed_length=count), tf.int32)


def shorts(encoded: tf.Tensor, start: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
    """int32 (count,) of two bytes each, the lower first."""
    return tf.cast(tf.io.decode_raw(piece(encoded, start, 2 * count), tf.uint16, fixed_length=2 * count), tf.int32)


def longs(encoded: tf.Tensor, start: tf.Tensor | int, count: int, big: bool = False) -> tf.Tensor:
    """int32 (count,) of four bytes each, the lowest first unless `big`; negative from 2^31 on."""
    return tf.io.decode_raw(piece(encoded, start, 4 * count), tf.int32, little_endian=not big, fixed_length=4 * count)


def is_at(encoded: tf.Tensor, start: tf.Tensor | int, wanted: bytes) -> tf.Tensor:
    return tf.equal(piece(encoded, start, len(wanted)), wanted)


def written(numbers: tf.Tensor, size: int) -> tf.Tensor:
    """Numbers, each as `size` bytes, the lowest first, in one string."""
    shifted = tf.bitwise.right_shift(tf.expand_dims(numbers, -1), tf.range(0, 8 * size, 8))
    return tf.strings.reduce_join(tf.gather(tf.constant(BYTES), tf.bitwise.bitwise_and(shifted, 255)))


def case(which: tf.Tensor, ways: Sequence[Callable[..., Any]], *given: tf.Tensor) -> list[tf.Tensor]:
    """The tensors that `ways[which](*given)` gives; no way may use another tensor than those it is given.

    What `tf.cond` and `tf.switch_case` build visits every operation of the ways that are not taken, which takes longer
    than decoding a small picture. The operation behind them calls the one way and does not look at the others.
    """
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in given]
    functions = [tf.function(way, input_signature=specs, autograph=False).get_concrete_function() for way in ways]
    outputs = list(zip(*(function.outputs for function in functions), strict=True))
    # What is only noted has no effects; then what nobody asks for, the pixels, is not computed.
    operation = tf.raw_ops.Case if NOTES.get() is None else tf.raw_ops.StatelessCase
    return operation(
        branch_index=tf.cast(which, tf.int32),
        input=given,
        Tout=[output[0].dtype for output in outputs],
        branches=functions,
        output_shapes=[_common([tensor.shape for tensor in output]) for output in outputs],
    )


def _common(shapes: Sequence[tf.TensorShape]) -> tf.TensorShape:
    return functools.reduce(tf.TensorShape.most_specific_compatible_shape, shapes)
