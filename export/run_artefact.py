"""A program of its own: runs an artefact on image files in a process that cannot import this project.

    python -I run_artefact.py ARTEFACT < FILES.json

ARTEFACT is a SavedModel folder or a .tflite, .onnx or .xml file, the last of OpenVINO with the .bin beside it; only for
the first TensorFlow can be imported. FILES.json is a list of image files. Prints one JSON object: for each way to ask
the artefact its `answers`, a list per file of names mapped to scores or of scores in label order, and
`milliseconds`, the median time for one image. A picture that has to be decoded outside is decoded by Pillow; where that
gives nothing to compare, the answer is a text that says why.
"""

import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = ("models", "export", "app", "inceptions")
MADE_BY = ("tensorflow", "keras")  # what no file but the SavedModel may need

Answer = Callable[[Path], Any]
Network = Callable[[Any], Any]  # decoded pictures, uint8 (N, height, width, 3) -> probabilities (N, classes)

LARGE = 4_000_000  # pixels of a JPEG beyond which the SavedModel's decoder reduces it
ORIENTATION, ADOBE_MARK = 0x0112, "adobe"
# What turns a picture upright, by the orientation that Exif says.
UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


class NotComparedError(Exception):
    """A picture of which Pillow has no pixels to compare, or by decision others than the SavedModel's decoder; the
    text says why."""


def pixels(file: Path) -> Any:
    """The decoded file as the SavedModel decodes it, uint8 (1, height, width, 3).

    Raises:
        NotComparedError: Pillow cannot say what the pixels are.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    if incomplete(encoded := file.read_bytes()):
        raise NotComparedError(
            "not all scans of this progressive JPEG are there, and decoders guess the rest differently"
        )
    if opacity_in_16_bits(encoded):
        raise NotComparedError("Pillow does not see what is transparent in a BMP of 16 bits")
    try:
        opened = Image.open(io.BytesIO(encoded))
        ratio = 1
        # MPO are the files of telephones, two JPEGs and more, of which the first counts.
        while opened.format in ("JPEG", "MPO") and ratio < 8 and opened.width * opened.height > LARGE * ratio**2:
            ratio *= 2
        opened.draft(None, (opened.width // ratio, opened.height // ratio))
        orientation = said_by_exif(opened)  # before the pixels are read: what stands behind them does not count
        frame = opened.tile[0][1] if opened.format == "GIF" and opened.tile else None
        opened.load()
    except Exception as error:  # Pillow's readers raise whatever they stumble over
        why = "it knows no such file" if isinstance(error, UnidentifiedImageError) else error
        raise NotComparedError(f"Pillow does not read it: {why}") from error
    image: Image.Image = opened
    if opened.mode.startswith("I"):
        # 16 bits of grey, of which Pillow would cut off all above 255: the graph's decoder takes the upper eight.
        deep = np.asarray(opened)
        image = Image.fromarray((deep >> 8).astype(np.uint8))
        if (level := opened.info.get("transparency")) is not None:
            image.putalpha(Image.fromarray(np.where(deep == level, 0, 255).astype(np.uint8)))
    if image.mode == "CMYK":
        # Rounded down, as TensorFlow does; Pillow's colours differ by up to one level. Only what bears Adobe's mark is
        # a negative; Pillow takes all files for that, and has turned them.
        inks = np.asarray(image).astype(np.uint16)
        if ADOBE_MARK in opened.info:
            inks = 255 - inks
        image = Image.fromarray((inks[..., :3] * inks[..., 3:] // 255).astype(np.uint8))
    if image.has_transparency_data or frame:
        white = Image.new("RGBA", image.size, "white")
        # Around a frame that does not cover its picture nothing is seen; Pillow puts a colour there.
        white.alpha_composite(image.convert("RGBA").crop(frame), tuple(frame[:2]) if frame else (0, 0))
        image = white
    if orientation in UPRIGHT:
        image = image.transpose(Image.Transpose[UPRIGHT[orientation]])
    return np.asarray(image.convert("RGB"))[np.newaxis]


def said_by_exif(opened: Any) -> int:
    """The orientation that Exif says, 1 if it says none; Pillow would ask XMP, and texts beside PNGs, too."""
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(opened.info.get("exif"))
        return exif.get(ORIENTATION, 1)
    except Exception:  # broken, and then it says none
        return 1


def opacity_in_16_bits(encoded: bytes) -> bool:
    """Whether this is a BMP of 16 bits a pixel with a fourth mask."""
    header, bits, packing, mask = (
        int.from_bytes(encoded[at : at + size], "little") for at, size in ((14, 4), (28, 2), (30, 4), (66, 4))
    )
    named = header >= 56 or packing == 6
    return encoded.startswith(b"BM") and bits == 16 and packing in (3, 6) and named and mask > 0


def incomplete(encoded: bytes) -> bool:
    """Whether this is a progressive JPEG that leaves out, or sends in less than full precision, one of the coefficients
    that decoders guess then (the first nine with waves in them, as libjpeg-turbo does)."""
    if not encoded.startswith(b"\xff\xd8\xff"):
        return False
    at, progressive, missing = 2, False, dict[tuple[int, int], int]()  # what is missing, by component and coefficient
    while (at := encoded.find(b"\xff", at)) >= 0 and encoded[at + 1 : at + 2] not in (b"", b"\xd9"):
        marker, length = encoded[at + 1], int.from_bytes(encoded[at + 2 : at + 4], "big")
        if marker in (0x00, 0xFF, *range(0xD0, 0xD8)):  # within a scan
            at += 1
            continue
        segment = encoded[at + 4 : at + 2 + length]
        if marker == 0xC2:
            progressive = True
            missing = {(one, place): 1 for one in segment[6::3] for place in range(10)}
        elif marker == 0xDA and progressive and len(segment) > 3:
            first, last, low = segment[-3], min(segment[-2], 9), segment[-1] & 15
            missing |= {(one, place): low for one in segment[1:-3:2] for place in range(first, last + 1)}
        at += 2 + length
    return any(missing.values())


def saved_model(folder: str) -> dict[str, Answer]:
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    warm_up(folder, loaded)

    def serving_default(file: Path) -> dict[str, float]:
        reply = loaded.signatures["serving_default"](image_bytes=tf.constant([file.read_bytes()]))
        if "errors" in reply and (why := reply["errors"].numpy()[0].decode()):
            raise ValueError(f"{file.name}: {why}")
        names = [name.decode() for name in reply["classes"].numpy()[0]]
        return dict(zip(names, reply["scores"].numpy()[0].tolist(), strict=True))

    def predict_pixels(file: Path) -> list[float]:
        reply = loaded.signatures["predict_pixels"](images=tf.constant(pixels(file)))
        return reply["probabilities"].numpy()[0].tolist()

    return {"SavedModel serving_default": serving_default, "SavedModel predict_pixels": predict_pixels}


def warm_up(folder: str, loaded: Any) -> None:
    """Runs the requests that TensorFlow Serving will run, if any; it refuses a version one of whose requests fails."""
    file = Path(folder) / "assets.extra" / "tf_serving_warmup_requests"
    if not file.is_file():
        return
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        reply = loaded.signatures[request.model_spec.signature_name](**inputs)
        if "errors" in reply and (said := [why.decode() for why in reply["errors"].numpy() if why]):
            raise ValueError(f"a warm-up request has an image that is none: {said[0]}")


def tflite(file: str, threads: int | None = None) -> Network:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(file, num_threads=threads)
    (image,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape = None

    def answer(images: Any) -> Any:
        nonlocal shape
        if images.shape != shape:
            interpreter.resize_tensor_input(image["index"], images.shape)
            interpreter.allocate_tensors()
            shape = images.shape
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(probabilities["index"])

    return answer


def onnx(file: str, threads: int | None = None) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    network = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: network.run(None, {"image": images})[0]


def openvino(file: str, threads: int | None = None) -> Network:
    from openvino import Core

    # Where the processor has bfloat16, it would compute in that.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    network = Core().compile_model(file, "CPU", settings)
    return lambda images: network([images])["probabilities"]


# Who runs a file, by its suffix: `file` and how many threads, as many as the runtime finds right if left out.
RUNTIMES: dict[str, tuple[str, Callable[..., Network]]] = {
    ".tflite": ("LiteRT", tflite),
    ".onnx": ("ONNX", onnx),
    ".xml": ("OpenVINO", openvino),
}


def of_file(artefact: str) -> dict[str, Answer]:
    runtime, load = RUNTIMES[Path(artefact).suffix]
    network = load(artefact)
    return {f"{runtime} {Path(artefact).name}": lambda file: network(pixels(file))[0].tolist()}


def main(artefact: str) -> None:
    files = json.load(sys.stdin)
    is_file = Path(artefact).is_file()
    for name in (*PROJECT, *(MADE_BY if is_file else ())):
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails from here on
    replies = {}
    for name, answer in (of_file if is_file else saved_model)(artefact).items():
        answers, seconds = [], []
        for file in [*files[:1], *files]:  # the first call builds what later ones reuse
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
