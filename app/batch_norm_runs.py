"""Population statistics of run folders: look at them, repair them, move them to another domain."""

import dataclasses
import functools
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app import batch_norm, datasets, evaluation, folders, run_folder
from app.batch_norm import Inspection, Population, Statistics
from app.datasets import Data, Split, Watch, unwatched
from app.errors import UserError
from app.files import whole, write_json
from app.images import Preprocessing
from app.progress import console
from app.recipe import Recipe
from app.reports import run_report
from app.run_folder import Run

BATCH = 32
# The mean of 8 values is off by a third of a deviation.
FEWEST = 8
# 10^3 to 10^4 images suffice: Wu and Johnson 2021, https://arxiv.org/abs/2105.07576
MOST = 10_000
# Below it an image or two of a small data set make the difference, or the noise of batch statistics.
GAP = 0.02
# Several times what another split into batches makes of the same images.
FAR = 0.2  # deviations
# So far below the run's own test images an adapted network is not where it was.
POOR = 0.1
IN_TRAINING = 2048  # images: cheap beside an epoch, and enough


@dataclass(frozen=True)
class Batches:
    """Preprocessed images of a split, in an order that depends on the seed alone, with their labels as integers; at
    most so many. Shuffled, since a folder comes sorted, and a batch of one class has that class's statistics."""

    split: Split
    preprocessing: Preprocessing
    size: int
    seed: int = 0
    most: int = MOST

    @property
    def count(self) -> int:
        """Of batches."""
        return -(-min(self.split.count, self.most) // self.size)

    def __iter__(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        def prepared(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return self.preprocessing(self.preprocessing.decode(encoded)), label

        examples = self.split.shuffled(self.seed, tf.constant(0, tf.int64)).take(self.most)
        examples = examples.map(prepared, num_parallel_calls=tf.data.AUTOTUNE)
        yield from examples.batch(self.size).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


@dataclass(frozen=True)
class Watched:
    """The images alone, with progress at every pass."""

    batches: Batches
    watch: Watch
    what: str

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for pictures, _ in self.watch(self.batches, self.batches.count, self.what):
            yield pictures


# ---- report


def report(folder: Path, data_name: str, watch: Watch = unwatched) -> dict[str, Any]:
    """The state of a run's batch normalisations on the training images of DATA.

    `gap` (what moving averages lose in top-1 against the statistics of the batch), `layers` (see `batch_norm.Finding`),
    `accuracy` by either, `images`, `batch_size`, and `sentence`: whether batch normalisation is the reason of a gap,
    and what mends it.

    Raises:
        UserError: not a finished run; bad data; other labels than the run's; see `batch_norm.population`.
    """
    trained = run_folder.load(folder)
    data = datasets.load(data_name, watch, Run(folder).quarantine_of(data_name))
    truth = _positions(data, trained.labels)
    if truth is None:
        raise UserError(
            f"{data_name} has the labels {', '.join(data.labels)}; the network has {', '.join(trained.labels)}. "
            "A report needs images whose labels it knows."
        )
    batches = _batches(folder, data.train, trained.preprocessing)
    labelled = ((x, truth[labels]) for x, labels in watch(batches, batches.count, "Measuring"))
    found = batch_norm.inspect(trained.model, labelled)
    return {
        "gap": found.gap,
        "layers": [dataclasses.asdict(layer) for layer in found.layers],
        "accuracy": {"batch": found.by_batch, "moving_averages": found.by_moving_averages},
        "images": found.population.images,
        "batch_size": found.population.batch_size,
        "sentence": sentence(found, f"`python -m app batch-norm recalibrate {folder} {data_name}` mends it."),
    }


def sentence(found: Inspection, remedy: str) -> str:
    """Whether batch normalisation is the reason of a gap between training and use."""
    moving = [layer for layer in found.layers if not layer.frozen]
    if not moving:
        return (
            f"Batch normalisation is not the reason of a gap: all {len(found.layers)} layers are frozen, and use the "
            "same statistics in training."
        )
    far = max(moving, key=lambda layer: layer.distance)
    usual = float(np.median([layer.distance for layer in moving]))
    off = (
        f"these are {usual:.2g} deviations off in the median layer and {far.distance:.2g} deviations off in {far.name}"
    )
    accuracies = (
        f"of the same {found.population.images} images it names {found.by_batch:.1%} with the statistics of their "
        f"batch and {found.by_moving_averages:.1%} with the moving averages"
    )
    if found.gap > GAP:
        return (
            "Batch normalisation is a reason why this network does worse in use than in training: "
            f"{accuracies}; {off}. {remedy}"
        )
    clear = f"Batch normalisation is not the reason of a gap: {accuracies}"
    return f"{clear}, although {off}. {remedy}" if far.distance > FAR else f"{clear}."


# ---- recalibrate


def recalibrate(folder: Path, data_name: str, exact: bool = False, watch: Watch = unwatched) -> dict[str, Any]:
    """Rewrites a run's model.keras with the statistics of DATA's training images, then its figures on its test images.

    `before` and `after` (top-1 on DATA's test images, None without labels), and what was measured (`_described`): for
    the paper's form with the `spread` over two splits. The same goes into the run's batch_norm.json.

    Raises:
        UserError: not a finished run; data other than the run's own; see `batch_norm.population`. The run folder is
            then as it was.
    """
    run, trained = Run(folder), run_folder.load(folder)
    record = run.read_classifier().data
    data = datasets.load(data_name, watch, run.quarantine_of(data_name))
    if record and data.fingerprint != record.fingerprint:
        raise UserError(
            f"{data_name} is not what {folder} was trained on; `batch-norm adapt {folder} {data_name} --to RUN2` takes "
            "the statistics of other images and keeps this run."
        )
    batches = _batches(folder, data.train, trained.preprocessing)
    found = _measured(trained.model, batches, exact, watch)
    truth = _positions(data, trained.labels)
    before = _accuracy(trained.model, data.test, trained.preprocessing, truth, watch)
    result = _described(trained.model, found, batches, data_name)
    if not exact:
        result["spread"] = _spread(trained.model, found, batches, watch)
    batch_norm.adopt(trained.model, found)
    with whole(run.model) as beside:
        trained.model.save(beside)
    probabilities, labels = evaluation.predict(trained.model, data.test, trained.preprocessing, watch)
    after = _top_1(probabilities, labels, truth)
    if record and run.metrics.is_file():
        temperature = evaluation.fit_temperature(trained.model, data.validation, trained.preprocessing, watch)
        figures = evaluation.metrics(probabilities, labels, data.labels, temperature)
        run_report.write(run, run.read_classifier(), figures, probabilities, labels, data.test)
        write_json(run.metrics, figures)
    result |= {"before": before, "after": after}
    write_json(run.batch_norm, result)
    return result


def _measured(model: keras.Model, batches: Batches, exact: bool, watch: Watch) -> Population:
    count = min(batches.split.count, batches.most)
    if count < FEWEST:
        raise UserError(
            f"{count} images are too few for statistics: their mean would be off by {1 / math.sqrt(max(1, count)):.2f} "
            f"of a deviation. Take {FEWEST} or more."
        )
    return batch_norm.population(model, Watched(batches, watch, "Measuring"), exact)


def _spread(model: keras.Model, found: Population, batches: Batches, watch: Watch) -> dict[str, Any]:
    """How far the paper's form moves when the same images come in batches of half the size: per channel and in
    deviations, at the median and at worst."""
    size = batches.size // 2
    if size < 2:
        return {}
    halves = dataclasses.replace(batches, size=size)
    other = batch_norm.population(model, Watched(halves, watch, "Measuring the spread"))
    apart = {
        layer.name: batch_norm.distances(other.statistics[layer.name], found.statistics[layer.name], layer.epsilon)
        for layer in batch_norm.layers_of(model)
        if layer.name in found.statistics
    }
    worst = max(apart, key=lambda name: float(apart[name].max()))
    return {
        "batch_size": size,
        "median": float(np.median(np.concatenate(list(apart.values())))),
        "worst": float(apart[worst].max()),
        "layer": worst,
    }


# ---- adapt


@dataclass(frozen=True)
class Joined:
    """Several splits as one, one after the other."""

    splits: tuple[Split, ...]

    @property
    def count(self) -> int:
        return sum(split.count for split in self.splits)

    def in_order(self) -> tf.data.Dataset:
        return functools.reduce(tf.data.Dataset.concatenate, (split.in_order() for split in self.splits))

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        parts = (split.shuffled(seed, epoch) for split in self.splits)
        return functools.reduce(tf.data.Dataset.concatenate, parts).skip(skipped)


def adapt(folder: Path, data_name: str, to: Path, exact: bool = False, watch: Watch = unwatched) -> dict[str, Any]:
    """Writes the run folder `to`: the network of the run `folder` with the statistics of all images of DATA, a new
    domain (section 5 of the paper; https://arxiv.org/abs/1603.04779). Labels are not looked at; where there are some,
    `before` and `after` are the accuracies on the same images. DATA may be a folder of images without class folders.

    Raises:
        UserError: not a finished run; `to` exists; bad data; see `batch_norm.population`. No folder is left then.
    """
    run, trained = Run(folder), run_folder.load(folder)
    if to.exists():
        raise UserError(f"{to} exists; choose another --to. Nothing in it was touched.")
    split, truth = _domain(data_name, trained.labels, watch)
    batches = _batches(folder, split, trained.preprocessing)
    found = _measured(trained.model, batches, exact, watch)
    before = _accuracy(trained.model, split, trained.preprocessing, truth, watch)
    batch_norm.adopt(trained.model, found)
    after = _accuracy(trained.model, split, trained.preprocessing, truth, watch)
    result = _described(trained.model, found, batches, data_name)
    result |= {"before": before, "after": after, "note": _note(before, after, run)}
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}-", dir=to.parent) as beside:
        adapted = Run(Path(beside) / to.name)
        adapted.folder.mkdir()
        trained.model.save(adapted.model)
        shutil.copyfile(run.classifier, adapted.classifier)
        if run.quarantine.is_file():
            shutil.copyfile(run.quarantine, adapted.quarantine)
        if run.golden.is_dir():
            shutil.copytree(run.golden, adapted.golden)
        write_json(adapted.batch_norm, result)
        adapted.folder.replace(to)
    return result


def _domain(data_name: str, labels: Sequence[str], watch: Watch) -> tuple[Split, NDArray[Any] | None]:
    """All images of DATA, and the network's index of each of its labels; None where DATA has no such labels."""
    root = Path(data_name)
    if root.is_dir():
        known = {*labels, *folders.NAMES["train"]}
        if not any(inner.is_dir() and (inner.name in known or inner.name.lower() in known) for inner in root.iterdir()):
            split, unreadable = folders.unlabelled(root, watch)
            for file, reason in unreadable:
                console.print(f"left out: {file}: {reason}")
            return split, None
    data = datasets.load(data_name, watch)
    return Joined((data.train, data.validation, data.test)), _positions(data, labels)


def _note(before: float | None, after: float | None, run: Run) -> str:
    """Where adaptation cannot help, or nobody can tell."""
    limits = (
        "New statistics undo what shifts or scales the channels, as brightness and contrast do; they cannot undo an "
        "inversion, or pictures of another kind."
    )
    if before is None or after is None:
        return f"Without the network's labels nobody can tell whether this helped. {limits}"
    own = json.loads(run.metrics.read_text())["top_1"] if run.metrics.is_file() else 1.0
    if after < before:
        return f"The old statistics did better on these images. {limits}"
    return limits if after < own - POOR else ""


# ---- in training


def after_training(model: keras.Model, data: Data, preprocessing: Preprocessing, recipe: Recipe, run: Run) -> None:
    """Says so where the moving averages are the reason of a gap, and recalibrates unless the recipe says "never".

    What cannot be measured stays as it is: the run is worth more than its statistics.
    """
    if not batch_norm.moves(model):
        return
    batches = training_batches(data, preprocessing, recipe)
    try:
        found = batch_norm.inspect(model, batches)
    except UserError as error:
        console.print(f"The moving averages of batch normalisation stay as they are: {error}")
        return
    never = recipe.batch_norm.recalibrate == "never"
    if found.gap > GAP and not recipe.weight_average:  # there the moving averages are those of other weights
        again = f"`python -m app batch-norm recalibrate {run.folder} {data.name}` mends it."
        console.print(sentence(found, again if never else "They give way to the real statistics now."))
    if not never:
        described = _described(model, found.population, batches, data.name)
        batch_norm.adopt(model, found.population)
        write_json(run.batch_norm, described)


def training_batches(data: Data, preprocessing: Preprocessing, recipe: Recipe) -> Batches:
    """Training images without augmentation, as they come in use, in batches as in training."""
    return Batches(data.train, preprocessing, min(recipe.batch_size, data.train.count), recipe.seed, IN_TRAINING)


def before_validations(data: Data, preprocessing: Preprocessing, recipe: Recipe) -> batch_norm.Recalibrate:
    return batch_norm.Recalibrate(training_pictures(data, preprocessing, recipe), "epoch")


def training_pictures(data: Data, preprocessing: Preprocessing, recipe: Recipe) -> Watched:
    """The images of `training_batches` alone."""
    return Watched(training_batches(data, preprocessing, recipe), unwatched, "")


# ---- shared


def _batches(folder: Path, split: Split, preprocessing: Preprocessing) -> Batches:
    """In batches as in the run's training."""
    recipe = Run(folder).read_classifier().recipe
    size, seed = (recipe.batch_size, recipe.seed) if recipe else (BATCH, 0)
    return Batches(split, preprocessing, max(2, min(size, split.count)), seed)


def _positions(data: Data, labels: Sequence[str]) -> NDArray[Any] | None:
    """The network's index of each label of the data; None where the network does not have one of them."""
    if not set(data.labels) <= set(labels):
        return None
    return np.array([list(labels).index(label) for label in data.labels])


def _accuracy(
    model: keras.Model, split: Split, preprocessing: Preprocessing, truth: NDArray[Any] | None, watch: Watch
) -> float | None:
    return None if truth is None else _top_1(*evaluation.predict(model, split, preprocessing, watch), truth)


def _top_1(probabilities: NDArray[Any], labels: NDArray[Any], truth: NDArray[Any] | None) -> float | None:
    return None if truth is None else float(np.mean(probabilities.argmax(axis=1) == truth[labels]))


def _described(model: keras.Model, found: Population, batches: Batches, data_name: str) -> dict[str, Any]:
    """How the statistics came about, and how far the averages before are from them (see `batch_norm.distances`)."""
    return {
        "form": found.form,
        "data": data_name,
        "images": found.images,
        "batches": found.batches,
        "batch_size": found.batch_size,
        "order": f"shuffled by seed {batches.seed}",
        "layers": [
            {"name": layer.name, "moved": _root_mean_square(layer, found.statistics[layer.name])}
            for layer in batch_norm.layers_of(model)
            if layer.name in found.statistics
        ],
    }


def _root_mean_square(layer: keras.layers.Layer, found: Statistics) -> float:
    apart = batch_norm.distances(batch_norm.stored(layer), found, layer.epsilon)
    return float(np.sqrt(np.mean(np.square(apart))))
