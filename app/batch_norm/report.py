"""What is said of a run's batch normalisations: their state, and how their statistics came about."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app import run_folder
from app.batch_norm import inspection, measuring, population
from app.batch_norm.batches import Batches, batches_of_run, positions
from app.batch_norm.inspection import Inspection
from app.batch_norm.measuring import Population, Statistics
from app.datasets import loading
from app.program.errors import UserError
from app.program.progress import Watch, unwatched
from app.program.shown import command
from app.run_folder.folder import Run

# Of top-1. A smaller gap can be one or two images of a small data set, or the noise of a batch's statistics.
GAP = 0.02
# Deviations. Dividing the same images into other batches moves the statistics by several times less.
FAR = 0.2


def report(folder: Path, data_name: str, watch: Watch = unwatched) -> dict[str, Any]:
    """The state of a run's batch normalisations on the training images of DATA.

    `gap` (what moving averages lose in top-1 against the statistics of the batch), `layers` (each a `LayerState`),
    `accuracy` by either, `images`, `batch_size`, and `sentence`: whether batch normalisation is the reason of a gap,
    and what mends it.

    Raises:
        UserError: not a finished run; bad data; other labels than the run's; see `population.population`.
    """
    trained = run_folder.load(folder)
    data = loading.load(data_name, watch, Run(folder).quarantine_of(data_name))
    truth = positions(data, trained.labels)
    if truth is None:
        raise UserError(
            f"{data_name} has the labels {', '.join(data.labels)}; the network has {', '.join(trained.labels)}. "
            "A report needs images whose labels it knows."
        )
    batches = batches_of_run(folder, data.train, trained.preprocessing)
    labelled = ((x, truth[labels]) for x, labels in watch(batches, batches.count, "Measuring"))
    found = inspection.inspect(trained.model, labelled)
    return {
        "gap": found.gap,
        "layers": [dataclasses.asdict(layer) for layer in found.layers],
        "accuracy": {"batch": found.by_batch, "moving_averages": found.by_moving_averages},
        "images": found.population.images,
        "batch_size": found.population.batch_size,
        "sentence": sentence(found, remedy(folder, data_name)),
    }


def remedy(folder: Path, data_name: str) -> str:
    """What the owner of a run can do about its averages."""
    return f"`{command('batch-norm', 'recalibrate', folder, data_name)}` mends it."


def sentence(found: Inspection, remedy: str) -> str:
    """Whether batch normalisation is the reason of a gap between training and use."""
    moving = [layer for layer in found.layers if not layer.frozen]
    if not moving:
        return (
            f"Batch normalisation is not the reason of a gap: all {len(found.layers)} layers are frozen, and use the "
            "same statistics in training."
        )
    far = max(moving, key=lambda layer: layer.distance)
    usual = float(np.median([layer.distance for layer in moving]))
    off = (
        f"these are {usual:.2g} deviations off in the median layer and {far.distance:.2g} deviations off in {far.name}"
    )
    accuracies = (
        f"of the same {found.population.images} images it names {found.by_batch:.1%} with the statistics of their "
        f"batch and {found.by_moving_averages:.1%} with the moving averages"
    )
    if found.gap > GAP:
        return (
            "Batch normalisation is a reason why this network does worse in use than in training: "
            f"{accuracies}; {off}. {remedy}"
        )
    clear = f"Batch normalisation is not the reason of a gap: {accuracies}"
    return f"{clear}, although {off}. {remedy}" if far.distance > FAR else f"{clear}."


def description(model: keras.Model, found: Population, batches: Batches, data_name: str) -> dict[str, Any]:
    """How the statistics came about, and how far the averages before are from them (see `population.distances`)."""
    return {
        "form": found.form,
        "data": data_name,
        "images": found.images,
        "batches": found.batches,
        "batch_size": found.batch_size,
        "order": f"shuffled by seed {batches.seed}",
        "layers": [
            {"name": layer.name, "moved": _root_mean_square(layer, found.statistics[layer.name])}
            for layer in measuring.layers_of(model)
            if layer.name in found.statistics
        ],
    }


def _root_mean_square(layer: keras.layers.Layer, found: Statistics) -> float:
    apart = population.distances(population.stored(layer), found, layer.epsilon)
    return float(np.sqrt(np.mean(np.square(apart))))
