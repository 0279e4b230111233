"""How many of the 360 test digits a quantised network names wrongly that float32 names right, over five seeds.

    python -m benchmarks.quantization [--seeds 5] [--json]

`bn_inception` at a quarter of its width and 64 pixels, four epochs of the default recipe from each seed, then folded,
converted to LiteRT and quantised as `export --quantize` does, with the same training pictures for the ranges of int8,
but without its ladder: every kind is kept and asked about all test images. `lost` is the number of right answers that
float32 has more, below 0 where the kind has more. `median_ms` is the time per picture, its spread that between the
seeds, `ratio` that of the mean accuracies; the limit is an image lost on average.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import numpy as np
from rich.console import Console
from rich.table import Table

from app import recipe, run_folder, training
from app.datasets import loading
from app.exporting import calibrating
from app.program import quiet
from app.run_folder.trained import Trained
from benchmarks.batch_normalization import verdict
from benchmarks.machine import machine
from export import folding, quantization, run_artefact, tflite

NETWORK, SETTINGS = "bn_inception", ("width=0.25", "image_size=64", "epochs=4")
FLOAT32 = "float32"
WANTED = 1  # image lost by int8, on average


class Answers(NamedTuple):
    correct: int
    milliseconds: float  # per picture


def train(seed: int, folder: Path) -> Trained:
    run = training.train("digits", NETWORK, folder, recipe.load("default", (f"seed={seed}", *SETTINGS)))
    return run_folder.load(run.folder)


def write_files(trained: Trained, folder: Path) -> dict[str, Path]:
    """Kind -> LiteRT file."""
    source = folder / "model.tflite"
    samples = calibrating.samples(loading.load("digits"), trained.preprocessing)
    files = {FLOAT32: source}
    with quiet.native():
        tflite.write(folding.fold(trained.model), trained.preprocessing, trained.labels, source)
        ranges = quantization.ranges(source, trained.model.name, samples)
        for kind in quantization.KINDS:
            files[kind] = folder / f"model.{kind}.tflite"
            quantization.write(source, kind, files[kind], trained.model.name, ranges)
    return files


def ask(file: Path, trained: Trained) -> Answers:
    with quiet.native():
        network = run_artefact.tflite(str(file), os.cpu_count())
    correct, seconds = 0, []
    for encoded, label in loading.load("digits").test.in_order().as_numpy_iterator():
        pixels = trained.preprocessing.decode(encoded).numpy()
        started = time.perf_counter()
        probabilities = network(pixels[np.newaxis])
        seconds.append(time.perf_counter() - started)
        correct += int(probabilities.argmax() == label)
    return Answers(correct, 1000 * statistics.median(seconds))


def measure(seeds: int) -> dict[str, list[Answers]]:
    """Per kind, an entry for each seed."""
    found: dict[str, list[Answers]] = {kind: [] for kind in (FLOAT32, *quantization.KINDS)}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            trained = train(seed, folder / "run")
            for kind, file in write_files(trained, folder).items():
                found[kind].append(ask(file, trained))
    return found


def rows(found: dict[str, list[Answers]]) -> list[dict[str, Any]]:
    reference = [answers.correct for answers in found[FLOAT32]]
    made = []
    for kind, answers in found.items():
        times = [one.milliseconds for one in answers]
        correct = [one.correct for one in answers]
        lost = [right - now for right, now in zip(reference, correct, strict=True)]
        made.append(
            {
                "name": kind,
                "median_ms": round(statistics.median(times), 3),
                "spread": round(max(times) - min(times), 3),
                "ratio": round(sum(correct) / sum(reference), 4),
                "against": FLOAT32,
                "limit": WANTED,
                "correct": correct,
                "lost": lost,
                "mean_lost": round(statistics.mean(lost), 2),
            }
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    made = rows(measure(arguments.seeds))
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": made}, indent=1))
        return
    reference, *quantised = made
    shown = Table("seed", "float32 right", *(f"lost by {line['name']}" for line in quantised), caption=machine())
    for seed, correct in enumerate(reference["correct"]):
        shown.add_row(str(seed), str(correct), *(str(line["lost"][seed]) for line in quantised))
    mean = statistics.mean(reference["correct"])
    shown.add_row("mean", f"{mean:.1f}", *(f"{line['mean_lost']:.1f}" for line in quantised))
    console = Console(width=120)
    console.print(shown)
    lost = quantised[quantization.KINDS.index("int8")]["mean_lost"]
    console.print(verdict("images that int8 loses, on average", lost, WANTED))


if __name__ == "__main__":
    main()
