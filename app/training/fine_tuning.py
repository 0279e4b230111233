"""Beginning with trained weights: what is taken over, what keeps its values, and a table that says so."""

import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import keras
from rich.table import Table

from app.program.errors import UserError
from app.program.progress import console
from app.recipe import FineTuning
from app.run_folder.folder import Run
from app.run_folder.trained import load_network
from app.training import old_classes
from app.training.callbacks.epochs import PREDICTIONS
from models import BatchNormalization
from models.weights import WeightsError, take_channels


def take_weights(model: keras.Model, start: Path, labels: Sequence[str]) -> set[str]:
    """Gives `model` the weights of the run `start`, layer by layer; returns the layers that begin anew.

    These are the classifier, auxiliary heads that the run does not have, and dense layers on a map of another size. A
    classifier keeps what it knows of those of its `labels` that the run has, and still trains as a new one. Where
    `model` takes grey pictures and the run colours, the first kernel is summed over its inputs (see `take_channels`).

    Raises:
        UserError: its network is damaged, or has no kernel that could be summed.
    """
    auxiliary = Run(start).auxiliary
    heads = len(model.outputs) > 1
    if heads and auxiliary.is_file():
        source = keras.models.load_model(auxiliary, compile=False)
    else:
        source = load_network(Run(start))
    known = {layer.name: layer for layer in source.layers if layer.weights}
    classifiers = {PREDICTIONS, *model.output_names}
    fresh = set()
    summed = take_summed(model, source, start) if model.input_shape[-1] != source.input_shape[-1] else None
    for layer in model.layers:
        if not layer.weights or layer is summed:
            continue
        there = known.get(layer.name)
        shapes = [weight.shape for weight in layer.weights]
        if layer.name in classifiers or there is None or [weight.shape for weight in there.weights] != shapes:
            fresh.add(layer.name)
            if layer.name in classifiers and there is not None:
                old_classes.keep(layer, there, Run(start).read_classifier().labels, labels)
        else:
            layer.set_weights(there.get_weights())
    return fresh


def take_summed(model: keras.Model, source: keras.Model, start: Path) -> keras.layers.Layer:
    """Gives the first layer of `model` the weights that it has in `source`, for one channel; returns it."""
    first = next(layer for layer in model.layers if layer.weights)
    in_source = source.get_layer(first.name)
    try:
        take_channels(keras.Model(model.input, first.output), keras.Model(source.input, in_source.output))
    except WeightsError as error:
        raise UserError(
            f"The first layer of {start} convolves each colour by itself, so that its weights cannot be taken for grey "
            "pictures: leave image.colour out, or --from."
        ) from error
    return first


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


def rates(
    model: keras.Model, options: FineTuning, fresh: Collection[str] | None, steps: int
) -> list[tuple[float, int]]:
    """For each weight that trains: what its rate is multiplied by, and the batch at which it begins to train; `steps`
    batches are an epoch. What is `fresh` has 1 and 0. Empty where all weights are alike."""
    if fresh is None or options == FineTuning():
        return []
    stages = _stages(model)
    begin = round(options.head_epochs * steps)
    found: dict[int, tuple[float, int]] = {}
    for layer in model.layers:
        if layer.weights:
            own = (options.layer_decay ** stages[stage_of(layer.name)], begin)
            found |= {id(weight): (1.0, 0) if layer.name in fresh else own for weight in layer.weights}
    return [found[id(weight)] for weight in model.trainable_weights]


def stage_of(layer: str) -> str:
    """The part of the network that a layer belongs to, by its name: the stem, a module, a block."""
    found = re.match(r"[a-z_]+?_\d+[a-z]?(?=_)", layer)
    return found[0] if found and not layer.startswith("stem") else layer.partition("_")[0]


def _stages(model: keras.Model) -> dict[str, int]:
    """Every stage with its distance from the classifier, which has 0."""
    names = list(dict.fromkeys(stage_of(layer.name) for layer in model.layers if layer.weights))
    return {name: len(names) - 1 - place for place, name in enumerate(names)}


def report(model: keras.Model, fresh: Collection[str], options: FineTuning) -> None:
    """Prints what trains, in the order of the network: a row for each stage and for each layer that begins anew."""
    rows: dict[str, list[Any]] = {}
    for layer in model.layers:
        if layer.weights:
            rows.setdefault(f"{layer.name} (new)" if layer.name in fresh else stage_of(layer.name), []).append(layer)
    stages = _stages(model)
    table = Table("stage", "weights", "of these train", "rate", "batch statistics")
    for name, layers in rows.items():
        weights, trained = sum(layer.count_params() for layer in layers), sum(map(_trained, layers))
        moving = {layer.trainable for layer in layers if isinstance(layer, BatchNormalization)}
        statistics = {frozenset({True}): "move", frozenset({False}): "frozen", frozenset(): ""}
        rate = 1.0 if name.endswith(" (new)") else options.layer_decay ** stages[name]
        waits = options.head_epochs and not name.endswith(" (new)")
        after = f", after {options.head_epochs:g} epochs" if waits else ""
        table.add_row(
            name,
            f"{weights:,}",
            f"{trained:,}{after}" if trained else "none",
            f"x {rate:.3g}" if trained else "",
            statistics.get(frozenset(moving), "some move"),
        )
    console.print(table)


def _trained(layer: Any) -> int:
    return sum(math.prod(weight.shape) for weight in layer.trainable_weights)
