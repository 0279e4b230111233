"""Labelled image files as a data set: each is read once, and its content decides its split where nobody else does."""

import hashlib
import itertools
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app import images
from app.datasets import Data, ImageFile, Listing, Watch
from app.errors import UserError

SPLITS = ("train", "validation", "test")
SHARES = {"test": 0.2, "validation": 0.08}
UNREADABLE_LIMIT = 0.05
FATAL = ("unreadable folder", "empty class", "missing", "named twice")  # nobody knows what the data would be without
AT_ONCE = 256

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class FileSplit:
    paths: tuple[str, ...]
    labels: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.paths)

    def in_order(self) -> tf.data.Dataset:
        return self._examples(tf.data.Dataset.range(self.count))

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        return self._examples(shuffled_order(self.count, seed, epoch, skipped))

    def _examples(self, order: tf.data.Dataset) -> tf.data.Dataset:
        # As bytes: the name of a file need not be UTF-8.
        paths, labels = tf.constant([os.fsencode(path) for path in self.paths]), tf.constant(self.labels, tf.int64)
        return order.map(lambda i: (tf.io.read_file(paths[i]), labels[i]), num_parallel_calls=tf.data.AUTOTUNE)


def shuffled_order(count: int, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int) -> tf.data.Dataset:
    """The numbers 0 to count - 1, each once, in an order that is a function of seed and epoch alone, but for the first
    `skipped` of them."""
    key = tf.cast(tf.stack([tf.constant(seed, tf.int64), epoch]), tf.uint32)
    return tf.data.Dataset.range(skipped, count).map(lambda i: tf.random.experimental.index_shuffle(i, key, count - 1))


class Hashes(NamedTuple):
    """The SHA-256 of the bytes of an image, and that of its picture, which is the same in every lossless format."""

    encoded: str
    picture: str


class Picture(NamedTuple):
    """A file that could be read."""

    file: ImageFile
    hashes: Hashes


def load(name: str, listing: Listing, watch: Watch, quarantine: Path | None = None) -> Data:
    """Reads every image once; see `datasets.load`."""
    left_out = quarantined(quarantine, listing) if quarantine else frozenset()
    check_listing(listing, left_out)
    labels = tuple(sorted({file.label for file in listing.files}))
    if len(labels) == 1:
        raise UserError(f"{name} has one class, '{labels[0]}'; a classifier needs two or more.")
    pictures, unreadable = read_most(name, [file for file in listing.files if str(file.path) not in left_out], watch)
    splits = divide(pictures)
    for label in labels:
        if not any(picture.file.label == label for picture in splits["train"]):
            raise UserError(f"The class '{label}' in {name} has no readable image to train on; add some or remove it.")
    for split in SPLITS:
        if not splits[split]:
            raise UserError(f"{name} has too few images for a {split} split: give each class at least three.")
    made = {
        split: FileSplit(
            tuple(str(picture.file.path) for picture in members),
            tuple(labels.index(picture.file.label) for picture in members),
        )
        for split, members in splits.items()
    }
    notes = [f"{len(left_out)} files were left out, as {quarantine} says"] if quarantine else []
    return Data(
        name,
        labels,
        train=made["train"],
        validation=made["validation"],
        test=made["test"],
        fingerprint=_fingerprint(splits),
        files=tuple(picture.file._replace(split=split) for split in SPLITS for picture in splits[split]),
        unreadable=tuple(unreadable),
        ignored=sum(finding.kind == "not an image" for finding in listing.found),
        notes=(*notes, *_notes(name, splits)),
    )


def check_listing(listing: Listing, left_out: frozenset[str] = frozenset()) -> None:
    """Raises:
    UserError: something about the listing that leaves open what the data would be.
    """
    fatal = [finding for finding in listing.found if finding.kind in FATAL and finding.file not in left_out]
    if fatal:
        more = f" {len(fatal) - 1} more like it: `python -m app check` lists them." if fatal[1:] else ""
        raise UserError(fatal[0].reason + more)


def quarantined(path: Path, listing: Listing) -> frozenset[str]:
    """The files of a listing that a quarantine list names.

    Raises:
        UserError: it cannot be read, or names what the listing has not.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError as error:
        raise UserError(f"The quarantine list {path} cannot be read: {error.strerror}.") from error
    known = {os.path.abspath(file.path): str(file.path) for file in listing.files}
    known |= {os.path.abspath(finding.file): finding.file for finding in listing.found if finding.kind == "missing"}
    named = [line.removesuffix("\r") for line in lines if line.strip()]
    for line in named:
        if os.path.abspath(listing.root / line) not in known:
            raise UserError(f"{path} names {line}, which is no image of {listing.root}; take it off the list.")
    return frozenset(known[os.path.abspath(listing.root / line)] for line in named)


def read(files: Sequence[ImageFile], watch: Watch) -> tuple[list[Picture], list[tuple[str, str]]]:
    """Decodes every file: those that can be read, and the others with the reason."""
    pictures: list[Picture] = []
    unreadable: list[tuple[str, str]] = []
    looked = watch(in_parallel(_hashes_or_reason, files), len(files), "Checking images")
    for file, found in zip(files, looked, strict=True):
        if isinstance(found, Hashes):
            pictures.append(Picture(file, found))
        else:
            unreadable.append((str(file.path), found))
    return pictures, unreadable


def read_most(name: str, files: Sequence[ImageFile], watch: Watch) -> tuple[list[Picture], list[tuple[str, str]]]:
    """As `read`, of the data set `name`.

    Raises:
        UserError: more than 5 % of the files cannot be read.
    """
    pictures, unreadable = read(files, watch)
    total = len(pictures) + len(unreadable)
    if len(unreadable) > UNREADABLE_LIMIT * total:
        path, why = unreadable[0]
        raise UserError(
            f"{len(unreadable)} of the {total} images in {name} cannot be read, more than {UNREADABLE_LIMIT:.0%}; "
            "mend them, remove them, or leave them out with --quarantine and the list that "
            f"`python -m app check {name} --to FOLDER` writes. The first is {path}: {why}"
        )
    return pictures, unreadable


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map` on all cores, a few hundred items at a time, so that items may be large and many."""
    items = iter(items)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while some := list(itertools.islice(items, AT_ONCE)):
            yield from pool.map(function, some)


def _hashes_or_reason(file: ImageFile) -> Hashes | str:
    try:
        encoded = file.path.read_bytes()
        return hashes(encoded, images.decode(encoded).numpy())
    except (tf.errors.InvalidArgumentError, OSError) as error:
        return reason(error)


def hashes(encoded: bytes, picture: NDArray[np.uint8]) -> Hashes:
    content = hashlib.sha256(str(picture.shape).encode())
    content.update(picture.tobytes())
    return Hashes(hashlib.sha256(encoded).hexdigest(), content.hexdigest())


def reason(error: Exception) -> str:
    """The sentence in an error of TensorFlow, without the names of its functions and operations."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = getattr(error, "message", str(error))
    return re.sub(r"\{\{.*?\}\} ?|\[Op:.*?\].*|\s+", " ", text.splitlines()[0]).strip()


def divide(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """Fills the splits that nobody named, by content: 20 % test, 8 % validation.

    The hash of an image decides, of equal pictures the smallest, so these stay together, a second run divides as the
    first did, and a new picture moves no old one. A class with at least three different pictures has one in every
    split.
    """
    given = {picture.file.split for picture in pictures}
    splits = {split: [picture for picture in pictures if picture.file.split == split] for split in SPLITS}
    missing = [split for split in SHARES if split not in given]
    undivided = [picture for picture in pictures if picture.file.split is None] + (splits["train"] if missing else [])
    smallest: dict[str, str] = {}
    for _, found in undivided:
        smallest[found.picture] = min(found.encoded, smallest.get(found.picture, found.encoded))
    place = {digest: _drawn(digest, missing) for digest in smallest.values()}
    for label in sorted({picture.file.label for picture in undivided}):
        digests = sorted({smallest[picture.hashes.picture] for picture in undivided if picture.file.label == label})
        for split in ("train", *missing):
            members = {name: [digest for digest in digests if place[digest] == name] for name in SPLITS}
            largest = max(members.values(), key=len)
            if not members[split] and len(largest) > 1:
                place[largest[0]] = split
    if missing:
        splits["train"] = []
    for picture in undivided:
        splits[place[smallest[picture.hashes.picture]]].append(picture)
    return splits


def _drawn(digest: str, missing: Sequence[str]) -> str:
    point = int(digest[:12], 16) / 16**12
    for split in missing:
        if point < SHARES[split]:
            return split
        point -= SHARES[split]
    return "train"


def _fingerprint(splits: dict[str, list[Picture]]) -> str:
    content = hashlib.sha256()
    for split in SPLITS:
        for label, digest in sorted((picture.file.label, picture.hashes.encoded) for picture in splits[split]):
            content.update(f"{split} {label} {digest}\n".encode())
    return content.hexdigest()


def _notes(name: str, splits: dict[str, list[Picture]]) -> Iterator[str]:
    places, labels = defaultdict(set), defaultdict(set)
    for split, members in splits.items():
        for picture in members:
            places[picture.hashes.picture].add(split)
            labels[picture.hashes.picture].add(picture.file.label)
    for found, what in ((places, "in more than one split"), (labels, "with more than one label")):
        if count := sum(len(members) > 1 for members in found.values()):
            yield f"pictures {what}: {count}; `python -m app check {name}` names them"
