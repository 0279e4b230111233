"""What is on these pictures? From a LiteRT, ONNX or OpenVINO file, without TensorFlow."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.artefacts import loading
from app.images.finding import convertible, pictures
from app.program import remote
from app.program.errors import UserError
from app.program.parallel import in_parallel
from app.program.progress import Watch
from export import picture_files
from export.run_artefact import PLACES, RATE

AT_ONCE = 8  # pictures that are decoded while others are asked about: each may have 120 MB


def predict(
    file: Path, paths: Sequence[Path], top: int, watch: Watch, refused: float | None = None
) -> Iterator[dict[str, Any]]:
    """A row per picture, as soon as it is there: see `told`, `judged` and `unread`. `refused` is the per cent of known
    pictures that may be called unknown.

    Raises:
        UserError: the file does not load; a path that does not exist; a folder without pictures.
    """
    files = pictures(paths)
    network = loading.load(file)
    check(network.judge is not None, refused, file)
    return _rows(network, files, top, watch, refused)


def _rows(
    network: loading.Artefact, files: Sequence[Path], top: int, watch: Watch, refused: float | None
) -> Iterator[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # of broken notes beside pixels that are whole
        decoded = in_parallel(_decoded, files, AT_ONCE)
        for picture, pixels in watch(zip(files, decoded, strict=True), len(files), "Predicting"):
            if isinstance(pixels, str):
                yield unread(picture, pixels)
                continue
            found = network.told(pixels[np.newaxis])
            named = chosen(found["probabilities"][0], network.labels, network.thresholds, top)
            yield told(picture, named, network.names) | judged(found, refused)


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


def judged(found: Mapping[str, Any], refused: float | None, row: int = 0) -> dict[str, Any]:
    """`strangeness` of one of the pictures measured, and whether it is `unknown`; nothing where nothing was."""
    if "strangeness" not in found:
        return {}
    most = RATE if refused is None else refused
    return {
        "unknown": bool(found["stranger"][row] < most + 50 / PLACES),
        "strangeness": float(found["strangeness"][row]),
    }


def check(has_it: bool, refused: float | None, model: Path) -> None:
    """Raises:
    UserError: a share of unknown pictures is asked for, and the model does not say how strange they are.
    """
    if refused is not None and not has_it:
        raise UserError(
            f"{model} does not say how strange a picture is: leave --unknown out, or `evaluate` its run and export it "
            "again, SavedModel or LiteRT file."
        )


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
