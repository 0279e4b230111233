"""A program of its own: runs an artefact on image files in a process that cannot import this project.

    python -I run_artefact.py ARTEFACT < FILES.json

ARTEFACT is a SavedModel folder or a .tflite, .onnx or .xml file, the last of OpenVINO with the .bin beside it; only for
the first TensorFlow can be imported. FILES.json is a list of image files. Prints one JSON object: for each way to ask
the artefact its `answers`, a list per file of names mapped to scores or of scores in label order, and
`milliseconds`, the median time for one image. One more way, "... unknown", of what says how strange pictures are, has a
number for each of the first `JUDGED` files. A picture that has to be decoded outside is decoded by Pillow; where that
gives nothing to compare, the answer is a text that says why.
"""

import importlib
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__:
    from . import picture_files
else:  # isolated, a program finds not even what lies beside it
    sys.path.append(str(Path(__file__).parent))
    picture_files = importlib.import_module("picture_files")
    sys.path.pop()

PROJECT = ("models", "export", "app", "inceptions")
MADE_BY = ("tensorflow", "keras")  # what no file but the SavedModel may need
RATE = 5.0  # per cent of known pictures that the signature `unknown` refuses
PLACES = 1000  # steps from the least to the most strange of the known pictures
JUDGED = 64  # files at most, the first, that an artefact is asked about how strange they are
UNKNOWN = " unknown"  # ends the name of that way to ask it
WARM_UPS = 1000  # TensorFlow Serving refuses a version with more

Answer = Callable[[Path], Any]


@dataclass(frozen=True)
class Network:
    """A loaded file: called with decoded pictures, uint8 (N, height, width, 3), it gives probabilities, float32
    (N, classes). `lines` are the texts that the file holds under a name, "labels" or "labels_en", or "thresholds",
    numbers or texts of such: none, if it does not. `judge` of a file that has the signature `unknown` gives its outputs
    by name."""

    answer: Callable[[Any], Any]
    lines: Callable[[str], list[str]]
    judge: Callable[[Any], Mapping[str, Any]] | None = None

    def __call__(self, images: Any) -> Any:
        return self.answer(images)


class NotComparedError(Exception):
    """A picture of which Pillow has no pixels to compare, or by decision others than the SavedModel's decoder; the
    text says why."""


def pixels(file: Path) -> Any:
    """The decoded file as the SavedModel decodes it, uint8 (1, height, width, 3).

    Raises:
        NotComparedError: Pillow cannot say what the pixels are.
    """
    encoded = file.read_bytes()
    if why := picture_files.doubt(encoded):
        raise NotComparedError(why)
    try:
        return picture_files.decode(encoded)[None]
    except picture_files.RefusedError as error:
        raise NotComparedError(f"Pillow does not read it: {error.__cause__ or error}") from error


def saved_model(folder: str) -> dict[str, Answer]:
    import tensorflow as tf

    signatures = Signatures(folder)
    warm_up(folder, signatures)

    def named(reply: dict[str, Any]) -> dict[str, float]:
        names = [name.decode() for name in reply["classes"][0]]
        return dict(zip(names, reply["scores"][0].tolist(), strict=True))

    def serving_default(file: Path) -> dict[str, float]:
        reply = signatures("serving_default", image_bytes=[file.read_bytes()])
        if "errors" in reply and (why := reply["errors"][0].decode()):
            raise ValueError(f"{file.name}: {why}")
        return named(reply)

    def classify(file: Path) -> dict[str, float]:
        encoded = tf.train.Feature(bytes_list=tf.train.BytesList(value=[file.read_bytes()]))
        example = tf.train.Example(features=tf.train.Features(feature={"image/encoded": encoded}))
        return named(signatures("classify", inputs=[example.SerializeToString()]))

    def predict_pixels(file: Path) -> list[float]:
        return signatures("predict_pixels", images=pixels(file))["probabilities"][0].tolist()

    def unknown(file: Path) -> float:
        return float(signatures("unknown", image_bytes=[file.read_bytes()])["strangeness"][0])

    ways: tuple[Callable[[Path], Any], ...] = (serving_default, classify, predict_pixels)
    if "unknown" in signatures.known:
        ways = (*ways, unknown)
    return {f"SavedModel {way.__name__}": way for way in ways}


class Signatures:
    """A SavedModel as a server loads it, into a graph that a session runs: `tf.saved_model.load` copies the weights for
    every signature. Called with the name of one and its inputs it gives the outputs as arrays, by name.

    A session keeps what each signature it ran has made of the weights, so every one gets a session of its own, and only
    the last one is kept, unless `keep` wants all: then several threads may call.
    """

    def __init__(self, folder: str, keep: bool = False) -> None:
        import tensorflow as tf

        self.new, self.keep = tf.compat.v1.Session, keep
        self.sessions: dict[str, Any] = {}
        self.choosing = threading.Lock()
        with tf.Graph().as_default() as self.graph, self.new() as session:
            self.known = tf.compat.v1.saved_model.load(session, ["serve"], folder).signature_def

    def __call__(self, name: str, **inputs: Any) -> dict[str, Any]:
        with self.choosing:
            if name not in self.sessions:
                while self.sessions and not self.keep:
                    self.sessions.popitem()[1].close()
                self.sessions[name] = self.new(graph=self.graph)
            session = self.sessions[name]
        signature = self.known[name]
        given = {signature.inputs[key].name: value for key, value in inputs.items()}
        return session.run({key: info.name for key, info in signature.outputs.items()}, given)


def warm_up(folder: str, signatures: Callable[..., Mapping[str, Any]]) -> None:
    """Runs the requests that TensorFlow Serving will run, if any; it refuses a version one of whose requests fails."""
    file = Path(folder) / "assets.extra" / "tf_serving_warmup_requests"
    if not file.is_file():
        return
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    for count, record in enumerate(tf.data.TFRecordDataset(str(file)).as_numpy_iterator()):
        if count == WARM_UPS:
            raise ValueError(f"{file} has more than the {WARM_UPS} requests that a server warms up with")
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        reply = signatures(request.model_spec.signature_name, **inputs)
        if "errors" in reply and (said := [why.decode() for why in reply["errors"] if why]):
            raise ValueError(f"a warm-up request has an image that is none: {said[0]}")


def tflite(file: str, threads: int | None = None) -> Network:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(file, num_threads=threads)
    (image,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape = None

    def answer(images: Any) -> Any:
        nonlocal shape
        if images.shape != shape:
            shape = None  # until it has memory for this one
            interpreter.resize_tensor_input(image["index"], images.shape)
            interpreter.allocate_tensors()
            shape = images.shape
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(probabilities["index"])

    def lines(name: str) -> list[str]:
        import zipfile

        if not zipfile.is_zipfile(file):
            return []
        with zipfile.ZipFile(file) as archive:
            there = f"{name}.txt" in archive.namelist()
            return archive.read(f"{name}.txt").decode().split("\n")[:-1] if there else []

    def judge(images: Any) -> dict[str, Any]:
        given = {"probabilities": answer(images)}
        return given | {name: interpreter.get_tensor(index) for name, index in strange.items()}

    strange = {}
    if "unknown" in interpreter.get_signature_list():
        outputs = interpreter.get_signature_runner("unknown").get_output_details()
        strange = {name: of["index"] for name, of in outputs.items() if of["index"] != probabilities["index"]}
    return Network(answer, lines, judge if strange else None)


def onnx(file: str, threads: int | None = None) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    # Its threads would look for work for a while after every call, on cores that others could use.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    network = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    texts = network.get_modelmeta().custom_metadata_map
    return Network(
        lambda images: network.run(None, {"image": images})[0], lambda name: json.loads(texts.get(name, "[]"))
    )


def openvino(file: str, threads: int | None = None) -> Network:
    from openvino import Core

    # Where the processor has bfloat16, it would compute in that.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    # Left to itself it ties the threads of all copies to the same core.
    settings |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False} if threads else {}
    core = Core()
    model = core.read_model(file)
    network = core.compile_model(model, "CPU", settings)

    def lines(name: str) -> list[str]:
        return json.loads(model.get_rt_info(name).astype(str)) if model.has_rt_info(name) else []

    return Network(lambda images: network([images])["probabilities"], lines)


# Who runs a file, by its suffix: `file` and how many threads, as many as the runtime finds right if left out.
RUNTIMES: dict[str, tuple[str, Callable[..., Network]]] = {
    ".tflite": ("LiteRT", tflite),
    ".onnx": ("ONNX", onnx),
    ".xml": ("OpenVINO", openvino),
}


def of_file(artefact: str) -> dict[str, Answer]:
    runtime, load = RUNTIMES[Path(artefact).suffix]
    network = load(artefact)
    name = f"{runtime} {Path(artefact).name}"
    ways: dict[str, Answer] = {name: lambda file: network(pixels(file))[0].tolist()}
    if judge := network.judge:
        ways[name + UNKNOWN] = lambda file: float(judge(pixels(file))["strangeness"][0])
    return ways


def main(artefact: str) -> None:
    files = json.load(sys.stdin)
    is_file = Path(artefact).is_file()
    for name in (*PROJECT, *(MADE_BY if is_file else ())):
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails from here on
    replies = {}
    for name, answer in (of_file if is_file else saved_model)(artefact).items():
        answers, seconds = [], []
        asked = files[:JUDGED] if name.endswith(UNKNOWN) else files
        for file in [*asked[:1], *asked]:  # the first call builds what later ones reuse
            started = time.perf_counter()
            try:
                answers.append(answer(Path(file)))
                seconds.append(time.perf_counter() - started)
            except NotComparedError as error:
                answers.append(str(error))
        median = statistics.median(seconds[1:] or seconds or [0.0])
        replies[name] = {"answers": answers[1:], "milliseconds": median * 1000}
    print(json.dumps(replies))


if __name__ == "__main__":
    main(sys.argv[1])
