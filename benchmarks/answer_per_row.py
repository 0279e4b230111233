"""What an answer for every row costs: `serving_default` of a batch of 8 photographs, all of them good, beside the same
signature whose decoder fails the whole batch with one of them.

    python -m benchmarks.answer_per_row [--rounds 30] [--json]

Both are SavedModels that a session opens as TensorFlow Serving does, asked in turns; `ratio` is that of the medians.
"""

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import keras
import numpy as np
import sklearn.datasets
import tensorflow as tf
from PIL import Image
from rich.console import Console
from rich.table import Table

from app.images.preprocessing import Preprocessing
from benchmarks.machine import machine
from export import folding, saved_model
from models import NETWORKS

BATCH, LIMIT = 8, 1.05
# Network, its side, and the width and height of the photographs.
CASES = (("bn_inception", 64, (200, 133)), ("bn_inception", 224, (500, 333)), ("inception_v3", 299, (640, 427)))


def all_or_nothing(function: Any, batch: tf.Tensor, otherwise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """As the signature was before: an error of a row is one of the batch."""
    found = tf.map_fn(function, batch, fn_output_signature=tf.TensorSpec(otherwise.shape, otherwise.dtype))
    return found, tf.fill(tf.shape(batch), True)


def served(folder: Path) -> Callable[[list[bytes]], Any]:
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(folder)).signature_def["serving_default"]
        outputs = [output.name for output in signature.outputs.values()]
        return session.make_callable(outputs, [signature.inputs["image_bytes"].name])


def photographs(size: tuple[int, int]) -> list[bytes]:
    photo = Image.fromarray(sklearn.datasets.load_sample_images().images[0])
    found = []
    for number in range(BATCH):
        buffer = io.BytesIO()
        photo.resize(size).save(buffer, "JPEG", quality=80 + number)
        found.append(buffer.getvalue())
    return found


def measured(name: str, side: int, size: tuple[int, int], rounds: int) -> dict[str, Any]:
    keras.utils.set_random_seed(0)
    model = folding.fold(NETWORKS[name](input_shape=(side, side, 3), classes=10))
    networks, labels = [(model, Preprocessing(height=side, width=side))], [f"class_{i}" for i in range(10)]
    batch = photographs(size)
    with tempfile.TemporaryDirectory() as folder:
        for place in ("every row", "whole batch"):
            way = saved_model._each_that_can if place == "every row" else all_or_nothing
            with mock.patch.object(saved_model, "_each_that_can", way):
                saved_model.write(networks, labels, Path(folder) / place)
        asked = {place: served(Path(folder) / place) for place in ("every row", "whole batch")}
        seconds: dict[str, list[float]] = {place: [] for place in asked}
        for turn in range(rounds + 3):
            for place, ask in asked.items():
                started = time.perf_counter()
                ask(batch)
                if turn >= 3:
                    seconds[place].append(time.perf_counter() - started)
    medians = {place: 1000 * float(np.median(times)) for place, times in seconds.items()}
    spread = np.subtract(*np.percentile(seconds["every row"], [75, 25]))
    return {
        "name": f"{name} {side}, photographs of {size[0]} x {size[1]}",
        "median_ms": round(medians["every row"], 2),
        "spread": round(1000 * float(spread), 2),
        "ratio": round(medians["every row"] / medians["whole batch"], 3),
        "against": "a batch that fails as one",
        "limit": LIMIT,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    rows = [measured(*case, arguments.rounds) for case in CASES]
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=1))
        return
    table = Table("network", "ms", "spread", "ratio", caption=machine())
    for row in rows:
        table.add_row(row["name"], f"{row['median_ms']:.1f}", f"{row['spread']:.1f}", f"{row['ratio']:.3f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
