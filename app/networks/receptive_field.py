"""What a unit of a layer sees of the image, computed exactly through the graph of layers.

Araujo, Norris, Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks",
https://distill.pub/2019/computing-receptive-fields
"""

from typing import Any, NamedTuple

import keras
import numpy as np
import scipy.ndimage
from keras import layers
from numpy.typing import NDArray

from app.networks.feature_maps import parents


class Axis(NamedTuple):
    """Along one side of the image: unit i of the layer depends on the pixels `first` + i * `stride` to
    `last` + i * `stride`, both included, as far as the image has them; on none other. (At the image's border the
    padding of inner maps may hide a few of them.)"""

    first: int
    last: int
    stride: int

    @property
    def size(self) -> int:
        """In pixels."""
        return self.last - self.first + 1

    @property
    def offset(self) -> float:
        """The middle of what the first unit sees; pixels count from 0."""
        return (self.first + self.last) / 2

    def window(self, unit: int, side: int) -> slice:
        """The pixels, of `side` there are, that a unit sees."""
        start = unit * self.stride
        return slice(max(0, self.first + start), min(side, self.last + start + 1))


class Field(NamedTuple):
    rows: Axis
    columns: Axis

    def spread(self, values: NDArray[Any], height: int, width: int) -> NDArray[np.float64]:
        """A map (rows, columns) over an image (height, width): each value stands in the middle of what its unit sees,
        between them it is linear, and outside of the outermost it stays.

        A plain resize would move it: TensorFlow's "same" pads after rather than before, which puts the first unit of
        the last 7 x 7 map at 224 x 224 on pixel 31 and not 16; without padding, the outermost stand far inside.
        """
        places = [
            (np.arange(side) - axis.offset) / axis.stride for axis, side in zip(self, (height, width), strict=True)
        ]
        grid = np.meshgrid(*places, indexing="ij")
        return scipy.ndimage.map_coordinates(values.astype(np.float64), grid, order=1, mode="nearest")


def fields(model: keras.Model) -> dict[str, Field]:
    """The receptive field of every layer with a map, by its name. The model has to know the size of its images.

    Where columns meet, it is what any of them sees.
    """
    found: dict[str, Field] = {}
    for layer in model.layers:
        if len(layer.output.shape) != 4:
            continue
        if isinstance(layer, layers.InputLayer):
            found[layer.name] = Field(Axis(0, 0, 1), Axis(0, 0, 1))
        else:
            below = [found[parent.name] for parent in parents(layer)]
            rows, columns = ([field[axis] for field in below] for axis in (0, 1))
            found[layer.name] = Field(_above(layer, 0, rows), _above(layer, 1, columns))
    return found


def _above(layer: keras.layers.Layer, axis: int, below: list[Axis]) -> Axis:
    window, stride, padding = _window(layer, axis)
    return Axis(
        first=min(one.first - one.stride * padding for one in below),
        last=max(one.last + one.stride * (window - 1 - padding) for one in below),
        stride=below[0].stride * stride,
    )


def _window(layer: keras.layers.Layer, axis: int) -> tuple[int, int, int]:
    """How many units one unit of the layer takes in, how far apart neighbours do, and the padding before the first."""
    if isinstance(layer, layers.ZeroPadding2D):
        return 1, 1, layer.padding[axis][0]
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if window is None:
        return 1, 1, 0
    stride, side = layer.strides[axis], layer.input.shape[1 + axis]
    if layer.padding == "valid":
        return window[axis], stride, 0
    # TensorFlow's "same": as much as the last window hangs over, the odd one after.
    return window[axis], stride, max(0, (-(-side // stride) - 1) * stride + window[axis] - side) // 2
