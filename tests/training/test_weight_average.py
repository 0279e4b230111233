"""Runs with a running average of the weights: what is validated, and what the finished run has."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app import recipe, run_folder, training
from app.batch_norm import in_training, measuring, population
from app.datasets import loading
from app.evaluation import evaluating
from app.program.progress import unwatched
from app.run_folder import folder
from app.run_folder.folder import Run

SETTINGS = ("epochs=6", "image_size=32", "batch_size=8", "optimizer.rate=0.1", "seed=1", "schedule.name=constant")


@pytest.fixture(scope="module", params=[pytest.param("end", marks=pytest.mark.slow), "epoch"])
def averaged(request: pytest.FixtureRequest, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Six epochs with an average, at a rate that does not fall. Read only."""
    wanted = recipe.load("default", (*SETTINGS, "weight_average=0.9999", f"batch_norm.recalibrate={request.param}"))
    folder = tmp_path_factory.mktemp("averaged") / "run"
    return training.train(str(pictures), "lenet_bn", folder, wanted, unwatched)


def test_a_finished_run_has_the_averaged_weights_and_statistics_of_their_own(averaged: Run, pictures: Path) -> None:
    last = keras.models.load_model(averaged.checkpoints / "last.keras")
    model = keras.models.load_model(averaged.model, compile=False)
    averages = last.optimizer.averages
    apart = 0.0
    for weight, average, end in zip(model.trainable_weights, averages, last.trainable_weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), average.numpy(), err_msg=weight.path)
        apart = max(apart, float(np.abs(end.numpy() - average.numpy()).max()))
    assert apart > 1e-2, "the average is where the weights are: this test cannot see a difference"
    data, wanted = loading.load(str(pictures)), averaged.read_classifier()
    assert wanted.recipe
    pictures_of = in_training.training_pictures(data, wanted.preprocessing, wanted.recipe)
    found = population.population(model, pictures_of).statistics
    for layer in measuring.layers_of(model):
        np.testing.assert_allclose(layer.moving_mean, found[layer.name].mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(layer.moving_variance, found[layer.name].variance, rtol=1e-4, atol=1e-5)


def test_a_run_with_an_average_has_learned(averaged: Run) -> None:
    assert json.loads(averaged.metrics.read_text())["top_1"] >= 0.6, "three classes"


def test_validation_sees_the_average_where_statistics_are_measured_for_it(averaged: Run, pictures: Path) -> None:
    trained = run_folder.load(averaged.folder)
    data = loading.load(str(pictures))
    probabilities, truth = evaluating.predict(trained.model, data.validation, trained.preprocessing)
    loss = float(-np.mean(np.log(probabilities[np.arange(len(truth)), truth].astype(np.float64))))
    wanted = averaged.read_classifier().recipe
    assert wanted
    seen = folder.read_history(averaged.history)[-1]["val_loss"] == pytest.approx(loss, rel=1e-3)
    assert seen == (wanted.batch_norm.recalibrate == "epoch")


@pytest.mark.slow
def test_validating_the_average_leaves_training_as_it_was(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights and statistics in the checkpoint, whether validations swapped them or not."""

    def last(name: str) -> Any:
        settings = (*SETTINGS, "steps=12", "weight_average=0.9", "batch_norm.early=false")
        wanted = recipe.load("default", (*settings, f"batch_norm.recalibrate={name}"))
        run = training.train(str(pictures), "lenet_bn", tmp_path / name, wanted, unwatched)
        return keras.models.load_model(run.checkpoints / "last.keras")

    ends = [last("end"), last("epoch")]
    for mine, theirs in zip(*([*end.weights, *end.optimizer.variables] for end in ends), strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy(), err_msg=mine.path)


@pytest.mark.slow
def test_without_batch_norm_every_validation_is_of_the_average(pictures: Path, tmp_path: Path) -> None:
    settings = ("image_size=32", "batch_size=16", "width=0.1", "steps=8", "weight_average=0.99", "optimizer.rate=0.2")
    wanted = recipe.load("default", (*settings, "dropout=0"))
    run = training.train(str(pictures), "googlenet", tmp_path / "run", wanted, unwatched)
    trained, data = run_folder.load(run.folder), loading.load(str(pictures))
    probabilities, truth = evaluating.predict(trained.model, data.validation, trained.preprocessing)
    loss = float(-np.mean(np.log(probabilities[np.arange(len(truth)), truth].astype(np.float64))))
    assert folder.read_history(run.history)[-1]["val_loss"] == pytest.approx(loss, rel=1e-4)
