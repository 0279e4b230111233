"""What a layer answers to a picture, channel by channel, and which patches of a data set they answer most to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app import datasets, feature_maps, network_view, receptive_field, run_folder
from app.datasets import Split, Watch, unwatched
from app.errors import UserError
from app.files import whole
from app.images import Preprocessing
from app.network_view import View
from app.receptive_field import Field
from app.reports import activation_maps
from app.run_folder import Run

BATCH = 32
PATCHES = 9
SHOWN = 6  # channels whose patches are drawn where none is asked for


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


def activations(
    folder: Path,
    image: Path,
    layer: str,
    to: Path,
    data_name: str | None = None,
    channels: Sequence[int] = (),
    watch: Watch = unwatched,
) -> dict[str, Any]:
    """Writes the PNG `to`: all channels of a layer on an image, those of each column of a module together; with DATA
    the patches of its training images to which `channels` answer most, by default those strongest on the image.

    `layer`, `grid`, `channels`, `branches` (name, first channel, number of channels), `receptive_field` (`size`,
    `stride`, and `offset`, the middle of what the first unit sees, in pixels, rows before columns), `dead` (channels
    that are nowhere above 0) on how many `images`.

    Raises:
        UserError: not a finished run; no such layer or channel; an image that cannot be read; `to` exists or is no PNG;
            bad data.
    """
    if to.suffix.lower() != ".png":
        raise UserError(f"{to} would be a PNG: let its name end in .png.")
    if to.exists():
        raise UserError(f"{to} exists; choose another --to.")
    trained = run_folder.load(folder)
    wanted = feature_maps.named(trained.logits_model, layer)
    count = wanted.output.shape[-1]
    for channel in channels:
        if not 0 <= channel < count:
            raise UserError(f"{layer} has no channel {channel}; its channels go from 0 to {count - 1}.")
    if channels and not data_name:
        raise UserError("--channel chooses whose patches are shown: name a data set with --data.")
    seen = network_view.read(image, trained.preprocessing)
    looks = receptive_field.fields(trained.logits_model)[layer]
    answer = of_layer(trained.logits_model, wanted, seen.image[np.newaxis])[0]
    branches = feature_maps.branches(wanted)
    highest, images = answer.max(axis=(0, 1)), 1
    if data_name:
        data = datasets.load(data_name, watch, Run(folder).quarantine_of(data_name))
        shown = tuple(channels) or tuple(int(channel) for channel in np.argsort(-highest, kind="stable")[:SHOWN])
        found = survey(trained.logits_model, wanted, data.train, trained.preprocessing, shown, watch)
        highest, images = found.highest, found.images
        figure = activation_maps.patches(layer, seen.picture, answer, looks, found.patches, data.labels)
    else:
        figure = activation_maps.channels(layer, seen.picture, answer, looks, branches)
    to.parent.mkdir(parents=True, exist_ok=True)
    with whole(to) as beside:
        figure.savefig(beside, format="png")
    return {
        "layer": layer,
        "grid": list(answer.shape[:2]),
        "channels": count,
        "branches": [
            {"name": name, "first": part.start, "channels": part.stop - part.start} for name, part in branches.items()
        ],
        "receptive_field": {
            "size": [axis.size for axis in looks],
            "stride": [axis.stride for axis in looks],
            "offset": [axis.offset for axis in looks],
        },
        "dead": np.flatnonzero(highest <= 0).tolist(),
        "images": images,
    }


def of_layer(model: keras.Model, layer: keras.layers.Layer, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the layer makes of images (batch, height, width, 3): its map (batch, rows, columns, channels)."""
    return keras.Model(model.input, layer.output)(images, training=False).numpy()


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
        return network_view.view(encoded, preprocessing), label

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
