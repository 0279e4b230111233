"""The figures of a trained network, or of several together, on labelled images."""

import gc
import json
import signal
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import sklearn.metrics
from numpy.typing import NDArray

from app import run_folder
from app.datasets import label_sets
from app.datasets.dataset import Split
from app.datasets.loading import held_out
from app.datasets.loading.held_out import HeldOut
from app.evaluation import calibration, several_labels
from app.evaluation.kept_answers import Answers, KeptAnswers
from app.images.preprocessing import Preprocessing
from app.networks import synsets
from app.pipeline.crops import COUNTS
from app.pipeline.input_pipeline import FEW, evaluation_batches, few_batches
from app.program import stopping
from app.program.errors import UserError
from app.program.progress import Watch, unwatched
from app.program.stopping import Request, Stopped
from app.run_folder import classifier, ensembles
from app.run_folder.folder import Run

BATCH = 32


def evaluate(
    folder: Path,
    data_name: str | None,
    watch: Watch = unwatched,
    *,
    others: Sequence[Path] = (),
    crops: int = 1,
    leave_out: Path | None = None,
) -> dict[str, Any]:
    """The figures (see `metrics`) of a finished run on its own test images, or on those of another data set (see
    `held_out.load`, also for `leave_out`).

    With `others` they are those of an ensemble (see `ensembles`), one network in memory at a time; `members` then lists
    `run`, `top_1`, `top_5` and `loss` of each alone. `crops` is how many crops of an image a network's answer is the
    mean of (see `crops`). Of a network that names several labels a picture they are those of `several_labels.metrics`.
    The run's temperature belongs to the answers that it was measured on: `calibrated` is None
    for an ensemble and for many crops. `names` are English ones of labels that are synsets, where any is.

    A long evaluation that was stopped goes on with the same call (see `kept_answers`).

    Raises:
        Stopped: SIGTERM or Ctrl-C asked for it, and the answers so far are kept.
        UserError: not a finished run; runs with different labels, or other labels than the data; bad data; a number of
            crops that nobody defined.
    """
    if crops not in COUNTS:
        raise UserError(f"--crops {crops} is none of {', '.join(map(str, COUNTS))}.")
    runs = [Run(path) for path in (folder, *others)]
    for run in runs if others else ():
        run.read_finished().check_one_label(run.folder, "an ensemble")
    thresholds = dict(zip(runs[0].read_finished().labels, runs[0].read_finished().thresholds, strict=False))
    first, *rest = ({*run.read_finished().labels} - {synsets.BACKGROUND} for run in runs)
    for run, labels in zip(runs[1:], rest, strict=True):
        ensembles.check_labels(run.folder, labels, runs[0].folder, first)
    data = held_out.load(runs, data_name, watch, leave_out)
    for run in runs:
        _check_data(data, run)
    mean = np.zeros((data.split.count, len(data.labels)))
    members = []
    is_long = data.split.count * crops * len(runs) > FEW
    kept = KeptAnswers.of_all(runs, data.split, data.labels, crops) if is_long else [None] * len(runs)
    for number, (run, place) in enumerate(zip(runs, kept, strict=True), start=1):
        probabilities, truth = _answers(run, data, crops, watch, place, number == len(runs))
        if thresholds:
            targets = label_sets.rows(data.label_sets, len(data.labels))[truth]
            wanted = [thresholds[label] for label in data.labels]
            figures = several_labels.metrics(probabilities, targets, data.labels, wanted)
            continue
        mean += probabilities / len(runs)
        temperature = _temperature(run) if crops == 1 and len(runs) == 1 else None
        figures = metrics(probabilities, truth, data.labels, temperature)
        members.append({"run": str(run.folder), **{key: figures[key] for key in ("top_1", "top_5", "loss")}})
    for place in kept:
        if place:
            place.forget()
    if others:
        figures = {**metrics(mean, truth, data.labels), "members": members}
    names = {label: name for label, name in runs[0].read_finished().names.items() if label in data.labels}
    return figures | {"names": names} if names else figures


def _check_data(data: HeldOut, run: Run) -> None:
    """Labels are found by name, whatever their order; a class for the background needs no images."""
    if data.label_sets and run.read_classifier().activation == "softmax":
        raise UserError(f"The pictures of {data.name} have several labels, and the network of {run.folder} names one.")
    wanted = {*run.read_classifier().labels} - ({synsets.BACKGROUND} - {*data.labels})
    if difference := classifier.compare_labels(sorted(data.labels), sorted(wanted)):
        raise UserError(
            f"{data.name} has other labels than {run.folder} was trained on ({difference}); name data of the same "
            "classes with --data."
        )


def _answers(
    run: Run, data: HeldOut, crops: int, watch: Watch, kept: KeptAnswers | None, is_last: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities in the order of the data's labels, and true labels. Nothing of the network stays in memory."""
    trained = run_folder.load(run.folder)
    probabilities, truth = predict(trained.model, data.split, trained.preprocessing, watch, crops, kept, is_last)
    columns = [trained.labels.index(label) for label in data.labels]
    del trained
    gc.collect()  # layers and the functions compiled of them refer to each other
    return probabilities[:, columns], truth


def _temperature(run: Run) -> float | None:
    """What the run's own figures were calibrated with; an import has none, nor has what was adapted without labels."""
    calibrated = json.loads(run.metrics.read_text()).get("calibrated") if run.metrics.is_file() else None
    return calibrated["temperature"] if calibrated else None


class Model(Protocol):
    """A Keras model, or what answers as one."""

    output_shape: tuple[int | None, ...]

    def predict_on_batch(self, images: Any) -> NDArray[Any]: ...


def predict(
    model: Model,
    split: Split,
    preprocessing: Preprocessing,
    watch: Watch = unwatched,
    crops: int = 1,
    kept: KeptAnswers | None = None,
    is_last: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities (count, classes) and true labels (count,) of every image of a split, in order. With many crops, the
    arithmetic mean of their probabilities. It goes on after what is `kept`, and keeps all in the end, unless `is_last`:
    then nothing follows that could be stopped.

    Raises:
        Stopped: with `kept` alone, when SIGTERM or Ctrl-C asked for it.
        KeyboardInterrupt: Ctrl-C asked for it, and nothing could be kept.
        UserError: probabilities that are not numbers, which no figure can be made of.
    """
    total = split.count * crops
    answers = np.zeros((split.count, int(model.output_shape[-1] or 0)))
    truth = np.zeros(split.count, np.int64)
    begun = kept.read() if kept else None
    first = len(begun.truth) if begun else 0
    if begun:
        answers[:first], truth[:first] = begun
    seen = first * crops
    if total <= FEW and crops == 1:
        batches = few_batches(split.in_order().skip(first), preprocessing, BATCH)
    else:
        batches = evaluation_batches(split, preprocessing, BATCH, crops, first=first).as_numpy_iterator()
    with stopping.requests() if kept else nullcontext(Request()) as request:
        for images, labels in watch(batches, -(-(total - seen) // BATCH), "Evaluating"):
            count = len(labels)
            # The last batch is filled up, and what fills it is not counted: another shape would be compiled anew.
            filling = np.zeros((BATCH - count, *images.shape[1:]), np.float32)
            found = model.predict_on_batch(np.concatenate([images, filling]) if count < BATCH else images)[:count]
            owners = np.arange(seen, seen + count) // crops
            np.add.at(answers, owners, found)
            truth[owners] = labels
            seen += count
            if kept and request.signal is not None:
                done = seen // crops  # of the next image some crops may have been seen
                if kept.write(Answers(answers[:done], truth[:done])):
                    raise Stopped(request.signal, done)
                break
    if seen < total and request.signal is not None:
        signal.raise_signal(request.signal)  # it ends as it would have without anything to keep
    if kept and not is_last:
        kept.write(Answers(answers, truth))
    assert seen == total, f"{seen} crops came, of {split.count} images times {crops}"
    if broken := int(np.isnan(answers).any(axis=1).sum()):
        raise UserError(
            f"The network's answers to {broken} of {split.count} images are not numbers: its training diverged. Train "
            "again into another folder, with a lower rate, as in --set optimizer.rate=0.005."
        )
    return answers / crops, truth


def fit_temperature(model: Model, validation: Split, preprocessing: Preprocessing, watch: Watch = unwatched) -> float:
    """The temperature that suits the answers to the validation images best (see `calibration.fit`)."""
    probabilities, truth = predict(model, validation, preprocessing, watch)
    return calibration.fit(calibration.logarithms(probabilities), truth)


def metrics(
    probabilities: NDArray[Any], truth: NDArray[Any], labels: Sequence[str], temperature: float | None = None
) -> dict[str, Any]:
    """`top_1`, `balanced_accuracy` (the mean recall of the classes that have images), `top_5` (shares in 0..1), `loss`
    (mean cross-entropy, nats), `count`, `ece` (expected calibration error, 0..1), `calibrated`, `per_class`,
    `confusion`.

    `calibrated` is None, or the `temperature` that was given, and `loss` and `ece` with it. `per_class` maps a label to
    precision, recall, f1 and count; `confusion[i][j]` counts images of class i taken for class j.
    """
    probabilities = probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # float32 softmax: off by 1e-7, which log_loss rejects
    indices = range(len(labels))
    best = np.argsort(-probabilities, axis=1, kind="stable")
    precision, recall, f1, count = sklearn.metrics.precision_recall_fscore_support(
        truth, best[:, 0], labels=indices, zero_division=0.0
    )
    per_class = {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "count": int(n)}
        for label, p, r, f, n in zip(labels, precision, recall, f1, count, strict=True)
    }
    calibrated = None
    if temperature is not None:
        softened = calibration.scaled(probabilities, temperature)
        calibrated = {"temperature": temperature, **_loss_and_ece(softened, truth)}
    return {
        "top_1": float(np.mean(best[:, 0] == truth)),
        "balanced_accuracy": float(recall[count > 0].mean()),
        "top_5": float(np.mean((best[:, :5] == truth[:, np.newaxis]).any(axis=1))),
        **_loss_and_ece(probabilities, truth),
        "count": len(truth),
        "calibrated": calibrated,
        "per_class": per_class,
        "confusion": sklearn.metrics.confusion_matrix(truth, best[:, 0], labels=indices).tolist(),
    }


def _loss_and_ece(probabilities: NDArray[np.float64], truth: NDArray[Any]) -> dict[str, float]:
    """The figures that depend on the probabilities themselves, not on their order alone."""
    return {
        "loss": float(sklearn.metrics.log_loss(truth, probabilities, labels=range(probabilities.shape[1]))),
        "ece": calibration.expected_error(probabilities, truth),
    }
