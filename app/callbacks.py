"""What happens beside the steps of a training, as Keras callbacks."""

import csv
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil

from app import batch_norm, checkpoints
from app.checkpoints import Checkpoint, Row, State
from app.errors import UserError
from app.files import whole
from app.progress import bar, console
from app.run_folder import Classifier
from app.stopping import Request, Stopped

EVERY = 10.0  # seconds between plain lines within an epoch
INTERVAL = 60.0  # seconds of training between checkpoints, at most
PREDICTIONS = "predictions"  # the output that counts, beside auxiliary heads
Logs = dict[str, Any] | None


class NamePredictions(keras.callbacks.Callback):
    """With auxiliary heads: `loss` and `accuracy` are those of the predictions, `total_loss` is what training lowers.

    Comes before the callbacks that read them, so that these see the same names with and without heads.
    """

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._rename(logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._rename(logs)

    def _rename(self, logs: Logs) -> None:
        figures = logs if logs is not None else {}
        for prefix in ("", "val_"):
            if f"{prefix}{PREDICTIONS}_loss" in figures:
                figures[f"{prefix}total_loss"] = figures[f"{prefix}loss"]
                for name in ("loss", "accuracy"):
                    figures[f"{prefix}{name}"] = figures.pop(f"{prefix}{PREDICTIONS}_{name}")


class ReportProgress(keras.callbacks.Callback):
    """Shows loss, accuracy, images per second and the time left; adds rate, seconds and speed to the figures."""

    def __init__(self, batch_size: int, steps: int, total_steps: int, state: State) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.steps = steps  # of an epoch
        self.total_steps = total_steps
        self.step = self.first_step = state.step
        self.seconds_before = state.seconds
        self.bar = bar()

    @property
    def seconds(self) -> float:
        """Since the epoch began, without the time between two processes."""
        return time.monotonic() - self.epoch_started

    def on_train_begin(self, logs: Logs = None) -> None:
        self.began = self.said = time.monotonic()
        self.task = self.bar.add_task("Training", total=self.total_steps, completed=self.step, figures="")
        if console.is_terminal:
            self.bar.start()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.epoch = epoch
        self.epoch_started = time.monotonic() - self.seconds_before
        self.epoch_step = epoch * self.steps
        self.seconds_before = 0.0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.step += 1
        if console.is_terminal or time.monotonic() - self.said > EVERY:
            self._say(logs or {}, self.seconds)

    def on_test_begin(self, logs: Logs = None) -> None:
        self.trained_at = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        seconds = self.trained_at - self.epoch_started
        figures = logs if logs is not None else {}
        figures["learning_rate"] = float(self.model.optimizer.learning_rate)
        figures["seconds"] = seconds
        figures["memory_mb"] = psutil.Process().memory_info().rss / 1e6
        figures["images_per_second"] = (self.step - self.epoch_step) * self.batch_size / seconds
        shown = "  ".join(f"{key} {figures[key]:.4f}" for key in ("loss", "accuracy", "val_loss", "val_accuracy"))
        left = (self.total_steps - self.step) * (time.monotonic() - self.began) / (self.step - self.first_step)
        console.print(
            f"epoch {epoch + 1}  step {self.step} of {self.total_steps}  {shown}  "
            f"{figures['images_per_second']:.0f} images/s  rate {figures['learning_rate']:.2g}  "
            f"{figures['memory_mb'] / 1000:.1f} GB  {left:.0f} s left"
        )
        self.said = time.monotonic()

    def on_train_end(self, logs: Logs = None) -> None:
        self.close()

    def close(self) -> None:
        self.bar.stop()

    def _say(self, logs: dict[str, Any], seconds: float) -> None:
        done = self.step - self.epoch_step
        speed = done * self.batch_size / seconds
        rate, memory = float(self.model.optimizer.learning_rate), psutil.Process().memory_info().rss / 1e9
        figures = (
            f"loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.3f}  {speed:.0f} images/s  rate {rate:.2g}  "
            f"{memory:.1f} GB"
        )
        self.bar.update(self.task, completed=self.step, description=f"epoch {self.epoch + 1}", figures=figures)
        if not console.is_terminal:
            left = (self.total_steps - self.step) * seconds / done
            console.print(
                f"epoch {self.epoch + 1}  step {self.step} of {self.total_steps}  {figures}  {left:.0f} s left"
            )
            self.said = time.monotonic()


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends the run at the first step whose loss is infinite or not a number, and says where it began.

    The step has spoiled all weights by then, but of the moving averages only those that saw what is not finite.
    """

    def __init__(self, first_step: int) -> None:
        super().__init__()
        self.step = first_step

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.step += 1
        # The running mean of the epoch: one loss that is not finite makes it so, and it stays so.
        if logs and not math.isfinite(logs["loss"]):
            raise UserError(
                f"The loss became {logs['loss']} at step {self.step}{self._where()}; try a lower rate, as in "
                "--set optimizer.rate=0.005. The checkpoints before are kept."
            )

    def _where(self) -> str:
        normalizations = [layer for layer in batch_norm.layers_of(self.model) if layer.trainable]
        for layer in normalizations:
            if not all(np.isfinite(keras.ops.convert_to_numpy(x)).all() for x in layer.non_trainable_weights):
                return f", and what {layer.name} is given was the first that is not finite"
        return ", behind all batch normalisations" if normalizations else ""


class EndEpochs(keras.callbacks.Callback):
    """Ends every epoch after the same step, also one that is continued in its middle; and training after `total` steps
    of the whole run."""

    def __init__(self, steps: int, total: int, first_step: int) -> None:
        super().__init__()
        self.steps = steps
        self.total = total
        self.step = first_step

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.step += 1
        # Keras looks at this after a step, where it ends the epoch, and after the epoch, where it ends training.
        self.model.stop_training = self.step % self.steps == 0 or self.step >= self.total

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.model.stop_training = self.step >= self.total


class History(keras.callbacks.Callback):
    """Adds a row per epoch to a CSV file, which is whole at any moment."""

    def __init__(self, path: Path, rows: Sequence[Row]) -> None:
        super().__init__()
        self.path = path
        self.rows = list(rows)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.rows.append({"epoch": epoch + 1, **(logs or {})})
        with whole(self.path) as beside, beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.rows[0].keys())
            writer.writeheader()
            writer.writerows(self.rows)


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of a run's `history.csv`; none where there is no file yet."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves the whole state after every epoch and in between: every so many steps, or so often that at most a minute
    of training is ever lost. A request to stop saves it after the step, and ends training.

    Keeps `best.keras`, of the lowest validation loss, and writes `last.keras` when the last step is done. Comes after
    the others, since it saves what they remember. The metrics of several devices, `of_metrics=False`, are left out:
    nobody reads them without all others, and the means of an epoch that was interrupted are then those of its rest.
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
        self.best_loss = min((row["val_loss"] for row in history.rows), default=math.inf)

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
        if loss < self.best_loss or not (self.folder / "best.keras").is_file():
            self.best_loss = loss
            self._write("best.keras")
        if self.model.stop_training:
            self._write("last.keras")
        else:
            if self.of_metrics:
                self.model.reset_metrics()  # they are those of the validation
            self._save(0.0)
        self._stop_if_asked()

    def _save(self, seconds: float) -> None:
        rows = tuple(self.history.rows)
        state = State(classifier=self.classifier, step=self.progress.step, seconds=seconds, history=rows)
        checkpoints.write(self.folder, self.model, state, self.of_metrics)
        self.saved = self.stepped = time.monotonic()

    def _write(self, name: str) -> None:
        with whole(self.folder / name) as beside:
            self.model.save(beside)

    def _stop_if_asked(self) -> None:
        if self.request.signal:
            raise Stopped(self.request.signal, self.progress.step)
