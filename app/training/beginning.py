"""The beginning of a training: what is trained, whether the folder holds the same, and the network as it begins."""

import csv
import inspect
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras

from app.datasets.dataset import Data
from app.datasets.files import manifests
from app.images.preprocessing import Preprocessing
from app.networks import cards
from app.pipeline.input_pipeline import steps_per_epoch
from app.program import remote
from app.program.errors import UserError
from app.program.files import digest, whole, write_json
from app.recipe import Recipe
from app.recipe_keys import flat
from app.run_folder import classifier
from app.run_folder.classifier import Classifier, DataRecord, Origin
from app.run_folder.data_name import real_name
from app.run_folder.folder import Run, versions
from app.training.recomputation import recomputing
from models import NETWORKS


def begin(run: Run, classifier: Classifier, data: Data, quarantine: Path | None) -> None:
    """What a run folder says before there is anything to go on with."""
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    write_json(run.classifier, classifier.model_dump(mode="json"))
    # A run that goes on keeps what it says of its files, unless they have been moved: the places of those that were
    # lost since tell the order of the others.
    if not {str(file.path.absolute()) for file in data.files} <= {*manifests.read_known(run.split)}:
        manifests.write(run.split, data.files, data.known)
    if data.unreadable:
        _write_unreadable(run.unreadable, data.unreadable)
    if quarantine:
        with whole(run.quarantine) as beside:
            shutil.copyfile(quarantine, beside)


def end(run: Run, classifier: Classifier, data: Data) -> None:
    """What a run folder says of its data once it is trained: without the pictures that were lost meanwhile."""
    write_json(run.classifier, classifier.model_dump(mode="json"))
    lost = {*manifests.read_known(run.split)} - {str(file.path.absolute()) for file in data.files}
    manifests.write(run.split, data.files, data.known)
    gone = {os.fsencode(file) for file in lost if not Path(file).exists()}
    path = remote.place(data.name)
    root = os.fsencode(path if path.is_dir() else path.parent)
    lines = run.quarantine.read_bytes().splitlines() if run.quarantine.is_file() else []
    with whole(run.quarantine) as beside:  # what is gone needs no list, which could name it to nobody
        kept = [line for line in lines if os.path.abspath(os.path.join(root, line)) not in gone]
        beside.write_bytes(b"".join(line + b"\n" for line in kept))


def describe(
    data: Data, network: str, recipe: Recipe, start: Path | None = None, source: Classifier | None = None
) -> Classifier:
    card = cards.CARDS[network]
    side = recipe.image_size or (max(data.image_size, card.minimum) if data.image_size else card.side)
    arguments: dict[str, Any] = {"classes": len(data.labels)}
    taken = inspect.signature(NETWORKS[network]).parameters
    if "momentum" in taken:  # GoogLeNet came before batch normalisation
        arguments["momentum"] = recipe.batch_norm.resolved(total_steps(data, recipe))
    preprocessing = Preprocessing(height=side, width=side)
    if source:
        arguments = {**source.arguments, **arguments}
        preprocessing = source.preprocessing
        if recipe.image_size:
            preprocessing = preprocessing.model_copy(update={"height": side, "width": side})
    else:
        arguments["width"] = recipe.width
    of_image = {key: value for key, value in recipe.image.model_dump().items() if value is not None}
    if of_image.pop("colour", None) == "grey":
        preprocessing = preprocessing.in_grey()
    preprocessing = preprocessing.model_copy(update=of_image)
    arguments["input_shape"] = (preprocessing.height, preprocessing.width, preprocessing.channels)
    if recipe.dropout is not None:
        arguments["dropout"] = recipe.dropout
    return Classifier(
        network=network,
        arguments=arguments,
        labels=data.labels,
        preprocessing=preprocessing,
        recipe=recipe,
        versions=versions(),
        seed=recipe.seed,
        data=record_of(data),
        origin=origin_of(start),
        activation="sigmoid" if data.label_sets else "softmax",
    )


def record_of(data: Data) -> DataRecord:
    """What a run says of its data."""
    return DataRecord(
        name=data.name,
        place=real_name(data.name),
        fingerprint=data.fingerprint,
        train=data.train.count,
        validation=data.validation.count,
        test=data.test.count,
        unreadable=len(data.unreadable),
    )


def origin_of(start: Path | None) -> Origin | None:
    """What a training that begins with the run `start` says of it."""
    return Origin(path=str(start.resolve()), sha256=digest(Run(start).model)) if start else None


def untrained(data: Data, network: str, recipe: Recipe) -> keras.Model:
    """The network that a training of its own would begin with, without auxiliary heads; gives logits.

    Raises:
        UserError: an image size that it cannot take.
    """
    model = build(describe(data, network, recipe), recipe.model_copy(update={"auxiliary": 0.0}))
    return recomputing(model) if recipe.remat else model


def total_steps(data: Data, recipe: Recipe) -> int:
    """The batches of a whole run; where gradients are accumulated, an optimizer step takes several."""
    if recipe.steps:
        return recipe.steps * recipe.optimizer.accumulate
    return recipe.epochs * steps_per_epoch(data.train, recipe)


def check_same(folder: Path, found: Classifier, wanted: Classifier) -> None:
    """A run goes on with what it began with, or not at all; `folder` holds it, or a checkpoint of it."""
    check_plan(folder, found, wanted.network, wanted.recipe, wanted.origin)
    check_images(folder, found, wanted)


def check_plan(
    folder: Path, found: Classifier, network: str, recipe: Recipe | None, origin: Origin | None, extend: bool = False
) -> None:
    """The part of `check_same` that needs no data. To `extend` a run is to give it more epochs."""
    contents = (found.origin and found.origin.content, origin and origin.content)
    pairs = {"network": (found.network, network), "recipe": (found.recipe, recipe), "origin": contents}
    for what, (there, wanted) in pairs.items():
        if there == wanted:
            continue
        detail, way = f" ({there}, here {wanted})" if what == "network" else "", "choose another --to"
        if found.recipe and recipe and what == "recipe":
            before, now = (flat(each.model_dump()) for each in (found.recipe, recipe))
            other = [key for key in now if before[key] != now[key]]
            is_longer = other == ["epochs"] and recipe.epochs > found.recipe.epochs and recipe.steps is None
            if is_longer and extend:
                continue
            detail = f" ({', '.join(f'{key} {_shown(before[key])}, here {_shown(now[key])}' for key in other)})"
            way += f", or --from {folder} with another --to to begin with its weights"
            way += ", or --extend to train it for longer" if is_longer else ""
            if extend:
                way = f"--extend is for more epochs of the same recipe; {way}"
        raise UserError(f"{folder} holds a run with another {what}{detail}; {way}, or remove the folder.")


def _shown(value: Any) -> str:
    """As `--set` takes it."""
    return "none" if value is None else str(value)


def check_images(folder: Path, found: Classifier, wanted: Classifier) -> None:
    """The part of `check_same` that needs data: labels and images."""
    if difference := classifier.compare_labels(wanted.labels, found.labels):
        raise UserError(
            f"{wanted.data.name if wanted.data else 'The data'} has other labels than {folder} was begun with "
            f"({difference}); choose another --to, or remove the folder."
        )
    if found.data and wanted.data and found.data.fingerprint != wanted.data.fingerprint:
        raise UserError(f"The images of {wanted.data.name} are not those that {folder} was begun with.")


def build(classifier: Classifier, recipe: Recipe) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        return classifier.build(activation=None, auxiliary=recipe.auxiliary > 0)
    except ValueError as error:
        raise UserError(f"{classifier.network}: {error}") from error
    finally:
        keras.config.set_dtype_policy(before)


def scale_kernels(model: keras.Model, factor: float) -> None:
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and factor != 1:
            layer.kernel.assign(factor * layer.kernel)


def _write_unreadable(path: Path, unreadable: Iterable[tuple[str, str]]) -> None:
    with whole(path) as beside, beside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "reason"))
        writer.writerows(unreadable)
