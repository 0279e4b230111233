"""The images that statistics are measured on: preprocessed, in an order that depends on a seed alone."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.datasets.dataset import Data, Split
from app.images.preprocessing import Preprocessing
from app.pipeline.input_pipeline import FEW, few_batches
from app.program.progress import Watch
from app.run_folder.folder import Run

BATCH = 32
# 10^3 to 10^4 images suffice: Wu and Johnson 2021, https://arxiv.org/abs/2105.07576
MOST = 10_000


@dataclass(frozen=True)
class Batches:
    """Preprocessed images of a split, in an order that depends on the seed alone, with their labels as integers; at
    most so many. Shuffled, since a folder comes sorted, and a batch of one class has that class's statistics."""

    split: Split
    preprocessing: Preprocessing
    size: int
    seed: int = 0
    most: int = MOST

    @property
    def count(self) -> int:
        """Of batches."""
        return -(-min(self.split.count, self.most) // self.size)

    def __iter__(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        def prepared(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return self.preprocessing(self.preprocessing.decode(encoded)), label

        examples = self.split.shuffled(self.seed, tf.constant(0, tf.int64)).take(self.most)
        if min(self.split.count, self.most) <= FEW:
            yield from few_batches(examples, self.preprocessing, self.size)
            return
        examples = examples.map(prepared, num_parallel_calls=tf.data.AUTOTUNE)
        yield from examples.batch(self.size).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


@dataclass(frozen=True)
class Watched:
    """The images alone, with progress at every pass."""

    batches: Batches
    watch: Watch
    what: str

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for pictures, _ in self.watch(self.batches, self.batches.count, self.what):
            yield pictures


@dataclass(frozen=True)
class Joined:
    """Several splits as one, one after the other."""

    splits: tuple[Split, ...]

    @property
    def count(self) -> int:
        return sum(split.count for split in self.splits)

    def in_order(self) -> tf.data.Dataset:
        return functools.reduce(tf.data.Dataset.concatenate, (split.in_order() for split in self.splits))

    def at(self, places: Sequence[int]) -> tf.data.Dataset:
        starts = np.cumsum([0, *(split.count for split in self.splits)])
        parts = (
            split.at([place - start for place in places if start <= place < start + split.count])
            for split, start in zip(self.splits, starts[:-1].tolist(), strict=True)
        )
        return functools.reduce(tf.data.Dataset.concatenate, parts)

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        parts = (split.shuffled(seed, epoch) for split in self.splits)
        return functools.reduce(tf.data.Dataset.concatenate, parts).skip(skipped)


def batches_of_run(folder: Path, split: Split, preprocessing: Preprocessing) -> Batches:
    """In batches as in the run's training."""
    recipe = Run(folder).read_classifier().recipe
    size, seed = (recipe.batch_size, recipe.seed) if recipe else (BATCH, 0)
    return Batches(split, preprocessing, max(2, min(size, split.count)), seed)


def positions(data: Data, labels: Sequence[str]) -> NDArray[Any] | None:
    """The network's index of each label of the data; None where the network does not have one of them."""
    if not set(data.labels) <= set(labels):
        return None
    return np.array([list(labels).index(label) for label in data.labels])
