"""What a layer answers to a picture, channel by channel, and which patches of a data set they answer most to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app import run_folder
from app.datasets import label_sets, loading
from app.images import view
from app.inside import activation_figures
from app.inside.survey import survey
from app.networks import english, feature_maps, receptive_field
from app.program import paths
from app.program.errors import UserError
from app.program.files import whole
from app.program.progress import Watch, unwatched
from app.run_folder.folder import Run

SHOWN = 6  # channels whose patches are drawn where none is asked for


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
    paths.check_png(to)
    trained = run_folder.load(folder)
    wanted = feature_maps.named(trained.logits_model, layer)
    count = wanted.output.shape[-1]
    for channel in channels:
        if not 0 <= channel < count:
            raise UserError(f"{layer} has no channel {channel}; its channels go from 0 to {count - 1}.")
    if channels and not data_name:
        raise UserError("--channel chooses whose patches are shown: name a data set with --data.")
    seen = view.read(image, trained.preprocessing)
    looks = receptive_field.fields(trained.logits_model)[layer]
    answer = of_layer(trained.logits_model, wanted, seen.image[np.newaxis])[0]
    branches = feature_maps.branches(wanted)
    highest, images = answer.max(axis=(0, 1)), 1
    if data_name:
        data = loading.load(data_name, watch, Run(folder).quarantine_of(data_name))
        shown = tuple(channels) or tuple(int(channel) for channel in np.argsort(-highest, kind="stable")[:SHOWN])
        found = survey(trained.logits_model, wanted, data.train, trained.preprocessing, shown, watch)
        highest, images = found.highest, found.images
        texts = label_sets.texts(data.labels, data.label_sets)
        shown_labels = [english.named(label, trained.names) for label in texts]
        figure = activation_figures.patches(layer, seen.picture, answer, looks, found.patches, shown_labels)
    else:
        figure = activation_figures.channels(layer, seen.picture, answer, looks, branches)
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
