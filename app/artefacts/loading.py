"""An artefact as a function: decoded pictures in, probabilities out, and the labels that it names itself."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.program import quiet
from app.program.errors import UserError
from export import run_artefact, runtime_errors


@dataclass(frozen=True)
class Artefact:
    """`answer` takes decoded pictures of one size, uint8 (N, height, width, 3), RGB and upright as
    `export.picture_files.decode` gives them, and returns probabilities, float32 (N, classes), in the order of `labels`;
    one call at a time. `names` are the English names of those labels that have one, `thresholds` the scores from which
    on a picture has a label, where it may have several. `path` is its file, or the version folder of a SavedModel.
    `judge` of a file that says how strange pictures are gives `probabilities`, `strangeness` (N,) and `stranger` (N,),
    per cent (see `export.strangeness`)."""

    path: Path
    answer: Callable[[Any], Any]
    labels: Sequence[str]
    names: Mapping[str, str]
    thresholds: Sequence[float] = ()
    judge: Callable[[Any], Mapping[str, Any]] | None = None

    def told(self, images: Any) -> Mapping[str, Any]:
        """`probabilities`, and what else `judge` gives where there is one."""
        return self.judge(images) if self.judge else {"probabilities": self.answer(images)}


def load(path: Path, threads: int | None = None) -> Artefact:
    """A file, or the version folder of a SavedModel, as `choosing.meant` finds them. TensorFlow is imported for the
    second alone. A file takes so many `threads`, or as many as there are cores.

    Raises:
        UserError: there is none; it does not load; it names no classes.
    """
    return _saved_model(path) if path.is_dir() else _file(path, threads)


def _file(path: Path, threads: int | None) -> Artefact:
    # LiteRT takes one thread if it is not told; the others as many as there are cores.
    threads = threads or (os.cpu_count() if path.suffix == ".tflite" else None)
    try:
        with quiet.native():
            network = run_artefact.RUNTIMES[path.suffix][1](str(path), threads)
        labels, english = network.lines("labels"), network.lines("labels_en")
        thresholds = [float(one) for one in network.lines("thresholds")]
    except Exception as error:  # every runtime raises what it has
        raise UserError(f"{path} cannot be loaded: {runtime_errors.sentence(error)}. Export the run again.") from error
    if not labels:
        raise UserError(f"{path} names no classes: `export` has not written it.")
    judge = _quiet_at_first(network.judge) if network.judge else None
    names = dict(zip(labels, english, strict=False))
    return Artefact(path, _quiet_at_first(network), labels, names, thresholds, judge)


def _quiet_at_first(answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """LiteRT speaks of its delegates when it is first asked."""
    asked = False

    def quietly(images: Any) -> Any:
        nonlocal asked
        if asked:
            return answer(images)
        asked = True
        with quiet.native():
            return answer(images)

    return quietly


def _saved_model(version: Path) -> Artefact:
    if not (version / "saved_model.pb").is_file():
        raise UserError(f"{version} is no export; `export RUN --to FOLDER` makes one of a run.")
    with quiet.tensorflow():
        import tensorflow as tf

        loaded = tf.saved_model.load(str(version))
    signature = loaded.signatures["predict_pixels"]
    labels, names = labels_of(version)
    thresholds = [float(line) for line in _lines(version / "assets" / "thresholds.txt")]

    def answer(images: Any) -> Any:
        return signature(images=tf.constant(images))["probabilities"].numpy()

    return Artefact(version, answer, labels, names, thresholds)


def labels_of(version: Path) -> tuple[list[str], dict[str, str]]:
    """The labels of a SavedModel, and the English names of those that have one, from its assets."""
    labels, english = (_lines(version / "assets" / name) for name in ("labels.txt", "labels_en.txt"))
    return labels, dict(zip(labels, english, strict=True)) if english else {}


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").split("\n")[:-1] if file.is_file() else []
