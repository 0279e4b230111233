"""What is on these pictures? From a run folder or a SavedModel, for files and folders of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from app import run_folder
from app.artefacts import loading, predicting
from app.images import decoding
from app.images.decoding import reason
from app.images.finding import pictures
from app.program.paths import is_run
from app.program.progress import Watch

Answer = list[tuple[str, float]]


def predict(model: Path, paths: Sequence[Path], top: int, watch: Watch) -> list[dict[str, Any]]:
    """A row per picture: see `predicting.told` and `predicting.unread`. `model` is a run folder, or the version folder
    of a SavedModel; of other files see `predicting.predict`.

    Raises:
        UserError: a path that does not exist; a folder without pictures.
    """
    files = pictures(paths)
    answer, names = (_run if is_run(model) else _export)(model)
    rows: list[dict[str, Any]] = []
    for file in watch(files, len(files), "Predicting"):
        try:
            rows.append(predicting.told(file, answer(file.read_bytes(), top), names))
        except (tf.errors.InvalidArgumentError, OSError) as error:
            why = reason(error) if isinstance(error, OSError) else decoding.refusal(error)
            rows.append(predicting.unread(file, why))
    return rows


def _run(folder: Path) -> tuple[Callable[[bytes, int], Answer], Mapping[str, str]]:
    trained = run_folder.load(folder)

    def answer(encoded: bytes, top: int) -> Answer:
        image = trained.preprocessing(trained.preprocessing.decode(encoded))
        scores = trained.model.predict_on_batch(image[tf.newaxis])[0]
        return predicting.chosen(scores, trained.labels, trained.thresholds, top)

    return answer, trained.names


def _export(version: Path) -> tuple[Callable[[bytes, int], Answer], Mapping[str, str]]:
    loaded = tf.saved_model.load(str(version))

    def answer(encoded: bytes, top: int) -> Answer:
        reply = loaded.signatures["serving_default"](image_bytes=tf.constant([encoded]))
        # Exports of before had no `errors`: their signature failed.
        if "errors" in reply and (why := reply["errors"].numpy()[0].decode()):
            raise tf.errors.InvalidArgumentError(None, None, why)
        names = [name.decode() for name in reply["classes"].numpy()[0]]
        scores = reply["scores"].numpy()[0]
        thresholds = reply["thresholds"].numpy()[0] if "thresholds" in reply else ()
        return predicting.chosen(scores, names, thresholds, top)

    return answer, loading.labels_of(version)[1]
