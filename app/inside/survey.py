"""The images of a data set through a network, up to a layer: what its channels answer most to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.datasets.dataset import Split
from app.images import view
from app.images.preprocessing import Preprocessing
from app.images.view import View
from app.networks import receptive_field
from app.networks.receptive_field import Field
from app.program.progress import Watch, unwatched

BATCH = 32
PATCHES = 9


class Patch(NamedTuple):
    """What the unit of a map saw that answered most to one image: `pixels`, uint8 RGB (height, width, 3), cut off where
    the image ends. `value` is its answer, `label` the class of the image, `middle` the place (row, column) in `pixels`
    that the unit looks at."""

    value: float
    label: int
    pixels: NDArray[np.uint8]
    middle: tuple[float, float]


@dataclass
class Survey:
    """`highest` is the strongest answer of each channel to any of `images` images; `patches` are the strongest of the
    channels that were asked for, one per image, best first."""

    highest: NDArray[np.float32]
    images: int = 0
    patches: dict[int, list[Patch]] = field(default_factory=dict)


def survey(
    model: keras.Model,
    layer: keras.layers.Layer,
    split: Split,
    preprocessing: Preprocessing,
    channels: Sequence[int] = (),
    watch: Watch = unwatched,
) -> Survey:
    """All images of a split through the network, up to the layer: see `Survey`."""
    looks = receptive_field.fields(model)[layer.name]
    probe = keras.Model(model.input, layer.output)
    found = Survey(np.full(layer.output.shape[-1], -np.inf, np.float32), patches={channel: [] for channel in channels})

    def viewed(encoded: tf.Tensor, label: tf.Tensor) -> tuple[View, tf.Tensor]:
        return view.view(encoded, preprocessing), label

    examples = split.in_order().map(viewed, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(1)
    for seen, labels in watch(examples.as_numpy_iterator(), -(-split.count // BATCH), "Looking"):
        maps = probe.predict_on_batch(seen.image)
        found.highest = np.maximum(found.highest, maps.max(axis=(0, 1, 2)))
        found.images += len(maps)
        for channel, best in found.patches.items():
            best += [
                _patch(one[..., channel], picture, int(label), looks)
                for one, picture, label in zip(maps, seen.picture, labels, strict=True)
            ]
            best.sort(key=lambda patch: -patch.value)  # stable: of equals the first image
            del best[PATCHES:]
    return found


def _patch(answer: NDArray[np.float32], picture: NDArray[np.uint8], label: int, looks: Field) -> Patch:
    units = np.unravel_index(answer.argmax(), answer.shape)
    rows, columns = (
        axis.window(int(unit), side) for axis, unit, side in zip(looks, units, picture.shape[:2], strict=True)
    )
    middle = [
        axis.offset + int(unit) * axis.stride - part.start
        for axis, unit, part in zip(looks, units, (rows, columns), strict=True)
    ]
    return Patch(float(answer.max()), label, picture[rows, columns].copy(), (middle[0], middle[1]))
