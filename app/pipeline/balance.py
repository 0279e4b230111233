"""Classes with few pictures, made up for: by drawing from all classes equally often, or by weights in the loss."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.datasets.dataset import Data, Drawable, Split
from app.program.errors import UserError
from app.program.shown import command
from app.recipe import Recipe


def check(data: Data, recipe: Recipe) -> None:
    """Raises:
    UserError: the recipe draws, from data that is read from its beginning to its end alone; or it balances classes, and
        a picture has several labels.
    """
    if recipe.balance and data.label_sets:
        raise UserError(
            f"balance={recipe.balance} is for one label a picture, and in {data.name} some have several; leave it out."
        )
    if recipe.balance == "sample" and not isinstance(data.train, Drawable):
        written = command("records", data.name, "--to", "FOLDER")
        raise UserError(
            f"balance=sample draws pictures one by one, which {data.name} does not allow: `{written}` writes a "
            "copy that does; or take balance=weights."
        )


def of(data: Data, recipe: Recipe) -> Data:
    """The same data, whose training pictures come as the recipe balances them."""
    if recipe.balance != "sample":
        return data
    assert isinstance(data.train, Drawable)  # see `check`
    return replace(data, train=EqualClasses(data.train, labels_of(data.train)))


def labels_of(split: Split) -> NDArray[np.int64]:
    """Of every example, in order. Where only the examples know them, all are read, though not decoded."""
    known: Sequence[int] | None = getattr(split, "labels", None)
    if known is None:
        known = list(split.in_order().map(lambda _, label: label).as_numpy_iterator())
    return np.asarray(known, np.int64)


def class_weights(labels: NDArray[np.int64], classes: int) -> list[float]:
    """count / (classes * images of the class), of the classes that have images, as scikit-learn's "balanced": the mean
    over all images is 1, and every class has the same share of it. 1 for classes without images."""
    counts = np.bincount(labels, minlength=classes)
    there = np.count_nonzero(counts)
    return [float(len(labels) / (there * count)) if count else 1.0 for count in counts]


@dataclass(frozen=True, eq=False)
class EqualClasses:
    """A split whose epochs have as many examples as before, every class equally often but for one at most, also in any
    part of an epoch from its beginning on.

    An epoch is made of rounds, in each of which every class comes once, in an order of its own. A class gives its
    examples one after the other, over the epochs, in a new order whenever all have been given: each comes as often as
    every other of its class, or once more. All of it is a function of seed, epoch and place alone.
    """

    split: Drawable
    labels: NDArray[np.int64]

    @property
    def count(self) -> int:
        return self.split.count

    def in_order(self) -> tf.data.Dataset:
        return self.split.in_order()

    def at(self, places: Sequence[int]) -> tf.data.Dataset:
        return self.split.at(places)

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        of_class = np.argsort(self.labels, kind="stable")  # the places of the first class, then of the next ...
        counts = np.bincount(self.labels)
        counts = counts[counts > 0]
        places, sizes = tf.constant(of_class, tf.int64), tf.constant(counts, tf.int64)
        starts = tf.constant(np.cumsum(counts) - counts, tf.int64)
        classes = len(counts)
        rounds = -(-self.count // classes)  # in an epoch

        def drawn(place: tf.Tensor) -> tf.Tensor:
            number = epoch * rounds + place // classes  # of the round in the whole run
            chosen = _shuffled(place % classes, (seed, number), classes - 1)
            size = tf.gather(sizes, chosen)
            # An inverted seed is none that a round has.
            key = (~seed, number // size * classes + chosen)
            return tf.gather(places, tf.gather(starts, chosen) + _shuffled(number % size, key, size - 1))

        return self.split.drawn(tf.data.Dataset.range(skipped, self.count).map(drawn), self.count - skipped)


def _shuffled(index: tf.Tensor, key: tuple[Any, Any], largest: Any) -> tf.Tensor:
    """Where `index` of 0 to `largest` comes in the order that belongs to the key."""
    seed = tf.cast(tf.stack([tf.cast(part, tf.int64) for part in key]), tf.uint32)
    return tf.random.experimental.index_shuffle(index, seed, tf.cast(largest, tf.int64))
