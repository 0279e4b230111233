"""From the bytes of an image file to the tensor a network takes: the one definition, used in training and in artefacts.

Everything here is TensorFlow, so that it runs in input pipelines and travels inside exported graphs.
"""

from typing import Any, Literal

import tensorflow as tf
from pydantic import BaseModel, ConfigDict, PositiveInt

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"})


def decode(encoded: Any) -> tf.Tensor:
    """Bytes, or a scalar string tensor, of a JPEG, PNG, GIF, BMP or WebP file -> uint8 RGB (height, width, 3).

    Of an animation the first frame. JPEG is decoded with the accurate integer transform, which makes the pixels equal
    to Pillow's; TensorFlow's default differs from them in two thirds of the pixels.

    Raises:
        tf.errors.InvalidArgumentError: what is not such a file, or is cut short.
    """
    encoded = tf.convert_to_tensor(encoded, tf.string)

    def jpeg() -> tf.Tensor:
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    def other() -> tf.Tensor:
        return tf.io.decode_image(encoded, channels=3, expand_animations=False)

    pixels = tf.cond(tf.equal(tf.strings.substr(encoded, 0, 3), b"\xff\xd8\xff"), jpeg, other)
    return tf.ensure_shape(pixels, (None, None, 3))


class Preprocessing(BaseModel):
    """What is done to decoded pixels before the network sees them; stored with every run and inside every artefact.

    The whole picture is squashed to `height` x `width` by a bilinear filter that widens when it shrinks (antialias,
    as Pillow's) and scaled from 0..255 to -1..1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: PositiveInt
    width: PositiveInt
    colour: Literal["RGB"] = "RGB"
    resize: Literal["bilinear"] = "bilinear"
    antialias: Literal[True] = True
    aspect: Literal["squash"] = "squash"
    scaling: Literal["-1..1"] = "-1..1"

    def decode(self, encoded: Any) -> tf.Tensor:
        return decode(encoded)

    def __call__(self, pixels: tf.Tensor) -> tf.Tensor:
        """Pixels of 0 to 255 (height, width, 3), of any size -> float32 in [-1, 1] (self.height, self.width, 3)."""
        resized = tf.image.resize(pixels, (self.height, self.width), antialias=True)
        return tf.ensure_shape(resized, (self.height, self.width, 3)) / 127.5 - 1.0

    def on_device(self, pixels: tf.Tensor) -> tf.Tensor:
        """The same in operations that LiteRT has; its runtime knows no antialiased resize.

        A separable linear filter is two matrix products, rows and columns: (height, rows) @ picture @ (columns, width).
        """
        x = tf.cast(pixels, tf.float32)
        rows = _filter(x[:, 0, 0], self.height)
        columns = _filter(x[0, :, 0], self.width)
        planes = tf.transpose(x, (2, 0, 1))
        planes = tf.matmul(rows[tf.newaxis], tf.matmul(planes, columns, transpose_b=True))
        return tf.transpose(planes, (1, 2, 0)) / 127.5 - 1.0


def _filter(line: tf.Tensor, size: int) -> tf.Tensor:
    """Weights (size, n) that resample a line of n pixels: triangles over the source pixels, each row of sum 1."""
    # Counted by a running sum: a range of dynamic length would make every later tensor of a LiteRT graph dynamic.
    ones = line * 0.0 + 1.0
    centres = tf.cumsum(ones) - 0.5
    scale = tf.reduce_sum(ones) / size
    wanted = (tf.range(size, dtype=tf.float32) + 0.5) * scale
    distance = tf.abs(wanted[:, tf.newaxis] - centres[tf.newaxis, :])
    weights = tf.nn.relu(1.0 - distance / tf.maximum(scale, 1.0))
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)
