"""Beginning with trained weights: what is taken over, what keeps its values, and a table that says so."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import keras
from rich.table import Table

from app import run_folder
from app.callbacks import PREDICTIONS
from app.progress import console
from app.run_folder import Run
from models import BatchNormalization


def take_weights(model: keras.Model, start: Path) -> set[str]:
    """Gives `model` the weights of the run `start`, layer by layer; returns the layers that begin anew.

    These are the classifier, auxiliary heads that the run does not have, and dense layers on a map of another size.

    Raises:
        UserError: not a finished run.
    """
    auxiliary = Run(start).auxiliary
    heads = len(model.outputs) > 1
    if heads and auxiliary.is_file():
        source = keras.models.load_model(auxiliary, compile=False)
    else:
        source = run_folder.load(start).model
    known = {layer.name: layer for layer in source.layers if layer.weights}
    classifiers = {PREDICTIONS, *model.output_names}
    fresh = set()
    for layer in model.layers:
        if not layer.weights:
            continue
        there = known.get(layer.name)
        shapes = [weight.shape for weight in layer.weights]
        if layer.name in classifiers or there is None or [weight.shape for weight in there.weights] != shapes:
            fresh.add(layer.name)
        else:
            layer.set_weights(there.get_weights())
    return fresh


def freeze(model: keras.Model, what: str, fresh: Collection[str] | None) -> None:
    """Keeps the values of `what` (see `Recipe.freeze`), but for the layers `fresh`, which begin anew; None means all.

    A frozen batch normalisation is inference: it normalises by its moving averages and does not move them.
    """
    if what == "auto":
        what = "nothing" if fresh is None else "batch_norm"
    trains = {*(fresh or ()), PREDICTIONS, *model.output_names}
    for layer in model.layers:
        frozen = {"nothing": False, "batch_norm": isinstance(layer, BatchNormalization), "base": True}[what]
        layer.trainable = layer.name in trains or not frozen


def report(model: keras.Model, fresh: Collection[str]) -> None:
    """Prints what trains: a row per kind of layer, and one per layer that begins anew."""
    rows: dict[tuple[str, bool], list[Any]] = {}
    for layer in model.layers:
        if layer.weights:
            kind = f"{layer.name} (new)" if layer.name in fresh else _kind(layer)
            rows.setdefault((kind, layer.trainable), []).append(layer)
    table = Table("layers", "how many", "weights", "trains", "batch statistics")
    for (kind, trains), layers in rows.items():
        normalizes = isinstance(layers[0], BatchNormalization)
        statistics = ("move" if trains else "frozen") if normalizes else ""
        weights = sum(layer.count_params() for layer in layers)
        table.add_row(kind, str(len(layers)), f"{weights:,}", "yes" if trains else "no", statistics)
    console.print(table)


def _kind(layer: Any) -> str:
    return {
        keras.layers.Conv2D: "convolutions",
        keras.layers.SeparableConv2D: "separable convolutions",
        keras.layers.Dense: "dense layers",
        BatchNormalization: "batch normalisations",
    }.get(type(layer), type(layer).__name__)
