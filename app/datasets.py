"""The data sets that commands take: a folder `class/image` or `split/class/image`, a manifest `.csv`, `records:FOLDER`,
`tfds:NAME`, or `digits`.

Each becomes a `Data`: labels in a stable order and three splits of encoded images. Best checkpoint and stopping look at
`validation` only; `test` is for the final figures.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import tensorflow as tf

from app.errors import UserError

if TYPE_CHECKING:
    from app.run_folder import Run

Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]  # (items, how many, what is done) -> items, with progress


class Split(Protocol):
    @property
    def count(self) -> int: ...

    def in_order(self) -> tf.data.Dataset:
        """The examples: (encoded image, scalar string; index of its label, int64)."""

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        """The same in the order of this epoch, a function of seed and epoch (scalar int64) alone, without the first
        `skipped`: a training that goes on within an epoch does not read again what it has seen."""


class ImageFile(NamedTuple):
    """An image that is a file of its own. `split` is None where nobody said which; the content decides then."""

    path: Path
    label: str
    split: str | None


class Finding(NamedTuple):
    """Something about a data set that its owner should know; `file` is a folder or a class where that is meant."""

    file: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """The image files of a data set before any is read, and what was `found` beside them. Lists of files to leave out
    name them relative to `root`."""

    root: Path
    files: tuple[ImageFile, ...]
    found: tuple[Finding, ...]


@dataclass(frozen=True)
class Data:
    """`fingerprint` changes when an image, a label or a split does. `image_size` is the side that suits the data, where
    it says so. `files` are the images, split after split, where each is a file of its own. `unreadable` are files left
    out, with the reason; `ignored` counts files that are no images; `notes` are sentences for whoever trains on it."""

    name: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    fingerprint: str
    image_size: int | None = None
    files: tuple[ImageFile, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    ignored: int = 0
    notes: tuple[str, ...] = ()


def unwatched(items: Iterable[Any], count: int, what: str) -> Iterator[Any]:
    """A `Watch` that shows nothing."""
    yield from items


def load(name: str, watch: Watch = unwatched, quarantine: Path | None = None) -> Data:
    """The data set called `name`, read or prepared, with progress shown through `watch`. `quarantine` is a text file of
    images to leave out, a path a line, as `check` writes it.

    Raises:
        UserError: no such data set, folder or manifest, or one whose name is not UTF-8; fewer than two classes; a class
            without images; a split that stays empty; files that a manifest names and nobody has; more than 5 % of the
            images unreadable; a shard that is not as it was written; a quarantine of what is not in the data.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise UserError(f"The name {name!a} is not UTF-8, so no file about the data could hold it; give it another.")
    if name == "digits" or name.startswith(("tfds:", "records:")):
        if quarantine:
            raise UserError(f"{name} has no files to leave out: {quarantine} is for a folder or a manifest.")
        if name.startswith("records:"):
            from app import records

            return records.load(name, watch)
        from app import published

        return published.load(name)
    from app import image_files

    return image_files.load(name, listing(name), watch, quarantine)


def of_run(run: "Run", watch: Watch = unwatched) -> Data:
    """What the run was trained on.

    Raises:
        UserError: it was imported, or its data is not there any more, or not what it was.
    """
    record = run.read_classifier().data
    if record is None:
        raise UserError(f"{run.folder} was imported, so its data is not known here.")
    data = load(record.name, watch, run.quarantine_of(record.name))
    if data.fingerprint != record.fingerprint:
        raise UserError(f"{record.name} is not what {run.folder} was trained on any more.")
    return data


def listing(name: str) -> Listing:
    """The image files of a folder or of a manifest.

    Raises:
        UserError: it is neither, or its structure is not one of a data set.
    """
    from app import folders, manifests

    path = Path(name)
    if path.is_dir():
        return folders.listing(path)
    if path.is_file() and path.suffix.lower() == ".csv":
        return manifests.listing(path)
    what = "is neither a folder nor a .csv file" if path.exists() else "does not exist"
    raise UserError(
        f"{name} {what}. DATA is a folder of class folders, a manifest .csv, 'records:FOLDER', 'tfds:NAME' or 'digits'."
    )


def class_name(name: str, where: object) -> str:
    """The label that a folder or a manifest writes as `name`: without spaces around it, and its accents composed,
    whatever system wrote them, so that one class is not two.

    Raises:
        UserError: it is not UTF-8, or has control characters, which no list of labels can hold.
    """
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise UserError(f"{where}: the class name {name!a} has control characters or is not UTF-8; give it another.")
    return unicodedata.normalize("NFC", name.strip())


def compare_labels(found: Sequence[str], wanted: Sequence[str]) -> str:
    """In which classes `found` differs from `wanted`, for a sentence; empty where it does not."""
    differences = {
        "new": [label for label in found if label not in wanted],
        "missing": [label for label in wanted if label not in found],
        "in another order": [a for a, b in zip(found, wanted, strict=False) if a != b and {*found} == {*wanted}],
    }
    parts = []
    for what, labels in differences.items():
        if labels:
            more = f" and {len(labels) - 5} more" if labels[5:] else ""
            parts.append(f"{what}: {', '.join(repr(label) for label in labels[:5])}{more}")
    return "; ".join(parts)
