"""A picture as the network sees it: for the network, and for people."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.images import decoding
from app.images.decoding import reason
from app.images.preprocessing import Preprocessing
from app.program.errors import UserError


class View(NamedTuple):
    """`image` is what the network takes, float32 (height, width, channels); `picture` the same part of the picture for
    people, uint8 RGB (height, width, 3)."""

    image: Any
    picture: Any


def view(encoded: Any, preprocessing: Preprocessing) -> View:
    """Of the bytes of an image file, eagerly and in input pipelines.

    Raises:
        tf.errors.InvalidArgumentError: see `images.decode`.
    """
    resized = preprocessing.resized(preprocessing.decode(encoded))
    return View(preprocessing.scaled(resized), tf.saturate_cast(tf.round(resized), tf.uint8))


def read(file: Path, preprocessing: Preprocessing) -> View:
    """Of an image file, as arrays.

    Raises:
        UserError: it cannot be read.
    """
    with _named(file):
        seen = view(file.read_bytes(), preprocessing)
    image: NDArray[np.float32] = seen.image.numpy()
    picture: NDArray[np.uint8] = seen.picture.numpy()
    return View(image, picture)


def at_its_own_size(file: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """What the network sees of an image file, uint8 RGB, neither resized nor squashed. As in all that a network is
    given, a large JPEG is reduced while it is decoded.

    Raises:
        UserError: it cannot be read.
    """
    with _named(file):
        pixels: NDArray[np.uint8] = preprocessing.decode(file.read_bytes()).numpy()
    rows, columns = preprocessing.part(*pixels.shape[:2])
    return pixels[rows, columns]


@contextmanager
def _named(file: Path) -> Iterator[None]:
    try:
        yield
    except (tf.errors.InvalidArgumentError, OSError) as error:
        why = reason(error) if isinstance(error, OSError) else decoding.refusal(error)
        raise UserError(f"{file} cannot be read: {why}") from error
