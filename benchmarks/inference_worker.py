"""One contestant of `benchmarks.inference`, for a process of its own.

    python -m benchmarks.inference_worker KIND FILE PIXELS

KIND is one of `KINDS`, FILE what it runs, PIXELS a NumPy file of pictures, uint8 (batch, height, width, 3). Prints a
JSON object: `probabilities`, (batch, classes), `version` of the runtime, and `note`, what a reader of its times should
know. Then, for each line on standard input, a number of calls, it makes them and prints their median in milliseconds.

Each kind imports its own runtime alone.
"""

import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import numpy as np

from app.program import quiet

THREADS = 2
WARM_UP = 3


class Contestant(NamedTuple):
    """`call` gives probabilities, (batch, classes), of the pictures that it was made with."""

    call: Callable[[], Any]
    version: str
    note: str = ""


def scaled(pixels: Any) -> Any:
    """uint8 -> float32 in [-1, 1], as the networks take them."""
    return (pixels / 127.5 - 1).astype(np.float32)


def predict_pixels(folder: str, pixels: Any) -> Contestant:
    """Our SavedModel, on uint8."""
    return _saved_model(folder, "predict_pixels", pixels)


def keras_export(folder: str, pixels: Any) -> Contestant:
    """What `model.export` of Keras wrote, on float32."""
    return _saved_model(folder, "serving_default", scaled(pixels))


def _saved_model(folder: str, signature: str, images: Any) -> Contestant:
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

    return Contestant(call, f"TensorFlow {tf.__version__}")


def litert(file: str, pixels: Any) -> Contestant:
    """A LiteRT file, on uint8; one that takes a single picture is called for each."""
    import importlib.metadata

    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(file, num_threads=THREADS)
    (image,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
    together = len(pixels) == 1 or image["shape_signature"][0] == -1
    parts = [pixels] if together else np.split(pixels, len(pixels))
    with quiet.native():
        interpreter.resize_tensor_input(image["index"], parts[0].shape)
        interpreter.allocate_tensors()

    def answer(part: Any) -> Any:
        interpreter.set_tensor(image["index"], part)
        interpreter.invoke()
        return interpreter.get_tensor(probabilities["index"])

    version = f"LiteRT {importlib.metadata.version('ai-edge-litert')}"
    note = "" if together else "one picture after the other"
    return Contestant(lambda: np.concatenate([answer(part) for part in parts]), version, note)


def onnx_runtime(file: str, pixels: Any) -> Contestant:
    """On float32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    # Its threads look for work for a second after a call, which the next contestant would pay.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: scaled(pixels)}
    return Contestant(lambda: session.run(None, given)[0], f"ONNX Runtime {onnxruntime.__version__}")


def openvino(file: str, pixels: Any, **settings: str) -> Contestant:
    """On float32."""
    import openvino

    core = openvino.Core()
    model = core.read_model(file)
    model.reshape(pixels.shape)
    # One call at a time is what all are asked for.
    settings = {"INFERENCE_NUM_THREADS": str(THREADS), "PERFORMANCE_HINT": "LATENCY", **settings}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    images = scaled(pixels)
    version = f"OpenVINO {openvino.__version__.split('-')[0]}"
    return Contestant(lambda: request.infer([images], share_inputs=True)[0], version)


KINDS: dict[str, Callable[[str, Any], Contestant]] = {
    "predict_pixels": predict_pixels,
    "keras_export": keras_export,
    "litert": litert,
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


def main(kind: str, file: str, pixels: str) -> None:
    contestant = KINDS[kind](file, np.load(pixels))
    for _ in range(WARM_UP):
        probabilities = contestant.call()
    said = {"probabilities": probabilities.tolist(), "version": contestant.version, "note": contestant.note}
    print(json.dumps(said), flush=True)
    for line in sys.stdin:
        print(median_ms(contestant.call, int(line)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
