"""Batches for the network, from a split's encoded images: read, decoded and resized in parallel, ahead of the step."""

import itertools
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.datasets import label_sets
from app.datasets.dataset import Split
from app.datasets.label_sets import LabelSets
from app.images.preprocessing import Preprocessing
from app.pipeline.augmentation import augmented, random_window
from app.pipeline.crops import crops as many_crops
from app.pipeline.held_pictures import HeldPictures
from app.pipeline.mixing import mixed
from app.program.parallel import in_parallel
from app.recipe import Recipe

FEW = 256  # images: a pipeline takes longer to set the decoder up than to decode so many small ones
HELD = 128 * 2**20  # bytes of validation images
CROPPED = 512 * 2**20  # bytes of crops that are made at the same time; 144 of 299 x 299 are 154 MB


class Share(NamedTuple):
    """What one of `workers` reads of every batch: a slice by position, chosen before anything is decoded. All shares
    together are the batch, which `workers` divides evenly."""

    worker: int = 0
    workers: int = 1

    @property
    def is_last(self) -> bool:
        return self.worker == self.workers - 1

    def of(self, examples: tf.data.Dataset, batch_size: int, more: int = 0) -> tf.data.Dataset:
        """Those of `examples` (position, example) in the share of their batch, and `more` that come after it; after the
        last of a batch comes its first."""
        size = batch_size // self.workers

        def is_mine(position: tf.Tensor, example: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            return (position - self.worker * size) % batch_size < size + more

        return examples if self.workers == 1 else examples.filter(is_mine)

    def count(self, images: int) -> int:
        """How many of so many images are this worker's, where they are dealt out one by one."""
        return len(range(self.worker, images, self.workers))


ALL = Share()


def steps_per_epoch(split: Split, recipe: Recipe) -> int:
    """Batches of an epoch: those of as many passes over the images as `Recipe.epoch_steps` asks for."""
    steps = _steps_per_pass(split, recipe)
    return steps * max(1, -(-recipe.epoch_steps // steps))


def _steps_per_pass(split: Split, recipe: Recipe) -> int:
    return max(1, split.count // recipe.batch_size)


def training_batches(
    split: Split,
    preprocessing: Preprocessing,
    recipe: Recipe,
    classes: int,
    first_step: int,
    share: Share = ALL,
    kinds: LabelSets = (),
) -> tf.data.Dataset:
    """Batches (images, one-hot labels) without end, from that of `first_step` (from 0) on, or a share of each. With
    several labels a picture, of which `kinds` are the `Data.label_sets`, a row has a 1 for each.

    Order and augmentation are functions of (seed, epoch, index); where an epoch is several passes over the images, each
    counts as one here. It leaves out the images that do not fill its last batch, others each time. Where MixUp or
    CutMix is wanted, the labels are mixed with the images.
    """
    steps = _steps_per_pass(split, recipe)
    first_epoch, done = divmod(first_step, steps)
    size = recipe.batch_size // share.workers
    mixes = bool(recipe.augmentation.mixup or recipe.augmentation.cutmix)
    # An image is mixed with the next of its batch. That of the last of a share is in another worker's: both read it.
    more = int(mixes and share.workers > 1)
    held = HeldPictures(split.count, preprocessing)
    if split.count <= FEW:
        held.fill(split.in_order())

    @tf.autograph.experimental.do_not_convert  # nothing here depends on a tensor's value
    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        def prepared(index: tf.Tensor, example: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            encoded, label = example
            # One key a picture: the seed, and the place of the picture in the whole run.
            key = tf.stack([tf.constant(recipe.seed, tf.int64), epoch * split.count + index])
            area = recipe.augmentation.crop_area
            window = random_window(key, area, preprocessing) if area < 1 else None
            pixels = held.decode_window(encoded, window) if window else held.decode(encoded)
            image = augmented(pixels, key, recipe.augmentation, preprocessing)
            return image, label_sets.targets(label, classes, kinds)

        skipped = tf.where(epoch == first_epoch, tf.constant(done, tf.int64), 0)  # batches
        first = skipped * recipe.batch_size
        examples = split.shuffled(recipe.seed, epoch, first).enumerate(first).take(steps * recipe.batch_size - first)
        images = share.of(examples, recipe.batch_size, more).map(prepared, num_parallel_calls=tf.data.AUTOTUNE)
        batches = images.batch(size + more, drop_remainder=split.count >= recipe.batch_size)
        if not mixes:
            return batches

        def mixed_batch(index: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            # No picture has this key: the numbers in theirs are not negative, and inverted ones are.
            key = tf.bitwise.invert(tf.stack([tf.constant(recipe.seed, tf.int64), epoch * steps + index]))
            if more and share.is_last:  # it was read first: the first of the batch, which is mixed with the last
                batch = tuple(tf.roll(part, -1, axis=0) for part in batch)
            images, labels = mixed(*batch, key, recipe.augmentation)
            return images[:size], labels[:size]

        return batches.enumerate(skipped).map(mixed_batch, num_parallel_calls=tf.data.AUTOTUNE)

    epochs = tf.data.Dataset.counter(first_epoch).flat_map(epoch_batches)
    # TensorFlow cannot see that it has no end; workers would ask each other at every step.
    endless = epochs.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return endless.prefetch(tf.data.AUTOTUNE).with_options(_own_threads())


def evaluation_batches(
    split: Split, preprocessing: Preprocessing, batch_size: int, crops: int = 1, share: Share = ALL, first: int = 0
) -> tf.data.Dataset:
    """Batches (images, labels as integers) from the image `first` on, each image once, in order; or so many crops of
    each, one after the other (see `crops.crops`): batches do not end where images do. Or those of every so many images
    that are a worker's share, in its share of a batch."""

    def prepared(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return preprocessing(preprocessing.decode(encoded)), label

    def cropped(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return many_crops(preprocessing.decode(encoded), preprocessing, crops), tf.fill((crops,), label)

    examples, size = split.in_order().skip(first).shard(share.workers, share.worker), batch_size // share.workers
    if crops == 1:
        images = examples.map(prepared, num_parallel_calls=tf.data.AUTOTUNE).batch(size)
    else:
        bytes_ = crops * preprocessing.height * preprocessing.width * 3 * tf.float32.size
        at_once = max(1, min(os.cpu_count() or 1, CROPPED // bytes_))
        images = examples.map(cropped, num_parallel_calls=at_once).rebatch(size)
    return images.prefetch(tf.data.AUTOTUNE).with_options(_own_threads())


def validation_batches(
    split: Split, preprocessing: Preprocessing, batch_size: int, share: Share = ALL
) -> tf.data.Dataset:
    """As `evaluation_batches`. Images that fit into `HELD` are decoded the first time only."""
    fit = split.count * 3 * preprocessing.height * preprocessing.width * tf.float32.size <= HELD
    if not fit or split.count > FEW:
        batches = evaluation_batches(split, preprocessing, batch_size, share=share)
        return batches.cache() if fit else batches
    examples = split.in_order().shard(share.workers, share.worker)
    images, labels = zip(*few_batches(examples, preprocessing, batch_size), strict=True)
    held = tf.data.Dataset.from_tensor_slices((np.concatenate(images), np.concatenate(labels)))
    return held.batch(batch_size // share.workers)


def few_batches(
    examples: tf.data.Dataset, preprocessing: Preprocessing, batch_size: int
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Batches of preprocessed images and of labels, by a decoder that is set up once for the process."""

    def prepared(example: tuple[bytes, int]) -> tuple[NDArray[Any], int]:
        return preprocessing(preprocessing.decode(example[0])).numpy(), example[1]

    found = in_parallel(prepared, examples.as_numpy_iterator(), batch_size)
    while batch := [*itertools.islice(found, batch_size)]:
        images, labels = zip(*batch, strict=True)
        yield np.stack(images), np.stack(labels)


def _own_threads() -> tf.data.Options:
    """A thread per core for the pipeline: those of TensorFlow are busy with the step, which waits for the images."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = os.cpu_count() or 1
    return options
