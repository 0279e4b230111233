"""Training: a data set, a network and a recipe in; a run folder out."""

import random
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import keras
import tensorflow as tf

from app.datasets import label_sets, loading
from app.datasets.dataset import Data
from app.datasets.loading.named import report_data
from app.networks import cards
from app.pipeline import balance
from app.program import progress
from app.program.errors import UserError
from app.program.progress import Watch, console
from app.recipe import FineTuning, Recipe
from app.run_folder import lock
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run
from app.training import (
    automatic,
    continuing,
    extending,
    failures,
    fine_tuning,
    finishing,
    old_classes,
    probing,
    range_test,
)
from app.training.beginning import (
    begin,
    build,
    check_images,
    check_plan,
    describe,
    end,
    origin_of,
    record_of,
    scale_kernels,
)
from app.training.checkpoints import checkpoint
from app.training.devices import faults
from app.training.devices.devices import Devices
from app.training.devices.faults import Attempt, memory_named
from app.training.fitting import fit
from app.training.range_test import Point
from app.training.recomputation import recomputing


def train(
    data: Data | str,
    network: str | None,
    to: Path,
    recipe: Recipe,
    watch: Watch = progress.unwatched,
    start: Path | None = None,
    quarantine: Path | None = None,
    deterministic: bool = False,
    devices: Devices | None = None,
    extend: bool = False,
) -> Run:
    """Trains, evaluates on the test images and writes the run folder `to`. The same call again goes on after the last
    checkpoint, wherever that was, and ends as if nothing had happened; of a finished run it makes only what is missing.

    `data` is a data set, or the name of one (see `loading.load`).

    `start` is the run folder whose network and weights the training begins with, its classifier replaced by a new one
    (fine-tuning); `network` may be left out then. `quarantine` lists images to leave out, or those that were left out
    of the data.
    `deterministic` has TensorFlow compute the same bits every time, for the rest of the process; on CPUs it does so
    anyway, as far as was seen. `devices` are those that train (see `devices.take`), without it the one that TensorFlow
    takes. Of several workers only the chief writes and evaluates; the others return when the last step is done. To
    `extend` a finished run is to give it more epochs (see `extending`).

    Raises:
        UserError: what `check` raises; bad data (see `loading.load`), or other data than the run was begun with; an
            image size that the network cannot take; a loss that is not finite; a disk that is full; damaged
            checkpoints; too little memory; a recipe that the devices cannot divide; a worker that is gone or failed
            (see `Devices`).
        Stopped: SIGTERM or Ctrl-C came while it trained; the checkpoint is written.
    """
    devices = devices or Devices()
    network = check(network, to, recipe, start, devices, extend)
    recipe = automatic.as_begun(recipe, Run(to))
    source = Run(start).read_start() if start else None
    run = Run(to)
    keras.utils.set_random_seed(recipe.seed)  # TensorFlow forgets what it has set up, so before the decoder is
    loaded = loading.load(data, watch, quarantine, run.split) if isinstance(data, str) else data
    with lock.held(to) if devices.is_chief else nullcontext():
        there = loaded  # what there is now, of what the run may have begun with
        if run.classifier.is_file():
            loaded = continuing.as_begun(run, there, quarantine)
        balance.check(loaded, recipe)
        if recipe.fine_tuning.probe:
            label_sets.check_one(loaded.name, loaded.label_sets, "a linear probe (fine_tuning.probe)")
        # Of a run that has begun nothing is asked any more: its recipe has all numbers.
        keys, points = automatic.asked(recipe), list[Point]()
        if keys:
            recipe, points = automatic.measured(loaded, network, recipe, start, source, watch)
            random.seed(recipe.seed)
        devices.check(loaded, recipe)
        classifier = describe(loaded, network, recipe, start, source).model_copy(update={"automatic": keys})
        if run.classifier.is_file():
            begun = run.read_classifier()
            classifier = classifier.model_copy(update={"automatic": begun.automatic})
            check_images(run.folder, begun, classifier)
            if begun.recipe != recipe:
                classifier = extending.extend(run, begun, classifier, loaded)
                begun = begun.model_copy(update={"extended": classifier.extended})
            elif run.is_finished:
                if devices.is_chief and finishing.complete(loaded, begun, run, watch):
                    console.print(f"{to} was trained; what was missing beside its network is there now.")
                else:
                    console.print(f"{to} is finished; nothing to do.")
                if devices.is_chief:
                    _clear(run, quarantine)
                return run
            classifier = continuing.carried(run.folder, begun, classifier)
        report_data(loaded)
        console.print(devices.described())
        random.seed(recipe.seed)  # again: preparing a data set draws from it, and so do the initial weights
        if deterministic:
            tf.config.experimental.enable_op_determinism()
        with memory_named(recipe.batch_size):
            _train(loaded, classifier, recipe, run, watch, start, quarantine, devices, there, points)
    return run


def check(
    network: str | None, to: Path, recipe: Recipe, start: Path | None, devices: Devices, extend: bool = False
) -> str:
    """What can be wrong with a training before any data is read (see `train`). Returns the network's name.

    Raises:
        UserError: unknown network; a start that is not finished, or of another network; a target that is something
            else, or a run of another network, recipe or origin, or one that another process trains.
    """
    source = Run(start).read_start() if start else None
    network = network or (source.network if source else None)
    if network is None:
        raise UserError("Say which network to train: --network with a name from `networks`, or --from with a run.")
    cards.check_name(network)
    if source and source.network != network:
        raise UserError(f"{start} holds {source.network}, not {network}; leave --network out.")
    if recipe.fine_tuning != FineTuning() and not source:
        raise UserError("fine_tuning.* is for a run that begins with trained weights: add --from with a run.")
    if recipe.fine_tuning.probe and devices.replicas > 1:
        raise UserError("A linear probe (fine_tuning.probe) is fitted on one device: leave --devices out.")
    head = recipe.fine_tuning.head_epochs
    if recipe.steps is None and head and head >= recipe.epochs:
        raise UserError(
            f"Of {recipe.epochs:g} epochs the classifier alone trains in all, since fine_tuning.head_epochs={head:g}: "
            "make epochs more, or these fewer. To train it alone on purpose, give --set fine_tuning.head_epochs=0 "
            "--set freeze=base."
        )
    if source:
        _check_taken_over(source.arguments.get("width", 1.0), recipe, start)
    run = Run(to)
    recipe = automatic.as_begun(recipe, run)
    automatic.check(recipe, devices)
    if devices.is_chief:
        if to.exists() and not (to.is_dir() and (run.classifier.is_file() or {*_names(to)} <= {lock.NAME})):
            raise UserError(f"{to} exists and is not a run folder; choose another --to. Nothing in it was touched.")
        lock.check(to)
    if run.classifier.is_file():
        check_plan(run.folder, run.read_classifier(), network, recipe, origin_of(start), extend)
        if extend and devices.workers > 1:
            raise UserError("--extend is for one host; once it has begun there, the command without it goes on on all.")
    elif extend:
        raise UserError(f"{to} is no run that could be extended; without --extend a new one begins there.")
    return network


def _check_taken_over(width: float, recipe: Recipe, start: Path | None) -> None:
    """Raises:
    UserError: the recipe asks for what a network that begins with trained weights has already.
    """
    asked = {
        "width": recipe.width if recipe.width not in (1.0, width) else None,
        "initial_weights": recipe.initial_weights if recipe.initial_weights != 1.0 else None,
    }
    for key, value in asked.items():
        if value is not None:
            has = f"it has the width {width:g}" if key == "width" else "it has its weights"
            raise UserError(
                f"{key}={value:g} is for a network that begins with random weights, not for one that begins with "
                f"{start}: {has}. Leave {key} out, or leave --from out."
            )


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _train(
    data: Data,
    classifier: Classifier,
    recipe: Recipe,
    run: Run,
    watch: Watch,
    start: Path | None,
    quarantine: Path | None,
    devices: Devices,
    there: Data,
    points: Sequence[Point],
) -> None:
    attempt = Attempt(run.checkpoints, devices.worker, recipe.batch_size)
    with devices.watched(attempt), devices.strategy.scope():
        model = devices.replicated(build(classifier, recipe))
        model = recomputing(model) if recipe.remat else model
        fresh = fine_tuning.take_weights(model, start, classifier.labels) if start else None
        if recipe.fine_tuning.probe:
            probing.check(fresh or (), start, recipe)
        if not start:
            scale_kernels(model, recipe.initial_weights)
    fine_tuning.freeze(model, "base" if recipe.fine_tuning.probe else recipe.freeze, fresh)
    if fresh is not None:
        fine_tuning.report(model, fresh, recipe.fine_tuning)
    if start:
        old_classes.say(start, classifier.labels)
    if devices.is_chief:
        begin(run, classifier, data, quarantine)
        if points:
            range_test.write(run.rates, points)
    with devices.watched(attempt), failures.named(data, run, devices.workers, watch):
        if recipe.fine_tuning.probe:
            probing.fit(model, data, classifier.preprocessing, recipe, run, watch)
        else:
            fit(model, data, classifier, recipe, run, fresh, devices, attempt)
    if devices.is_chief:
        if there is not data:
            data, classifier = there, classifier.model_copy(update={"data": record_of(there)})
            end(run, classifier, data)
        data, classifier = continuing.still_there(run, data, classifier, quarantine, watch)
        classifier = finishing.keep_network(data, classifier, recipe, run, watch)
        _clear(run, quarantine)
        finishing.complete(data, classifier, run, watch)


def _clear(run: Run, quarantine: Path | None) -> None:
    """What only a training that goes on needs."""
    checkpoint.clear(run.checkpoints)
    faults.forget(run.checkpoints)
    failures.forget(run.checkpoints, quarantine)
