"""The keys of a recipe that are "auto": numbers that a training measures before its first step, and keeps.

classifier.json has the numbers, as if somebody had given them, and which keys were measured: the same command goes on
with the same numbers, and never measures again.
"""

import gc
import random
from pathlib import Path

import keras

from app.datasets.dataset import Data
from app.pipeline import balance
from app.pipeline.input_pipeline import steps_per_epoch, training_batches
from app.program.errors import UserError
from app.program.progress import Watch
from app.recipe import Recipe
from app.recipes._auto import AUTO
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run
from app.training import batch_sizes, fine_tuning, fitting, range_test
from app.training.beginning import build, describe, scale_kernels
from app.training.devices.devices import Devices
from app.training.range_test import Point
from app.training.recomputation import recomputing

BATCH_SIZE, RATE = "batch_size", "optimizer.rate"
MEANWHILE = 8  # images in a batch, where nobody knows yet how many


def asked(recipe: Recipe) -> tuple[str, ...]:
    """The keys that are to be measured."""
    found = {BATCH_SIZE: recipe.batch_size, RATE: recipe.optimizer.rate}
    return tuple(key for key, value in found.items() if value == AUTO)


def check(recipe: Recipe, devices: Devices) -> None:
    """Raises:
    UserError: something is to be measured for several devices.
    """
    if (keys := asked(recipe)) and devices.replicas > 1:
        raise UserError(
            f"{keys[0]}=auto is measured on one device, and {devices.replicas} are to train: give the number, as a run "
            "on one of them says it."
        )


def as_begun(recipe: Recipe, run: Run) -> Recipe:
    """The recipe with what a run that has begun was begun with, where that was measured."""
    if not asked(recipe) or not run.classifier.is_file():
        return recipe
    begun = run.read_classifier()
    keys = {*asked(recipe)} & {*begun.automatic}
    size = begun.recipe.batch_size if begun.recipe and BATCH_SIZE in keys else recipe.batch_size
    rate = begun.recipe.optimizer.rate if begun.recipe and RATE in keys else recipe.optimizer.rate
    return _with(recipe, size, rate)


def measured(
    data: Data, network: str, recipe: Recipe, start: Path | None, source: Classifier | None, watch: Watch
) -> tuple[Recipe, list[Point]]:
    """The recipe with all its numbers, and the curve of the range test where there was one. The batch size comes first:
    the rate depends on it."""
    points: list[Point] = []
    if recipe.batch_size == AUTO:
        rate = 1e-4 if recipe.optimizer.rate == AUTO else recipe.optimizer.rate  # which takes no time
        model = _begun(data, network, _with(recipe, MEANWHILE, rate), start, source)
        recipe = _with(recipe, batch_sizes.measured(model, data.train.count), recipe.optimizer.rate)
        del model
        gc.collect()
    if recipe.optimizer.rate == AUTO:
        rising = range_test.rising(recipe)
        model = _begun(data, network, rising, start, source)
        preprocessing = describe(data, network, rising, start, source).preprocessing
        train = balance.of(data, recipe).train
        batches = training_batches(train, preprocessing, recipe, len(data.labels), 0, kinds=data.label_sets)
        labelled = fitting.for_heads(batches, model)
        points = range_test.measured(model, labelled, recipe.optimizer.accumulate, watch)
        recipe = _with(recipe, recipe.batch_size, range_test.chosen(points))
        del model
        gc.collect()
    return recipe, points


def _with(recipe: Recipe, batch_size: int, rate: float) -> Recipe:
    optimizer = recipe.optimizer.model_copy(update={"rate": rate})
    return recipe.model_copy(update={"batch_size": batch_size, "optimizer": optimizer})


def _begun(data: Data, network: str, recipe: Recipe, start: Path | None, source: Classifier | None) -> keras.Model:
    """The network as the run will begin with it, compiled as for its first step."""
    random.seed(recipe.seed)
    model = build(describe(data, network, recipe, start, source), recipe)
    model = recomputing(model) if recipe.remat else model
    fresh = fine_tuning.take_weights(model, start, data.labels) if start else None
    if not start:
        scale_kernels(model, recipe.initial_weights)
    fine_tuning.freeze(model, recipe.freeze, fresh)
    steps = steps_per_epoch(data.train, recipe)
    rates = fine_tuning.rates(model, recipe.fine_tuning, fresh, steps)
    # An epoch of one optimizer step: the range test counts its rate in these.
    one = recipe.optimizer.accumulate
    fitting.compile_model(model, data, recipe, one, max(range_test.STEPS, steps) * one, rates)
    return model
