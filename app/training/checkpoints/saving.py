"""When a training saves its state: after every epoch and in between, and when it is asked to stop."""

import math
import re
import time
from pathlib import Path

import keras

from app.program.files import whole
from app.program.stopping import Request, Stopped
from app.run_folder.classifier import Classifier
from app.training.callbacks.epochs import History, Logs
from app.training.callbacks.progress import ReportProgress
from app.training.checkpoints import checkpoint
from app.training.checkpoints.checkpoint import Checkpoint, State

INTERVAL = 60.0  # seconds of training between checkpoints, at most
OF_READING = re.compile("IteratorGetNext")  # the operation, on one device or on several


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves the whole state after every epoch and in between: every so many steps, or so often that at most a minute
    of training is ever lost. A request to stop saves it after the step, and ends training.

    Writes `last.keras` when the last step is done, and keeps `best.keras`, of the lowest validation loss, for a recipe
    that uses it. Comes after the others, since it saves what they remember. The metrics of several devices,
    `of_metrics=False`, are left out: nobody reads them without all others, and the means of an epoch that was
    interrupted are then those of its rest.
    """

    def __init__(
        self,
        folder: Path,
        every: int | None,
        classifier: Classifier,
        progress: ReportProgress,
        history: History,
        resumed: Checkpoint | None,
        request: Request,
        of_metrics: bool = True,
    ) -> None:
        super().__init__()
        self.folder = folder
        self.of_metrics = of_metrics
        self.every = every
        self.classifier = classifier
        self.progress = progress
        self.history = history
        self.resumed = resumed
        self.request = request
        self.keeps_best = classifier.recipe is not None and classifier.recipe.checkpoint.use == "best"
        # A loss that is not a number is less than none, and no other is less than it.
        self.best_loss = min(filter(math.isfinite, (row["val_loss"] for row in history.rows)), default=math.inf)

    def on_train_begin(self, logs: Logs = None) -> None:
        self.saved = self.stepped = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if self.resumed and self.of_metrics:
            self.resumed.restore_metrics(self.model)
        self.resumed = None

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        now = time.monotonic()
        step_seconds, self.stepped = now - self.stepped, now
        if self.model.stop_training:
            return  # the epoch is over: it is saved with its validation
        late = now + step_seconds - self.saved > INTERVAL  # after the next step it would be
        due = self.progress.step % self.every == 0 if self.every else late
        if due or self.request.signal:
            self._save(self.progress.seconds)
        self._stop_if_asked()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        loss = (logs or {})["val_loss"]
        is_best = loss < self.best_loss or not (self.folder / "best.keras").is_file()
        if self.keeps_best and is_best and math.isfinite(loss):
            self.best_loss = loss
            self._write("best.keras")
        if self.model.stop_training:
            self._write("last.keras")
        else:
            if self.of_metrics:
                self.model.reset_metrics()  # they are those of the validation
            self._save(0.0)
        self._stop_if_asked()

    def on_error(self, error: Exception) -> None:
        """Saves the state where the error came from reading the next batch: what fails within a step may have changed
        some variables already, and then the checkpoint before counts, as it does in a validation."""
        of_reading = OF_READING.search(str(error)) is not None
        done = self.progress.step > checkpoint.newest_step(self.folder)
        if of_reading and done and not self.model.stop_training:
            self._save(self.progress.seconds)

    def _save(self, seconds: float) -> None:
        rows = tuple(self.history.rows)
        state = State(classifier=self.classifier, step=self.progress.step, seconds=seconds, history=rows)
        checkpoint.write(self.folder, self.model, state, self.of_metrics)
        self.saved = self.stepped = time.monotonic()

    def _write(self, name: str) -> None:
        with whole(self.folder / name) as beside:
            self.model.save(beside)

    def _stop_if_asked(self) -> None:
        if self.request.signal:
            raise Stopped(self.request.signal, self.progress.step)
