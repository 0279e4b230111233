"""One contestant of `benchmarks.inference`, for a process of its own.

    python -m benchmarks.inference_worker KIND FILE INPUT

KIND is one of `KINDS`, FILE what it runs, INPUT a NumPy file of what it is given: (batch, height, width, 3), uint8
pixels or float32 as the network takes them. Prints a JSON object: `probabilities`, (batch, classes), and `version` of
the runtime. Then, for each line on standard input, a number of calls, it makes them and prints their median in
milliseconds.

Each kind imports its own runtime alone.
"""

import functools
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import numpy as np

from app.program import quiet
from export import run_artefact

THREADS = 2
WARM_UP = 3
# Suffix of a file of ours -> who runs it, and of which package.
RUN_BY = {
    ".tflite": ("LiteRT", "ai-edge-litert"),
    ".onnx": ("ONNX Runtime", "onnxruntime"),
    ".xml": ("OpenVINO", "openvino"),
}


class Contestant(NamedTuple):
    """`call` gives probabilities, (batch, classes), of what it was made with."""

    call: Callable[[], Any]
    version: str


def artefact(file: str, pixels: Any) -> Contestant:
    """A file of ours, as the program runs it."""
    suffix = Path(file).suffix
    _, load = run_artefact.RUNTIMES[suffix]
    with quiet.native():
        network = load(file, THREADS)
        network(pixels)  # LiteRT says how it allocates
    return Contestant(lambda: network(pixels), _version(*RUN_BY[suffix]))


def saved_model(folder: str, images: Any, signature: str) -> Contestant:
    with quiet.tensorflow():
        import tensorflow as tf
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    loaded = tf.saved_model.load(folder)
    (name,) = loaded.signatures[signature].structured_input_signature[1]
    given = {name: tf.constant(images)}

    def call() -> Any:
        (probabilities,) = loaded.signatures[signature](**given).values()
        return probabilities.numpy()

    return Contestant(call, _version("TensorFlow", "tensorflow"))


def onnx_runtime(file: str, images: Any) -> Contestant:
    """The bare network, with ONNX Runtime's own settings."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    # Its threads look for work for a second after a call, which the next contestant would pay.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: images}
    return Contestant(lambda: session.run(None, given)[0], _version("ONNX Runtime", "onnxruntime"))


def openvino(file: str, images: Any, **settings: str) -> Contestant:
    """The bare network, of a fixed size."""
    import openvino

    core = openvino.Core()
    model = core.read_model(file)
    model.reshape(images.shape)
    # One call at a time is what all are asked for.
    settings = {"INFERENCE_NUM_THREADS": str(THREADS), "PERFORMANCE_HINT": "LATENCY", **settings}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return Contestant(lambda: request.infer([images], share_inputs=True)[0], _version("OpenVINO", "openvino"))


def _version(runtime: str, package: str) -> str:
    return f"{runtime} {importlib.metadata.version(package)}"


KINDS: dict[str, Callable[[str, Any], Contestant]] = {
    "predict_pixels": functools.partial(saved_model, signature="predict_pixels"),
    "keras_export": functools.partial(saved_model, signature="serving_default"),
    "artefact": artefact,
    "onnx_runtime": onnx_runtime,
    # Where the processor has bfloat16, OpenVINO takes that for float32 unless told otherwise.
    "openvino": functools.partial(openvino, INFERENCE_PRECISION_HINT="f32"),
    "openvino_int8": openvino,
}


def median_ms(call: Callable[[], Any], count: int) -> float:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def main(kind: str, file: str, given: str) -> None:
    contestant = KINDS[kind](file, np.load(given))
    for _ in range(WARM_UP):
        probabilities = contestant.call()
    print(json.dumps({"probabilities": probabilities.tolist(), "version": contestant.version}), flush=True)
    for line in sys.stdin:
        print(median_ms(contestant.call, int(line)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
