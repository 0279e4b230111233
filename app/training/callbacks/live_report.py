"""The report of a training that goes on: its curves, after every epoch."""

from typing import Any

import keras

from app.reports import run_report
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run


class LiveReport(keras.callbacks.Callback):
    """Writes report.html of what history.csv holds; comes after the callback that writes that."""

    def __init__(self, run: Run, classifier: Classifier, epochs: int) -> None:
        super().__init__()
        self.run = run
        self.classifier = classifier
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        run_report.write_running(self.run, self.classifier, self.epochs)
