"""What is on these pictures? From a run folder or a SavedModel, for files and folders of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from app import run_folder
from app.artefacts import loading, predicting
from app.evaluation import strangeness
from app.images import decoding
from app.images.decoding import reason
from app.images.finding import pictures
from app.program.paths import is_run
from app.program.progress import Watch
from app.run_folder.folder import Run

# Labels and scores, best first, and what was measured of strangeness.
Answer = tuple[list[tuple[str, float]], Mapping[str, Any]]
Answering = tuple[Callable[[bytes, int], Answer], Mapping[str, str], bool]


def predict(
    model: Path, paths: Sequence[Path], top: int, watch: Watch, refused: float | None = None
) -> Iterator[dict[str, Any]]:
    """A row per picture, as soon as it is there: see `predicting.told`, `judged` and `unread`. `model` is a run folder,
    or the version folder of a SavedModel; of other files see `predicting.predict`.

    Raises:
        UserError: a path that does not exist; a folder without pictures.
    """
    files = pictures(paths)
    answer, names, has_it = (_run if is_run(model) else _export)(model)
    predicting.check(has_it, refused, model)

    def row(file: Path) -> dict[str, Any]:
        try:
            best, found = answer(file.read_bytes(), top)
        except (tf.errors.InvalidArgumentError, OSError) as error:
            why = reason(error) if isinstance(error, OSError) else decoding.refusal(error)
            return predicting.unread(file, why)
        return predicting.told(file, best, names) | predicting.judged(found, refused)

    return map(row, watch(files, len(files), "Predicting"))


def _run(folder: Path) -> Answering:
    trained = run_folder.load(folder)
    known = strangeness.read(Run(folder))
    reading = strangeness.Reading(trained.model, known) if known else None

    def answer(encoded: bytes, top: int) -> Answer:
        image = trained.preprocessing(trained.preprocessing.decode(encoded))
        if reading:
            probabilities, found = reading.measured(image[tf.newaxis])
        else:
            probabilities, found = trained.model.predict_on_batch(image[tf.newaxis]), None
        named = predicting.chosen(probabilities[0], trained.labels, trained.thresholds, top)
        return named, found._asdict() if found else {}

    return answer, trained.names, reading is not None


def _export(version: Path) -> Answering:
    signatures = tf.saved_model.load(str(version)).signatures
    has_it = "unknown" in signatures
    signature = signatures["unknown" if has_it else "serving_default"]

    def answer(encoded: bytes, top: int) -> Answer:
        reply = signature(image_bytes=tf.constant([encoded]))
        # Exports of before had no `errors`: their signature failed.
        if "errors" in reply and (why := reply["errors"].numpy()[0].decode()):
            raise tf.errors.InvalidArgumentError(None, None, why)
        names = [name.decode() for name in reply["classes"].numpy()[0]]
        scores = reply["scores"].numpy()[0]
        thresholds = reply["thresholds"].numpy()[0] if "thresholds" in reply else ()
        named = predicting.chosen(scores, names, thresholds, top)
        return named, {name: reply[name].numpy() for name in ("strangeness", "stranger") if name in reply}

    return answer, loading.labels_of(version)[1], has_it
