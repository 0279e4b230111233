"""What an answer costs from every file that an export writes, and from those that others make of the same network.

    python -m benchmarks.inference [--network inception_v3] [--side 299] [--rounds 8] [--json]
    python -m benchmarks.inference --run RUN [--side 64]

The network has random weights that are calmed (see `calm`), or those of a finished run, at the run's size or another.
Nothing is read or decoded in the time measured.

    SavedModel             `predict_pixels`; bfloat16 where the machine has it
    LiteRT                 float32, dynamic int8 and full int8
    ONNX, OpenVINO         float32 and int8, run as the program runs them

are ours, of uint8 pixels: they resize and scale as well. Of the bare network, of float32 that is prepared before, are

    Keras' export          what `model.export` writes, the network as it was trained
    bare ONNX Runtime      the folded network of our files, by Keras' export and tf2onnx
    bare OpenVINO          the same by Keras' export; int8 by NNCF's defaults, with the pictures of our own ranges

Each is loaded and warmed up in a process of its own (see inference_worker), with 2 threads; in every round they are
called in turn, in another order, so that one at a time works. Milliseconds per image; ratios are medians of the ratios
within a round. The limit is what the network's multiply-adds take at the rate of a float32 product of two matrices,
measured in the same rounds; int8 and bfloat16 may well be below.

What runs ONNX and OpenVINO comes with the extra `runtimes`; whoever is not there is left out:

    pip install -c constraints.txt -e ".[app,runtimes]"
    python -m benchmarks.inference
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
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console

from app import run_folder
from app.exporting import runtimes
from app.images.preprocessing import Preprocessing
from app.networks.cards import CARDS
from app.networks.counting import multiply_adds
from app.program import progress, quiet
from app.run_folder import Run
from benchmarks.batch_normalization import milliseconds, printed, row, verdict
from benchmarks.calm import SETTLED_ON, pictures, settled
from benchmarks.inference_worker import THREADS
from benchmarks.machine import machine
from export import (
    folding,
    half_precision,
    onnx_file,
    openvino_ir,
    quantization,
    quantized_onnx,
    quantized_openvino,
    saved_model,
    tflite,
)
from models import NETWORKS

ROOT = Path(__file__).parent.parent
CLASSES = 1000
SAMPLES = 100  # pictures for the ranges of int8
CALLS = {1: 8, 8: 2}  # batch -> calls in a round
PAUSE = 0.1  # seconds, in which the threads of the one before stop looking for work
SAME = 1e-3  # of the largest probability: more, and two do not compute the same network
EXACT = 1e-5  # of a probability: what a float32 file of ours may differ from the network
PRODUCT = 1024  # rows and columns of the matrices

OURS, BFLOAT16 = "SavedModel", "SavedModel bfloat16"
FLOAT32, DYNAMIC, INT8 = "LiteRT float32", "LiteRT dynamic", "LiteRT int8"
ONNX, ONNX_INT8 = "ONNX float32", "ONNX int8"
OPENVINO, OPENVINO_INT8 = "OpenVINO float32", "OpenVINO int8"
KERAS = "Keras' export"
BARE_ONNX, BARE_OPENVINO, BARE_INT8 = "bare ONNX Runtime", "bare OpenVINO", "bare OpenVINO int8"
LIMIT = f"product of {PRODUCT} x {PRODUCT}"
# Name -> the worker's kind, the file, and what it is given.
CONTESTANTS = {
    OURS: ("predict_pixels", "saved_model", "pixels"),
    BFLOAT16: ("predict_pixels", "bfloat16", "pixels"),
    FLOAT32: ("artefact", "model.tflite", "pixels"),
    DYNAMIC: ("artefact", "model.dynamic.tflite", "pixels"),
    INT8: ("artefact", "model.int8.tflite", "pixels"),
    ONNX: ("artefact", "model.onnx", "pixels"),
    ONNX_INT8: ("artefact", "model.int8.onnx", "pixels"),
    OPENVINO: ("artefact", "model.xml", "pixels"),
    OPENVINO_INT8: ("artefact", "model.int8.xml", "pixels"),
    KERAS: ("keras_export", "keras", "images"),
    BARE_ONNX: ("onnx_runtime", "network.onnx", "images"),
    BARE_OPENVINO: ("openvino", "openvino.xml", "images"),
    BARE_INT8: ("openvino_int8", "openvino_int8.xml", "images"),
}
PEERS = {BARE_ONNX: ("onnxruntime", "tf2onnx"), BARE_OPENVINO: ("openvino", "nncf")}  # what they need
FLOATS, INTEGERS = (OURS, FLOAT32, ONNX, OPENVINO), (DYNAMIC, INT8, ONNX_INT8, OPENVINO_INT8)
Wanted = tuple[tuple[str, ...], str, dict[int, float]]
# Of these the fastest, against whom, batch -> largest ratio.
WANTED: tuple[Wanted, ...] = (
    (FLOATS, BARE_ONNX, {1: 1.05, 8: 1.05}),
    (FLOATS, BARE_OPENVINO, {1: 1.05, 8: 1.05}),
    ((OURS,), BARE_ONNX, {1: 1.05, 8: 1.05}),
    (INTEGERS, BARE_INT8, {1: 1.05, 8: 1.05}),
)
SMALL, WANTED_OF_SMALL = 64, ((OURS,), FLOAT32, {1: 1.5})  # pixels, up to which this is wanted as well


class Subject(NamedTuple):
    """The network that is measured, and what its pictures go through."""

    network: keras.Model
    preprocessing: Preprocessing
    labels: tuple[str, ...]

    @property
    def side(self) -> int:
        return self.preprocessing.height


class Measured(NamedTuple):
    """`times` are milliseconds per image, per contestant and round; the same index is the same round. `apart`
    is how far a probability is from the network's own, at most."""

    times: dict[str, list[float]]
    versions: list[str]
    apart: dict[str, float]


def calmed(network: str, side: int) -> Subject:
    """Of random weights, with a thousand classes."""
    keras.utils.set_random_seed(0)
    preprocessing = Preprocessing(height=side, width=side)
    model = NETWORKS[network](input_shape=(side, side, 3), classes=CLASSES)
    settled(model, preprocessing.on_device(pictures(SETTLED_ON, side)))
    return Subject(model, preprocessing, tuple(f"class {i}" for i in range(CLASSES)))


def of_run(folder: Path, side: int | None) -> Subject:
    """The network of a finished run, at its size or at another."""
    trained = run_folder.load(folder)
    if side is None or side == trained.preprocessing.height:
        return Subject(trained.model, trained.preprocessing, trained.labels)
    classifier = Run(folder).read_finished()
    sized = classifier.model_copy(update={"arguments": classifier.arguments | {"input_shape": (side, side, 3)}})
    network = sized.build()
    network.set_weights(trained.model.get_weights())
    preprocessing = trained.preprocessing.model_copy(update={"height": side, "width": side})
    return Subject(network, preprocessing, trained.labels)


def write_artefacts(folder: Path, subject: Subject) -> list[str]:
    """Ours, Keras', `network` for the peers, and what all of them are given; a sentence for each of ours that is left
    out."""
    network, preprocessing, labels = subject
    samples = pictures(SAMPLES, subject.side)
    images = np.concatenate([preprocessing.on_device(part).numpy() for part in np.split(samples, 10)])
    np.save(folder / "samples.npy", images)
    for batch in CALLS:
        np.save(folder / f"pixels-{batch}.npy", samples[:batch])
        np.save(folder / f"images-{batch}.npy", images[:batch])
        np.save(folder / f"expected-{batch}.npy", network.predict_on_batch(images[:batch]))
    folded = folding.fold(network)
    saved_model.write([(folded, preprocessing)], labels, folder / "saved_model")
    if half_precision.machine_has_it():
        saved_model.write([(half_precision.in_bfloat16(folded), preprocessing)], labels, folder / "bfloat16")
    source = folder / "model.tflite"
    with quiet.native():
        tflite.write(folded, preprocessing, labels, source)
        ranges = quantization.ranges(source, folded.name, samples)
        for kind in ("dynamic", "int8"):
            quantization.write(source, kind, folder / f"model.{kind}.tflite", folded.name, ranges)
    missing = write_for_runtimes(folder, subject._replace(network=folded), samples)
    folded.export(folder / "network", verbose=False)
    network.export(folder / "keras", verbose=False)
    return missing


def write_for_runtimes(folder: Path, folded: Subject, samples: NDArray[np.uint8]) -> list[str]:
    """Our files for ONNX Runtime and OpenVINO; a sentence for each format that is left out."""
    in_onnx, int8 = folder / "model.onnx", folder / "model.int8.onnx"
    lacking = {format_: absent(needed) for format_, needed in runtimes.WRITTEN_WITH.items()}
    if not lacking["onnx"]:
        onnx_file.write(*folded, in_onnx)
        quantized_onnx.write(in_onnx, int8, quantized_onnx.ranges(in_onnx, samples))
    if not lacking["openvino"]:
        openvino_ir.write(*folded, folder / "model.xml")
    if not (lacking["onnx"] or lacking["openvino"]):
        quantized_openvino.write(int8, folder / "model.int8.xml")
    return [left_out(f"the format {format_}", packages) for format_, packages in lacking.items() if packages]


def absent(packages: Iterable[str]) -> list[str]:
    return [name for name in packages if not importlib.util.find_spec(name)]


def left_out(what: str, packages: Sequence[str]) -> str:
    return f"{what} is left out, since {' and '.join(packages)} cannot be imported; the extra `runtimes` has it."


def write_peers(folder: Path) -> list[str]:
    """The files of the peers that are installed; a sentence for each that is left out."""
    commands = {
        BARE_ONNX: ["tf2onnx.convert", "--saved-model", "network", "--output", "network.onnx"],
        BARE_OPENVINO: ["benchmarks.inference_openvino", "network", "samples.npy", "openvino.xml", "openvino_int8.xml"],
    }
    missing = []
    for peer, needed in PEERS.items():
        if lacking := absent(needed):
            missing.append(left_out(peer, lacking))
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
    present = {name: found for name, found in CONTESTANTS.items() if (folder / found[1]).exists()}
    matrix = tf.random.stateless_normal((PRODUCT, PRODUCT), seed=(0, 1))
    times: dict[str, list[float]] = {name: [] for name in (*present, LIMIT)}
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, (kind, file, given) in present.items():
            command = [sys.executable, "-m", "benchmarks.inference_worker", kind, file, f"{given}-{batch}.npy"]
            pipe = subprocess.PIPE
            workers[name] = stack.enter_context(
                subprocess.Popen(command, cwd=folder, env=environment(), stdin=pipe, stdout=pipe, text=True)
            )
        said = {name: reply(name, worker) for name, worker in workers.items()}
        answers = {name: np.array(found["probabilities"]) for name, found in said.items()}
        apart = differences(answers, np.load(folder / f"expected-{batch}.npy"))
        for i in progress.watch(range(rounds), rounds, f"Batches of {batch}"):
            names = list(times)
            for name in names[i % len(names) :] + names[: i % len(names)]:
                time.sleep(PAUSE)
                if name == LIMIT:
                    times[name].append(min(milliseconds(lambda: tf.matmul(matrix, matrix)) for _ in range(10)))
                    continue
                times[name].append(reply(name, workers[name], CALLS[batch]) / batch)
    return Measured(times, sorted({found["version"] for found in said.values()}), apart)


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


def differences(answers: dict[str, NDArray[np.float64]], expected: NDArray[Any]) -> dict[str, float]:
    """The largest difference of a probability from the network's own, of each; all that compute in float32 compute the
    same network, or the times would mean nothing."""
    apart = {name: float(np.abs(answer - expected).max()) for name, answer in answers.items()}
    for name in (*FLOATS, KERAS, BARE_ONNX, BARE_OPENVINO):
        if name in apart and (share := apart[name] / expected.max()) > SAME:
            raise SystemExit(f"{name} differs by {share:.1e} of the largest probability: not the same network.")
    return apart


def paired(times: dict[str, list[float]], name: str, against: str) -> float:
    return statistics.median(a / b for a, b in zip(times[name], times[against], strict=True))


def table(found: Measured, batch: int, multiplications: int) -> list[dict[str, Any]]:
    """Each against the peer that it is wanted to be as fast as, or Keras' export where that is left out."""
    times = found.times
    product = statistics.median(times[LIMIT])
    limit = round(multiplications / PRODUCT**3 * product, 3)
    rows = []
    for name in (name for name in times if name != LIMIT):
        peer = BARE_INT8 if name in (*INTEGERS, BARE_INT8) else BARE_ONNX
        against = peer if peer in times else KERAS
        rows.append(row(f"{name}, batch {batch}", times[name], paired(times, name, against), against, limit))
    rate = 2 * PRODUCT**3 / product / 1e6  # from milliseconds to 10^9 operations a second
    rows.append(row(f"{LIMIT}, {rate:.0f} GFLOP/s", times[LIMIT], 1.0, LIMIT, round(product, 3)))
    return rows


def wanted(side: int) -> tuple[Wanted, ...]:
    return (*WANTED, WANTED_OF_SMALL) if side <= SMALL else WANTED


def verdicts(found: Measured, batch: int, side: int) -> list[str]:
    said = []
    times, apart = found.times, found.apart
    for names, against, largest in wanted(side):
        present = [name for name in names if name in times]
        if batch in largest and against in times and present:
            name = min(present, key=lambda name: statistics.median(times[name]))
            figure = paired(times, name, against)
            said.append(verdict(f"{name} / {against}, batch {batch}", figure, largest[batch]))
    worst = max((name for name in FLOATS if name in apart), key=lambda name: apart[name])
    outcome = "reached" if apart[worst] <= EXACT else "missed"
    said.append(
        f"largest difference of a probability, batch {batch}: {apart[worst]:.1e} ({worst}), wanted: at most "
        f"{EXACT:.0e}: {outcome}"
    )
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, metavar="NAME", help="a name from `networks`; inception_v3")
    parser.add_argument("--run", type=Path, help="a finished run, whose network is taken instead")
    parser.add_argument("--side", type=int, metavar="PIXELS", help="that of its publication, or of the run")
    parser.add_argument("--rounds", type=int, default=8, help="two at least")
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2: a spread needs two.")
    if arguments.run and arguments.network:
        parser.error("--run has a network already: leave --network out.")
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    if arguments.run:
        subject, what = of_run(arguments.run, arguments.side), "trained"
    else:
        network = arguments.network or "inception_v3"
        subject, what = calmed(network, arguments.side or CARDS[network].side), "calmed"
    title = f"{subject.network.name} ({what}) at {subject.side} pixels"
    rows, said, versions = [], [], set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        progress.console.print(f"Writing the files of {title}")
        missing = [*write_artefacts(folder, subject), *write_peers(folder)]
        for batch in CALLS:
            found = measure(folder, batch, arguments.rounds)
            rows += table(found, batch, multiply_adds(subject.network))
            said += verdicts(found, batch, subject.side)
            versions |= {*found.versions}
    measured_on = f"{machine()}; {', '.join(sorted(versions))}"
    if arguments.json:
        Console().print_json(json.dumps({"machine": measured_on, "subject": title, "rows": rows, "verdicts": said}))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    shown = f"{title}, {THREADS} threads, milliseconds per image"
    console.print(printed(rows, shown, f"{measured_on}; {arguments.rounds} rounds"))
    for sentence in (*said, *missing):
        console.print(sentence)


if __name__ == "__main__":
    main()
