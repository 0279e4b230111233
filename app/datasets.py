"""The data sets that commands take: `digits`, `tfds:NAME`, a folder `class/image`, or a folder `split/class/image`.

Each becomes a `Data`: labels in a stable order and three splits of encoded images. Best checkpoint and stopping look at
`validation` only; `test` is for the final figures.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import tensorflow as tf

from app.errors import UserError

Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]  # (items, how many, what is done) -> items, with progress


class Split(Protocol):
    @property
    def count(self) -> int: ...

    def in_order(self) -> tf.data.Dataset:
        """The examples: (encoded image, scalar string; index of its label, int64)."""

    def shuffled(self, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
        """The same in the order of this epoch: a function of seed and epoch (scalar int64) alone."""


@dataclass(frozen=True)
class Data:
    """`fingerprint` changes when an image, a label or a split does. `image_size` is the side that suits the data, where
    it says so. `unreadable` are files left out, with the reason; `ignored` counts files that are no images."""

    name: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    fingerprint: str
    image_size: int | None = None
    unreadable: tuple[tuple[str, str], ...] = ()
    ignored: int = 0


def unwatched(items: Iterable[Any], count: int, what: str) -> Iterator[Any]:
    """A `Watch` that shows nothing."""
    yield from items


def load(name: str, watch: Watch = unwatched) -> Data:
    """The data set called `name`, read or prepared, with progress shown through `watch`.

    Raises:
        UserError: no such data set or folder; fewer than two classes; a class without images; a split that stays
            empty; more than 5 % of the images unreadable.
    """
    if name == "digits" or name.startswith("tfds:"):
        from app import published

        return published.load(name)
    from app import folders

    root = Path(name)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise UserError(f"{name} {what}. DATA is a folder of class folders, 'digits', or 'tfds:NAME'.")
    return folders.load(root, watch)
