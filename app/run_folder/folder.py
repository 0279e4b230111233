"""A run folder: what a training or an import leaves behind, and what every later command takes.

model.keras       the network, ending in `predictions`: a softmax, or sigmoids where pictures have several labels; of a
                  file without a classifier, in its features
classifier.json   network, labels in order, preprocessing, recipe, versions, seed, data, origin
history.csv       a row per epoch
rates.csv         the loss at rising rates, where the rate was chosen by a range test
import.json       of imported weights: what became of every tensor of their file
auxiliary.keras   the network with its auxiliary heads, where they were imported
metrics.json      the figures on the test images, and the temperature that calibrates them
unknown.npz       how strange a picture is to the network (see `evaluation.strangeness`)
report.html       curves, confusion matrix, predictions; opens without a server
old_classes.json  of a run that began with another: how many test images of that one's classes are still named right
batch_norm.json   how the statistics of batch normalisation were measured, where they were
golden/           test images that exports are compared on
checkpoints/      the last epoch, and the best where the recipe keeps that; until then, the states to go on from; of a
                  run that was trained for longer, the networks that it was finished with before
unreadable.csv    images left out, where there were any
quarantine.txt    images that were to be left out, where a list of them was given
split.csv         which image is in which split, where images are files; a manifest to train on again
out_of_fold.csv   of a fold: what the network says of the images that it was not trained on

A run is finished when `model.keras` is there, which is written after `golden/`; figures and report can be made from it.
A file `training.lock` is there while a process trains in it (see `lock`), or was killed while it did.
A folder `exchange/` is of a `batch-norm recalibrate` that was killed; whoever reads the run ends what it began.
"""

import csv
import importlib.metadata
import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from app.program import files, paths
from app.program.errors import UserError
from app.program.shown import command
from app.run_folder.classifier import Classifier
from app.run_folder.data_name import real_name
from models import __version__


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of a run's `history.csv`; none where there is no file yet."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


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
    def is_finished(self) -> bool:
        """Whether it has its network. What else it lacks is made from that, without training."""
        return self.model.is_file()

    @property
    def history(self) -> Path:
        return self.folder / "history.csv"

    @property
    def rates(self) -> Path:
        return self.folder / "rates.csv"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def unknown(self) -> Path:
        return self.folder / "unknown.npz"

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

    @property
    def old_classes(self) -> Path:
        return self.folder / "old_classes.json"

    @property
    def out_of_fold(self) -> Path:
        return self.folder / "out_of_fold.csv"

    def exchanged(self) -> AbstractContextManager[Path]:
        """A place for new files of a finished run, its network among them: all are exchanged, or none."""
        return files.exchanged(self.folder, last=self.model.name)

    def quarantine_of(self, data_name: str) -> Path | None:
        """The list to load a data set with, so that the run's own is again what the run was trained on."""
        record = self.read_classifier().data
        is_its_own = record and real_name(data_name) in (record.place, real_name(record.name))
        return self.quarantine if is_its_own and self.quarantine.is_file() else None

    def read_classifier(self) -> Classifier:
        """What the folder holds.

        Raises:
            UserError: it is not a run folder, or its `classifier.json` is damaged.
        """
        files.settle(self.folder, last=self.model.name)
        paths.check_run(self.folder)
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
            UserError: as `read_start`; or the network has no classifier.
        """
        classifier = self.read_start()
        if not classifier.labels:
            again = command("train", "DATA", "--from", self.folder, "--to", "RUN")
            raise UserError(
                f"{self.folder} is of a file without a classifier, so that it names nothing: `{again}` trains one on "
                "your images."
            )
        return classifier

    def read_start(self) -> Classifier:
        """The same of a run that a training can begin with: it may be without a classifier.

        Raises:
            UserError: as `read_classifier`; or there is no model.keras yet.
        """
        classifier = self.read_classifier()
        if not self.is_finished:
            raise UserError(
                f"The run {self.folder} is not finished: it has no model.keras. The same `train` command goes on."
            )
        return classifier


def versions() -> dict[str, str]:
    """Of this program, Python and the libraries that the figures depend on."""
    packages = {name: importlib.metadata.version(name) for name in ("keras", "tensorflow", "numpy")}
    return {"inceptions": __version__, **packages, "python": platform.python_version()}
