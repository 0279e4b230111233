"""How many test images a quantised network names wrongly that float32 names right.

    python -m benchmarks.quantization [--seeds 5] [--json]
    python -m benchmarks.quantization --run RUN [--data DATA] [--json]

Of networks that are trained for it, from several seeds: `bn_inception` at a quarter of its width and 64 pixels, four
epochs of the default recipe on `digits`. Or of a finished run, on the test images of its data, which is looked for at
DATA if it has moved.

Each is folded, converted and quantised as `export --quantize` does, with the same training pictures for the ranges of
int8, but without its ladder: every kind is kept and asked about all test images, beside the float32 LiteRT file. ONNX
and OpenVINO come with the extra `runtimes`, and are left out without it.

`lost` is the number of right answers that float32 has more, below 0 where the kind has more; `points` is that in
percent of all images, `p` the probability of so many by chance (McNemar, exact and one-sided). `median_ms` is the time
per picture, its spread that between the networks, `ratio` that of the mean accuracies; the limit are the points that
int8 may lose.

The run of `RESULTS.md` is of CIFAR-10 (https://www.cs.toronto.edu/~kriz/cifar.html), 1,000 images of each class in a
folder train/CLASS and 200 in test/CLASS, as JPEG files:

    python -m app train cifar10 --network bn_inception --to runs/cifar10 --set width=0.35 --set image_size=64 \\
        --set epochs=22 --set batch_size=64 --set optimizer.rate=0.1 --set optimizer.nesterov=true \\
        --set optimizer.l2=0.0003 --set schedule.warmup=1 --set augmentation.flip=true --set augmentation.crop_area=0.5
    python -m benchmarks.quantization --run runs/cifar10
"""

import argparse
import importlib.util
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
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from app import recipe, run_folder, training
from app.datasets import Data, loading
from app.exporting import calibrating
from app.exporting.quantizing import by_chance
from app.program import progress, quiet
from app.run_folder import Run
from app.run_folder.trained import Trained
from benchmarks.batch_normalization import verdict
from benchmarks.machine import machine
from export import folding, onnx_file, quantization, quantized_onnx, quantized_openvino, run_artefact, tflite

NETWORK, SETTINGS = "bn_inception", ("width=0.25", "image_size=64", "epochs=4")
FLOAT32 = "LiteRT float32"
INT8 = ("LiteRT int8", "ONNX int8", "OpenVINO int8")
WANTED = 0.5  # points lost by int8


class Answers(NamedTuple):
    """Of one network: whether the answer to each picture is right, and the median time for one."""

    right: NDArray[np.bool_]
    milliseconds: float


def write_files(trained: Trained, data: Data, folder: Path) -> dict[str, Path]:
    """Kind -> file, of those that can be run here; the float32 LiteRT file is the first."""
    samples = calibrating.samples(data, trained.preprocessing)
    network, source, in_onnx = folding.fold(trained.model), folder / "model.tflite", folder / "model.onnx"
    files = {FLOAT32: source}
    with quiet.native():
        tflite.write(network, trained.preprocessing, trained.labels, source)
        ranges = quantization.ranges(source, network.name, samples)
        for kind in quantization.KINDS:
            file = files[f"LiteRT {kind}"] = folder / f"model.{kind}.tflite"
            quantization.write(source, kind, file, network.name, ranges)
    if all(importlib.util.find_spec(name) for name in ("tf2onnx", "onnxruntime")):
        file = files["ONNX int8"] = folder / "model.int8.onnx"
        onnx_file.write(network, trained.preprocessing, trained.labels, in_onnx)
        quantized_onnx.write(in_onnx, file, quantized_onnx.ranges(in_onnx, samples))
        if importlib.util.find_spec("openvino"):
            files["OpenVINO int8"] = folder / "model.int8.xml"
            quantized_openvino.write(file, files["OpenVINO int8"])
    return files


def ask(files: dict[str, Path], trained: Trained, data: Data) -> dict[str, Answers]:
    """What each of the files says to all test images."""
    with quiet.native():
        networks = {
            kind: run_artefact.RUNTIMES[file.suffix][1](str(file), os.cpu_count()) for kind, file in files.items()
        }
    right: dict[str, list[bool]] = {kind: [] for kind in files}
    seconds: dict[str, list[float]] = {kind: [] for kind in files}
    examples = progress.watch(data.test.in_order().as_numpy_iterator(), data.test.count, "Asking")
    for encoded, label in examples:
        pixels = trained.preprocessing.decode(encoded).numpy()[np.newaxis]
        for kind, network in networks.items():
            started = time.perf_counter()
            probabilities = network(pixels)
            seconds[kind].append(time.perf_counter() - started)
            right[kind].append(bool(probabilities.argmax() == label))
    return {kind: Answers(np.array(right[kind]), 1000 * statistics.median(seconds[kind])) for kind in files}


def measure(trained: Trained, data: Data) -> dict[str, Answers]:
    with tempfile.TemporaryDirectory() as folder:
        return ask(write_files(trained, data, Path(folder)), trained, data)


def of_seeds(seeds: int) -> dict[str, dict[str, Answers]]:
    """Per network, per kind."""
    found = {}
    data = loading.load("digits")
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as name:
            settings = recipe.load("default", (f"seed={seed}", *SETTINGS))
            run = training.train("digits", NETWORK, Path(name) / "run", settings)
            found[f"seed {seed}"] = measure(run_folder.load(run.folder), data)
    return found


def of_run(folder: Path, data_name: str | None) -> dict[str, dict[str, Answers]]:
    run = Run(folder)
    trained = run_folder.load(folder)
    data = loading.load(data_name, told=run.split) if data_name else loading.of_run(run)
    return {folder.resolve().name: measure(trained, data)}


def rows(found: dict[str, dict[str, Answers]]) -> list[dict[str, Any]]:
    """A row for each kind, over all networks."""
    networks = list(found.values())
    reference = np.stack([of_kinds[FLOAT32].right for of_kinds in networks])
    made = []
    for kind in networks[0]:
        times = [of_kinds[kind].milliseconds for of_kinds in networks]
        right = np.stack([of_kinds[kind].right for of_kinds in networks])
        lost, won = int(np.sum(reference & ~right)), int(np.sum(~reference & right))
        made.append(
            {
                "name": kind,
                "median_ms": round(statistics.median(times), 3),
                "spread": round(max(times) - min(times), 3),
                "ratio": round(float(right.sum() / reference.sum()), 4),
                "against": FLOAT32,
                "limit": WANTED,
                "correct": right.sum(axis=1).tolist(),
                "lost": (reference.sum(axis=1) - right.sum(axis=1)).tolist(),
                "points": round(100 * (lost - won) / right.size, 3),
                "p": round(by_chance(lost, won), 3),
            }
        )
    return made


def printed(made: list[dict[str, Any]], networks: list[str], images: int) -> Table:
    reference, *quantised = made
    shown = Table("network", "float32 right", *(f"lost by {line['name']}" for line in quantised), caption=machine())
    for place, network in enumerate(networks):
        shown.add_row(network, str(reference["correct"][place]), *(str(line["lost"][place]) for line in quantised))
    accuracy = 100 * sum(reference["correct"]) / (images * len(networks))
    shown.add_row("points", f"{accuracy:.2f} %", *(f"{line['points']:.2f}" for line in quantised))
    shown.add_row("p", "", *(f"{line['p']:.2f}" for line in quantised))
    shown.add_row("ms", f"{reference['median_ms']:.2f}", *(f"{line['median_ms']:.2f}" for line in quantised))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--run", type=Path, help="a finished run, instead of training")
    parser.add_argument("--data", help="where the data of the run is now")
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    found = of_run(arguments.run, arguments.data) if arguments.run else of_seeds(arguments.seeds)
    made = rows(found)
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": made}, indent=1))
        return
    images = next(iter(found.values()))[FLOAT32].right.size
    console = Console(width=140)
    console.print(printed(made, list(found), images))
    for line in made:
        if line["name"] in INT8:
            console.print(verdict(f"points that {line['name']} loses on {images} images", line["points"], WANTED))


if __name__ == "__main__":
    main()
