"""A picture as the network sees it, in NumPy: for the page of a server that has no TensorFlow.

The same product of matrices that is inside the files for LiteRT, ONNX and OpenVINO: see `Preprocessing.on_device`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-3  # pixels that a margin may lack to a whole number and is that number
LUMA = (0.299, 0.587, 0.114)  # see `app.images.preprocessing`
LINES = 256  # rows that are looked at together: the pixels as floats take four times the memory


class Axis(NamedTuple):
    """How one side is resampled: `taken` pixels from `low` on become `whole`, of which `size` from `shift` on are
    kept."""

    low: float
    taken: float
    whole: float
    shift: float
    size: int


def seen(pixels: NDArray[np.uint8], preprocessing: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Pixels (rows, columns, 3), RGB -> those that the network gets, before they are scaled, uint8 RGB (height, width,
    3), of equal channels where that is grey. `preprocessing` is what runs and artefacts say of theirs: see
    `app.images.preprocessing`."""
    rows, columns = pixels.shape[:2]
    down, across = (
        _weights(side, axis, preprocessing)
        for side, axis in zip((rows, columns), _axes(rows, columns, preprocessing), strict=True)
    )
    found = np.zeros((len(down), len(across), 3), np.float32)
    for start in range(0, rows, LINES):
        part = pixels[start : start + LINES].astype(np.float32)
        for channel in range(3):
            found[..., channel] += down[:, start : start + LINES] @ (part[..., channel] @ across.T)
    if preprocessing["aspect"] == "pad":
        mean = np.asarray(preprocessing["mean"], np.float32)
        fill = mean[::-1] if preprocessing["colour"] == "BGR" else mean
        found[np.outer(down.sum(axis=1), across.sum(axis=1)) == 0] = fill  # laid around it: the network sees 0
    if preprocessing["colour"] == "grey":
        found[:] = (found @ np.asarray(LUMA, np.float32))[..., np.newaxis]
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)


def _axes(rows: int, columns: int, preprocessing: Mapping[str, Any]) -> tuple[Axis, Axis]:
    height, width = preprocessing["height"], preprocessing["width"]
    crop = preprocessing["crop"]
    if preprocessing["aspect"] != "keep":
        low = [int((side - side * crop) / 2 + ROUNDING) for side in (rows, columns)]
        taken = (rows - 2 * low[0], columns - 2 * low[1])
        whole = (height, width)
        if preprocessing["aspect"] == "pad":
            if taken[0] * width > taken[1] * height:
                whole = (height, max(1, height * taken[1] // taken[0]))
            else:
                whole = (max(1, width * taken[0] // taken[1]), width)
        return (
            Axis(low[0], taken[0], whole[0], -((height - whole[0]) // 2), height),
            Axis(low[1], taken[1], whole[1], -((width - whole[1]) // 2), width),
        )
    covered = [int(side / crop + 1e-6) for side in (height, width)]
    tall = rows * covered[1] > columns * covered[0]
    whole = (
        covered[1] * rows // columns if tall else covered[0],
        covered[1] if tall else covered[0] * columns // rows,
    )
    # Halves to the even neighbour, as the network has it.
    shift = [round((side - kept) / 2) for side, kept in zip(whole, (height, width), strict=True)]
    return Axis(0, rows, whole[0], shift[0], height), Axis(0, columns, whole[1], shift[1], width)


def _weights(count: int, axis: Axis, preprocessing: Mapping[str, Any]) -> NDArray[np.float32]:
    """(axis.size, count): each row of sum 1, or of 0 outside the picture."""
    scale = axis.taken / axis.whole
    centres = np.arange(count) + 0.5
    places = np.arange(axis.size) + axis.shift
    wanted = axis.low + (np.clip(places, 0, axis.whole - 1) + 0.5) * scale
    x = np.abs(wanted[:, np.newaxis] - centres)
    if preprocessing["antialias"]:
        x /= max(scale, 1.0)
    weights = np.maximum(1 - x, 0) if preprocessing["resize"] == "bilinear" else _cubic(x)
    weights *= (centres > axis.low) & (centres < axis.low + axis.taken)
    weights *= ((places >= 0) & (places < axis.whole))[:, np.newaxis] / weights.sum(axis=1, keepdims=True)
    return np.asarray(weights, np.float32)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution with a = -0.5, at distances x >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
