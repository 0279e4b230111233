"""Batches for the network, from a split's encoded images: read, decoded and resized in parallel, ahead of the step."""

import os

import tensorflow as tf

from app.augmentation import augmented, random_window
from app.crops import crops as many_crops
from app.datasets import Split
from app.held_pictures import HeldPictures
from app.images import Preprocessing
from app.mixing import mixed
from app.recipe import Recipe

CROPPED = 512 * 2**20  # bytes of crops that are made at the same time; 144 of 299 x 299 are 154 MB


def steps_per_epoch(split: Split, recipe: Recipe) -> int:
    return max(1, split.count // recipe.batch_size)


def training_batches(
    split: Split, preprocessing: Preprocessing, recipe: Recipe, classes: int, first_step: int
) -> tf.data.Dataset:
    """Batches (images, one-hot labels) without end, from that of `first_step` (from 0) on.

    Order and augmentation are functions of (seed, epoch, index). An epoch leaves out the images that do not fill its
    last batch, others each time. Where MixUp or CutMix is wanted, the labels are mixed with the images.
    """
    steps = steps_per_epoch(split, recipe)
    first_epoch, done = divmod(first_step, steps)
    held = HeldPictures(split.count, preprocessing)

    @tf.autograph.experimental.do_not_convert  # nothing here depends on a tensor's value
    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        def prepared(index: tf.Tensor, example: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            encoded, label = example
            # One key a picture: the seed, and the place of the picture in the whole run.
            key = tf.stack([tf.constant(recipe.seed, tf.int64), epoch * split.count + index])
            area = recipe.augmentation.crop_area
            pixels = held.decode_window(encoded, random_window(key, area)) if area < 1 else held.decode(encoded)
            image = augmented(pixels, key, recipe.augmentation, preprocessing)
            return image, tf.one_hot(label, classes)

        skipped = tf.where(epoch == first_epoch, tf.constant(done, tf.int64), 0)  # batches
        first = skipped * recipe.batch_size
        examples = split.shuffled(recipe.seed, epoch, first).enumerate(first)
        images = examples.map(prepared, num_parallel_calls=tf.data.AUTOTUNE)
        batches = images.batch(recipe.batch_size, drop_remainder=split.count >= recipe.batch_size)
        if not (recipe.augmentation.mixup or recipe.augmentation.cutmix):
            return batches

        def mixed_batch(index: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            # Below zero, where no picture's key is.
            key = tf.bitwise.invert(tf.stack([tf.constant(recipe.seed, tf.int64), epoch * steps + index]))
            return mixed(*batch, key, recipe.augmentation)

        return batches.enumerate(skipped).map(mixed_batch, num_parallel_calls=tf.data.AUTOTUNE)

    epochs = tf.data.Dataset.counter(first_epoch)
    return epochs.flat_map(epoch_batches).prefetch(tf.data.AUTOTUNE).with_options(_own_threads())


def evaluation_batches(split: Split, preprocessing: Preprocessing, batch_size: int, crops: int = 1) -> tf.data.Dataset:
    """Batches (images, labels as integers), each image once, in order; or so many crops of each, one after the other
    (see `crops.crops`): batches do not end where images do."""

    def prepared(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return preprocessing(preprocessing.decode(encoded)), label

    def cropped(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return many_crops(preprocessing.decode(encoded), preprocessing, crops), tf.fill((crops,), label)

    if crops == 1:
        images = split.in_order().map(prepared, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)
    else:
        size = crops * preprocessing.height * preprocessing.width * 3 * tf.float32.size
        at_once = max(1, min(os.cpu_count() or 1, CROPPED // size))
        images = split.in_order().map(cropped, num_parallel_calls=at_once).rebatch(batch_size)
    return images.prefetch(tf.data.AUTOTUNE).with_options(_own_threads())


def _own_threads() -> tf.data.Options:
    """A thread per core for the pipeline: those of TensorFlow are busy with the step, which waits for the images."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = os.cpu_count() or 1
    return options
