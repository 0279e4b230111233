"""What exact checkpoints cost a training, and going on from one.

    python -m benchmarks.checkpoints [--network inception_v3] [--rounds 7] [--to FOLDER] [--json]

The network with RMSProp, momentum and a running average of its weights, four arrays for each weight: written, flushed
and renamed, beside the 60 seconds of training after which one is due; found, verified and restored, beside 2 seconds;
and the first batch from the middle of an epoch of 100,000 photographs, beside that from its beginning.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import keras
import sklearn.datasets
from PIL import Image
from rich.console import Console

from app import recipe
from app.datasets.files.image_files import FileSplit
from app.images.preprocessing import Preprocessing
from app.pipeline.input_pipeline import steps_per_epoch, training_batches
from app.run_folder.classifier import Classifier
from app.training.checkpoints import checkpoint
from app.training.checkpoints.checkpoint import VARIABLES, State
from app.training.checkpoints.saving import INTERVAL
from benchmarks.batch_normalization import printed, verdict
from benchmarks.machine import machine
from models import NETWORKS

WRITING, GOING_ON, SKIPPING = 0.03, 1.0, 1.1  # of the interval; of `LONGEST`; of the beginning's time
LONGEST = 2.0  # seconds
PHOTOGRAPHS, SIDE, CLASSES = 100_000, 299, 1000


def trained(network: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = NETWORKS[network](classifier_activation=None)
    optimizer = keras.optimizers.RMSprop(0.045, rho=0.9, momentum=0.9, epsilon=1.0, use_ema=True)
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True))
    optimizer.build(model.trainable_variables)
    return model


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cost(network: str, rounds: int, folder: Path) -> list[dict[str, Any]]:
    model = trained(network)
    described = Classifier(
        network=network,
        arguments={},
        labels=("one", "other"),
        preprocessing=Preprocessing(height=SIDE, width=SIDE),
        recipe=recipe.load("default"),
        versions={},
        seed=0,
        data=None,
    )

    def go_on() -> None:
        found = checkpoint.newest(folder)
        assert found
        found.restore(model)

    writing, going_on = [], []
    for step in range(rounds):
        state = State(classifier=described, step=step)
        writing.append(seconds(lambda state=state: checkpoint.write(folder, model, state)))  # type: ignore[misc]
        going_on.append(seconds(go_on))
    size = (folder / f"step-{rounds - 1:08}" / VARIABLES).stat().st_size
    return [
        row(f"writing {size / 1e6:.0f} MB", writing, INTERVAL, f"{INTERVAL:.0f} s of training", WRITING),
        row("finding, verifying, restoring", going_on, LONGEST, f"{LONGEST:.0f} s", GOING_ON),
    ]


def skipping(rounds: int, folder: Path) -> dict[str, Any]:
    photo = folder / "photo.jpg"
    Image.fromarray(sklearn.datasets.load_sample_images().images[0]).save(photo)
    split, wanted = FileSplit((str(photo),) * PHOTOGRAPHS, (0,) * PHOTOGRAPHS), recipe.load("photos")

    def first_batch(step: int) -> float:
        preprocessing = Preprocessing(height=SIDE, width=SIDE)
        return seconds(lambda: next(iter(training_batches(split, preprocessing, wanted, CLASSES, step))))

    middle = steps_per_epoch(split, wanted) // 2
    pairs = [(first_batch(0), first_batch(middle)) for _ in range(rounds)]
    beginning = statistics.median(pair[0] for pair in pairs)
    return row("first batch, mid-epoch", [pair[1] for pair in pairs], beginning, "first batch of an epoch", SKIPPING)


def row(name: str, times: list[float], against: float, what: str, limit: float) -> dict[str, Any]:
    return {
        "name": name,
        "median_ms": round(1000 * statistics.median(times), 1),
        "spread": round(1000 * (max(times) - min(times)), 1),
        "ratio": round(statistics.median(times) / against, 4),
        "against": what,
        "limit": limit,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="inception_v3")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--to", type=Path, help="a folder on the disk to measure; the temporary one if left out")
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.to) as folder:
        rows = cost(arguments.network, arguments.rounds, Path(folder))
        rows.append(skipping(arguments.rounds, Path(folder)))
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=1))
        return
    console = Console()
    console.print(printed(rows, f"Checkpoints of {arguments.network}", f"{machine()}; {arguments.rounds} rounds"))
    for line in rows:
        console.print(verdict(f"{line['name']} / {line['against']}", line["ratio"], line["limit"]))


if __name__ == "__main__":
    main()
