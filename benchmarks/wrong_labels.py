"""How many labels that were made wrong are found at the head of the list of `check --with`.

    python -m benchmarks.wrong_labels cifar10 [--folds 5] [--epochs 16] [--seed 0] [--json]

Of the training images of a folder split/class/image, CIFAR's 10,000, 5 % get another class, drawn evenly;
`bn_inception` at 0.35 of its width and 64 pixels learns them as they are. Ranked is by the features of this one run, or
by so many folds. `ratio` is the share of the wrong labels that is missed in the first 8 % of the list, `median_ms` what
training and ranking took.
"""

import argparse
import csv
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import numpy as np

from app import recipe, training
from app.datasets import loading
from app.evaluation import wrong_labels
from app.program.progress import watch
from app.training import folds as cross_validation
from benchmarks.machine import machine

FLIPPED, FIRST, MISSED = 0.05, 0.08, 0.3
SETTINGS = (
    "width=0.35",
    "image_size=64",
    "batch_size=64",
    "optimizer.rate=0.1",
    "optimizer.nesterov=true",
    "optimizer.l2=0.0003",
    "schedule.warmup=1",
    "augmentation.flip=true",
    "augmentation.crop_area=0.5",
)


def write(data: str, to: Path, seed: int) -> set[str]:
    """The manifest of the images with some labels flipped; returns the files of these."""
    listing, rng = loading.listing(data), np.random.default_rng(seed)
    labels = sorted({file.label for file in listing.files})
    trained = [place for place, file in enumerate(listing.files) if file.split != "test"]
    chosen = {*rng.choice(trained, round(FLIPPED * len(trained)), replace=False).tolist()}
    with to.open("w", newline="") as content:
        rows = csv.writer(content)
        rows.writerow(("file", "label", "split"))
        for place, file in enumerate(listing.files):
            others = [label for label in labels if label != file.label]
            label = rng.choice(others) if place in chosen else file.label
            rows.writerow((file.path.absolute(), label, file.split))
    return {str(listing.files[place].path.absolute()) for place in chosen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    wanted = recipe.load("default", (*SETTINGS, f"epochs={arguments.epochs}"))
    with tempfile.TemporaryDirectory() as name:
        manifest, to = Path(name, "flipped.csv"), Path(name, "run")
        flipped = write(arguments.data, manifest, arguments.seed)
        begun = time.perf_counter()
        if arguments.folds:
            runs = cross_validation.train(arguments.folds, str(manifest), "bn_inception", to, wanted, watch)
        else:
            runs = [training.train(str(manifest), "bn_inception", to, wanted, watch)]
        found = wrong_labels.find(str(manifest), to, watch)
        seconds = time.perf_counter() - begun
        tops = [json.loads(run.metrics.read_text())["top_1"] for run in runs]
    first = found.suspects[: round(FIRST * len(found.suspects))]
    hits = sum(str(one.file.path) in flipped for one in first)
    likely = sum(str(one.file.path) in flipped for one in found.likely)
    row = {
        "name": f"{arguments.folds} folds" if arguments.folds else "one run, cross-fitted",
        "median_ms": round(1000 * seconds),
        "ratio": round(1 - hits / len(flipped), 3),
        "limit": MISSED,
        "top_1": tops,
        "likely": [likely, len(found.likely)],
    }
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": [row]}, indent=1))
        return
    print(f"{hits} of {len(flipped)} wrong labels are in the first {len(first)} of {len(found.suspects)}")
    print(f"{likely} are among the {len(found.likely)} that are likely wrong; top-1 {np.mean(tops):.3f}; {machine()}")


if __name__ == "__main__":
    main()
