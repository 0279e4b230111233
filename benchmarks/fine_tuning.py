"""What trained weights are worth for few photographs: the recipe `fine_tuning`, beside what else can be done with them.

    python -m benchmarks.fine_tuning RUN CIFAR [--counts 10,30,100] [--seeds 5] [--json]

RUN is a run that was trained on the seven classes of CIFAR-10 that are not horse, ship and truck; CIFAR a folder with
`train/` and `test/` above all ten. Its network learns the three from so many pictures of each, and a tenth as many for
validation, at least two: with the recipe; with the same in one stage at one rate; with `linear_probe`; and from random
weights, in as many steps as the recipe has and in three times as many, at the rate and with the statistics that suit
these. All have the same augmentation, but for the probe, which has none.

`median_ms` and `spread` are those of a training, `ratio` is the errors over those from random weights (the better of
the two, by its median), the median of the seeds; `limit` is 0.7 for the recipe at 30 pictures.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from app import recipe, training
from app.run_folder.folder import Run
from benchmarks.machine import machine

CLASSES = ("horse", "ship", "truck")
ONE_STAGE = ("fine_tuning.head_epochs=0", "fine_tuning.layer_decay=1")
RANDOM = (*ONE_STAGE, "optimizer.rate=0.05")
# The recipe, what is set, and whether it begins with the weights.
ARMS: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "fine_tuning": ("fine_tuning", (), True),
    "in one stage": ("fine_tuning", ONE_STAGE, True),
    "linear_probe": ("linear_probe", (), True),
    "random weights": ("fine_tuning", RANDOM, False),
    "random weights, three times as long": ("fine_tuning", (*RANDOM, "epochs=45"), False),
}
AGAINST = tuple(arm for arm in ARMS if arm.startswith("random"))
LIMIT = (30, 0.7)  # the recipe's errors over those from random weights, with so many pictures of each class

Found = dict[tuple[int, str], list[tuple[float, float]]]


def link_pictures(cifar: Path, folder: Path, count: int, seed: int) -> None:
    """`folder`/split/class/file, links: so many for training, a tenth as many for validation, all for the test."""
    rng = np.random.default_rng(seed)
    for label in CLASSES:
        files = rng.permutation(sorted((cifar / "train" / label).iterdir()))
        few = max(2, count // 10)
        splits: dict[str, Iterable[Path]] = {
            "train": files[:count],
            "validation": files[count : count + few],
            "test": (cifar / "test" / label).iterdir(),
        }
        for split, chosen in splits.items():
            place = folder / split / label
            place.mkdir(parents=True)
            for file in chosen:
                (place / file.name).symlink_to(file.resolve())


def measure(start: Path, cifar: Path, count: int, seed: int, found: Found) -> None:
    """Adds the accuracy of each arm on the test images, and the seconds of its training."""
    classifier = Run(start).read_finished()
    width, side = classifier.arguments.get("width", 1.0), classifier.preprocessing.height
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        link_pictures(cifar, folder / "few", count, seed)
        for number, (arm, (named, settings, begins)) in enumerate(ARMS.items()):
            keras.backend.clear_session()
            own = () if begins else (f"width={width}", f"image_size={side}")
            wanted = recipe.load(named, (f"seed={seed}", *settings, *own))
            network = None if begins else classifier.network
            started = time.perf_counter()
            run = training.train(
                str(folder / "few"), network, folder / str(number), wanted, start=start if begins else None
            )
            accuracy = json.loads(run.metrics.read_text())["top_1"]
            found.setdefault((count, arm), []).append((accuracy, time.perf_counter() - started))
            Console(stderr=True).print(f"{count} pictures, seed {seed}, {arm}: {accuracy:.1%}")


def rows(found: Found) -> list[dict[str, Any]]:
    made = []
    for (count, arm), results in found.items():
        accuracies, seconds = zip(*results, strict=True)
        against = max(AGAINST, key=lambda each: statistics.median(top_1 for top_1, _ in found[count, each]))
        others = [top_1 for top_1, _ in found[count, against]]
        made.append(
            {
                "name": f"{arm}, {count} pictures",
                "median_ms": round(1000 * statistics.median(seconds)),
                "spread": round(1000 * (max(seconds) - min(seconds))),
                "ratio": round(
                    statistics.median((1 - a) / (1 - b) for a, b in zip(accuracies, others, strict=True)), 3
                ),
                "against": against,
                "limit": LIMIT[1] if (count, arm) == (LIMIT[0], "fine_tuning") else None,
                "accuracies": accuracies,
            }
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("cifar", type=Path)
    parser.add_argument("--counts", default="10,30,100")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    found: Found = {}
    for count in map(int, arguments.counts.split(",")):
        for seed in range(arguments.seeds):
            measure(arguments.run, arguments.cifar, count, seed, found)
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": rows(found)}, indent=1))
        return
    table = Table("begins", "accuracy, by seed", "errors over those from random weights", caption=machine())
    for line in rows(found):
        table.add_row(line["name"], "  ".join(f"{value:.1%}" for value in line["accuracies"]), f"{line['ratio']:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
