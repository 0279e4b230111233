"""What is known of image files once they have been read."""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.datasets.dataset import ImageFile


class Hashes(NamedTuple):
    """The SHA-256 of the bytes of an image, and that of its picture, which is the same in every lossless format."""

    encoded: str
    picture: str


class Picture(NamedTuple):
    """A file that could be read."""

    file: ImageFile
    hashes: Hashes


def hashes(encoded: bytes, picture: NDArray[np.uint8]) -> Hashes:
    content = hashlib.sha256(str(picture.shape).encode())
    content.update(picture.tobytes())
    return Hashes(hashlib.sha256(encoded).hexdigest(), content.hexdigest())
