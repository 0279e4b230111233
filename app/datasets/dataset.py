"""What a data set is: labels in a stable order and three splits of encoded images. Best checkpoint and stopping look at
`validation` only; `test` is for the final figures.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from app.datasets.index import Known
from app.datasets.label_sets import LabelSets
from app.program.errors import UserError

SPLITS = ("train", "validation", "test")


class Split(Protocol):
    @property
    def count(self) -> int: ...

    def in_order(self) -> tf.data.Dataset:
        """The examples: (encoded image, scalar string; index of its label, int64)."""

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        """The same in the order of this epoch, a function of seed and epoch (scalar int64) alone, without the first
        `skipped`: a training that goes on within an epoch does not read again what it has seen."""

    def at(self, places: Sequence[int]) -> tf.data.Dataset:
        """The examples at these places of `in_order`, which rise. Others are not read, unless a split has no random
        access, as here: a class that has some says how."""
        wanted = tf.constant(places, tf.int64)
        read = self.in_order().take(max(places, default=-1) + 1).enumerate()
        found = read.filter(lambda place, example: tf.reduce_any(tf.equal(place, wanted)))
        return found.map(lambda place, example: example)


@runtime_checkable
class Drawable(Split, Protocol):
    """A split whose examples can be read in any order."""

    def drawn(self, order: tf.data.Dataset, count: tf.Tensor | int) -> tf.data.Dataset:
        """The examples at `count` places of `in_order`, int64, in the order in which they are given, also again."""


class ImageFile(NamedTuple):
    """An image that is a file of its own. `split` is None where nobody said which; the content decides then, or the
    `group`, such as a patient or a video, which is empty where the data has none. Of one with `several` labels, or with
    none, `label` is all of them as a manifest writes it."""

    path: Path
    label: str
    split: str | None
    group: str = ""
    several: tuple[str, ...] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return (self.label,) if self.several is None else self.several


class Picture(NamedTuple):
    """An image file that could be read."""

    file: ImageFile
    known: Known

    @property
    def shown(self) -> str:
        """The hash of what it shows."""
        assert self.known.picture is not None
        return self.known.picture


class Finding(NamedTuple):
    """Something about a data set that its owner should know; `file` is a folder or a class where that is meant."""

    file: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """The image files of a data set before any is read, and what was `found` beside them. Lists of files to leave out
    name them relative to `root`. Of what systems leave in folders, `left` counts the files by name."""

    root: Path
    files: tuple[ImageFile, ...]
    found: tuple[Finding, ...]
    left: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Data:
    """`fingerprint` changes when an image, a label or a split does. `image_size` is the side that suits the data, where
    it says so. `files` are the images, split after split, where each is a file of its own, and `known` what is
    known of each. `unreadable` are files left out, with the reason; `notes` are sentences for whoever trains on it.
    Where pictures have several labels, the number of an example is a place in `label_sets`, which is empty elsewhere
    (see the module of that name)."""

    name: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    fingerprint: str
    image_size: int | None = None
    files: tuple[ImageFile, ...] = ()
    known: tuple[Known, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    label_sets: LabelSets = ()


def labels_of(files: Iterable[ImageFile]) -> tuple[str, ...]:
    """The labels of image files, each once, in their order."""
    return tuple(sorted({label for file in files for label in file.labels}))


def spread(count: int, most: int) -> list[int]:
    """At most so many of `count` places, as far apart as they can be."""
    return np.linspace(0, count - 1, min(most, count)).astype(int).tolist()


def class_name(name: str, where: object) -> str:
    """The label that a folder or a manifest writes as `name`: without spaces around it, and its accents composed,
    whatever system wrote them, so that one class is not two.

    Raises:
        UserError: it is not UTF-8, or has control characters, which no list of labels can hold.
    """
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise UserError(f"{where}: the class name {name!a} has control characters or is not UTF-8; give it another.")
    return unicodedata.normalize("NFC", name.strip())


def shuffled_order(count: int, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int) -> tf.data.Dataset:
    """The numbers 0 to count - 1, each once, in an order that is a function of seed and epoch alone, but for the first
    `skipped` of them."""
    key = tf.cast(tf.stack([tf.constant(seed, tf.int64), epoch]), tf.uint32)
    return tf.data.Dataset.range(skipped, count).map(lambda i: tf.random.experimental.index_shuffle(i, key, count - 1))
