"""Run folders with new statistics: repaired, or moved to another domain."""

import dataclasses
import json
import math
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app import run_folder
from app.batch_norm import measuring, population
from app.batch_norm.batches import Batches, DecodedOnce, Joined, Watched, batches_of_run, positions
from app.batch_norm.measuring import Population
from app.batch_norm.report import description
from app.datasets import loading
from app.datasets.dataset import Split
from app.datasets.files import folders
from app.evaluation import evaluating, own_figures, strangeness
from app.images.preprocessing import Preprocessing
from app.program import paths, remote
from app.program.errors import UserError
from app.program.files import write_json
from app.program.progress import Watch, console, unwatched
from app.reports import run_report
from app.run_folder.folder import Run

# Images. The mean of n values is off by 1 / sqrt(n) of a deviation: of 8 by a third, and fewer are refused.
FEWEST = 8
# Of top-1. An adapted network that is worse than the run on its own test images by more than this is told why.
POOR = 0.1


def recalibrate(folder: Path, data_name: str, exact: bool = False, watch: Watch = unwatched) -> dict[str, Any]:
    """Rewrites a run's model.keras with the statistics of DATA's training images, and its figures on its test images:
    all is measured first, and exchanged together.

    `before` and `after` (top-1 on DATA's test images, None without labels), and what was measured (see
    `report.description`): for the paper's form with the `spread` over two splits. The same goes
    into the run's batch_norm.json.

    Raises:
        UserError: not a finished run; data other than the run's own; see `population.population`. The run folder is
            then as it was.
    """
    run, trained = Run(folder), run_folder.load(folder)
    record = run.read_classifier().data
    data = loading.load(data_name, watch, run.quarantine_of(data_name))
    if record and data.fingerprint != record.fingerprint:
        raise UserError(
            f"{data_name} is not what {folder} was trained on; `batch-norm adapt "
            f"{shlex.join((str(folder), data_name))} --to RUN2` takes the statistics of other images and keeps this "
            "run."
        )
    truth = positions(data, trained.labels)
    batches = batches_of_run(folder, data.train, trained.preprocessing)
    found = _measured(trained.model, batches, exact, watch)
    before = _accuracy(trained.model, data.test, trained.preprocessing, truth, watch)
    result = description(trained.model, found, batches, data_name)
    if not exact:
        result["spread"] = _spread(trained.model, found, batches, watch)
    population.adopt(trained.model, found)
    own = own_figures.measure(trained, data, watch) if record and run.metrics.is_file() else None
    if own:
        after = _top_1(own.probabilities, own.truth, truth)
    else:
        after = _accuracy(trained.model, data.test, trained.preprocessing, truth, watch)
    result |= {"before": before, "after": after}
    with run.exchanged() as beside:
        new = Run(beside)
        trained.model.save(new.model)
        write_json(new.batch_norm, result)
        if own:
            figures, probabilities, labels, known, strange = own
            strangeness.write(new, known)
            classifier = run.read_classifier()
            run_report.write(run, classifier, figures, probabilities, labels, data.test, new.report, strange)
            write_json(new.metrics, figures)
    return result


def _measured(model: keras.Model, batches: Batches, exact: bool, watch: Watch) -> Population:
    count = min(batches.split.count, batches.most)
    if count < FEWEST:
        raise UserError(
            f"{count} images are too few for statistics: their mean would be off by {1 / math.sqrt(max(1, count)):.2f} "
            f"of a deviation. Take {FEWEST} or more."
        )
    with DecodedOnce(batches) as several_times:
        return population.population(model, Watched(several_times if exact else batches, watch, "Measuring"), exact)


def _spread(model: keras.Model, found: Population, batches: Batches, watch: Watch) -> dict[str, Any]:
    """How far the paper's form moves when the same images come in batches of half the size: per channel and in
    deviations, at the median and at worst."""
    size = batches.size // 2
    if size < 2:
        return {}
    halves = dataclasses.replace(batches, size=size)
    other = population.population(model, Watched(halves, watch, "Measuring the spread"))
    apart = {
        layer.name: population.distances(other.statistics[layer.name], found.statistics[layer.name], layer.epsilon)
        for layer in measuring.layers_of(model)
        if layer.name in found.statistics
    }
    worst = max(apart, key=lambda name: float(apart[name].max()))
    return {
        "batch_size": size,
        "median": float(np.median(np.concatenate(list(apart.values())))),
        "worst": float(apart[worst].max()),
        "layer": worst,
    }


def adapt(folder: Path, data_name: str, to: Path, exact: bool = False, watch: Watch = unwatched) -> dict[str, Any]:
    """Writes the run folder `to`: the network of the run `folder` with the statistics of all images of DATA, a new
    domain (section 5 of the paper; https://arxiv.org/abs/1603.04779). Labels are not looked at; where there are some,
    `before` and `after` are the accuracies on the same images, which are also what is not strange to it from then on.
    DATA may be a folder of images without class folders.

    Raises:
        UserError: not a finished run; `to` exists; bad data; see `population.population`. No folder is left then.
    """
    run, trained = Run(folder), run_folder.load(folder)
    if to.exists():
        raise UserError(f"{to} exists; choose another --to. Nothing in it was touched.")
    split, truth = _domain(data_name, trained.labels, watch)
    batches = batches_of_run(folder, split, trained.preprocessing)
    found = _measured(trained.model, batches, exact, watch)
    before = _accuracy(trained.model, split, trained.preprocessing, truth, watch)
    population.adopt(trained.model, found)
    reading = strangeness.Reading(trained.model, count=split.count)
    after = _top_1(*evaluating.predict(reading, split, trained.preprocessing, watch), truth)
    result = description(trained.model, found, batches, data_name)
    result |= {"before": before, "after": after, "note": _note(before, after, run)}
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}-", dir=to.parent) as beside:
        adapted = Run(Path(beside) / to.name)
        adapted.folder.mkdir()
        trained.model.save(adapted.model)
        strangeness.write(adapted, reading.fit())
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
    root = Path(data_name) if paths.is_prepared(data_name) else remote.fetched(data_name, watch)
    if root.is_dir():
        known = {*labels, *folders.NAMES["train"]}
        if not any(inner.is_dir() and (inner.name in known or inner.name.lower() in known) for inner in root.iterdir()):
            split, unreadable = folders.unlabelled(root, watch)
            for file, reason in unreadable:
                console.print(f"left out: {file}: {reason}")
            return split, None
    data = loading.load(data_name, watch)
    return Joined((data.train, data.validation, data.test)), positions(data, labels)


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


def _accuracy(
    model: keras.Model, split: Split, preprocessing: Preprocessing, truth: NDArray[Any] | None, watch: Watch
) -> float | None:
    return None if truth is None else _top_1(*evaluating.predict(model, split, preprocessing, watch), truth)


def _top_1(probabilities: NDArray[Any], labels: NDArray[Any], truth: NDArray[Any] | None) -> float | None:
    return None if truth is None else float(np.mean(probabilities.argmax(axis=1) == truth[labels]))
