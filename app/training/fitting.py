"""The steps of a training: `model.fit` with what happens beside it."""

import importlib.util
from collections.abc import Collection, Sequence
from contextlib import nullcontext

import keras
import tensorflow as tf

from app.batch_norm import in_training, measuring
from app.datasets import label_sets
from app.datasets.dataset import Data
from app.pipeline import balance
from app.pipeline.input_pipeline import steps_per_epoch, training_batches, validation_batches
from app.program import stopping
from app.program.progress import console
from app.recipe import Recipe
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run
from app.training import fine_tuning, losses, optimizers
from app.training.beginning import check_same, total_steps
from app.training.callbacks import weight_average
from app.training.callbacks.epochs import PREDICTIONS, EndEpochs, History, NamePredictions, StopOnNonFinite
from app.training.callbacks.live_report import LiveReport
from app.training.callbacks.memory import GiveBackMemory
from app.training.callbacks.progress import ReportProgress, show_banner
from app.training.checkpoints import checkpoint
from app.training.checkpoints.checkpoint import State
from app.training.checkpoints.saving import SaveCheckpoints
from app.training.devices.devices import Devices
from app.training.devices.faults import Attempt, CountSteps


def fit(
    model: keras.Model,
    data: Data,
    classifier: Classifier,
    recipe: Recipe,
    run: Run,
    fresh: Collection[str] | None,
    devices: Devices,
    attempt: Attempt,
) -> None:
    steps = steps_per_epoch(data.train, recipe)
    total = total_steps(data, recipe)
    trained = (run.checkpoints / "last.keras").is_file()  # it is written after the last step
    resumed = None if trained else checkpoint.newest(run.checkpoints)
    state = resumed.state if resumed else State(classifier=classifier)
    devices.compare(classifier, total if trained else state.step)
    if trained:
        return
    attempt.step = state.step
    rates = fine_tuning.rates(model, recipe.fine_tuning, fresh, steps)
    heads = [name for name in model.output_names if name != PREDICTIONS]
    with devices.strategy.scope():
        compile_model(model, data, recipe, steps, total, rates)
        if resumed:
            check_same(resumed.folder, state.classifier, classifier)
            resumed.restore(model)
            console.print(f"Going on after step {state.step} of {total}")
    data = balance.of(data, recipe)
    show_banner(model, recipe, steps, total)
    progress = ReportProgress(recipe.batch_size, steps, total, state.step, state.seconds)
    history = History(run.history, state.history)
    callbacks = [
        *([CountSteps(attempt)] if devices.workers > 1 else []),
        *([NamePredictions()] if heads else []),
        StopOnNonFinite(state.step),
        EndEpochs(steps, total, state.step),
        *([progress, history] if devices.is_chief else []),
    ]
    moves = measuring.moves(model)
    if recipe.weight_average and (recipe.batch_norm.recalibrate == "epoch" or not moves):
        batches = in_training.training_pictures(data, classifier.preprocessing, recipe)
        callbacks.append(weight_average.ValidateAverage(batches))
    elif moves and (recipe.batch_norm.recalibrate == "epoch" or recipe.batch_norm.measures_early):
        callbacks.append(in_training.before_validations(data, classifier.preprocessing, recipe, steps, state.step))
    if devices.is_chief and importlib.util.find_spec("tensorboard"):
        callbacks.append(keras.callbacks.TensorBoard(run.folder / "tensorboard"))
    classes = len(data.labels)
    training = training_batches(
        data.train, classifier.preprocessing, recipe, classes, state.step, devices.share, data.label_sets
    )
    validation = validation_batches(data.validation, classifier.preprocessing, recipe.batch_size, devices.share)
    validation = validation.map(lambda images, labels: (images, label_sets.targets(labels, classes, data.label_sets)))
    training, validation = for_heads(training, model), for_heads(validation, model)
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
            try:
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
            except tf.errors.OpError as error:
                if request:
                    saving.on_error(error)
                raise
    finally:
        progress.close()


def compile_model(
    model: keras.Model, data: Data, recipe: Recipe, steps: int, total: int, rates: Sequence[tuple[float, int]] = ()
) -> None:
    """Gives a network its loss, metrics and optimizer; for the numbers see `optimizers.build`."""
    heads = [name for name in model.output_names if name != PREDICTIONS]
    loss, shown = losses.of(data, recipe), losses.shown_with(data)
    optimizer = optimizers.build(model, recipe, steps, total, rates)
    if heads:
        model.compile(
            optimizer=optimizer,
            loss={PREDICTIONS: loss, **dict.fromkeys(heads, loss)},
            loss_weights={PREDICTIONS: 1.0, **dict.fromkeys(heads, recipe.auxiliary)},
            metrics={PREDICTIONS: [shown]},
        )
    else:
        model.compile(optimizer=optimizer, loss=loss, metrics=[shown])
    if recipe.remat:
        model.jit_compile = False  # XLA computes once what is written twice
    # Keras would build it within the first step, which TensorFlow then traces twice, with all its variables.
    model.optimizer.build(model.trainable_variables)
    if heads and tf.distribute.get_strategy().num_replicas_in_sync == 1:
        checkpoint.build_metrics(model)  # the mean loss of every head likewise


def for_heads(batches: tf.data.Dataset, model: keras.Model) -> tf.data.Dataset:
    """Batches for a network, of which every head learns the same labels."""
    names = model.output_names
    if len(names) == 1:
        return batches
    return batches.map(lambda images, labels: (images, dict.fromkeys(names, labels)))
