"""The images that statistics are measured on: preprocessed, in an order that depends on a seed alone."""

import contextlib
import functools
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.datasets import label_sets
from app.datasets.dataset import Data, Split
from app.images.preprocessing import Preprocessing
from app.pipeline.input_pipeline import FEW, few_batches
from app.program.errors import UserError
from app.program.progress import Watch
from app.run_folder.folder import Run

BATCH = 32
# 10^3 to 10^4 images suffice: Wu and Johnson 2021, https://arxiv.org/abs/2105.07576
MOST = 10_000
MEMORY = 2**30  # bytes of decoded pictures, before they go to the disk


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

        if min(self.split.count, self.most) <= FEW:
            yield from few_batches(self.examples(), self.preprocessing, self.size)
            return
        yield from self.batched(self.examples().map(prepared, num_parallel_calls=tf.data.AUTOTUNE))

    def examples(self) -> tf.data.Dataset:
        """The images as they are encoded, one by one, and their labels."""
        return self.split.shuffled(self.seed, tf.constant(0, tf.int64)).take(self.most)

    def batched(self, examples: tf.data.Dataset) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        yield from examples.batch(self.size).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


class DecodedOnce:
    """The same batches, to be gone through several times, one after the other. The first time decodes and holds the
    pictures, uint8 as they are before they are resized: in memory, or from `MEMORY` on in a file that nobody sees and
    that is gone when this is closed."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self._file = tempfile.SpooledTemporaryFile(MEMORY)  # noqa: SIM115 - `__exit__` closes it
        self._held: list[tuple[int, int]] = []  # how many bytes each picture has there, and its label
        self._complete = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # of a full disk, which was told when it was written to
            self._file.close()

    @property
    def count(self) -> int:
        return self.batches.count

    def __iter__(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        return self._again() if self._complete else self._first()

    def _first(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Raises:
        UserError: the disk is full."""
        preprocessing = self.batches.preprocessing

        def prepared(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
            pixels = preprocessing.decode(encoded)
            return tf.io.serialize_tensor(pixels), preprocessing(pixels), label

        self._file.seek(0)
        self._held.clear()
        examples = self.batches.examples().map(prepared, num_parallel_calls=tf.data.AUTOTUNE)
        read = examples.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
        while batch := list(itertools.islice(read, self.batches.size)):
            for content, _, label in batch:
                self._hold(content, int(label))
            yield np.stack([image for _, image, _ in batch]), np.stack([label for *_, label in batch])
        self._complete = True

    def _hold(self, content: bytes, label: int) -> None:
        try:
            self._file.write(content)
        except OSError as error:
            raise UserError(
                f"{tempfile.gettempdir()} cannot hold the decoded pictures: {error.strerror}. Set TMPDIR to a folder "
                "with more room."
            ) from error
        self._held.append((len(content), label))

    def _again(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        def held() -> Iterator[tuple[bytes, int]]:
            self._file.seek(0)
            yield from ((self._file.read(length), label) for length, label in self._held)

        def prepared(content: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pixels = tf.ensure_shape(tf.io.parse_tensor(content, tf.uint8), (None, None, 3))
            return self.batches.preprocessing(pixels), label

        kinds = (tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.int64))
        examples = tf.data.Dataset.from_generator(held, output_signature=kinds)
        return self.batches.batched(examples.map(prepared, num_parallel_calls=tf.data.AUTOTUNE))


@dataclass(frozen=True)
class Watched:
    """The images alone, with progress at every pass."""

    batches: Batches | DecodedOnce
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
    label_sets.check_one(data.name, data.label_sets, "what is told of batch normalisation")
    if not set(data.labels) <= set(labels):
        return None
    return np.array([list(labels).index(label) for label in data.labels])
