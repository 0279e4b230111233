"""By what pictures are known that look alike: bits which recompressing, resizing, other brightness and a narrow crop
change little.
"""

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 16  # bits, and the least number of pixels
BITS = SIDE * SIDE
FLAT = 4.0  # of 255: the deviation of pictures that show too little to be told apart


def likeness(picture: NDArray[np.uint8]) -> bytes:
    """(height, width, 3) -> 256 bits: whether each of the 16 x 16 lowest frequencies of the grey picture, squashed to a
    square, is above their median (ImageHash's `phash`). The first 64 are the lowest of all, 8 x 8. Empty for pictures
    with fewer pixels a side, or that are next to flat, whose bits would be those of noise.
    """
    if min(picture.shape[:2]) < SIDE:
        return b""
    # As `phash` begins; it finds nothing left to do.
    grey = Image.fromarray(picture).convert("L").resize((4 * SIDE, 4 * SIDE), Image.Resampling.LANCZOS)
    if np.asarray(grey).std() < FLAT:
        return b""
    bits = imagehash.phash(grey, SIDE, 4).hash
    half = SIDE // 2
    return np.packbits([bits[:half, :half], bits[:half, half:], bits[half:, :half], bits[half:, half:]]).tobytes()
