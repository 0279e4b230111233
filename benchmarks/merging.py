"""What merging convolutions that stand on one map (see `export.merging`) does to the time of an answer.

    python -m benchmarks.merging [--rounds 12] [--json]

Each network is written in each format twice, with and without, and both answer in turn, each in a process of its own
with 2 threads: `predict_pixels` of the SavedModel, and the other files, of pictures of the network's size. `ratio` is
the median of merged to unmerged within a round. Last, the SavedModel as it is written against LiteRT at 64 pixels.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import numpy as np

from app.program import quiet
from export import run_artefact

CASES = (("bn_inception", 64), ("bn_inception", 224), ("inception_v3", 299))
FILES = {"SavedModel": "saved_model", "LiteRT": "model.tflite", "ONNX": "model.onnx", "OpenVINO": "model.xml"}
CALLS = {1: 10, 8: 3}  # batch -> calls in a round
CLASSES, THREADS, WARM_UP = 1000, 2, 3
PAUSE = 0.1  # seconds, in which the threads of the one before stop looking for work
LIMIT = 1.5  # of LiteRT's time at 64 pixels, batch 1


def write(name: str, side: int, folder: Path) -> None:
    """`merged` and `apart`, with every file, and `pixels-N.npy` for each batch."""
    import keras

    from app.images.preprocessing import Preprocessing
    from benchmarks.calm import settled
    from export import folding, merging, onnx_file, openvino_ir, saved_model, tflite
    from models import NETWORKS

    rng = np.random.default_rng(0)
    for batch in CALLS:
        np.save(folder / f"pixels-{batch}.npy", rng.integers(0, 256, (batch, side, side, 3), dtype=np.uint8))
    keras.utils.set_random_seed(0)
    images = rng.uniform(-1, 1, (8, side, side, 3)).astype(np.float32)
    apart = folding.fold(settled(NETWORKS[name](input_shape=(side, side, 3), classes=CLASSES), images))
    preprocessing, labels = Preprocessing(height=side, width=side), [f"class {i}" for i in range(CLASSES)]
    writers = {"LiteRT": tflite.write, "ONNX": onnx_file.write, "OpenVINO": openvino_ir.write}
    for kind, network in {"merged": merging.merge(apart), "apart": apart}.items():
        to = folder / kind
        to.mkdir()
        with quiet.native(), mock.patch.object(merging, "merge", lambda given: given):
            saved_model.write([(network, preprocessing)], labels, to / FILES["SavedModel"])
            for format_, writer in writers.items():
                writer(network, preprocessing, labels, to / FILES[format_])


def work(file: str, pixels: str) -> None:
    """Answers, for each number on standard input, so many times, and prints the median in milliseconds."""
    images = np.load(pixels)
    with quiet.native():
        network = loaded(file)
        for _ in range(WARM_UP):
            network(images)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            started = time.perf_counter()
            network(images)
            times.append(time.perf_counter() - started)
        print(1000 * statistics.median(times), flush=True)


def loaded(file: str) -> Callable[[Any], Any]:
    if Path(file).is_file():
        network: Callable[[Any], Any] = run_artefact.RUNTIMES[Path(file).suffix][1](file, THREADS)
        return network
    with quiet.tensorflow():
        import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    served = tf.saved_model.load(file)
    return lambda images: served.signatures["predict_pixels"](images=tf.constant(images))["probabilities"].numpy()


@contextlib.contextmanager
def workers(files: dict[str, Path], pixels: Path) -> Iterator[dict[str, "subprocess.Popen[str]"]]:
    with contextlib.ExitStack() as stack:
        command, pipe = [sys.executable, "-m", "benchmarks.merging", "--work"], subprocess.PIPE
        yield {
            name: stack.enter_context(
                subprocess.Popen([*command, str(file), str(pixels)], stdin=pipe, stdout=pipe, text=True)
            )
            for name, file in files.items()
        }


def measure(files: dict[str, Path], pixels: Path, calls: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each, for every round."""
    times: dict[str, list[float]] = {name: [] for name in files}
    with workers(files, pixels) as started:
        for i in range(rounds + 1):
            names = [*files][i % len(files) :] + [*files][: i % len(files)]
            for name in names:
                time.sleep(PAUSE)
                stdin, stdout = started[name].stdin, started[name].stdout
                assert stdin
                assert stdout
                print(calls, file=stdin, flush=True)
                if not (line := stdout.readline()):
                    raise SystemExit(f"{name} ended before it had answered.")
                if i:  # the first waits for all to be loaded
                    times[name].append(float(line))
    return times


def ratio(times: dict[str, list[float]], name: str, against: str) -> float:
    return round(statistics.median(a / b for a, b in zip(times[name], times[against], strict=True)), 3)


def of_case(name: str, side: int, rounds: int) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(name, side, folder)
        for batch, calls in CALLS.items():
            pixels = folder / f"pixels-{batch}.npy"
            for format_, file in FILES.items():
                times = measure({kind: folder / kind / file for kind in ("merged", "apart")}, pixels, calls, rounds)
                figures = {kind: round(statistics.median(found) / batch, 3) for kind, found in times.items()}
                case = f"{name} at {side}, batch {batch}, {format_}"
                rows.append({"name": case, **figures, "ratio": ratio(times, "merged", "apart")})
            if (side, batch) == (64, 1):
                both = {"merged": folder / "merged" / FILES["SavedModel"], "apart": folder / "apart" / FILES["LiteRT"]}
                times = measure(both, pixels, calls, rounds)
                figures = {kind: round(statistics.median(found), 3) for kind, found in times.items()}
                against = f"{name} at {side}, SavedModel merged / LiteRT, at most {LIMIT}"
                rows.append({"name": against, **figures, "ratio": ratio(times, "merged", "apart")})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(*arguments.work)
        return
    from rich.console import Console

    from benchmarks.batch_normalization import printed
    from benchmarks.machine import machine

    rows = [row for name, side in CASES for row in of_case(name, side, arguments.rounds)]
    if arguments.json:
        Console().print_json(json.dumps({"machine": machine(), "rows": rows}))
        return
    title = f"Milliseconds per image, {THREADS} threads"
    Console(width=None if sys.stdout.isatty() else 140).print(
        printed(rows, title, f"{machine()}; {arguments.rounds} rounds")
    )


if __name__ == "__main__":
    main()
