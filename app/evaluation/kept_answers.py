"""The answers of an evaluation that was stopped, in the user's cache: the same command goes on after them."""

import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs
from numpy.typing import NDArray

from app.datasets.dataset import Split
from app.program.errors import UserError
from app.program.files import digest, whole
from app.program.progress import console
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
    def of_all(cls, runs: Sequence[Run], split: Split, labels: tuple[str, ...], crops: int) -> list["KeptAnswers"]:
        """Of each run, named by all that decides them: the network, its preprocessing, the images and the versions."""
        images = _images(split)
        made = []
        for run in runs:
            known = run.read_classifier()
            about = [digest(run.model), known.preprocessing.model_dump(), known.labels, labels, crops, versions()]
            found = hashlib.sha256(json.dumps([about, images]).encode("utf-8", "surrogateescape")).hexdigest()
            made.append(cls(platformdirs.user_cache_path("inceptions") / "evaluations" / f"{found}.npz"))
        return made

    def read(self) -> Answers | None:
        """None where nothing was kept, or what nobody can read."""
        try:
            with self.file.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
                return Answers(arrays["sums"], arrays["truth"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def write(self, answers: Answers) -> bool:
        """Whether that was possible. If not it says why, and no more: an evaluation of hours does not end for it."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with whole(self.file) as beside, beside.open("wb") as content:
                np.savez(content, **answers._asdict())
        except OSError as error:
            console.print(f"The answers so far are not kept: {self.file.parent}: {error.strerror}.")
            return False
        except UserError as error:
            console.print(f"The answers so far are not kept: {error}")
            return False
        return True

    def forget(self) -> None:
        with suppress(OSError):  # the figures are there all the same
            self.file.unlink(missing_ok=True)


def _images(split: Split) -> list[Any]:
    """What the images of a split are known by: files, and shards of records, by their size and time of change, others
    by the first of them."""
    if paths := getattr(split, "paths", ()) or getattr(split, "shards", ()):
        states = ((str(path), os.stat(path)) for path in paths)
        return [split.count, getattr(split, "labels", ()), *((path, s.st_size, s.st_mtime_ns) for path, s in states)]
    examples = split.in_order().take(SAMPLED).as_numpy_iterator()
    return [split.count, *((hashlib.sha256(encoded).hexdigest(), int(label)) for encoded, label in examples)]
