"""Decoded pictures of a small data set, held in memory: later epochs do not decode them again."""

import io

import tensorflow as tf
from PIL import Image

from app.images.formats import jpeg
from app.images.formats.reading import case, is_at
from app.images.formats.window import Window
from app.images.preprocessing import Preprocessing
from app.program.parallel import in_parallel

MEMORY = 512 * 2**20  # bytes
HASH = 2**63 - 1


class HeldPictures:
    """For the pipeline of a split of `count` pictures. One is held if all of them would fit into `MEMORY` at its size:
    its bytes decide, and nothing that happened before. It is found by a hash of these bytes, in whatever order."""

    def __init__(self, count: int, preprocessing: Preprocessing) -> None:
        self.largest = MEMORY // max(count, 1)
        self.preprocessing = preprocessing
        # Anonymous: it lives as long as a pipeline that looks into it.
        self.table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.string, "", experimental_is_anonymous=True)
        self.filled = False

    def fill(self, examples: tf.data.Dataset) -> None:
        """Decodes all pictures (encoded, label) now, if all can be held: a pipeline that looks into it then needs no
        decoder, which takes half a second to set up."""

        def decoded(example: tuple[bytes, int]) -> tuple[tf.Tensor, tf.Tensor]:
            encoded, _ = example
            pixels = self.preprocessing.decode(encoded)
            return tf.strings.to_hash_bucket_fast(encoded, HASH), tf.io.serialize_tensor(pixels)

        if all(self._can_hold(encoded) for encoded, _ in examples.as_numpy_iterator()):
            for key, held in in_parallel(decoded, examples.as_numpy_iterator()):
                self.table.insert(key, held)
            self.filled = True

    def _can_hold(self, encoded: bytes) -> bool:
        try:
            with Image.open(io.BytesIO(encoded)) as header:
                return 3 * header.width * header.height <= self.largest
        except Exception:  # damaged headers raise whatever Pillow's readers stumble over; the decoder judges
            return False

    def decode(self, encoded: tf.Tensor) -> tf.Tensor:
        """As `Preprocessing.decode`."""
        key = tf.strings.to_hash_bucket_fast(encoded, HASH)
        held = tf.ensure_shape(self.table.lookup(key), ())
        if self.filled:
            return tf.ensure_shape(tf.io.parse_tensor(held, tf.uint8), (None, None, 3))
        ways = [self._decoded, lambda encoded, held: (tf.io.parse_tensor(held, tf.uint8), held)]
        pixels, new = case(tf.not_equal(held, ""), ways, encoded, held)
        is_new = tf.where(tf.equal(held, "") & tf.not_equal(new, ""), 1, 0)
        self.table.insert(tf.repeat(key, is_new), tf.repeat(new, is_new))
        return tf.ensure_shape(pixels, (None, None, 3))

    def decode_window(self, encoded: tf.Tensor, window: Window) -> tf.Tensor:
        """As `Preprocessing.decode_window`, but of a picture that is held, cut out of it."""
        if self.filled:
            return window.of(self.decode(encoded))
        is_jpeg = is_at(encoded, 0, jpeg.MAGIC)
        (pixels,) = case(is_jpeg, [lambda encoded: tf.zeros((), tf.int64), jpeg.size], encoded)
        return tf.cond(
            3 * pixels <= self.largest,
            lambda: window.of(self.decode(encoded)),
            lambda: self.preprocessing.decode_window(encoded, window),
        )

    def _decoded(self, encoded: tf.Tensor, held: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = self.preprocessing.decode(encoded)
        fits = tf.size(pixels) <= self.largest
        return pixels, tf.cond(fits, lambda: tf.io.serialize_tensor(pixels), lambda: tf.constant(""))
