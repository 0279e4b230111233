"""A classifier for more classes than the one it begins with: what it keeps of these, and how much it forgets."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app import run_folder
from app.datasets import loading
from app.datasets.files import manifests
from app.evaluation import evaluating
from app.program.errors import UserError
from app.program.files import digest, write_json
from app.program.progress import Watch, console
from app.program.shown import counted
from app.run_folder.classifier import Classifier, Origin
from app.run_folder.folder import Run
from app.run_folder.trained import Trained

NAMED = 5  # classes in a sentence


def keep(layer: keras.layers.Layer, before: keras.layers.Layer, old: Sequence[str], new: Sequence[str]) -> None:
    """Gives a dense layer, whose outputs are the classes `new`, what the layer `before` has for the `old` ones of the
    same names: kernel columns and biases. On a map of another size it has nothing to keep."""
    kept = [label for label in new if label in old]
    values, known = layer.get_weights(), before.get_weights()
    if not kept or len(values[0]) != len(known[0]):
        return
    there, here = [old.index(label) for label in kept], [new.index(label) for label in kept]
    for value, one in zip(values, known, strict=True):
        value[..., here] = one[..., there]
    layer.set_weights(values)


def say(start: Path, new: Sequence[str]) -> None:
    """Which classes of the run `start` are kept, which are new and which are gone; nothing where none is kept."""
    old = Run(start).read_classifier().labels
    if kept := [label for label in old if label in new]:
        said = (
            ("new", [label for label in new if label not in old]),
            ("gone", [label for label in old if label not in new]),
        )
        others = "".join(f"; {what}: {_named(labels)}" for what, labels in said if labels)
        console.print(
            f"The classifier begins with what {start} knows of {counted(len(kept), 'class', 'classes')}{others}"
        )


def _named(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - NAMED} more" if labels[NAMED:] else ""
    return ", ".join(repr(label) for label in labels[:NAMED]) + more


def measure(run: Run, classifier: Classifier, trained: Trained, watch: Watch) -> None:
    """Writes old_classes.json of a run that began with another: how many of that one's test images, of the classes that
    both have, each names right. Those that were trained on now are left out. What cannot be measured is said."""
    origin = classifier.origin
    if origin is None or origin.source is not None:
        return
    try:
        found = _measured(run, origin, trained, watch)
    except UserError as error:
        console.print(f"How well the classes of {origin.path} are still known was not measured. {error}")
        return
    if found:
        write_json(run.old_classes, found)
        taken = counted(found["taken_for_new"], "is", "are")
        console.print(
            f"Of {counted(found['count'], 'test image', 'test images')} of {found['data']} in the old classes "
            f"{found['before']:.1%} were named right before, and {found['after']:.1%} are now; {taken} taken for new "
            "classes."
        )


def _measured(run: Run, origin: Origin, trained: Trained, watch: Watch) -> dict[str, Any] | None:
    old = Run(Path(origin.path))
    if not {*old.read_classifier().labels} & {*trained.labels}:
        return None
    if not old.is_finished or digest(old.model) != origin.sha256:
        raise UserError(f"{old.model} is not the network any more that the training began with.")
    data = loading.of_run(old, watch)
    if data.label_sets:
        raise UserError(f"{data.name} has several labels a picture.")
    before = run_folder.load(old.folder)
    answers, truth = evaluating.predict(before.model, data.test, before.preprocessing, watch)
    now, _ = evaluating.predict(trained.model, data.test, trained.preprocessing, watch)
    labels = np.array(data.labels)[truth]
    right = {
        "before": np.array(before.labels)[answers.argmax(axis=1)] == labels,
        "after": (said := np.array(trained.labels)[now.argmax(axis=1)]) == labels,
    }
    learnt = {picture.shown for picture in manifests.read_pictures(run.split) if picture.file.split == "train"}
    shown = [known.picture for file, known in zip(data.files, data.known, strict=True) if file.split == "test"]
    is_unseen = np.array([picture not in learnt for picture in shown] or [True] * len(truth))
    is_kept = np.isin(labels, trained.labels)
    counted_ = is_kept & is_unseen
    if not counted_.any():
        raise UserError(f"All test images of {data.name} in these classes were trained on now.")

    def shares(which: Any) -> dict[str, Any]:
        return {"count": int(which.sum()), **{when: float(of[which].mean()) for when, of in right.items()}}

    return {
        "run": origin.path,
        "data": data.name,
        **shares(counted_),
        "taken_for_new": int((~np.isin(said, before.labels) & counted_).sum()),
        "trained_on": int((is_kept & ~is_unseen).sum()),
        "classes": {label: shares(counted_ & (labels == label)) for label in _in(labels[counted_], data.labels)},
    }


def _in(some: Iterable[str], order: Sequence[str]) -> list[str]:
    there = {*some}
    return [label for label in order if label in there]
