"""Whether six networks together name more digits right than the best of them, over five repetitions.

    python -m benchmarks.ensemble [--repetitions 5] [--json]

Digits made harder: every one is turned by up to 30 degrees and lies under noise, and only 200 are for training, 100 for
validation; 600 are for the test, others in every repetition. Six `bn_inception` at a quarter of their width and 48
pixels, as `train --members 6` trains them, and the mean of their probabilities, as `evaluate RUN...` takes it.
`median_ms` and `spread` are those of a member's training, `ratio` is the ensemble's accuracy over that of the best
member, the limit what it has to exceed.
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

from app import evaluation, recipe, training
from app.training import members
from benchmarks.batch_normalization import verdict
from benchmarks.machine import machine

NETWORK, MEMBERS = "bn_inception", 6
SETTINGS = ("width=0.25", "image_size=48", "epochs=40", "batch_size=20")
COUNTS = {"train": 200, "validation": 100, "test": 600}
TURNED, NOISE = 30, 48  # degrees at most; grey levels, the deviation
WINS = 4  # of five repetitions


def write_digits(folder: Path, seed: int) -> None:
    """split/class/image, of digits that no other split has."""
    rng, digits = np.random.default_rng(seed), sklearn.datasets.load_digits()
    order = iter(rng.permutation(len(digits.target)))
    for split, count in COUNTS.items():
        for _ in range(count):
            number = int(next(order))
            picture = Image.fromarray(np.uint8(digits.images[number] * 15)).resize((32, 32), Image.Resampling.BICUBIC)
            turned = np.asarray(picture.rotate(rng.uniform(-TURNED, TURNED), Image.Resampling.BICUBIC), float)
            noisy = np.clip(turned + rng.normal(0, NOISE, turned.shape), 0, 255).astype(np.uint8)
            place = folder / split / str(digits.target[number])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noisy).save(place / f"{number}.png")


def repetition(seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        write_digits(Path(folder) / "digits", seed)
        wanted = recipe.load("default", (*SETTINGS, f"seed={seed * MEMBERS}"))
        runs, seconds = [], []
        for number, own in enumerate(members.recipes(wanted, MEMBERS)):
            keras.backend.clear_session()
            started = time.perf_counter()
            runs.append(training.train(str(Path(folder) / "digits"), NETWORK, Path(folder) / str(number), own).folder)
            seconds.append(time.perf_counter() - started)
        found = evaluation.evaluate(runs[0], None, others=runs[1:])
    alone = [row["top_1"] for row in found["members"]]
    return {
        "name": f"repetition {seed}",
        "median_ms": round(1000 * statistics.median(seconds)),
        "spread": round(1000 * (max(seconds) - min(seconds))),
        "ratio": round(found["top_1"] / max(alone), 4),
        "against": "the best member",
        "limit": 1,
        "ensemble": found["top_1"],
        "members": alone,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    rows = [repetition(seed) for seed in range(arguments.repetitions)]
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=1))
        return
    table = Table("repetition", "ensemble", "best member", "members", caption=machine())
    for row in rows:
        alone = "  ".join(f"{value:.1%}" for value in sorted(row["members"], reverse=True))
        table.add_row(row["name"], f"{row['ensemble']:.1%}", f"{max(row['members']):.1%}", alone)
    console = Console(width=120)
    console.print(table)
    losses = sum(row["ratio"] <= 1 for row in rows)
    console.print(verdict("repetitions in which the ensemble is not better", losses, len(rows) - WINS))


if __name__ == "__main__":
    main()
