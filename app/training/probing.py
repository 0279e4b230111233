"""A linear probe: the classifier alone, fitted on the features of the training images by logistic regression."""

import csv
import time
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from app.datasets.dataset import Data
from app.evaluation import evaluating
from app.images.preprocessing import Preprocessing
from app.program.errors import UserError
from app.program.files import whole
from app.program.progress import Watch, console
from app.recipe import Recipe
from app.run_folder.folder import Run
from app.training.callbacks.epochs import PREDICTIONS

# Of the penalty: sklearn's C, with features of mean 0 and deviation 1.
STRENGTHS = tuple(10.0**power for power in range(-5, 1))
FOLDS = 5
ENOUGH = 100  # validation images that a strength is chosen by; of fewer, the loss is chance


class Examples(NamedTuple):
    """Features (images, features) and labels (images,)."""

    features: NDArray[np.float64]
    labels: NDArray[np.int64]


def check(fresh: Collection[str], start: Path | None, recipe: Recipe) -> None:
    """
    Raises:
        UserError: more than the classifier is `fresh`, so that the features would be of random weights.
    """
    if others := sorted({*fresh} - {PREDICTIONS}):
        raise UserError(
            f"A linear probe (fine_tuning.probe) takes features as they are trained, and with image_size="
            f"{recipe.image_size} {', '.join(others)} of {start} would begin anew; leave image_size out."
        )


def fit(model: keras.Model, data: Data, preprocessing: Preprocessing, recipe: Recipe, run: Run, watch: Watch) -> None:
    """Gives `model`, which ends in the logits, the classifier that suits the training images best, and writes it as the
    last checkpoint of `run`, with a line of history. What is fitted is the mean cross-entropy with an L2 penalty, on
    the features as they are in use, without augmentation; the strength of the penalty is `chosen`."""
    last = run.checkpoints / "last.keras"
    if last.is_file():
        return
    started = time.monotonic()
    layer = model.get_layer(PREDICTIONS)
    body = keras.Model(model.input, layer.input)
    training, validation = (
        Examples(*evaluating.predict(body, split, preprocessing, watch)) for split in (data.train, data.validation)
    )
    scaler = StandardScaler().fit(training.features)
    training, validation = (
        Examples(scaler.transform(examples.features), examples.labels) for examples in (training, validation)
    )
    strength = chosen(training, validation, recipe.seed, watch)
    regression = _fitted(_regression(strength), training)
    kernel, bias = _of_classes(regression)
    # The classifier is given features as they come.
    kernel = kernel / scaler.scale_[:, np.newaxis]
    layer.set_weights([kernel, bias - scaler.mean_ @ kernel])
    with whole(last) as beside:
        model.save(beside)
    figures: dict[str, Any] = {"epoch": 1}
    for prefix, examples in (("", training), ("val_", validation)):
        figures[f"{prefix}accuracy"] = float(regression.score(*examples))
        figures[f"{prefix}loss"] = _loss(regression, examples)
    figures["seconds"] = time.monotonic() - started
    with whole(run.history) as beside, beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, figures)
        writer.writeheader()
        writer.writerow(figures)
    console.print(
        f"The classifier was fitted on {training.features.shape[1]} features of {len(training.labels):,} images, with "
        f"the penalty of C = {strength:g}, in {figures['seconds']:.0f} s: validation loss {figures['val_loss']:.4f}, "
        f"accuracy {figures['val_accuracy']:.4f}"
    )


def chosen(training: Examples, validation: Examples, seed: int, watch: Watch) -> float:
    """The strength with the lowest cross-entropy on the validation images; where there are not `ENOUGH`, on each of
    `FOLDS` parts of the training images by what was fitted on the others. Of a class with one image there are no two
    parts: then it is the middle one."""
    if len(validation.labels) >= ENOUGH:
        pairs = [(training, validation)]
    else:
        folds = min(FOLDS, int(np.unique(training.labels, return_counts=True)[1].min()))
        if folds < 2:
            return STRENGTHS[len(STRENGTHS) // 2]
        parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(*training)
        pairs = [(_at(training, fitted), _at(training, left)) for fitted, left in parts]
    losses = np.zeros(len(STRENGTHS))
    for fitted, left in watch(pairs, len(pairs), "Choosing the penalty"):
        regression = _regression(STRENGTHS[0])
        for place, strength in enumerate(STRENGTHS):  # each begins where the one before ended
            losses[place] += _loss(_fitted(regression.set_params(C=strength), fitted), left)
    return STRENGTHS[int(np.argmin(losses))]


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=300, warm_start=True)


def _fitted(regression: LogisticRegression, examples: Examples) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what is left after so many iterations changes nothing
        fitted: LogisticRegression = regression.fit(*examples)
    return fitted


def _of_classes(regression: LogisticRegression) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kernel (features, classes) and bias (classes,); of two classes sklearn has the difference alone."""
    kernel, bias = regression.coef_.T, regression.intercept_
    if len(regression.classes_) == 2:
        kernel, bias = kernel * (-0.5, 0.5), bias * (-0.5, 0.5)
    return kernel, bias


def _loss(regression: LogisticRegression, examples: Examples) -> float:
    """The mean cross-entropy, in nats."""
    logarithms = regression.predict_log_proba(examples.features)
    return float(-logarithms[np.arange(len(examples.labels)), examples.labels].mean())


def _at(examples: Examples, places: NDArray[np.int64]) -> Examples:
    return Examples(examples.features[places], examples.labels[places])
