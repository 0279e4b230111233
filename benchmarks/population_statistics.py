"""What population statistics repair: accuracy on the test digits before and after, over three seeds.

    python -m benchmarks.population_statistics [--seeds 3] [--json]

Networks trained for 200 steps with a momentum of 0.99, which is too high for so short a run: the mini-Inception of the
study, and `bn_inception` at a quarter of its width and 64 pixels with the default recipe. Then the latter on test
images of three tenths of the contrast, around the middle grey, before and after adaptation to them without their
labels. `median_ms` is the time of measuring and adopting the statistics; `ratio` that
of the median accuracies; the limit is an accuracy of 1.
"""

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from app import recipe, training
from app.batch_norm import population, repair
from app.datasets import loading
from app.studies.short_training import BATCH, Setting, Training, read_digits
from benchmarks.machine import machine

STEPS, MOMENTUM, CONTRAST = 200, 0.99, 0.3
RATE, LAST = 0.2, 0.02  # of the mini-Inception, and the part of it that is left at the end
# Figures to reach: at most so much before (None: whatever), at least so much after.
WANTED: dict[str, tuple[float | None, float]] = {
    "mini-Inception, recalibrated": (None, 0.98),
    "bn_inception, recalibrated": (0.6, 0.95),
    "bn_inception at contrast 0.3, adapted": (0.35, 0.94),
}
Repair = tuple[float, float, float]  # accuracy before and after, seconds between


def mini_inception(seed: int) -> Repair:
    rest, test = read_digits()
    setting = Setting("batch", "relu", "he_normal", RATE, STEPS, seed, decay=LAST ** (1 / STEPS), moving=MOMENTUM)
    one = Training(setting, rest, test)
    while one.step < STEPS:
        one.look()
    before, started = one.accuracy(test), time.perf_counter()
    batches = [rest.images[i : i + BATCH] for i in range(0, len(rest.labels), BATCH)]
    population.recalibrate(one.model, batches)
    return before, one.accuracy(test), time.perf_counter() - started


def bn_inception(seed: int, folder: Path) -> tuple[Repair, Repair]:
    settings = [f"seed={seed}", "width=0.25", "image_size=64", f"steps={STEPS}"]
    settings += [f"batch_norm.momentum={MOMENTUM}", "batch_norm.recalibrate=never"]
    run = training.train("digits", "bn_inception", folder / f"run-{seed}", recipe.load("default", settings))
    started = time.perf_counter()
    mended = repair.recalibrate(run.folder, "digits")
    between = time.perf_counter() - started
    started = time.perf_counter()
    adapted = repair.adapt(run.folder, str(folder / "dimmed"), folder / f"adapted-{seed}")
    repairs = ((mended, between), (adapted, time.perf_counter() - started))
    first, second = ((found["before"], found["after"], seconds) for found, seconds in repairs)
    return first, second


def write_dimmed(folder: Path) -> None:
    """The test digits at a part of their contrast, class/image."""
    data = loading.load("digits")
    for position, (encoded, label) in enumerate(data.test.in_order().as_numpy_iterator()):
        with Image.open(io.BytesIO(encoded)) as picture:
            pixels = 127.5 + CONTRAST * (np.asarray(picture, np.float64) - 127.5)
        place = folder / data.labels[label] / f"{position:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(pixels).astype(np.uint8)).save(place)


def measure(seeds: int) -> dict[str, list[Repair]]:
    found: dict[str, list[Repair]] = {name: [] for name in WANTED}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dimmed(folder / "dimmed")
        for seed in range(seeds):
            for kind, repair in zip(WANTED, (mini_inception(seed), *bn_inception(seed, folder)), strict=True):
                found[kind].append(repair)
    return found


def row(name: str, repairs: list[Repair]) -> dict[str, Any]:
    before, after, seconds = ([repair[i] for repair in repairs] for i in range(3))
    return {
        "name": name,
        "median_ms": round(1000 * statistics.median(seconds)),
        "spread": round(1000 * (max(seconds) - min(seconds))),
        "ratio": round(statistics.median(after) / statistics.median(before), 2),
        "against": "before",
        "limit": 1.0,
        "before": [round(accuracy, 4) for accuracy in before],
        "after": [round(accuracy, 4) for accuracy in after],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    rows = [row(name, repairs) for name, repairs in measure(arguments.seeds).items()]
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=1))
        return
    shown = Table("", "before", "wanted", "after", "wanted", "seconds", caption=machine())
    for line in rows:
        highest, lowest = WANTED[line["name"]]
        before, after = (" ".join(f"{accuracy:.3f}" for accuracy in line[when]) for when in ("before", "after"))
        limits = "" if highest is None else f"at most {highest}", f"at least {lowest}"
        shown.add_row(line["name"], before, limits[0], after, limits[1], f"{line['median_ms'] / 1000:.1f}")
    Console(width=120).print(shown)


if __name__ == "__main__":
    main()
