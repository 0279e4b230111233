"""Training: a data set, a network and a recipe in; a run folder out."""

import csv
import importlib.util
import inspect
import io
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from app import batch_norm, batch_norm_runs, datasets, evaluation, fine_tuning, manifests
from app.callbacks import (
    PREDICTIONS,
    Checkpoints,
    History,
    NamePredictions,
    ReportProgress,
    StopAfter,
    StopOnNonFinite,
    read_history,
)
from app.datasets import Data, Watch
from app.devices import Devices
from app.errors import UserError
from app.files import whole, write_json
from app.images import Preprocessing
from app.input_pipeline import evaluation_batches, steps_per_epoch, training_batches
from app.networks import CARDS
from app.progress import console
from app.recipe import Recipe
from app.reports import run_report
from app.run_folder import Classifier, DataRecord, Origin, Run, digest, load, versions
from models import NETWORKS

GOLDEN = 32


def train(
    data_name: str,
    network: str | None,
    to: Path,
    recipe: Recipe,
    watch: Watch = datasets.unwatched,
    start: Path | None = None,
    quarantine: Path | None = None,
    devices: Devices | None = None,
) -> Run:
    """Trains, evaluates on the test images and writes the run folder `to`. The same call again goes on after the last
    whole epoch; on a finished run it does nothing.

    `start` is the run folder whose network and weights the training begins with, its classifier replaced by a new one
    (fine-tuning); `network` may be left out then. `quarantine` lists images to leave out (see `datasets.load`).
    `devices` are those that train (see `devices.take`), without it the one that TensorFlow takes. Of several workers
    only the chief writes and evaluates; the others return when the last step is done.

    Raises:
        UserError: unknown network; a target that is something else or another run; bad data (see `datasets.load`); an
            image size that the network cannot take; a start of another network; a loss that is not finite; a recipe
            that the devices cannot divide, another worker that is gone (see `Devices`).
    """
    devices = devices or Devices()
    source = Run(start).read_classifier() if start else None
    network = network or (source.network if source else None)
    if network is None:
        raise UserError("Say which network to train: --network with a name from `networks`, or --from with a run.")
    if network not in NETWORKS:
        raise UserError(f"There is no network '{network}'. The networks are {', '.join(NETWORKS)}.")
    if source and source.network != network:
        raise UserError(f"{start} holds {source.network}, not {network}; leave --network out.")
    run = Run(to)
    if devices.is_chief and to.exists() and not (to.is_dir() and (run.classifier.is_file() or not any(to.iterdir()))):
        raise UserError(f"{to} exists and is not a run folder; choose another --to. Nothing in it was touched.")
    data = datasets.load(data_name, watch, quarantine)
    devices.check(data, recipe)
    classifier = _describe(data, network, recipe, start, source)
    if run.classifier.is_file():
        _check_same(run, classifier)
        if run.metrics.is_file():
            console.print(f"{to} is finished; nothing to do.")
            return run
    report_data(data)
    console.print(devices.described())
    keras.utils.set_random_seed(recipe.seed)
    with devices.watched(), devices.strategy.scope():
        model = devices.replicated(_build(classifier, recipe))
        fresh = fine_tuning.take_weights(model, start) if start else None
    fine_tuning.freeze(model, recipe.freeze, fresh)
    if fresh is not None:
        fine_tuning.report(model, fresh)
    if devices.is_chief:
        _begin(run, classifier, data, quarantine)
    with devices.watched():
        _fit(model, data, classifier, recipe, run, devices)
    if devices.is_chief:
        _finish(data, classifier, recipe, run, watch)
    return run


def _begin(run: Run, classifier: Classifier, data: Data, quarantine: Path | None) -> None:
    """What a run folder says before there is anything to go on with."""
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    write_json(run.classifier, classifier.model_dump(mode="json"))
    if data.files:
        manifests.write(run.split, data.files)
    if data.unreadable:
        _write_unreadable(run.unreadable, data.unreadable)
    if quarantine:
        with whole(run.quarantine) as beside:
            shutil.copyfile(quarantine, beside)


def report_data(data: Data) -> None:
    """Says what there is, and what was left out."""
    console.print(
        f"{data.name}: {len(data.labels)} classes, {data.train.count} training, {data.validation.count} validation, "
        f"{data.test.count} test images"
    )
    for file, reason in data.unreadable:
        console.print(f"left out: {file}: {reason}")
    if data.ignored:
        console.print(f"{data.ignored} files that are no images were ignored")
    for note in data.notes:
        console.print(note)


def _describe(
    data: Data, network: str, recipe: Recipe, start: Path | None = None, source: Classifier | None = None
) -> Classifier:
    card = CARDS[network]
    side = recipe.image_size or (max(data.image_size, card.minimum) if data.image_size else card.side)
    arguments: dict[str, Any] = {"input_shape": (side, side, 3), "classes": len(data.labels)}
    taken = inspect.signature(NETWORKS[network]).parameters
    if "momentum" in taken:  # GoogLeNet came before batch normalisation
        arguments["momentum"] = recipe.batch_norm.resolved(total_steps(data, recipe))
    preprocessing = Preprocessing(height=side, width=side)
    if source:
        arguments = {**source.arguments, **arguments}
        preprocessing = source.preprocessing
        if recipe.image_size:
            preprocessing = preprocessing.model_copy(update={"height": side, "width": side})
        arguments["input_shape"] = (preprocessing.height, preprocessing.width, 3)
    else:
        arguments["width"] = recipe.width
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
        data=DataRecord(
            name=data.name,
            fingerprint=data.fingerprint,
            train=data.train.count,
            validation=data.validation.count,
            test=data.test.count,
            unreadable=len(data.unreadable),
        ),
        origin=Origin(path=str(start), sha256=digest(Run(start).model)) if start else None,
    )


def total_steps(data: Data, recipe: Recipe) -> int:
    """The optimizer steps of a whole run."""
    return recipe.steps or recipe.epochs * steps_per_epoch(data.train, recipe)


def _check_same(run: Run, wanted: Classifier) -> None:
    """A run goes on with what it began with, or not at all."""
    found = run.read_classifier()
    if difference := datasets.compare_labels(wanted.labels, found.labels):
        raise UserError(
            f"{wanted.data.name if wanted.data else 'The data'} has other labels than {run.folder} was begun with "
            f"({difference}); choose another --to, or remove the folder."
        )
    for what in ("network", "recipe", "origin"):
        if getattr(found, what) != getattr(wanted, what):
            raise UserError(f"{run.folder} holds a run with another {what}; choose another --to, or remove the folder.")
    if found.data and wanted.data and found.data.fingerprint != wanted.data.fingerprint:
        raise UserError(f"The images of {wanted.data.name} are not those that {run.folder} was begun with.")


def _build(classifier: Classifier, recipe: Recipe) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        return classifier.build(activation=None, auxiliary=recipe.auxiliary > 0)
    except ValueError as error:
        raise UserError(f"{classifier.network}: {error}") from error
    finally:
        keras.config.set_dtype_policy(before)


def _fit(model: keras.Model, data: Data, classifier: Classifier, recipe: Recipe, run: Run, devices: Devices) -> None:
    steps = steps_per_epoch(data.train, recipe)
    total = total_steps(data, recipe)
    checkpoints = Checkpoints(run.checkpoints, math.inf)
    first_epoch = done = 0
    heads = [name for name in model.output_names if name != PREDICTIONS]
    with devices.strategy.scope():
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
        if heads:
            model.compile(
                optimizer=_optimizer(model, recipe, steps, total),
                loss={PREDICTIONS: loss, **dict.fromkeys(heads, loss)},
                loss_weights={PREDICTIONS: 1.0, **dict.fromkeys(heads, recipe.auxiliary)},
                metrics={PREDICTIONS: [accuracy]},
            )
        else:
            model.compile(optimizer=_optimizer(model, recipe, steps, total), loss=loss, metrics=[accuracy])
        if checkpoints.last.is_file():
            done = _restore(model, checkpoints.last)
    devices.compare(classifier, done)
    if done >= total:
        return
    if done:
        first_epoch = done // steps
        losses = [row["val_loss"] for row in read_history(run.history)[:first_epoch]]
        checkpoints.best_loss = min(losses, default=math.inf)
        console.print(f"Going on after epoch {first_epoch}")
    first_step = first_epoch * steps
    progress = ReportProgress(recipe.batch_size, total, first_step)
    callbacks = [
        *([NamePredictions()] if heads else []),
        StopOnNonFinite(first_step),
        StopAfter(total, first_step),
        *([progress, History(run.history), checkpoints] if devices.is_chief else []),
    ]
    if recipe.batch_norm.recalibrate == "epoch" and batch_norm.moves(model):
        callbacks.append(batch_norm_runs.before_validations(data, classifier.preprocessing, recipe))
    if devices.is_chief and importlib.util.find_spec("tensorboard"):
        callbacks.append(keras.callbacks.TensorBoard(run.folder / "tensorboard"))
    classes = len(data.labels)
    training = training_batches(data.train, classifier.preprocessing, recipe, classes, first_epoch, devices.share)
    validation = evaluation_batches(data.validation, classifier.preprocessing, recipe.batch_size, devices.share)
    validation = validation.map(lambda images, labels: (images, keras.ops.one_hot(labels, classes)))
    if heads:
        # Every head learns the same labels.
        training, validation = (
            batches.map(lambda images, labels: (images, dict.fromkeys([PREDICTIONS, *heads], labels)))
            for batches in (training, validation)
        )
    training = devices.training(training, recipe.batch_size)
    validation = devices.validation(validation, recipe.batch_size, data.validation.count)
    try:
        model.fit(
            training,
            steps_per_epoch=steps,
            initial_epoch=first_epoch,
            epochs=-(-total // steps),
            validation_data=validation,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
    finally:
        progress.close()


def _restore(model: keras.Model, checkpoint: Path) -> int:
    """Takes weights, the state of dropout and the optimizer's from a checkpoint; returns the steps it has behind it.

    Into the compiled model, since a saved optimizer forgets which weights it must not decay.
    """
    try:
        saved = keras.models.load_model(checkpoint)
    except (ValueError, OSError) as error:
        raise UserError(f"{checkpoint} is damaged; remove it to begin the run again.") from error
    model.set_weights(saved.get_weights())
    model.optimizer.build(model.trainable_variables)
    for variable, value in zip(model.optimizer.variables, saved.optimizer.variables, strict=True):
        variable.assign(value)
    done = int(model.optimizer.iterations.numpy())
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            # The file leaves this out: a seed, which is again what it was at the beginning, and a count of the draws.
            state = layer.seed_generator.state
            state.assign([state.numpy()[0], done])
    return done


def _optimizer(model: keras.Model, recipe: Recipe, steps: int, total: int) -> keras.optimizers.Optimizer:
    options = recipe.optimizer
    warmup = min(round(recipe.schedule.warmup * steps), total - 1)
    rate: float | keras.optimizers.schedules.LearningRateSchedule = options.rate
    if recipe.schedule.name == "cosine" and warmup:
        rate = keras.optimizers.schedules.CosineDecay(0.0, total - warmup, warmup_target=rate, warmup_steps=warmup)
    elif recipe.schedule.name == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, total)
    decay = options.weight_decay or None
    optimizer: keras.optimizers.Optimizer
    if options.name == "sgd":
        optimizer = keras.optimizers.SGD(rate, options.momentum, options.nesterov, weight_decay=decay)
    elif options.name == "rmsprop":
        optimizer = keras.optimizers.RMSprop(rate, momentum=options.momentum, weight_decay=decay)
    else:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=options.weight_decay)
    # Decaying gamma, beta or a bias shrinks nothing that could over-fit, and moves what batch norm has to follow.
    optimizer.exclude_from_weight_decay(var_list=[weight for weight in model.trainable_weights if weight.ndim == 1])
    return optimizer


def _finish(data: Data, classifier: Classifier, recipe: Recipe, run: Run, watch: Watch) -> None:
    """The trained weights in a float32 network with softmax and without auxiliary heads; figures, golden images and
    report of the test images."""
    kept = keras.models.load_model(run.checkpoints / f"{recipe.checkpoint.use}.keras", compile=False)
    model = classifier.build()
    for layer in model.layers:
        layer.set_weights(kept.get_layer(layer.name).get_weights())
    for layer in batch_norm.layers_of(model):
        layer.trainable = kept.get_layer(layer.name).trainable  # a frozen layer keeps the statistics it came with
    batch_norm_runs.after_training(model, data, classifier.preprocessing, recipe, run)
    with whole(run.model) as beside:
        model.save(beside)
    trained = load(run.folder)
    probabilities, truth = evaluation.predict(trained.model, data.test, trained.preprocessing, watch)
    figures = evaluation.metrics(probabilities, truth, data.labels)
    _keep_golden(data, run)
    run_report.write(run, classifier, figures, probabilities, truth, data.test)
    write_json(run.metrics, figures)


def _keep_golden(data: Data, run: Run) -> None:
    """Test images spread over the split, as they are, with their labels: what exports are compared on."""
    run.golden.mkdir(exist_ok=True)
    chosen = set(np.linspace(0, data.test.count - 1, min(GOLDEN, data.test.count)).astype(int).tolist())
    kept: list[dict[str, str]] = []
    for i, (encoded, label) in enumerate(data.test.in_order().as_numpy_iterator()):
        if i in chosen:
            with Image.open(io.BytesIO(encoded)) as image:
                name = f"{len(kept):02}.{(image.format or 'img').lower()}"
            with whole(run.golden / name) as beside:
                beside.write_bytes(encoded)
            kept.append({"file": name, "label": data.labels[int(label)]})
    write_json(run.golden / "golden.json", kept)


def _write_unreadable(path: Path, unreadable: Iterable[tuple[str, str]]) -> None:
    with whole(path) as beside, beside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "reason"))
        writer.writerows(unreadable)
