"""How programs decode that take what TensorFlow gives: to know their answers again, never for ours."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


def decode(encoded: Any) -> NDArray[np.uint8]:
    """Bytes -> uint8 RGB (height, width, 3), neither turned as Exif says nor laid on white.

    Raises:
        tf.errors.InvalidArgumentError: no picture that TensorFlow decodes.
    """
    return tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()
