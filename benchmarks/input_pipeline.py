"""How fast photographs become batches: the program's pipeline, other ways, and the training step that waits for them.

    python -m benchmarks.input_pipeline [--rounds 10] [--network inception_v3] [--json]

JPEG photographs of two sizes, random crops of 30 to 100 % of the area, flips, resized to 299 x 299 with antialiasing:

    pipeline                 `input_pipeline.training_batches` with the recipe `photos`
    fused, bare              `decode_and_crop_jpeg` and the same resize in a loop around nothing else: the limit
    fused, decoding alone    without the resize
    decode, then crop        `tf.image` in a `tf.data` pipeline, as TensorFlow's guides write it
    Pillow                   open, crop, resize, flip, to an array of floats

In milliseconds of processor time per image, so per core, whatever the number of threads; in turn, in another order
every round. Ratios are medians over the rounds: above 1, the pipeline makes more images per second. The training step
is measured by the clock, since it uses the whole machine.
"""

import argparse
import io
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import keras
import numpy as np
import sklearn.datasets
import tensorflow as tf
from PIL import Image
from rich.console import Console

from app import recipe
from app.datasets.dataset import Split
from app.images.preprocessing import Preprocessing
from app.pipeline.augmentation import random_window
from app.pipeline.input_pipeline import training_batches
from benchmarks.batch_normalization import printed, row
from benchmarks.machine import machine
from models import NETWORKS

SIDE, BATCH, STEP_BATCH, CLASSES = 299, 32, 8, 1000
SIZES = ((640, 427), (1600, 1200))
QUALITY = 85
WARM_UP = 2
PHOTOS = recipe.load("photos")
SMALLEST = PHOTOS.augmentation.crop_area
WANTED = {"decode, then crop": 1.2, "fused, bare": 0.9, "Pillow": 1.5}
BUSY = 0.8  # of the step's time: beyond, the network waits for its images


@dataclass(frozen=True)
class Photographs:
    """The two photographs of scikit-learn at one size, again and again."""

    contents: tuple[bytes, ...]
    count: int = 100 * BATCH  # so that beginning an epoch costs nothing

    def in_order(self) -> tf.data.Dataset:
        contents = tf.data.Dataset.from_tensor_slices(list(self.contents)).repeat().take(self.count)
        return contents.map(lambda encoded: (encoded, tf.zeros((), tf.int64)))

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        return self.in_order().skip(skipped)

    at = Split.at


def photographs(size: tuple[int, int]) -> Photographs:
    contents = []
    for photo in sklearn.datasets.load_sample_images().images:
        buffer = io.BytesIO()
        Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=QUALITY)
        contents.append(buffer.getvalue())
    return Photographs(tuple(contents))


def program(split: Photographs) -> Callable[[], Any]:
    batches = training_batches(split, Preprocessing(height=SIDE, width=SIDE), PHOTOS, CLASSES, first_step=0)
    return _next(iter(batches))


def decode_then_crop(split: Photographs) -> Callable[[], Any]:
    def prepared(index: tf.Tensor, example: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        key = tf.stack([tf.constant(0, tf.int64), index])
        pixels = random_window(key, SMALLEST).of(tf.io.decode_jpeg(example[0], channels=3))
        image = tf.image.resize(pixels, (SIDE, SIDE), antialias=True)
        image = tf.image.stateless_random_flip_left_right(image, key)
        return image / 127.5 - 1.0, tf.one_hot(example[1], CLASSES)

    examples = split.in_order().repeat().enumerate()
    images = examples.map(prepared, num_parallel_calls=tf.data.AUTOTUNE)
    return _next(iter(images.batch(BATCH).prefetch(tf.data.AUTOTUNE)))


def _next(batches: Iterator[Any]) -> Callable[[], Any]:
    def batch() -> None:
        next(batches)
        # What was taken is made anew behind our back: the round ends when nobody works any more.
        before = -1.0
        while time.process_time() - before > 0.002:
            before = time.process_time()
            time.sleep(0.03)

    return batch


def windows(split: Photographs) -> tf.Tensor:
    """Top, left, height and width for each image of a batch; int32 (BATCH, 4)."""
    whole = tf.image.extract_jpeg_shape(split.contents[0])[:2]
    keys = [tf.constant([1, index], tf.int64) for index in range(BATCH)]
    return tf.stack([tf.concat(random_window(key, SMALLEST).pixels(whole), 0) for key in keys])


def bare(split: Photographs, resized: bool) -> Callable[[], Any]:
    contents, places = tf.constant(split.contents), windows(split)

    def one(index: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        encoded = contents[index % len(split.contents)]
        pixels = tf.image.decode_and_crop_jpeg(encoded, places[index], channels=3, dct_method="INTEGER_ACCURATE")
        if resized:
            pixels = tf.image.resize(pixels, (SIDE, SIDE), antialias=True)
        return index + 1, total + tf.cast(pixels[0, 0, 0], tf.float32)

    @tf.function(autograph=False)
    def batch() -> tf.Tensor:
        return tf.while_loop(lambda index, _: index < BATCH, one, (0, 0.0), parallel_iterations=1)

    return batch


def pillow(split: Photographs) -> Callable[[], Any]:
    places = windows(split).numpy().tolist()
    rng = np.random.default_rng(0)

    def prepared(content: bytes, place: list[int]) -> Any:
        top, left, height, width = place
        with Image.open(io.BytesIO(content)) as image:
            window = image.convert("RGB").crop((left, top, left + width, top + height))
        resized = window.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        if rng.random() < 0.5:
            resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.asarray(resized, np.float32) / 127.5 - 1.0

    return lambda: np.stack([prepared(*given) for given in zip(itertools.cycle(split.contents), places, strict=False)])


def training_step(network: str) -> Callable[[], Any]:
    keras.utils.set_random_seed(0)
    model = NETWORKS[network](input_shape=(SIDE, SIDE, 3), classes=CLASSES, classifier_activation=None)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False)
    images = tf.random.stateless_uniform((STEP_BATCH, SIDE, SIDE, 3), (0, 1), -1, 1)
    labels = tf.one_hot(tf.range(STEP_BATCH), CLASSES)
    return lambda: model.train_on_batch(images, labels)


def milliseconds(batch: Callable[[], Any], clock: Callable[[], float], images: int) -> float:
    start = clock()
    batch()
    return (clock() - start) * 1000 / images


def measure(batches: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of processor time per image and round; the same index is the same round."""
    found: dict[str, list[float]] = {name: [] for name in batches}
    for i in range(WARM_UP + rounds):
        names = list(batches)
        for name in names[i % len(names) :] + names[: i % len(names)]:
            taken = milliseconds(batches[name], time.process_time, BATCH)
            if i >= WARM_UP:
                found[name].append(taken)
    return found


def rows(size: tuple[int, int], rounds: int) -> list[dict[str, Any]]:
    split = photographs(size)
    found = measure(
        {
            "pipeline": program(split),
            "fused, bare": bare(split, resized=True),
            "fused, decoding alone": bare(split, resized=False),
            "decode, then crop": decode_then_crop(split),
            "Pillow": pillow(split),
        },
        rounds,
    )
    limit = round(statistics.median(found["fused, bare"]), 3)
    made = []
    for name, times in found.items():
        ratio = statistics.median(a / b for a, b in zip(times, found["pipeline"], strict=True))
        made.append(row(f"{name}, {size[0]} x {size[1]}", times, ratio, f"pipeline, {size[0]} x {size[1]}", limit))
    return made


def verdict(rows: list[dict[str, Any]], network: str) -> list[str]:
    """What was wanted and what came, and whether the network waits for its images."""
    said = []
    for name, wanted in WANTED.items():
        for line in rows:
            if line["name"].startswith(name):
                reached = "reached" if line["ratio"] >= wanted else "missed"
                said.append(
                    f"images/s of the pipeline / {line['name']} = {line['ratio']:.2f}, wanted: {wanted}: {reached}"
                )
    step = rows[-1]["median_ms"]
    for line in rows[:-1]:
        if line["name"].startswith("pipeline"):
            image = line["median_ms"] / (os.cpu_count() or 1)
            share = image / step
            what = f"{line['name']}: {1000 / image:.0f} images/s on all cores, {network} takes {1000 / step:.0f}"
            if share < BUSY:
                said.append(
                    f"{what}: it never waits. Training is as fast as the network: width, image_size, precision."
                )
            else:
                said.append(
                    f"{what}: it waits for its images. Store them smaller, about twice image_size a side: then less is "
                    "read and decoded, and what fits into memory is decoded once."
                )
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="two at least")
    parser.add_argument("--network", choices=sorted(NETWORKS), default="inception_v3")
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2: a spread needs two.")
    made = [line for size in SIZES for line in rows(size, arguments.rounds)]
    step = training_step(arguments.network)
    for _ in range(WARM_UP):
        step()
    times = [milliseconds(step, time.perf_counter, STEP_BATCH) for _ in range(max(2, arguments.rounds // 3))]
    made.append(row(f"training step, {arguments.network}", times, 1.0, f"training step, {arguments.network}", 0.0))
    if arguments.json:
        Console().print_json(json.dumps({"machine": machine(), "rows": made}))
        return
    console = Console()
    title = f"Milliseconds of processor time per image, to {SIDE} x {SIDE}; of the step, by the clock"
    console.print(printed(made, title, f"{machine()}; {arguments.rounds} rounds of {BATCH} images"))
    for sentence in verdict(made, arguments.network):
        console.print(sentence)


if __name__ == "__main__":
    main()
