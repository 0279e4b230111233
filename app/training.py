"""Training: a data set, a network and a recipe in; a run folder out."""

import csv
import importlib.util
import inspect
import io
import shutil
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from app import (
    banner,
    batch_norm,
    batch_norm_runs,
    checkpoints,
    datasets,
    evaluation,
    fine_tuning,
    manifests,
    networks,
    optimizers,
    stopping,
    weight_average,
)
from app.callbacks import (
    PREDICTIONS,
    EndEpochs,
    History,
    NamePredictions,
    ReportProgress,
    SaveCheckpoints,
    StopOnNonFinite,
)
from app.checkpoints import State
from app.datasets import Data, Watch
from app.devices import Devices
from app.errors import UserError
from app.files import whole, write_json
from app.images import Preprocessing
from app.input_pipeline import evaluation_batches, steps_per_epoch, training_batches
from app.live_report import LiveReport
from app.memory import GiveBackMemory
from app.progress import console
from app.recipe import FineTuning, Recipe
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
    deterministic: bool = False,
    devices: Devices | None = None,
) -> Run:
    """Trains, evaluates on the test images and writes the run folder `to`. The same call again goes on after the last
    checkpoint, wherever that was, and ends as if nothing had happened; on a finished run it does nothing.

    `start` is the run folder whose network and weights the training begins with, its classifier replaced by a new one
    (fine-tuning); `network` may be left out then. `quarantine` lists images to leave out (see `datasets.load`).
    `deterministic` has TensorFlow compute the same bits every time, for the rest of the process; on CPUs it does so
    anyway, as far as was seen. `devices` are those that train (see `devices.take`), without it the one that TensorFlow
    takes. Of several workers only the chief writes and evaluates; the others return when the last step is done.

    Raises:
        UserError: unknown network; a target that is something else or another run; bad data (see `datasets.load`); an
            image size that the network cannot take; a start of another network; a loss that is not finite; a disk that
            is full; damaged checkpoints; a recipe that the devices cannot divide, another worker that is gone (see
            `Devices`).
        Stopped: SIGTERM or Ctrl-C came while it trained; the checkpoint is written.
    """
    devices = devices or Devices()
    source = Run(start).read_classifier() if start else None
    network = network or (source.network if source else None)
    if network is None:
        raise UserError("Say which network to train: --network with a name from `networks`, or --from with a run.")
    networks.check_name(network)
    if source and source.network != network:
        raise UserError(f"{start} holds {source.network}, not {network}; leave --network out.")
    if recipe.fine_tuning != FineTuning() and not source:
        raise UserError("fine_tuning.* is for a run that begins with trained weights: add --from with a run.")
    run = Run(to)
    if devices.is_chief and to.exists() and not (to.is_dir() and (run.classifier.is_file() or not any(to.iterdir()))):
        raise UserError(f"{to} exists and is not a run folder; choose another --to. Nothing in it was touched.")
    data = datasets.load(data_name, watch, quarantine)
    devices.check(data, recipe)
    classifier = _describe(data, network, recipe, start, source)
    if run.classifier.is_file():
        _check_same(run.folder, run.read_classifier(), classifier)
        if run.metrics.is_file():
            checkpoints.clear(run.checkpoints)
            console.print(f"{to} is finished; nothing to do.")
            return run
    report_data(data)
    console.print(devices.described())
    keras.utils.set_random_seed(recipe.seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    with devices.watched(), devices.strategy.scope():
        model = devices.replicated(_build(classifier, recipe))
        fresh = fine_tuning.take_weights(model, start) if start else None
        if not start:
            _scale_kernels(model, recipe.initial_weights)
    fine_tuning.freeze(model, recipe.freeze, fresh)
    if fresh is not None:
        fine_tuning.report(model, fresh, recipe.fine_tuning)
    if devices.is_chief:
        _begin(run, classifier, data, quarantine)
    with devices.watched():
        _fit(model, data, classifier, recipe, run, fresh, devices)
    if devices.is_chief:
        _finish(data, classifier, recipe, run, watch)
        checkpoints.clear(run.checkpoints)
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
    card = networks.CARDS[network]
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


def untrained(data: Data, network: str, recipe: Recipe) -> keras.Model:
    """The network that a training of its own would begin with, without auxiliary heads; gives logits.

    Raises:
        UserError: an image size that it cannot take.
    """
    return _build(_describe(data, network, recipe), recipe.model_copy(update={"auxiliary": 0.0}))


def total_steps(data: Data, recipe: Recipe) -> int:
    """The batches of a whole run; where gradients are accumulated, an optimizer step takes several."""
    if recipe.steps:
        return recipe.steps * recipe.optimizer.accumulate
    return recipe.epochs * steps_per_epoch(data.train, recipe)


def _check_same(folder: Path, found: Classifier, wanted: Classifier) -> None:
    """A run goes on with what it began with, or not at all; `folder` holds it, or a checkpoint of it."""
    if difference := datasets.compare_labels(wanted.labels, found.labels):
        raise UserError(
            f"{wanted.data.name if wanted.data else 'The data'} has other labels than {folder} was begun with "
            f"({difference}); choose another --to, or remove the folder."
        )
    for what in ("network", "recipe", "origin"):
        if getattr(found, what) != getattr(wanted, what):
            raise UserError(f"{folder} holds a run with another {what}; choose another --to, or remove the folder.")
    if found.data and wanted.data and found.data.fingerprint != wanted.data.fingerprint:
        raise UserError(f"The images of {wanted.data.name} are not those that {folder} was begun with.")


def _build(classifier: Classifier, recipe: Recipe) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        return classifier.build(activation=None, auxiliary=recipe.auxiliary > 0)
    except ValueError as error:
        raise UserError(f"{classifier.network}: {error}") from error
    finally:
        keras.config.set_dtype_policy(before)


def _scale_kernels(model: keras.Model, factor: float) -> None:
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and factor != 1:
            layer.kernel.assign(factor * layer.kernel)


def _fit(
    model: keras.Model,
    data: Data,
    classifier: Classifier,
    recipe: Recipe,
    run: Run,
    fresh: Collection[str] | None,
    devices: Devices,
) -> None:
    steps = steps_per_epoch(data.train, recipe)
    total = total_steps(data, recipe)
    trained = (run.checkpoints / "last.keras").is_file()  # it is written after the last step
    resumed = None if trained else checkpoints.newest(run.checkpoints)
    state = resumed.state if resumed else State(classifier=classifier)
    devices.compare(classifier, total if trained else state.step)
    if trained:
        return
    alike = fresh is None or recipe.fine_tuning == FineTuning()
    rates = () if alike else fine_tuning.rates(model, recipe.fine_tuning, fresh or (), steps)
    heads = [name for name in model.output_names if name != PREDICTIONS]
    with devices.strategy.scope():
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
        optimizer = optimizers.build(model, recipe, steps, total, rates)
        if heads:
            model.compile(
                optimizer=optimizer,
                loss={PREDICTIONS: loss, **dict.fromkeys(heads, loss)},
                loss_weights={PREDICTIONS: 1.0, **dict.fromkeys(heads, recipe.auxiliary)},
                metrics={PREDICTIONS: [accuracy]},
            )
        else:
            model.compile(optimizer=optimizer, loss=loss, metrics=[accuracy])
        # Keras would build it within the first step, which TensorFlow then traces twice, with all its variables.
        model.optimizer.build(model.trainable_variables)
        if resumed:
            _check_same(resumed.folder, state.classifier, classifier)
            resumed.restore(model)
            console.print(f"Going on after step {state.step} of {total}")
    banner.show(model, recipe, steps, total)
    progress = ReportProgress(recipe.batch_size, steps, total, state)
    history = History(run.history, state.history)
    callbacks = [
        *([NamePredictions()] if heads else []),
        StopOnNonFinite(state.step),
        EndEpochs(steps, total, state.step),
        *([progress, history] if devices.is_chief else []),
    ]
    moves = batch_norm.moves(model)
    if recipe.weight_average and (recipe.batch_norm.recalibrate == "epoch" or not moves):
        batches = batch_norm_runs.training_pictures(data, classifier.preprocessing, recipe)
        callbacks.append(weight_average.ValidateAverage(batches))
    elif recipe.batch_norm.recalibrate == "epoch" and moves:
        callbacks.append(batch_norm_runs.before_validations(data, classifier.preprocessing, recipe))
    if devices.is_chief and importlib.util.find_spec("tensorboard"):
        callbacks.append(keras.callbacks.TensorBoard(run.folder / "tensorboard"))
    classes = len(data.labels)
    training = training_batches(data.train, classifier.preprocessing, recipe, classes, state.step, devices.share)
    validation = evaluation_batches(data.validation, classifier.preprocessing, recipe.batch_size, share=devices.share)
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
        with stopping.requests() if devices.is_chief else nullcontext() as request:
            if request:
                every = recipe.checkpoint.every
                of_metrics = devices.replicas == 1
                saving = SaveCheckpoints(
                    run.checkpoints, every, classifier, progress, history, resumed, request, of_metrics
                )
                # Where the disk is full, the checkpoint is there before the report fails.
                callbacks += [saving, LiveReport(run, classifier, -(-total // steps))]
            callbacks.append(GiveBackMemory())
            model.fit(
                training,
                steps_per_epoch=steps,
                initial_epoch=state.step // steps,
                epochs=-(-total // steps),
                validation_data=validation,
                callbacks=callbacks,
                shuffle=False,
                verbose=0,
            )
    finally:
        progress.close()


def _finish(data: Data, classifier: Classifier, recipe: Recipe, run: Run, watch: Watch) -> None:
    """The trained weights, or their running average, in a float32 network with softmax and without auxiliary heads;
    figures, golden images and report of the test images."""
    file = run.checkpoints / f"{recipe.checkpoint.use}.keras"
    try:
        kept = keras.models.load_model(file, compile=bool(recipe.weight_average))
    except (ValueError, OSError) as error:
        raise UserError(f"{file} is damaged; remove {run.folder} to begin the run again.") from error
    if recipe.weight_average:
        weight_average.use(kept)
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
    temperature = evaluation.fit_temperature(trained.model, data.validation, trained.preprocessing, watch)
    figures = evaluation.metrics(probabilities, truth, data.labels, temperature)
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
