"""Cross-validation: runs that each hold another part of the pictures out, and how much their figures differ."""

import json
import statistics
from pathlib import Path
from typing import Any

from app import run_folder
from app.datasets import loading
from app.datasets.dataset import Data, Picture
from app.datasets.files import folding, manifests
from app.datasets.files.image_files import FileSplit
from app.evaluation import evaluating
from app.program import progress
from app.program.errors import UserError
from app.program.files import write_json
from app.program.progress import Watch, console
from app.recipe import Recipe
from app.reports import folds as page
from app.run_folder import out_of_fold
from app.run_folder.folder import Run
from app.training import automatic, training
from app.training.devices.devices import Devices


def train(
    count: int,
    data: str,
    network: str | None,
    to: Path,
    recipe: Recipe,
    watch: Watch = progress.unwatched,
    start: Path | None = None,
    quarantine: Path | None = None,
    deterministic: bool = False,
    devices: Devices | None = None,
    extend: bool = False,
) -> list[Run]:
    """Divides all pictures of `data` but those of its test split into so many parts, and trains a run in `to`/1, `to`/2
    ... for each, whose own test it is; the same call again goes on. All else is as for `training.train`.

    The manifests of the runs are `to`/1.csv ..., what each says of its part is its out_of_fold.csv, and the figures of
    all are in folds.json (see `summary`) and report.html.

    Raises:
        UserError: a class with fewer pictures than folds; several labels a picture; `to` is a run itself, or holds
            folds of other data; what `training.train` raises.
    """
    if Run(to).classifier.exists():
        raise UserError(f"{to} is a run; choose another --to for {count} folds.")
    devices = devices or Devices()
    runs = [Run(to / str(number)) for number in range(1, count + 1)]
    recipe = automatic.as_begun(recipe, runs[0])
    for run in runs:
        training.check(network, run.folder, recipe, start, devices, extend)
    lists = [to / f"{run.folder.name}.csv" for run in runs]
    loaded = loading.load(data, watch, quarantine, next((file for file in lists if file.is_file()), None))
    if loaded.label_sets:
        raise UserError(f"--folds is for one label a picture, and in {data} some have several; leave it out.")
    manifests.check_labels(data, loaded.labels, "--folds")
    _write_manifests(lists, loaded)
    for number, (run, manifest) in enumerate(zip(runs, lists, strict=True), start=1):
        console.print(f"Fold {number} of {count}")
        part = loading.load(str(manifest), watch, None, manifest)
        training.train(part, network, run.folder, recipe, watch, start, None, deterministic, devices, extend)
        recipe = automatic.as_begun(recipe, runs[0])  # measured anew, others would not be the same training
        if devices.is_chief:
            _keep_answers(run, part, watch)
    if devices.is_chief:
        found = summary(runs, data, loaded.test.count)
        page.write(to, found)
        write_json(to / "folds.json", found)
    return runs


def _write_manifests(lists: list[Path], data: Data) -> None:
    pictures = [Picture(*one) for one in zip(data.files, data.known, strict=True) if one[0].split != "test"]
    folding.check(data.name, pictures, len(lists))
    lists[0].parent.mkdir(parents=True, exist_ok=True)
    for file, members in zip(lists, folding.divided(pictures, len(lists)), strict=True):
        wanted = {(str(one.file.path.absolute()), one.file.label, one.file.split) for one in members}
        there = {(str(one.file.path), one.file.label, one.file.split) for one in manifests.read_pictures(file)}
        if there not in (set(), wanted):
            raise UserError(
                f"{file.parent} holds folds of other data than {data.name} as it is now, or another number of them; "
                "choose another --to."
            )
        if not there:
            manifests.write(file, [one.file for one in members], [one.known for one in members])


def _keep_answers(run: Run, data: Data, watch: Watch) -> None:
    """Writes out_of_fold.csv, where that is not there or of an older network."""
    kept = run.out_of_fold
    if kept.is_file() and kept.stat().st_mtime_ns >= run.model.stat().st_mtime_ns:
        return
    assert isinstance(data.test, FileSplit)
    trained = run_folder.load(run.folder)
    probabilities, truth = evaluating.predict(trained.model, data.test, trained.preprocessing, watch)
    labels = tuple(data.labels[label] for label in truth)
    out_of_fold.write(kept, out_of_fold.Answers(data.test.paths, labels, trained.labels, probabilities))


def summary(runs: list[Run], data: str, test: int) -> dict[str, Any]:
    """`data`, how many images of its `test` split no fold has seen, `folds`: `run` and figures of each, and `mean` and
    `deviation` of these: of a sample, with count - 1. `recall` is that of each class."""
    folds: list[dict[str, Any]] = []
    for run in runs:
        figures = json.loads(run.metrics.read_text())
        numbers = {key: value for key, value in figures.items() if isinstance(value, float | int)}
        if len(figures["per_class"]) <= 5:
            del numbers["top_5"]
        recall = {label: row["recall"] for label, row in figures["per_class"].items()}
        folds.append({"run": run.folder.name, **numbers, "recall": recall})
    keys = [key for key in folds[0] if key not in ("run", "count", "recall") and all(key in fold for fold in folds)]
    found: dict[str, Any] = {"data": data, "test": test, "folds": folds}
    for name, of in (("mean", statistics.fmean), ("deviation", statistics.stdev)):
        found[name] = {key: of([fold[key] for fold in folds]) for key in keys}
        found[name]["recall"] = {label: of([fold["recall"][label] for fold in folds]) for label in folds[0]["recall"]}
    return found
