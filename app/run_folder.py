"""A run folder: what a training or an import leaves behind, and what every later command takes.

model.keras       the network, ending in the softmax `predictions`
classifier.json   network, labels in order, preprocessing, recipe, versions, seed, data, origin
history.csv       a row per epoch
import.json       of imported weights: what became of every tensor of their file
auxiliary.keras   the network with its auxiliary heads, where they were imported
metrics.json      the figures on the test images, and the temperature that calibrates them
report.html       curves, confusion matrix, predictions; opens without a server
batch_norm.json   how the statistics of batch normalisation were measured, where they were
golden/           test images that exports are compared on
checkpoints/      best and last epoch; while training lasts, the states to go on from
unreadable.csv    images left out, where there were any
quarantine.txt    images that were to be left out, where a list of them was given
split.csv         which image is in which split, where images are files; a manifest to train on again
"""

import hashlib
import importlib.metadata
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from pydantic import BaseModel, ConfigDict, ValidationError

from app.errors import UserError
from app.images import Preprocessing
from app.recipe import Recipe
from models import NETWORKS, __version__


class DataRecord(BaseModel):
    """The data set a network was trained on."""

    model_config = ConfigDict(frozen=True)

    name: str
    fingerprint: str
    train: int
    validation: int
    test: int
    unreadable: int


class Origin(BaseModel):
    """Where the first weights came from: the file of an import or the model.keras of a run; `source` says which port
    the file is of, and is None for a run."""

    model_config = ConfigDict(frozen=True)

    path: str
    sha256: str
    source: str | None = None


class Classifier(BaseModel):
    """`classifier.json`: all that is needed to build the network again and to feed it.

    An imported network has neither recipe nor data; one that began with random weights has no origin.
    """

    model_config = ConfigDict(frozen=True)

    network: str
    arguments: dict[str, Any]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    recipe: Recipe | None
    versions: dict[str, str]
    seed: int
    data: DataRecord | None
    origin: Origin | None = None

    def build(self, activation: str | None = "softmax", auxiliary: bool = False) -> keras.Model:
        """A fresh network of this kind; `activation=None` ends in the logits, `auxiliary` adds the auxiliary heads."""
        return NETWORKS[self.network](classifier_activation=activation, auxiliary=auxiliary, **self.arguments)


@dataclass(frozen=True)
class Run:
    """The paths of a run folder."""

    folder: Path

    @property
    def classifier(self) -> Path:
        return self.folder / "classifier.json"

    @property
    def model(self) -> Path:
        return self.folder / "model.keras"

    @property
    def history(self) -> Path:
        return self.folder / "history.csv"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def batch_norm(self) -> Path:
        return self.folder / "batch_norm.json"

    @property
    def golden(self) -> Path:
        return self.folder / "golden"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def auxiliary(self) -> Path:
        return self.folder / "auxiliary.keras"

    @property
    def load_report(self) -> Path:
        return self.folder / "import.json"

    @property
    def unreadable(self) -> Path:
        return self.folder / "unreadable.csv"

    @property
    def quarantine(self) -> Path:
        return self.folder / "quarantine.txt"

    @property
    def split(self) -> Path:
        return self.folder / "split.csv"

    def quarantine_of(self, data_name: str) -> Path | None:
        """The list to load a data set with, so that the run's own is again what the run was trained on."""
        record = self.read_classifier().data
        return self.quarantine if record and record.name == data_name and self.quarantine.is_file() else None

    def read_classifier(self) -> Classifier:
        """What the folder holds.

        Raises:
            UserError: it is not a run folder, or its `classifier.json` is damaged.
        """
        if not self.classifier.is_file():
            raise UserError(f"{self.folder} is not a run folder: it has no classifier.json. `train --to` makes one.")
        try:
            return Classifier.model_validate_json(self.classifier.read_text())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UserError(
                f"{self.classifier} is damaged or of another version{', at ' if where else ''}{where}: {first['msg']}."
            ) from error

    def read_finished(self) -> Classifier:
        """The same of a finished run.

        Raises:
            UserError: as `read_classifier`; or there is no model.keras yet.
        """
        classifier = self.read_classifier()
        if not self.model.is_file():
            raise UserError(
                f"The run {self.folder} is not finished: it has no model.keras. The same `train` command goes on."
            )
        return classifier


def versions() -> dict[str, str]:
    """Of this program, Python and the libraries that the figures depend on."""
    packages = {name: importlib.metadata.version(name) for name in ("keras", "tensorflow", "numpy")}
    return {"inceptions": __version__, **packages, "python": platform.python_version()}


def digest(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def read_golden(run: Run) -> list[dict[str, Any]]:
    """The golden images of a run: `file` below `golden/`, and `label`, None where nobody knows it."""
    return json.loads((run.golden / "golden.json").read_text())


@dataclass(frozen=True)
class Trained:
    """A trained network. `model` takes preprocessed float images (batch, height, width, 3), gives probabilities
    (batch, classes); `logits_model` shares its weights and gives the logits."""

    model: keras.Model
    logits_model: keras.Model
    labels: tuple[str, ...]
    preprocessing: Preprocessing


def load(path: str | Path) -> Trained:
    """The network of a finished run.

    Raises:
        UserError: not a run folder, or a run that is not finished.
    """
    run = Run(Path(path))
    classifier = run.read_finished()
    try:
        model = keras.models.load_model(run.model, compile=False)
    except (ValueError, OSError) as error:
        raise UserError(f"{run.model} is damaged: {str(error).splitlines()[0]}") from error
    logits_model = classifier.build(activation=None)
    logits_model.set_weights(model.get_weights())
    return Trained(model, logits_model, classifier.labels, classifier.preprocessing)
