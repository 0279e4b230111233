"""Going on with a training: where pictures or versions are not what they were when it began."""

import dataclasses
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from app.datasets import label_sets, loading
from app.datasets.changes import changes, pictures
from app.datasets.dataset import Data, Picture
from app.datasets.files import image_files, manifests
from app.datasets.files.image_files import FileSplit
from app.program.errors import UserError
from app.program.progress import Watch, console
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run
from app.training import failures
from app.training.beginning import end, record_of


def as_begun(run: Run, data: Data, quarantine: Path | None) -> Data:
    """`data` with the order that the training in `run` began with, where pictures are missing that `quarantine` names:
    the place of each in the training split is taken by the next of its class, so that all others come in the steps, and
    augmented, as they would have come. Its fingerprint is that of the beginning. Other data is returned as it is. A
    finished run needs none of its pictures any more, once it has its figures.

    Raises:
        UserError: pictures are missing, added or changed that no list names.
    """
    begun = run.read_classifier()
    record = begun.data
    if record is None or record.fingerprint == data.fingerprint or begun.labels != data.labels:
        return data
    before, now = manifests.read_pictures(run.split), pictures(data)
    if not before:
        return data
    kept = {_key(picture) for picture in now}
    lost = [picture for picture in before if _key(picture) not in kept]
    named = image_files.named_in(quarantine, data.name) if quarantine else frozenset()
    only_lost = lost and len(before) - len(lost) == len(now)
    can_do_without = not run.is_finished or run.metrics.is_file()
    if can_do_without and only_lost and all(os.path.abspath(picture.file.path) in named for picture in lost):
        train = [picture for picture in before if picture.file.split == "train"]
        return dataclasses.replace(data, train=_filled(train, kept, data), fingerprint=record.fingerprint)
    found = changes(before, now)
    if not found:  # another label, which is found by its name, or a list that somebody has changed
        return data
    way = "bring back what was there, or choose another --to"
    if only_lost and not run.is_finished:
        listed = failures.write_list([picture.file.path for picture in lost], run)
        way += f"; with --quarantine {listed}, a list of what was removed, the training goes on without"
    raise UserError(
        f"The images of {data.name} are not those that {run.folder} was begun with: {found}. To go on, {way}."
    )


def still_there(
    run: Run, data: Data, classifier: Classifier, quarantine: Path | None, watch: Watch
) -> tuple[Data, Classifier]:
    """`data` and its description after the last step, without the pictures that can be read no more: figures can be
    made of the others, and a trained network is not to be lost for one."""
    if all(picture.known.is_at(picture.file.path) for picture in pictures(data)):
        return data, classifier
    try:
        now = loading.load(data.name, watch, quarantine, run.split)
    except UserError:
        return data, classifier  # whoever reads it says what is wrong
    kept = {_key(picture) for picture in pictures(now)}
    lost = [picture for picture in pictures(data) if _key(picture) not in kept]
    if not lost or len(now.files) + len(lost) != len(data.files) or now.labels != data.labels:
        return data, classifier
    console.print(f"Figures and golden images are of the rest: {changes(lost, [])}")
    classifier = classifier.model_copy(update={"data": record_of(now)})
    end(run, classifier, now)
    return now, classifier


def carried(folder: Path, begun: Classifier, wanted: Classifier) -> Classifier:
    """The description of a training that goes on, with what it was before. Says once where it goes on under other
    versions, which may compute other bits."""
    before = begun.versions_before
    if begun.versions != wanted.versions:
        before = (*before, begun.versions)
        others = (
            f"{name} {version} (before: {begun.versions.get(name, 'none')})"
            for name, version in wanted.versions.items()
            if version != begun.versions.get(name)
        )
        console.print(f"{folder} goes on under other versions, and may end with other figures: {', '.join(others)}")
    return wanted.model_copy(update={"versions_before": before, "extended": begun.extended})


def _filled(train: Sequence[Picture], kept: set[tuple[str, ...]], data: Data) -> FileSplit:
    def place(number: int) -> Picture:
        mine = train[number]
        if _key(mine) in kept:
            return mine
        others = [one for one in itertools.chain(train[number + 1 :], train[:number]) if _key(one) in kept]
        # Each class has a picture to train on: without one the data could not have been loaded. A combination of
        # several labels may have none.
        return next((other for other in others if other.file.label == mine.file.label), others[0])

    taken = [place(number) for number in range(len(train))]
    places = {text: number for number, text in enumerate(label_sets.texts(data.labels, data.label_sets))}
    return FileSplit(tuple(str(one.file.path) for one in taken), tuple(places[one.file.label] for one in taken))


def _key(picture: Picture) -> tuple[str, ...]:
    file = picture.file
    return os.path.abspath(file.path), file.label, str(file.split), picture.known.encoded
