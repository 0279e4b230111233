"""Labels that may be wrong: those that a network which has not learnt them believes least.

Confident learning (Northcutt, Jiang and Chuang 2021, 1911.00068) as cleanlab has it: pictures are ranked by the
probability of their label, and so many of each class held for mislabelled, the least believed, as are surely taken for
others: surer than the network is of these classes' own pictures on average. Both need probabilities of pictures that
were not trained on.
"""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

import keras
import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app import run_folder
from app.datasets import loading
from app.datasets.dataset import Data, ImageFile, Picture
from app.datasets.files import folding, manifests
from app.datasets.files.image_files import FileSplit
from app.evaluation import evaluating
from app.images.preprocessing import Preprocessing
from app.program import paths
from app.program.errors import UserError
from app.program.files import whole
from app.program.progress import Watch, unwatched
from app.run_folder import classifier, out_of_fold
from app.run_folder.folder import Run

FOLDS = 5  # of cross-fitting
STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # C of scikit-learn's logistic regression, the strictest first


class Suspect(NamedTuple):
    """A picture and its label: what the network believes of that and of the class it takes it for, 0 to 1; whether
    confident learning holds the label for wrong."""

    file: ImageFile
    believed: float
    suggested: str
    probability: float
    is_likely: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "file": str(self.file.path),
            "label": self.file.label,
            "believed": self.believed,
            "suggested": self.suggested,
            "probability": self.probability,
            "likely": self.is_likely,
        }


class Ranking(NamedTuple):
    """The training and validation images of `data`, the least believed label first; `unranked` are so many of them
    that the network says nothing of. `way` says how the probabilities were had, for a sentence."""

    data: Data
    suspects: tuple[Suspect, ...]
    unranked: int
    way: str
    preprocessing: Preprocessing

    @property
    def likely(self) -> list[Suspect]:
        """Those that confident learning holds for mislabelled, in order."""
        return [suspect for suspect in self.suspects if suspect.is_likely]

    def first(self, count: int) -> FileSplit:
        """The images of the first so many."""
        chosen = self.suspects[:count]
        return FileSplit(tuple(str(suspect.file.path) for suspect in chosen), (0,) * len(chosen))


def find(name: str, source: Path, watch: Watch = unwatched) -> Ranking:
    """Ranks the data set `name`, but not its test images: whoever mended these by what a network says would make its
    figures too good.

    `source` is a folder of folds, whose networks answer for the pictures that each has not seen; or a run, whose
    features of all pictures are cross-fitted: a logistic regression for every fold, on those of the others. The run may
    have learnt other classes.

    Raises:
        UserError: bad data, or data without files or with several labels a picture; too few pictures to be
            cross-fitted; folds that are not finished, know other classes, or none of the images.
    """
    if paths.is_prepared(name):
        raise UserError(f"{name} has no files to mend labels of: --with is for a folder or a manifest.")
    folds = [Run(folder) for folder in paths.runs_in(source)]
    run = folds[0] if folds else Run(source)
    known = run.read_finished()
    data = loading.load(name, watch, None if folds else run.quarantine_of(name))
    if data.label_sets:
        raise UserError(f"--with judges one label a picture, and in {name} some have several; leave it out.")
    manifests.check_labels(name, data.labels, "--with")
    pictures = [Picture(*one) for one in zip(data.files, data.known, strict=True) if one[0].split != "test"]
    if folds:
        found = _out_of_fold(folds, source, data)
        ranked = [one.file for one in pictures if str(one.file.path.absolute()) in found]
        if not ranked:
            raise UserError(f"The folds in {source} know none of the images of {name}; they were trained on others.")
        probabilities = np.array([found[str(file.path.absolute())] for file in ranked])
        way = f"out of fold, by {source}"
    else:
        ranked = [one.file for one in pictures]
        places = np.array(folding.folds(pictures, FOLDS))
        given = np.array([data.labels.index(file.label) for file in ranked])
        if any(len({*given[places != fold]}) < 2 for fold in {*places}):
            raise UserError(f"{name} has too few different pictures to judge their labels: give each class more.")
        probabilities = _cross_fitted(_features(source, data, watch), given, places, len(data.labels), watch)
        way = f"cross-fitted on the features of {source}"
    suspects = rank(ranked, probabilities, data.labels)
    return Ranking(data, suspects, len(pictures) - len(ranked), way, known.preprocessing)


def rank(files: Sequence[ImageFile], probabilities: NDArray[Any], labels: Sequence[str]) -> tuple[Suspect, ...]:
    """The least believed first. `probabilities` are (files, labels), of networks that did not learn these files."""
    given = np.array([labels.index(file.label) for file in files])
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are nowhere given, which is no fault of the user's
        believed = get_label_quality_scores(given, probabilities, method="self_confidence")
        is_likely = find_label_issues(given, probabilities, filter_by="low_self_confidence", n_jobs=1)
    best = probabilities.argmax(axis=1)
    return tuple(
        Suspect(
            files[i],
            float(believed[i]),
            labels[best[i]],
            float(probabilities[i, best[i]]),
            bool(is_likely[i] and best[i] != given[i]),
        )
        for i in np.argsort(believed, kind="stable")
    )


def write_lists(ranking: Ranking, folder: Path) -> None:
    """Writes wrong_labels.csv, all labels from the least believed on, and corrected.csv, a manifest in the same order
    to be edited: it has the labels as they are, and a column `suggested` where one is likely wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / "wrong_labels.csv") as beside, _text(beside, "w") as content:
        rows = csv.writer(content)
        rows.writerow(("file", "label", "believed", "suggested", "probability", "likely wrong"))
        for one in ranking.suspects:
            numbers = f"{one.believed:.6g}", one.suggested, f"{one.probability:.6g}"
            rows.writerow((one.file.path.absolute(), one.file.label, *numbers, "yes" if one.is_likely else ""))
    suggested = {one.file: one.suggested for one in ranking.likely}
    ranked = [one.file for one in ranking.suspects]
    seen = {*ranked}
    files = [*ranked, *(file for file in ranking.data.files if file not in seen)]
    with whole(folder / "corrected.csv") as beside:
        manifests.write(beside, files)
        with _text(beside, "r") as content:
            header, *lines = csv.reader(content)
        with _text(beside, "w") as content:
            rows = csv.writer(content)
            rows.writerow((*header, "suggested"))
            rows.writerows((*line, suggested.get(file, "")) for line, file in zip(lines, files, strict=True))


def _text(path: Path, mode: Literal["r", "w"]) -> TextIO:
    return path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")


def _out_of_fold(folds: Sequence[Run], source: Path, data: Data) -> dict[str, NDArray[Any]]:
    """What the folds say of the pictures that each has not seen, by their paths, in the order of the data's labels."""
    lacking = [run.folder.name for run in folds if not run.out_of_fold.is_file()]
    if len(lacking) == len(folds):
        raise UserError(f"{source} is a folder of runs, but not of folds; name one of them, as in {folds[0].folder}.")
    if lacking:
        names = ", ".join(lacking)
        raise UserError(f"The folds {names} of {source} are not finished; the same `train --folds` goes on.")
    found: dict[str, NDArray[Any]] = {}
    for run in folds:
        answers = out_of_fold.read(run.out_of_fold)
        if difference := classifier.compare_labels(sorted(data.labels), sorted(answers.classes)):
            raise UserError(f"{data.name} has other classes than {source} was trained on ({difference}).")
        columns = [answers.classes.index(label) for label in data.labels]
        found |= dict(zip(answers.files, answers.probabilities[:, columns], strict=True))
    return found


def _features(run: Path, data: Data, watch: Watch) -> NDArray[np.float64]:
    """(images, features) of training and validation: what the network's classifier is given."""
    trained = run_folder.load(run)
    head = next(layer for layer in reversed(trained.model.layers) if isinstance(layer, keras.layers.Dense))
    network = keras.Model(trained.model.input, head.input)
    splits = (data.train, data.validation)
    return np.concatenate([evaluating.predict(network, split, trained.preprocessing, watch)[0] for split in splits])


def _cross_fitted(
    features: NDArray[Any], given: NDArray[np.int64], places: NDArray[np.int64], classes: int, watch: Watch
) -> NDArray[np.float64]:
    """Probabilities (pictures, classes), each by a logistic regression that has not seen the picture, or one that shows
    the same. `given` are the numbers of their labels, `places` their folds; the first fold chooses how strict all are,
    by their cross-entropy. Of few pictures some folds are empty."""
    found = np.zeros((len(given), classes))

    def fitted(fold: int, strength: float) -> NDArray[np.float64]:
        kept, out = places != fold, places == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it stops near enough
            model.fit(features[kept], given[kept])
        answers = np.zeros((int(out.sum()), classes))
        answers[:, model.classes_] = model.predict_proba(features[out])
        return answers

    best, strength, least = np.zeros(0), STRENGTHS[0], np.inf
    for tried in STRENGTHS:
        answers = fitted(0, tried)
        loss = log_loss(given[places == 0], answers, labels=range(classes))
        if loss >= least:
            break
        best, strength, least = answers, tried, loss
    found[places == 0] = best
    others = sorted({*places} - {0})
    for fold in watch(others, len(others), "Cross-fitting"):
        found[places == fold] = fitted(fold, strength)
    return found
