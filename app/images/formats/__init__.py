"""The kinds of image file that are decoded, each by a module of its own, inside TensorFlow graphs.

Every module has `decode(encoded, limits)`: scalar string -> pixels as stored, uint8 (height, width, 3 or 4), the fourth
channel opacity; and the Exif segment, a string that may be empty. It reads the header first and refuses there. Where
a kind has such a segment, `segment(encoded)` gives it alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import tensorflow as tf

from export import picture_files

Limits = picture_files.Limits
# Conditions and the words for what does not fulfil them, instead of errors.
NOTES: ContextVar[list[tuple[tf.Tensor, tf.Tensor]] | None] = ContextVar("notes", default=None)


def accepted(encoded: tf.Tensor, kind: str, height: tf.Tensor, width: tf.Tensor, limits: Limits) -> tf.Tensor:
    """`encoded`, if a picture of so many pixels is within the limits."""
    size = tf.strings.length(encoded)
    sides = tf.stack([height, width])
    fits = tf.reduce_all((sides > 0) & (sides <= limits.side)) & (size <= limits.bytes)
    fits &= height <= limits.pixels // tf.maximum(width, 1)  # the product may have more than 32 bits
    most = f"pixels; at most {limits.bytes} bytes, {limits.side} pixels a side and {limits.pixels} in all are decoded."
    return asserted(encoded, fits, [f"This {kind} has", size, "bytes and claims", width, "x", height, most])


def asserted(encoded: tf.Tensor, condition: tf.Tensor, words: list[tf.Tensor | str]) -> tf.Tensor:
    """`encoded`, if the condition holds; nothing that takes the result runs before. While `noting`, a note only."""
    notes = NOTES.get()
    if notes is not None:
        said = [word if isinstance(word, str) else tf.strings.as_string(word) for word in words]
        notes.append((condition, tf.strings.join(said, " ")))
        return encoded
    # The bare operation: what TensorFlow builds around it costs more than it saves.
    with tf.control_dependencies([tf.raw_ops.Assert(condition=condition, data=words)]):
        return tf.identity(encoded)


@contextmanager
def noting() -> Iterator[list[tuple[tf.Tensor, tf.Tensor]]]:
    """What is built in the block refuses nothing, but the list has every condition and the words for its failure."""
    notes: list[tuple[tf.Tensor, tf.Tensor]] = []
    token = NOTES.set(notes)
    try:
        yield notes
    finally:
        NOTES.reset(token)
