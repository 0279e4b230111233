"""The labelled images that networks are evaluated on: none that one of them has seen in training."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from app.datasets import loading
from app.datasets.dataset import Split
from app.datasets.files import deciding, image_files, imagenet
from app.datasets.files.image_files import FileSplit
from app.networks import synsets
from app.program.errors import UserError
from app.program.progress import Watch, console
from app.run_folder.data_name import PUBLISHED, is_prepared
from app.run_folder.folder import Run


class HeldOut(NamedTuple):
    name: str
    labels: tuple[str, ...]
    split: Split


def load(runs: Sequence[Run], data_name: str | None, watch: Watch, leave_out: Path | None = None) -> HeldOut:
    """The test images of the data set, or of that which all runs were trained on.

    Networks that were imported have seen none of it: where the data has no test split, its validation split is taken,
    and where it has no splits, all of it. `leave_out` lists files not to take (see `without`).

    Raises:
        UserError: runs without common data, and none named; bad data (see `loading.load`); the runs' own data changed
            since the training; a list that does not fit.
    """
    name = data_name or _common_name(runs)
    trained = [run for run in runs if run.read_classifier().data]
    if trained and not imagenet.is_flat(Path(name)):
        data = loading.load(name, watch, trained[0].quarantine_of(name), trained[0].split)
        found = HeldOut(data.name, data.labels, data.test)
        if data_name is None:
            _check_unchanged(trained, data.fingerprint)
    else:
        found = _unseen(name, watch)
    return found._replace(split=without(found, leave_out)) if leave_out else found


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


def _check_unchanged(runs: Sequence[Run], fingerprint: str) -> None:
    for run in runs:
        record = run.read_classifier().data
        if record and record.fingerprint != fingerprint:
            raise UserError(
                f"The images of {record.name} changed since the training of {run.folder}, so some test images may have "
                f"been trained on; --data {record.name} evaluates all the same."
            )


def _unseen(name: str, watch: Watch) -> HeldOut:
    if name.startswith(PUBLISHED):
        from app.datasets.prepared import published

        return HeldOut(name, *published.held_out(name))
    if is_prepared(name):
        data = loading.load(name, watch)
        return HeldOut(name, data.labels, data.test)
    folder = Path(name)
    if imagenet.is_flat(folder):
        listing, labels = imagenet.flat(folder), synsets.synsets()
    else:
        listing = loading.listing(name)
        labels = tuple(sorted({file.label for file in listing.files}))
    splits = {file.split for file in listing.files}
    wanted = next((split for split in ("test", "validation", None) if split in splits), "train")
    if wanted == "train":
        raise UserError(f"{name} has only training images; add a folder 'test' or 'validation' beside them.")
    image_files.check_listing(listing)
    files = [file for file in listing.files if file.split == wanted]
    pictures, unreadable = image_files.read_most(name, listing.root, files, watch)
    for file, reason in unreadable:
        console.print(f"left out: {file}: {reason}")
    for sentence in deciding.sentences(name, listing):
        console.print(sentence)
    index = {label: position for position, label in enumerate(labels)}
    paths = tuple(str(picture.file.path) for picture in pictures)
    return HeldOut(name, labels, FileSplit(paths, tuple(index[picture.file.label] for picture in pictures)))


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
    console.print(f"{left_out} images left out, as {listing} says")
    return FileSplit(tuple(path for path, _ in kept), tuple(label for _, label in kept))
