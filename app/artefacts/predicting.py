"""What is on these pictures? From a LiteRT, ONNX or OpenVINO file, without TensorFlow."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.artefacts import loading
from app.images.finding import convertible, pictures
from app.program import remote
from app.program.parallel import in_parallel
from app.program.progress import Watch
from export import picture_files

AT_ONCE = 8  # pictures that are decoded while others are asked about: each may have 120 MB


def predict(file: Path, paths: Sequence[Path], top: int, watch: Watch) -> list[dict[str, Any]]:
    """A row per picture: see `told` and `unread`.

    Raises:
        UserError: the file does not load; a path that does not exist; a folder without pictures.
    """
    files = pictures(paths)
    network = loading.load(file)
    rows = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # of broken notes beside pixels that are whole
        decoded = in_parallel(_decoded, files, AT_ONCE)
        for picture, pixels in watch(zip(files, decoded, strict=True), len(files), "Predicting"):
            if isinstance(pixels, str):
                rows.append(unread(picture, pixels))
                continue
            scores = network.answer(pixels[np.newaxis])[0]
            named = chosen(scores, network.labels, network.thresholds, top)
            rows.append(told(picture, named, network.names))
    return rows


def chosen(scores: Any, labels: Sequence[str], thresholds: Sequence[float], top: int) -> list[tuple[str, float]]:
    """What is named of a picture, and the scores, best first: the `top` labels, or where each label has a threshold all
    those that reach theirs, which may be none. `scores` is (labels,)."""
    order = np.argsort(-scores, kind="stable")
    named = [i for i in order if scores[i] >= thresholds[i]] if len(thresholds) else order[:top]
    return [(labels[i], float(scores[i])) for i in named]


def told(picture: Path, best: Sequence[tuple[str, float]], names: Mapping[str, str]) -> dict[str, Any]:
    """`file`, `classes` and `scores`, best first; `names`, English ones beside the classes, where these are synsets."""
    labels = [label for label, _ in best]
    row = {"file": remote.shown(picture), "classes": labels, "scores": [score for _, score in best]}
    return row | {"names": [names.get(label, label) for label in labels]} if names else row


def unread(picture: Path, why: str) -> dict[str, Any]:
    """The same of a picture that could not be read, and the `error`."""
    if why == picture_files.UNKNOWN and (kind := convertible(picture)):
        why = f"This is {kind} picture, which is not decoded; save it as JPEG or PNG."
    return {"file": remote.shown(picture), "classes": [], "scores": [], "error": why}


def _decoded(file: Path) -> Any:
    """Pixels (height, width, 3), or a text: why there are none."""
    try:
        return picture_files.decode(file.read_bytes())
    except picture_files.RefusedError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
