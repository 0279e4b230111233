"""The answers of an evaluation that was stopped, in the user's cache: the same command goes on after them."""

import hashlib
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs
from numpy.typing import NDArray

from app.datasets.dataset import Split, spread
from app.program.files import digest, whole
from app.run_folder.folder import Run, versions

SAMPLED = 20  # images of a data set that has no files, to know it again by


class Answers(NamedTuple):
    """Of the first images of a split: the sums of the probabilities of their crops (images, classes), and true labels
    (images,)."""

    sums: NDArray[np.float64]
    truth: NDArray[np.int64]


@dataclass(frozen=True)
class KeptAnswers:
    """The file that they are kept in."""

    file: Path

    @classmethod
    def of(cls, run: Run, split: Split, labels: tuple[str, ...], crops: int) -> "KeptAnswers":
        """Named by all that decides them: the network, its preprocessing, the images and the versions."""
        known = run.read_classifier()
        about = [digest(run.model), known.preprocessing.model_dump(), known.labels, labels, crops, versions()]
        found = hashlib.sha256(json.dumps([about, _images(split)]).encode("utf-8", "surrogateescape")).hexdigest()
        return cls(platformdirs.user_cache_path("inceptions") / "evaluations" / f"{found}.npz")

    def read(self) -> Answers | None:
        """None where nothing was kept, or what nobody can read."""
        try:
            with self.file.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
                return Answers(arrays["sums"], arrays["truth"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def write(self, answers: Answers) -> None:
        """Raises:
        UserError: the disk is full, or cannot be written to.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with whole(self.file) as beside, beside.open("wb") as content:
            np.savez(content, **answers._asdict())

    def forget(self) -> None:
        self.file.unlink(missing_ok=True)


def _images(split: Split) -> list[Any]:
    """What the images of a split are known by: files by their size and time of change, others by some of them."""
    if paths := getattr(split, "paths", ()):
        states = (os.stat(path) for path in paths)
        labels = getattr(split, "labels", ())
        return [[path, s.st_size, s.st_mtime_ns, label] for path, s, label in zip(paths, states, labels, strict=True)]
    examples = split.at(spread(split.count, SAMPLED)).as_numpy_iterator()
    return [split.count, *((hashlib.sha256(encoded).hexdigest(), int(label)) for encoded, label in examples)]
