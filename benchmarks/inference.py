"""What an answer of inception_v3 costs: from our artefacts, Keras' own export, ONNX Runtime and OpenVINO.

    python -m benchmarks.inference [--rounds 20] [--json]

The network alone, at 299 pixels, with 1000 classes and random weights; nothing is read or decoded in the time measured.

    SavedModel             `predict_pixels`, of uint8: it resizes and scales as well; bfloat16 where the machine has it
    LiteRT                 float32, dynamic int8 and full int8, of uint8: they resize and scale as well
    Keras' export          `keras.applications.InceptionV3(weights=None).export`, of float32 scaled before
    ONNX Runtime           the folded network of our artefacts, by Keras' export and tf2onnx, of float32 scaled before
    OpenVINO               the same by Keras' export; int8 by NNCF, with the pictures that our int8 has its ranges from

Each is loaded and warmed up in a process of its own (see inference_worker), with 2 threads; in every round they are
called in turn, in another order, so that one at a time works. Milliseconds per image; ratios are medians of the ratios
within a round. The limit is what the network's multiply-adds take at the rate of a float32 product of two matrices,
measured in the same rounds; int8 may well be below.

The peers come with the extra `runtimes`; one that is not there is left out:

    pip install -c constraints.txt -e ".[app,runtimes]"
    python -m benchmarks.inference

NNCF reports to Intel that it was used; `opt_in_out --opt_out` beforehand keeps it from doing so.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import keras
import numpy as np
import sklearn.datasets
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from app.images.preprocessing import Preprocessing
from app.networks.counting import multiply_adds
from app.program import progress, quiet
from benchmarks.batch_normalization import milliseconds, printed, row, verdict
from benchmarks.inference_worker import THREADS
from benchmarks.machine import machine
from export import folding, half_precision, quantization, saved_model, tflite
from models import NETWORKS

ROOT = Path(__file__).parent.parent
NETWORK, SIDE, CLASSES = "inception_v3", 299, 1000
SAMPLES = 100  # pictures for the ranges of int8
CALLS = {1: 8, 8: 2}  # batch -> calls in a round
PAUSE = 0.1  # seconds, in which the threads of the one before stop looking for work
SAME = 1e-3  # of the largest probability: more, and two do not compute the same network
PRODUCT = 1024  # rows and columns of the matrices

OURS, BFLOAT16 = "SavedModel", "SavedModel bfloat16"
FLOAT32, DYNAMIC, INT8 = "LiteRT float32", "LiteRT dynamic", "LiteRT int8"
KERAS, ONNX_RUNTIME, OPENVINO, OPENVINO_INT8 = "Keras' export", "ONNX Runtime", "OpenVINO", "OpenVINO int8"
LIMIT = f"product of {PRODUCT} x {PRODUCT}"
# Name -> the worker's kind and the file.
CONTESTANTS = {
    OURS: ("predict_pixels", "saved_model"),
    BFLOAT16: ("predict_pixels", "bfloat16"),
    FLOAT32: ("litert", "model.tflite"),
    DYNAMIC: ("litert", "model.dynamic.tflite"),
    INT8: ("litert", "model.int8.tflite"),
    KERAS: ("keras_export", "keras"),
    ONNX_RUNTIME: ("onnx_runtime", "network.onnx"),
    OPENVINO: ("openvino", "openvino.xml"),
    OPENVINO_INT8: ("openvino_int8", "openvino_int8.xml"),
}
PEERS = {ONNX_RUNTIME: ("onnxruntime", "tf2onnx"), OPENVINO: ("openvino", "nncf")}  # what they need
INTEGERS = (DYNAMIC, INT8)
# Of these the fastest, against whom, batch -> largest ratio.
WANTED = (
    ((OURS,), KERAS, {1: 0.92, 8: 0.92}),
    ((OURS,), ONNX_RUNTIME, {8: 1.10}),
    ((FLOAT32,), ONNX_RUNTIME, {1: 1.0}),
    (INTEGERS, ONNX_RUNTIME, {1: 0.36, 8: 0.36}),
    (INTEGERS, OPENVINO_INT8, {1: 1.05, 8: 1.35}),
)


class Measured(NamedTuple):
    """`times` are milliseconds per image, per contestant and round; the same index is the same round."""

    times: dict[str, list[float]]
    versions: list[str]
    notes: dict[str, str]


def pictures(count: int) -> NDArray[np.uint8]:
    """Squares cut at random out of the two photographs of scikit-learn, uint8 (count, SIDE, SIDE, 3)."""
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in sklearn.datasets.load_sample_images().images]
    cut = []
    for i in range(count):
        photo = photos[i % len(photos)]
        side = int(rng.integers(SIDE // 2, min(photo.size)))
        left, top = (int(rng.integers(0, whole - side + 1)) for whole in photo.size)
        box = (left, top, left + side, top + side)
        cut.append(np.asarray(photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)))
    return np.stack(cut)


def settled(model: keras.Model, images: Any) -> keras.Model:
    """The network with statistics of `images` in its normalisations, and random gamma and beta: fresh ones would leave
    next to nothing to fold."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if folding.is_batch_normalization(layer):
            layer.momentum = 0.0
            layer.beta.assign(rng.normal(0, 0.1, layer.beta.shape))
            if layer.gamma is not None:
                layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
    model(images, training=True)
    return model


def write_artefacts(folder: Path) -> int:
    """Ours, Keras', `network` for the peers, and pictures; returns the network's multiply-adds."""
    keras.utils.set_random_seed(0)
    samples = pictures(SAMPLES)
    np.save(folder / "samples.npy", samples)
    for batch in CALLS:
        np.save(folder / f"pixels-{batch}.npy", samples[:batch])
    images = samples[: max(CALLS)] / np.float32(127.5) - 1
    network = folding.fold(settled(NETWORKS[NETWORK](classes=CLASSES), images))
    preprocessing, labels = Preprocessing(height=SIDE, width=SIDE), [f"class {i}" for i in range(CLASSES)]
    saved_model.write([(network, preprocessing)], labels, folder / "saved_model")
    if half_precision.machine_has_it():
        saved_model.write([(half_precision.in_bfloat16(network), preprocessing)], labels, folder / "bfloat16")
    source = folder / "model.tflite"
    with quiet.native():
        tflite.write(network, preprocessing, labels, source)
        ranges = quantization.ranges(source, network.name, samples)
        for kind in ("dynamic", "int8"):
            quantization.write(source, kind, folder / f"model.{kind}.tflite", network.name, ranges)
    network.export(folder / "network", verbose=False)
    theirs = settled(keras.applications.InceptionV3(weights=None, classes=CLASSES), images)
    theirs.export(folder / "keras", verbose=False)
    return multiply_adds(network)


def write_peers(folder: Path) -> list[str]:
    """The files of the peers that are installed; a sentence for each that is left out."""
    commands = {
        ONNX_RUNTIME: ["tf2onnx.convert", "--saved-model", "network", "--output", "network.onnx"],
        OPENVINO: ["benchmarks.inference_openvino", "network", "samples.npy", "openvino.xml", "openvino_int8.xml"],
    }
    missing = []
    for peer, needed in PEERS.items():
        if absent := [name for name in needed if not importlib.util.find_spec(name)]:
            missing.append(
                f"{peer} is left out, since {' and '.join(absent)} cannot be imported; the extra `runtimes` has it."
            )
            continue
        progress.console.print(f"Writing the files of {peer}")
        command = [sys.executable, "-m", *commands[peer]]
        done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{done.stderr}\nThe files of {peer} could not be written.")
    return missing


def environment() -> dict[str, str]:
    """For a process that works in another folder, and finds this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def measure(folder: Path, batch: int, rounds: int) -> Measured:
    """Of all whose files are in `folder`."""
    present = {name: (kind, file) for name, (kind, file) in CONTESTANTS.items() if (folder / file).exists()}
    matrix = tf.random.stateless_normal((PRODUCT, PRODUCT), seed=(0, 1))
    times: dict[str, list[float]] = {name: [] for name in (*present, LIMIT)}
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, (kind, file) in present.items():
            command = [sys.executable, "-m", "benchmarks.inference_worker", kind, file, f"pixels-{batch}.npy"]
            pipe = subprocess.PIPE
            workers[name] = stack.enter_context(
                subprocess.Popen(command, cwd=folder, env=environment(), stdin=pipe, stdout=pipe, text=True)
            )
        said = {name: reply(name, worker) for name, worker in workers.items()}
        compare({name: np.array(found["probabilities"]) for name, found in said.items()})
        for i in progress.watch(range(rounds), rounds, f"Batches of {batch}"):
            names = list(times)
            for name in names[i % len(names) :] + names[: i % len(names)]:
                time.sleep(PAUSE)
                if name == LIMIT:
                    times[name].append(min(milliseconds(lambda: tf.matmul(matrix, matrix)) for _ in range(10)))
                    continue
                times[name].append(reply(name, workers[name], CALLS[batch]) / batch)
    versions = sorted({found["version"] for found in said.values()})
    return Measured(times, versions, {name: found["note"] for name, found in said.items() if found["note"]})


def reply(name: str, worker: "subprocess.Popen[str]", calls: int | None = None) -> Any:
    """What a worker says: about itself, or the median of so many calls, in milliseconds."""
    assert worker.stdin
    assert worker.stdout
    if calls:
        worker.stdin.write(f"{calls}\n")
        worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"{name} ended, with exit code {worker.wait()}, before it had answered.")
    return json.loads(line)


def compare(probabilities: dict[str, NDArray[np.float64]]) -> None:
    """All that compute our network in float32 give the same answers, or the times would mean nothing."""
    ours = probabilities[OURS]
    for name in (FLOAT32, ONNX_RUNTIME, OPENVINO):
        if name in probabilities and (apart := np.abs(probabilities[name] - ours).max() / ours.max()) > SAME:
            raise SystemExit(f"{name} and {OURS} differ by {apart:.1e} of the largest probability: not one network.")


def paired(times: dict[str, list[float]], name: str, against: str) -> float:
    return statistics.median(a / b for a, b in zip(times[name], times[against], strict=True))


def table(found: Measured, batch: int, multiplications: int) -> list[dict[str, Any]]:
    """Each against Keras' export, and ours against what they are wanted to be compared with."""
    times = found.times
    product = statistics.median(times[LIMIT])
    limit = round(multiplications / PRODUCT**3 * product, 3)
    pairs = [(name, KERAS) for name in times if name != LIMIT]
    pairs += [
        (name, against)
        for names, against, largest in WANTED
        for name in names
        if batch in largest and against in times and (name, against) not in pairs
    ]
    rows = []
    for name, against in pairs:
        note = f", {found.notes[name]}" if name in found.notes else ""
        ratio = paired(times, name, against)
        rows.append(row(f"{name}, batch {batch}{note}", times[name], ratio, against, limit))
    rate = 2 * PRODUCT**3 / product / 1e6  # from milliseconds to 10^9 operations a second
    rows.append(row(f"{LIMIT}, {rate:.0f} GFLOP/s", times[LIMIT], 1.0, LIMIT, round(product, 3)))
    return rows


def verdicts(times: dict[str, list[float]], batch: int) -> list[str]:
    said = []
    for names, against, largest in WANTED:
        if batch in largest and against in times:
            name = min(names, key=lambda name: statistics.median(times[name]))
            figure = paired(times, name, against)
            said.append(verdict(f"{name} / {against}, batch {batch}", figure, largest[batch]))
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="two at least")
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2: a spread needs two.")
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    rows, said, versions = [], [], set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        progress.console.print(f"Building {NETWORK} and writing its artefacts")
        multiplications = write_artefacts(folder)
        missing = write_peers(folder)
        for batch in CALLS:
            found = measure(folder, batch, arguments.rounds)
            rows += table(found, batch, multiplications)
            said += verdicts(found.times, batch)
            versions |= {*found.versions}
    measured_on = f"{machine()}; {', '.join(sorted(versions))}"
    if arguments.json:
        Console().print_json(json.dumps({"machine": measured_on, "rows": rows}))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    title = f"{NETWORK} at {SIDE} pixels, {THREADS} threads, milliseconds per image"
    console.print(printed(rows, title, f"{measured_on}; {arguments.rounds} rounds"))
    for sentence in (*said, *missing):
        console.print(sentence)


if __name__ == "__main__":
    main()
