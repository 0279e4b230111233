"""What happens beside the steps of a training, as Keras callbacks."""

import csv
import math
import shutil
import time
from pathlib import Path
from typing import Any

import keras

from app.errors import UserError
from app.files import whole
from app.progress import bar, console

EVERY = 10.0  # seconds between plain lines within an epoch
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

    def __init__(self, batch_size: int, total_steps: int, first_step: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.total_steps = total_steps
        self.step = self.first_step = first_step
        self.bar = bar()

    def on_train_begin(self, logs: Logs = None) -> None:
        self.train_seconds = self.all_seconds = 0.0
        self.said = time.monotonic()
        self.task = self.bar.add_task("Training", total=self.total_steps, completed=self.step, figures="")
        if console.is_terminal:
            self.bar.start()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.epoch = epoch
        self.epoch_started = time.monotonic()
        self.epoch_step = self.step

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.step += 1
        if console.is_terminal or time.monotonic() - self.said > EVERY:
            self._say(logs or {}, time.monotonic() - self.epoch_started)

    def on_test_begin(self, logs: Logs = None) -> None:
        self.trained_at = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        seconds = self.trained_at - self.epoch_started
        self.train_seconds += seconds
        self.all_seconds += time.monotonic() - self.epoch_started
        figures = logs if logs is not None else {}
        figures["learning_rate"] = float(self.model.optimizer.learning_rate)
        figures["seconds"] = seconds
        figures["images_per_second"] = (self.step - self.epoch_step) * self.batch_size / seconds
        shown = "  ".join(f"{key} {figures[key]:.4f}" for key in ("loss", "accuracy", "val_loss", "val_accuracy"))
        left = (self.total_steps - self.step) * self.all_seconds / (self.step - self.first_step)
        console.print(
            f"epoch {epoch + 1}  step {self.step} of {self.total_steps}  {shown}  "
            f"{figures['images_per_second']:.0f} images/s  {left:.0f} s left"
        )
        self.said = time.monotonic()

    def on_train_end(self, logs: Logs = None) -> None:
        self.close()

    def close(self) -> None:
        self.bar.stop()

    def _say(self, logs: dict[str, Any], seconds: float) -> None:
        done = self.step - self.epoch_step
        speed = done * self.batch_size / seconds
        figures = f"loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.3f}  {speed:.0f} images/s"
        self.bar.update(self.task, completed=self.step, description=f"epoch {self.epoch + 1}", figures=figures)
        if not console.is_terminal:
            left = (self.total_steps - self.step) * seconds / done
            console.print(
                f"epoch {self.epoch + 1}  step {self.step} of {self.total_steps}  {figures}  {left:.0f} s left"
            )
            self.said = time.monotonic()


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends the run at the first step whose loss is infinite or not a number."""

    def __init__(self, first_step: int) -> None:
        super().__init__()
        self.step = first_step

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.step += 1
        # The running mean of the epoch: one loss that is not finite makes it so, and it stays so.
        if logs and not math.isfinite(logs["loss"]):
            raise UserError(
                f"The loss became {logs['loss']} at step {self.step}; try a lower rate, as in "
                "--set optimizer.rate=0.005. The checkpoints of the epochs before are kept."
            )


class StopAfter(keras.callbacks.Callback):
    """Ends training after `steps` optimizer steps of the whole run."""

    def __init__(self, steps: int, first_step: int) -> None:
        super().__init__()
        self.steps = steps
        self.step = first_step

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.step += 1
        if self.step >= self.steps:
            self.model.stop_training = True


class History(keras.callbacks.Callback):
    """Adds a row per epoch to a CSV file, which is whole at any moment."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        rows = read_history(self.path)[:epoch]
        rows.append({"epoch": epoch + 1, **(logs or {})})
        with whole(self.path) as beside, beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of a run's `history.csv`; none where there is no file yet."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


class Checkpoints(keras.callbacks.Callback):
    """Keeps `best.keras`, of the lowest validation loss, and `last.keras`, both with the optimizer's state.

    Both are written beside and renamed, the best first: an epoch that `last` has behind it is in the best, too.
    """

    def __init__(self, folder: Path, best_loss: float) -> None:
        super().__init__()
        self.best = folder / "best.keras"
        self.last = folder / "last.keras"
        self.best_loss = best_loss

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        loss = (logs or {})["val_loss"]
        if loss < self.best_loss or not self.best.is_file():
            self.best_loss = loss
            with whole(self.best) as beside:
                self.model.save(beside)
            with whole(self.last) as beside:
                shutil.copyfile(self.best, beside)
        else:
            with whole(self.last) as beside:
                self.model.save(beside)
