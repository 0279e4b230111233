"""`--recipe linear_probe`: the classifier alone, fitted on the features of trained weights."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from app import recipe, run_folder, training
from app.datasets import loading
from app.program.errors import UserError
from app.program.progress import unwatched
from app.run_folder.folder import Run, read_history
from app.run_folder.golden import read_golden
from app.training import members, probing
from app.training.devices.devices import Devices
from app.training.probing import STRENGTHS, Examples
from app.training.training import check
from tests.makers.untrained_runs import untrained

Array = np.ndarray[Any, Any]
PROBE = recipe.load("linear_probe")


def test_it_is_the_minimum_of_the_penalised_loss_and_all_below_stays(
    finished_run: Run, pictures: Path, tmp_path: Path
) -> None:
    """Where the gradient is 0: kernel / C = features^T (labels - probabilities), for features of deviation 1."""
    run = training.train(str(pictures), None, tmp_path / "run", PROBE, unwatched, finished_run.folder)
    before, after = (run_folder.load(each.folder).model for each in (finished_run, run))
    for layer in before.layers:
        if layer.weights and layer.name != "predictions":
            for old, new in zip(layer.get_weights(), after.get_layer(layer.name).get_weights(), strict=True):
                np.testing.assert_array_equal(old, new)

    top = after.get_layer("predictions")
    both = keras.Model(after.input, [top.input, after.output])
    data = loading.load(str(pictures))
    preprocessing = run.read_finished().preprocessing
    images, labels = zip(*data.train.in_order().as_numpy_iterator(), strict=True)
    features, probabilities = both.predict(
        np.stack([preprocessing(preprocessing.decode(each)).numpy() for each in images]), verbose=0
    )
    kernel = top.kernel.numpy().astype(float)
    deviation = features.std(axis=0)
    lacking = np.eye(3)[np.array(labels)] - probabilities
    gradient = ((features - features.mean(axis=0)) / np.where(deviation, deviation, 1)).T @ lacking
    penalised = kernel * np.where(deviation, deviation, 1)[:, np.newaxis]
    left = [np.abs(penalised / strength - gradient).max() for strength in STRENGTHS]
    least = 2e-4 * len(labels)  # sklearn ends at 1e-4 of the mean
    assert min(left) < least
    assert sum(each < 3 * least for each in left) == 1, "another strength has another minimum"
    assert np.abs(lacking.sum(axis=0)).max() < least, "the bias, which nothing is taken of"

    assert json.loads(run.metrics.read_text())["count"] == data.test.count
    assert len(read_golden(run)) == data.test.count
    assert "Loss" in run.report.read_text()
    (row,) = read_history(run.history)
    right = probabilities[np.arange(len(labels)), labels]
    assert row["accuracy"] == pytest.approx((probabilities.argmax(axis=1) == labels).mean(), abs=0.002)
    assert row["loss"] == pytest.approx(-np.log(right).mean(), rel=0.01)
    assert {"val_accuracy", "val_loss", "seconds", "epoch"} < set(row)


@pytest.mark.parametrize("classes", [2, 3])
def test_kernel_and_bias_give_the_probabilities_of_the_regression(classes: int) -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 5)), np.arange(40) % classes
    fitted = LogisticRegression(C=0.1).fit(features, labels)
    kernel, bias = probing._of_classes(fitted)
    assert (kernel.shape, bias.shape) == ((5, classes), (classes,))
    powers = np.exp(features @ kernel + bias)
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), fitted.predict_proba(features), rtol=1e-6)


def examples(count: int, noise: float, seed: int) -> Examples:
    """Of three classes that lie a little apart; a share of the labels is drawn by lot."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 3
    features = rng.normal(size=(count, 12)) + 4 * np.eye(12)[truth]
    return Examples(features, np.where(rng.random(count) < noise, rng.permutation(truth), truth))


@pytest.mark.parametrize("validation", [9, 120])
def test_labels_by_lot_take_a_stronger_penalty_than_true_ones(validation: int) -> None:
    """By 120 validation images, or by parts of the training images where there are 9."""
    by_noise = [
        probing.chosen(examples(90, noise, 1), examples(validation, noise, 2), 0, unwatched) for noise in (0.0, 1.0)
    ]
    assert by_noise[1] <= 1e-3 < 1e-1 <= by_noise[0]


def test_a_class_of_one_image_leaves_nothing_to_choose_by() -> None:
    few = Examples(np.eye(3), np.arange(3))
    assert probing.chosen(few, few, 0, unwatched) == 0.01


@pytest.mark.slow
def test_a_probe_that_was_interrupted_goes_on(finished_run: Run, pictures: Path, tmp_path: Path) -> None:
    def stopped(items: Iterable[Any], count: int, what: str) -> Iterable[Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(str(pictures), None, tmp_path / "run", PROBE, stopped, finished_run.folder)
    run = training.train(str(pictures), None, tmp_path / "run", PROBE, unwatched, finished_run.folder)
    fitted = run_folder.load(run.folder).model.get_layer("predictions").get_weights()
    again = training.train(str(pictures), None, tmp_path / "again", PROBE, unwatched, finished_run.folder)
    for old, new in zip(
        fitted, run_folder.load(again.folder).model.get_layer("predictions").get_weights(), strict=True
    ):
        np.testing.assert_array_equal(old, new)


def test_a_probe_is_of_trained_weights_on_one_device_and_alone(tmp_path: Path) -> None:
    start = untrained(tmp_path / "start", 32, ("a", "b")).folder
    with pytest.raises(UserError, match="is for a run that begins with trained weights: add --from"):
        training.train("digits", "lenet_bn", tmp_path / "run", PROBE)
    with pytest.raises(UserError, match="would be all the same: leave --members out"):
        members.train(2, "digits", None, tmp_path / "run", PROBE, start=start)
    two = cast(Devices, SimpleNamespace(replicas=2, is_chief=True))
    with pytest.raises(UserError, match="fitted on one device: leave --devices out"):
        check(None, tmp_path / "run", PROBE, start, two)
    assert [path.name for path in tmp_path.iterdir()] == ["start"]


def test_a_probe_of_several_labels_is_refused(finished_run: Run, pictures: Path, tmp_path: Path) -> None:
    """Of as many sets of labels as there are labels, so that the classifier would take the numbers of the sets."""
    data = dataclasses.replace(loading.load(str(pictures)), label_sets=((0,), (1,), (0, 2)))
    with pytest.raises(UserError, match=r"several labels each, and a linear probe \(fine_tuning.probe\) is for"):
        training.train(data, None, tmp_path / "run", PROBE, unwatched, finished_run.folder)
    assert not Run(tmp_path / "run").classifier.exists()


def test_a_probe_of_features_that_would_be_random_is_refused(finished_run: Run, pictures: Path, tmp_path: Path) -> None:
    """At another size the first dense layer of LeNet has another map below it."""
    wanted = recipe.load("linear_probe", ("image_size=48",))
    with pytest.raises(UserError, match=r"image_size=48 dense_1_dense of .* would begin anew; leave image_size out"):
        training.train(str(pictures), None, tmp_path / "run", wanted, unwatched, finished_run.folder)
    assert not Run(tmp_path / "run").classifier.exists()


def test_a_probe_is_told_what_its_pictures_become() -> None:
    wanted = recipe.load("linear_probe", ("image.aspect=pad", "image.crop=0.9"), from_weights=True)
    assert (wanted.image.aspect, wanted.image.crop) == ("pad", 0.9)
