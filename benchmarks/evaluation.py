"""What evaluating costs beside the network's own work: reading, decoding, resizing, and making crops.

    python -m benchmarks.evaluation [--rounds 5] [--network inception_v3] [--json]

JPEG photographs of 500 x 375, the average of ImageNet's, with random weights, in batches of 32:

    bare predict     `model.predict` on tensors that are in memory already: the limit
    evaluate         `evaluation.predict`, from the encoded files to the probabilities
    10, 144 crops    the same with many crops, per crop

Milliseconds by the clock, per image or crop; in turn, in another order every round. Ratios are medians over the rounds.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import keras
import tensorflow as tf
from rich.console import Console

from app.evaluation.evaluating import BATCH, predict
from app.images.preprocessing import Preprocessing
from app.networks.cards import CARDS
from app.pipeline.input_pipeline import evaluation_batches
from benchmarks.batch_normalization import printed, row, verdict
from benchmarks.input_pipeline import Photographs, photographs
from benchmarks.machine import machine
from models import NETWORKS

SIZE = (500, 375)
BARE, EVALUATE = "bare predict", "evaluate"
IMAGES = {1: 2 * BATCH, 10: 8, 144: 2}  # by crops; as many images or crops as fill their batches, or nearly
LARGEST = {EVALUATE: 1.1, "10 crops": 1.05, "144 crops": 1.05}
Work = tuple[Callable[[], Any], int]


def works(network: str) -> dict[str, Work]:
    """What is measured, each with its number of images or crops."""
    keras.utils.set_random_seed(0)
    side = CARDS[network].side
    model = NETWORKS[network](input_shape=(side, side, 3), classes=1000)
    preprocessing = Preprocessing(height=side, width=side)
    contents = photographs(SIZE).contents

    def evaluating(crops: int) -> Work:
        split = Photographs(contents, IMAGES[crops])
        return lambda: predict(model, split, preprocessing, crops=crops), IMAGES[crops] * crops

    batches = evaluation_batches(Photographs(contents, IMAGES[1]), preprocessing, BATCH)
    images = tf.concat([batch for batch, _ in batches], 0)
    held = tf.data.Dataset.from_tensor_slices(images).batch(BATCH).cache()
    return {
        BARE: (lambda: model.predict(held, verbose=0), IMAGES[1]),
        EVALUATE: evaluating(1),
        "10 crops": evaluating(10),
        "144 crops": evaluating(144),
    }


def measure(measured: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    """Milliseconds per image or crop and round; the same index is the same round. A first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in measured}
    for i in range(1 + rounds):
        names = list(measured)
        for name in names[i % len(names) :] + names[: i % len(names)]:
            work, images = measured[name]
            start = time.perf_counter()
            work()
            if i:
                found[name].append((time.perf_counter() - start) * 1000 / images)
    return found


def table(found: dict[str, list[float]], network: str) -> list[dict[str, Any]]:
    limit = round(statistics.median(found[BARE]), 3)
    made = []
    for name, times in found.items():
        against = BARE if name in (BARE, EVALUATE) else EVALUATE
        ratio = statistics.median(a / b for a, b in zip(times, found[against], strict=True))
        made.append(row(f"{name}, {network}", times, ratio, f"{against}, {network}", limit))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="two at least")
    parser.add_argument("--network", choices=sorted(NETWORKS), default="inception_v3")
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2: a spread needs two.")
    made = table(measure(works(arguments.network), arguments.rounds), arguments.network)
    if arguments.json:
        Console().print_json(json.dumps({"machine": machine(), "rows": made}))
        return
    console = Console()
    console.print(printed(made, "Milliseconds per image or crop", f"{machine()}; {arguments.rounds} rounds"))
    for line, (name, largest) in zip(made[1:], LARGEST.items(), strict=True):
        console.print(verdict(f"{name} / {line['against']}", line["ratio"], largest))


if __name__ == "__main__":
    main()
