"""Labelled image files as a data set, divided by what they show where nobody else says."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from app.datasets import label_sets
from app.datasets.dataset import SPLITS, Data, Finding, ImageFile, Listing, Picture, labels_of, shuffled_order
from app.datasets.files import deciding
from app.datasets.files.dividing import divide
from app.datasets.files.scanning import CONVERTED, scan
from app.datasets.index import Known
from app.images import converting
from app.program import paths, remote
from app.program.errors import UserError
from app.program.progress import Watch
from app.program.shown import command, counted


@dataclass(frozen=True)
class FileSplit:
    """`converts` is whether pictures that are not decoded are converted (see `converting`) when they are read."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    converts: bool = False

    @property
    def count(self) -> int:
        return len(self.paths)

    def in_order(self) -> tf.data.Dataset:
        return self._examples(tf.data.Dataset.range(self.count))

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        return self._examples(shuffled_order(self.count, seed, epoch, skipped))

    def drawn(self, order: tf.data.Dataset, count: tf.Tensor | int) -> tf.data.Dataset:
        return self._examples(order)

    def at(self, places: Sequence[int]) -> tf.data.Dataset:
        return self._examples(tf.data.Dataset.from_tensor_slices(tf.constant(places, tf.int64)))

    def _examples(self, order: tf.data.Dataset) -> tf.data.Dataset:
        # As bytes: the name of a file need not be UTF-8.
        paths, labels = tf.constant([os.fsencode(path) for path in self.paths]), tf.constant(self.labels, tf.int64)
        read = order.map(lambda i: (tf.io.read_file(paths[i]), labels[i]), num_parallel_calls=tf.data.AUTOTUNE)
        if not self.converts:
            return read

        def converted(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            png = tf.numpy_function(_converted, [encoded], tf.string, stateful=False)
            return tf.ensure_shape(png, ()), label

        return read.map(converted, num_parallel_calls=tf.data.AUTOTUNE)


def load(
    name: str,
    listing: Listing,
    watch: Watch,
    quarantine: Path | None = None,
    told: Mapping[str, Known] | None = None,
    converts: bool = False,
) -> Data:
    """Reads every image that is not known yet, once; see `loading.load`, and `scanning.scan` for `told`."""
    left_out = quarantined(quarantine, listing, told or ()) if quarantine else frozenset()
    check_listing(listing, left_out)
    labels = labels_of(listing.files)
    kinds = label_sets.table((file.labels for file in listing.files), labels)
    _refuse(deciding.of_labels(name, listing))
    files = [file for file in listing.files if str(file.path) not in left_out]
    pictures, unreadable = read_most(name, listing.root, files, watch, told, converts)
    splits = divide(pictures)
    _refuse(deciding.of_splits(name, labels, splits))
    made = {
        split: FileSplit(
            tuple(str(picture.file.path) for picture in members),
            label_sets.numbers((picture.file.labels for picture in members), labels, kinds),
            converts,
        )
        for split, members in splits.items()
    }
    count = counted(len(left_out), "file was", "files were")
    notes = [f"{count} left out, as {quarantine} says"] if quarantine else []
    return Data(
        name,
        labels,
        train=made["train"],
        validation=made["validation"],
        test=made["test"],
        fingerprint=_fingerprint(splits),
        files=tuple(picture.file._replace(split=split) for split in SPLITS for picture in splits[split]),
        known=tuple(picture.known for split in SPLITS for picture in splits[split]),
        unreadable=tuple(unreadable),
        notes=(*notes, *_of_converted(pictures), *deciding.sentences(name, listing), *_notes(name, splits)),
        label_sets=kinds,
    )


def check_listing(listing: Listing, left_out: frozenset[str] = frozenset()) -> None:
    """Raises:
    UserError: something about the listing that leaves open what the data would be.
    """
    fatal = [finding for finding in listing.found if finding.kind in deciding.FATAL and finding.file not in left_out]
    if fatal:
        more = f" {len(fatal) - 1} more like it: `python -m app check` lists them." if fatal[1:] else ""
        raise UserError(fatal[0].reason + more)


def quarantined(path: Path, listing: Listing, told: Iterable[str] = ()) -> frozenset[str]:
    """The files of a listing that a quarantine list names. It may also name what was there once: what is `told` of, and
    whatever is named by a list that a training wrote, or took over.

    Raises:
        UserError: it cannot be read, or names what the listing has not.
    """
    known = {os.path.abspath(file.path): str(file.path) for file in listing.files}
    known |= {os.path.abspath(finding.file): finding.file for finding in listing.found if finding.kind == "missing"}
    known = {os.path.abspath(file): file for file in told} | known
    named = _lines(path)
    for line in named:
        if os.path.abspath(listing.root / line) not in known and not _is_in_a_run(path):
            raise UserError(f"{path} names {line}, which is no image of {listing.root}; take it off the list.")
    absolute = (os.path.abspath(listing.root / line) for line in named)
    return frozenset(known[file] for file in absolute if file in known)


def _is_in_a_run(path: Path) -> bool:
    """Whether a list is the one that a run was trained without, or that its training left, among its checkpoints, of
    pictures that it could not read."""
    folder = path.resolve().parent
    run = folder.parent if folder.name == "checkpoints" else folder
    return path.name == "quarantine.txt" and paths.is_run(run)


def named_in(path: Path, name: str) -> frozenset[str]:
    """The absolute paths of the files that a quarantine list of the data set `name` names.

    Raises:
        UserError: it cannot be read.
    """
    place = remote.place(name)
    root = place if place.is_dir() else place.parent
    return frozenset(os.path.abspath(root / line) for line in _lines(path))


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError as error:
        raise UserError(f"The quarantine list {path} cannot be read: {error.strerror}.") from error
    return [line.removesuffix("\r") for line in lines if line.strip()]


def read(
    root: Path,
    files: Sequence[ImageFile],
    watch: Watch,
    told: Mapping[str, Known] | None = None,
    converts: bool = False,
) -> tuple[list[Picture], list[tuple[str, str]]]:
    """The files of a data set in `root` (see `scanning.scan`): those that can be read, and the others with the
    reason."""
    pictures: list[Picture] = []
    unreadable: list[tuple[str, str]] = []
    for file, known in zip(files, scan(root, files, watch, told, converts=converts), strict=True):
        if known.picture:
            pictures.append(Picture(file, known))
        else:
            unreadable.append((str(file.path), known.reason))
    return pictures, unreadable


def read_most(
    name: str,
    root: Path,
    files: Sequence[ImageFile],
    watch: Watch,
    told: Mapping[str, Known] | None = None,
    converts: bool = False,
) -> tuple[list[Picture], list[tuple[str, str]]]:
    """As `read`, of the data set `name`.

    Raises:
        UserError: more than 5 % of the files cannot be read.
    """
    pictures, unreadable = read(root, files, watch, told, converts)
    _refuse(deciding.of_unreadable(name, unreadable, len(files)))
    return pictures, unreadable


def _refuse(shortcomings: Iterator[Finding]) -> None:
    for finding in shortcomings:
        raise UserError(finding.reason)


def _converted(encoded: bytes) -> bytes:
    return converting.convert(encoded).png if converting.kind_of(encoded) else encoded


def _of_converted(pictures: Sequence[Picture]) -> Iterator[str]:
    """What was done to pictures that are not decoded as they are."""
    notes = [why for picture in pictures for kind, why in picture.known.notes if kind == CONVERTED]
    kinds = Counter(why.partition(" of ")[0] for why in notes)
    if notes:
        yield f"pictures converted to PNG: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}"
    if several := sum(" of " in why for why in notes):
        yield f"of {counted(several, 'file', 'files')} with several pictures the first is taken"


def _fingerprint(splits: dict[str, list[Picture]]) -> str:
    content = hashlib.sha256()
    for split in SPLITS:
        for label, digest in sorted((picture.file.label, picture.known.encoded) for picture in splits[split]):
            content.update(f"{split} {label} {digest}\n".encode())
    return content.hexdigest()


def _notes(name: str, splits: dict[str, list[Picture]]) -> Iterator[str]:
    places, labels, groups = defaultdict(set), defaultdict(set), defaultdict(set)
    for split, members in splits.items():
        for picture in members:
            places[picture.shown].add(split)
            labels[picture.shown].add(picture.file.label)
            groups[picture.file.group].add(split)
    groups.pop("", None)
    twice, labelled = "in more than one split", "with more than one label"
    for found, what in ((places, f"pictures {twice}"), (groups, f"groups {twice}"), (labels, f"pictures {labelled}")):
        if count := sum(len(members) > 1 for members in found.values()):
            yield f"{what}: {count}; `{command('check', name)}` names them"
    for finding in deciding.of_groups(name, splits):
        yield finding.reason
    for split in SPLITS:
        if split != "train" and (count := sum(picture.file.split == "train" for picture in splits[split])):
            yield f"{name} has no split {split}: it gets {count} of the images of train"
