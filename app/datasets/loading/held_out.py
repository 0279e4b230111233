"""The labelled images that networks are evaluated on: none that one of them has seen in training."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from app.datasets import label_sets, loading
from app.datasets.dataset import Data, Listing, Split, labels_of
from app.datasets.files import deciding, image_files, imagenet, manifests
from app.datasets.files.image_files import FileSplit
from app.datasets.label_sets import LabelSets
from app.datasets.loading.named import changed
from app.networks import synsets
from app.program import remote
from app.program.errors import UserError
from app.program.paths import PUBLISHED, is_prepared
from app.program.progress import Watch, console
from app.program.shown import counted
from app.run_folder.folder import Run


class HeldOut(NamedTuple):
    """`shown` are the hashes of what the images show, where these are files, by their paths; `label_sets` as of
    `Data`."""

    name: str
    labels: tuple[str, ...]
    split: Split
    shown: Mapping[str, str] = {}
    label_sets: LabelSets = ()


def load(runs: Sequence[Run], data_name: str | None, watch: Watch, leave_out: Path | None = None) -> HeldOut:
    """The test images of the data set, or of that which all runs were trained on. Says how many of them one of the runs
    was trained on, as far as split.csv tells.

    Networks that were imported have seen none of it: where the data has no test split, its validation split is taken,
    and where it has no splits, all of it. `leave_out` lists files not to take (see `without`).

    Raises:
        UserError: runs without common data, and none named; bad data (see `loading.load`); the runs' own data changed
            since the training; a list that does not fit.
    """
    name = data_name or _common_name(runs)
    trained = [run for run in runs if run.read_classifier().data]
    if trained and not imagenet.is_flat(remote.fetched(name, watch)):
        found = _test_images(trained, name, data_name is None, watch)
    else:
        found = _unseen(name, watch)
    if leave_out:
        found = found._replace(split=without(found, leave_out))
    _report_seen(runs, found)
    return found


def _test_images(trained: Sequence[Run], name: str, is_own: bool, watch: Watch) -> HeldOut:
    """Only these are read where somebody has said which they are, and it does not matter what the others are."""
    quarantine = trained[0].quarantine_of(name)
    if not is_own and not is_prepared(name):
        listing = loading.listing(name, watch)
        if any(file.split == "test" for file in listing.files):
            left_out = image_files.quarantined(quarantine, listing) if quarantine else frozenset()
            labels = labels_of(listing.files)
            return _of_files(name, listing, labels, "test", watch, left_out)
    data = loading.load(name, watch, quarantine, trained[0].split)
    if is_own:
        _check_unchanged(trained, data)
    shown = {str(file.path): str(known.picture) for file, known in zip(data.files, data.known, strict=True)}
    return HeldOut(data.name, data.labels, data.test, shown, data.label_sets)


def _report_seen(runs: Sequence[Run], data: HeldOut) -> None:
    if not isinstance(data.split, FileSplit) or not data.shown:
        return
    there = [data.shown[path] for path in data.split.paths]
    found = []
    every: set[str] = set()
    for run in runs:
        seen = _trained_on(run)
        every |= seen
        if count := sum(shown in seen for shown in there):
            found.append(f"{count} by {run.folder}")
    if found:
        count = sum(shown in every for shown in there)
        console.print(
            f"{count:,} of the {counted(len(there), 'image', 'images')} of {data.name} "
            f"{'was' if count == 1 else 'were'} trained on, so the figures are too good: {', '.join(found)}. "
            "--leave-out takes a list of files not to count."
        )


def _trained_on(run: Run) -> set[str]:
    """The hashes of what the training images of a run show, and of the runs that it began with; empty where no file
    says so."""
    found: set[str] = set()
    folders: set[Path] = set()
    while run.folder not in folders:
        folders.add(run.folder)
        found |= {picture.shown for picture in manifests.read_pictures(run.split) if picture.file.split == "train"}
        origin = run.read_classifier().origin if run.classifier.is_file() else None
        if origin and origin.source is None:
            run = Run(Path(origin.path))
    return found


def _common_name(runs: Sequence[Run]) -> str:
    names = {}
    for run in runs:
        record = run.read_classifier().data
        if record is None:
            raise UserError(f"{run.folder} was imported and has no data of its own; name some with --data.")
        names[record.found_at] = run.folder
    if len(names) > 1:
        (one, first), (other, second), *_ = names.items()
        raise UserError(f"{first} was trained on {one} and {second} on {other}; name the data with --data.")
    return next(iter(names))


def _check_unchanged(runs: Sequence[Run], data: Data) -> None:
    for run in runs:
        record = run.read_classifier().data
        if record and record.fingerprint != data.fingerprint:
            found = changed(run, data)
            what = f" ({found})" if found else ""
            raise UserError(
                f"The images of {record.name} changed since the training of {run.folder}{what}, so some "
                f"test images may have been trained on; --data {record.name} evaluates all the same."
            )


def _unseen(name: str, watch: Watch) -> HeldOut:
    if name.startswith(PUBLISHED):
        from app.datasets.prepared import published

        return HeldOut(name, *published.held_out(name))
    if is_prepared(name):
        data = loading.load(name, watch)
        return HeldOut(name, data.labels, data.test, label_sets=data.label_sets)
    folder = remote.fetched(name, watch)
    if imagenet.is_flat(folder):
        listing, labels = imagenet.flat(folder), synsets.synsets()
    else:
        listing = loading.listing(name, watch)
        labels = labels_of(listing.files)
    splits = {file.split for file in listing.files}
    wanted = next((split for split in ("test", "validation", None) if split in splits), "train")
    if wanted == "train":
        raise UserError(f"{name} has only training images; add a folder 'test' or 'validation' beside them.")
    return _of_files(name, listing, labels, wanted, watch)


def _of_files(
    name: str,
    listing: Listing,
    labels: tuple[str, ...],
    split: str | None,
    watch: Watch,
    left_out: frozenset[str] = frozenset(),
) -> HeldOut:
    image_files.check_listing(listing, left_out)
    files = [file for file in listing.files if file.split == split and str(file.path) not in left_out]
    pictures, unreadable = image_files.read_most(name, listing.root, files, watch)
    for file, reason in unreadable:
        console.print(f"left out: {file}: {reason}")
    for sentence in deciding.sentences(name, listing):
        console.print(sentence)
    kinds = label_sets.table((file.labels for file in listing.files), labels)
    shown = {str(picture.file.path): picture.shown for picture in pictures}
    found = FileSplit(tuple(shown), label_sets.numbers((picture.file.labels for picture in pictures), labels, kinds))
    return HeldOut(name, labels, found, shown, kinds)


def without(data: HeldOut, listing: Path) -> FileSplit:
    """The split without the files that a list names, one a line: by name or by any end of its path. A number is that
    of a validation image of ImageNet, as its black list of 1,762 has them (1602.07261, section 5).

    Raises:
        UserError: a list that cannot be read or names none of the images, or all; images that are no files.
    """
    if not isinstance(data.split, FileSplit):
        raise UserError(f"{data.name} has no files to leave out: {listing} is for a folder or a manifest.")
    try:
        lines = listing.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise UserError(f"The list {listing} cannot be read: {error.strerror}.") from error
    named = [line.strip() for line in lines if line.strip()]
    names = {imagenet.file_name(int(line)) if line.isdecimal() else line for line in named}

    def is_kept(path: str) -> bool:
        parts = PurePath(path).parts
        return names.isdisjoint({path, *(str(PurePath(*parts[i:])) for i in range(len(parts)))})

    kept = [(path, label) for path, label in zip(data.split.paths, data.split.labels, strict=True) if is_kept(path)]
    left_out = data.split.count - len(kept)
    if not left_out:
        raise UserError(f"{listing} names no image of {data.name}; a line is a file name, or the number of an image.")
    if not kept:
        raise UserError(f"{listing} names every image of {data.name}; none is left to evaluate on.")
    console.print(f"{counted(left_out, 'image', 'images')} left out, as {listing} says")
    return FileSplit(tuple(path for path, _ in kept), tuple(label for _, label in kept))
