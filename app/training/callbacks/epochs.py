"""What happens beside the steps of a training, as Keras callbacks."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.batch_norm import measuring
from app.program.errors import UserError
from app.program.files import whole

PREDICTIONS = "predictions"  # the output that counts, beside auxiliary heads
ACCURACY, AVERAGE_PRECISION = "accuracy", "average_precision"  # the second of several labels a picture
Logs = dict[str, Any] | None
Row = dict[str, int | float]  # of history.csv


def shown_of(figures: Mapping[str, Any], prefix: str = "") -> str:
    """What training shows beside the loss."""
    return ACCURACY if prefix + ACCURACY in figures else AVERAGE_PRECISION


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
                for name in ("loss", shown_of(figures, f"{prefix}{PREDICTIONS}_")):
                    figures[f"{prefix}{name}"] = figures.pop(f"{prefix}{PREDICTIONS}_{name}")


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
        normalizations = [layer for layer in measuring.layers_of(self.model) if layer.trainable]
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
