"""A program of its own: runs an artefact on image files in a process that cannot import this project.

    python -I run_artefact.py ARTEFACT < FILES.json

ARTEFACT is a SavedModel folder or a .tflite file; FILES.json is a list of image files. Prints one JSON object: for each
way to ask the artefact its `answers`, a list per file of names mapped to scores or of scores in label order, and
`milliseconds`, the median time for one image. A picture that has to be decoded outside is decoded by Pillow.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = ("models", "export", "app", "inceptions")

Answer = Callable[[Path], Any]


LARGE = 4_000_000  # pixels of a JPEG beyond which the SavedModel's decoder reduces it


def pixels(file: Path) -> Any:
    """The decoded file as the SavedModel decodes it, uint8 (1, height, width, 3)."""
    import numpy as np
    from PIL import Image, ImageOps

    with Image.open(file) as opened:
        ratio = 1
        while opened.format == "JPEG" and ratio < 8 and opened.width * opened.height > LARGE * ratio**2:
            ratio *= 2
        opened.draft(None, (opened.width // ratio, opened.height // ratio))
        image: Image.Image = opened
        if opened.mode.startswith("I"):
            # 16 bits of grey, of which Pillow would cut off all above 255: the graph's decoder takes the upper eight.
            image = Image.fromarray((np.asarray(opened) >> 8).astype(np.uint8))
        image = ImageOps.exif_transpose(image)
        if image.mode == "CMYK":
            # Rounded down, as TensorFlow does; Pillow's colours differ by up to one level.
            inks = 255 - np.asarray(image).astype(np.uint16)
            image = Image.fromarray((inks[..., :3] * inks[..., 3:] // 255).astype(np.uint8))
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            white.alpha_composite(image.convert("RGBA"))
            image = white
        return np.asarray(image.convert("RGB"))[np.newaxis]


def saved_model(folder: str) -> dict[str, Answer]:
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    warm_up(folder, loaded)

    def serving_default(file: Path) -> dict[str, float]:
        reply = loaded.signatures["serving_default"](image_bytes=tf.constant([file.read_bytes()]))
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
        loaded.signatures[request.model_spec.signature_name](**inputs)


def tflite(artefact: str) -> dict[str, Answer]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(artefact)
    image = interpreter.get_input_details()[0]["index"]
    probabilities = interpreter.get_output_details()[0]["index"]

    def answer(file: Path) -> list[float]:
        picture = pixels(file)
        interpreter.resize_tensor_input(image, picture.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(image, picture)
        interpreter.invoke()
        return interpreter.get_tensor(probabilities)[0].tolist()

    return {f"LiteRT {Path(artefact).name}": answer}


def main(artefact: str) -> None:
    files = json.load(sys.stdin)
    for name in PROJECT:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails from here on
    replies = {}
    for name, answer in (tflite if artefact.endswith(".tflite") else saved_model)(artefact).items():
        answer(Path(files[0]))  # the first call builds what later ones reuse
        answers, seconds = [], []
        for file in files:
            started = time.perf_counter()
            answers.append(answer(Path(file)))
            seconds.append(time.perf_counter() - started)
        replies[name] = {"answers": answers, "milliseconds": statistics.median(seconds) * 1000}
    print(json.dumps(replies))


if __name__ == "__main__":
    main(sys.argv[1])
