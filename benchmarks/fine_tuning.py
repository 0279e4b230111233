"""What the recipe `fine_tuning` gains with few images, beside the same without its stages and beside random weights.

    python -m benchmarks.fine_tuning [--seeds 3] [--json]

`bn_inception` at a quarter of its width and 48 pixels learns the digits 0 to 4; then 5 to 9 from ten images of each,
never seen before, and 15 epochs: with the recipe; with the recipe at one rate from the beginning; with the recipe from
random weights. Nothing is mirrored, which makes other digits of digits. `median_ms` and `spread` are those of a
training, `ratio` is the wrong answers over those from random weights, the median of the seeds.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import keras
import numpy as np
import sklearn.datasets
from PIL import Image
from rich.console import Console
from rich.table import Table

from app import recipe, training
from benchmarks.machine import machine

NETWORK = "bn_inception"
SETTINGS = ("width=0.25", "image_size=48", "augmentation.flip=false")
TRAINED = 10  # images of each new class
ONE_STAGE = ("fine_tuning.head_epochs=0", "fine_tuning.layer_decay=1")
AGAINST = "random weights"
ARMS = {"fine_tuning": ((), True), "in one stage": (ONE_STAGE, True), AGAINST: (ONE_STAGE, False)}


def write_digits(folder: Path, classes: range, seed: int, trained: int | None) -> None:
    """split/class/image; `trained` images of each class for training, a third of all if None, and half as many for
    validation; the others for the test."""
    rng, digits = np.random.default_rng(seed), sklearn.datasets.load_digits()
    for label in classes:
        numbers = rng.permutation(np.flatnonzero(digits.target == label))
        count = trained or len(numbers) // 3
        for i, number in enumerate(numbers):
            split = "train" if i < count else "validation" if i < count + count // 2 else "test"
            place = folder / split / str(label)
            place.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(np.uint8(digits.images[number] * 15)).resize((32, 32), Image.Resampling.BICUBIC)
            picture.save(place / f"{number}.png")


def measure(seed: int) -> dict[str, tuple[float, float]]:
    """The accuracy of each arm on the test images of the new classes, and the seconds of its training."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_digits(folder / "old", range(5), seed, None)
        write_digits(folder / "new", range(5, 10), seed, TRAINED)
        first = recipe.load("default", (*SETTINGS, "epochs=8", f"seed={seed}"))
        known = training.train(str(folder / "old"), NETWORK, folder / "known", first)
        found = {}
        for number, (arm, (settings, begins)) in enumerate(ARMS.items()):
            keras.backend.clear_session()
            own = recipe.load("fine_tuning", (*SETTINGS, "batch_size=10", f"seed={seed}", *settings))
            start = known.folder if begins else None
            started = time.perf_counter()
            run = training.train(str(folder / "new"), NETWORK, folder / str(number), own, start=start)
            found[arm] = (json.loads(run.metrics.read_text())["top_1"], time.perf_counter() - started)
    return found


def row(arm: str, found: list[dict[str, tuple[float, float]]]) -> dict[str, Any]:
    accuracies, seconds = zip(*(each[arm] for each in found), strict=True)
    return {
        "name": arm,
        "median_ms": round(1000 * statistics.median(seconds)),
        "spread": round(1000 * (max(seconds) - min(seconds))),
        "ratio": round(statistics.median((1 - each[arm][0]) / (1 - each[AGAINST][0]) for each in found), 3),
        "against": AGAINST,
        "limit": None,
        "accuracies": accuracies,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    found = [measure(seed) for seed in range(arguments.seeds)]
    rows = [row(arm, found) for arm in ARMS]
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=1))
        return
    table = Table("begins", "accuracy, by seed", "wrong answers over those from random weights", caption=machine())
    for line in rows:
        table.add_row(line["name"], "  ".join(f"{value:.1%}" for value in line["accuracies"]), f"{line['ratio']:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
