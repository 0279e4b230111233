"""What a training shows on the way: a line before its first step, a bar, a line after every epoch."""

import math
import time
from typing import Any

import keras
import psutil

from app.program.progress import bar, console
from app.recipe import Recipe
from app.training.callbacks.epochs import Logs, shown_of

EVERY = 10.0  # seconds between plain lines within an epoch
DRAWN = 0.1  # and between pictures of the bar on a terminal: asking for the figures takes a millisecond


def show_banner(model: keras.Model, recipe: Recipe, steps: int, total: int) -> None:
    """`steps` batches are an epoch, `total` the run."""
    trained = sum(int(keras.ops.size(weight)) for weight in model.trainable_weights)
    frozen = sum(int(keras.ops.size(weight)) for layer in model.layers for weight in _frozen(layer))
    rest = f", {frozen:,} are frozen" if frozen else ""
    console.print(f"{model.name}: of {model.count_params():,} parameters {trained:,} train{rest}")
    images = recipe.batch_size * recipe.optimizer.accumulate
    parts = f" in {recipe.optimizer.accumulate} parts" if recipe.optimizer.accumulate > 1 else ""
    console.print(
        f"{recipe.precision}, {images} images a step{parts}, {total // recipe.optimizer.accumulate} steps, "
        f"{total / steps:.3g} epochs"
    )


def _frozen(layer: keras.layers.Layer) -> list[keras.Variable]:
    """What would train, but is told not to; moving averages are nothing of the kind."""
    return [] if layer.trainable else [weight for weight in layer.weights if weight.trainable]


class ReportProgress(keras.callbacks.Callback):
    """Shows loss, accuracy, images per second and the time left; adds rate, seconds and speed to the figures."""

    def __init__(self, batch_size: int, steps: int, total_steps: int, first_step: int, seconds_before: float) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.steps = steps  # of an epoch
        self.total_steps = total_steps
        self.step = self.first_step = first_step
        self.seconds_before = seconds_before  # of the epoch that goes on
        self.bar = bar()
        # Of this process. Its first step is not counted: making the graph takes as long as hundreds of steps.
        self.counted = 0
        self.counted_seconds = 0.0
        self.validation_seconds: float | None = None  # of the last one

    @property
    def seconds(self) -> float:
        """Since the epoch began, without the time between two processes."""
        return time.monotonic() - self.epoch_started

    @property
    def seconds_left(self) -> float | None:
        """What steps and validations still take; None before there is one to go by. The first validation, which nobody
        has seen yet, is not in it."""
        if not self.counted:
            return None
        validations = math.ceil((self.total_steps - self.step) / self.steps)
        return (self.total_steps - self.step) * self.counted_seconds / self.counted + validations * (
            self.validation_seconds or 0.0
        )

    def on_train_begin(self, logs: Logs = None) -> None:
        self.said = time.monotonic()
        self.task = self.bar.add_task("Training", total=self.total_steps, completed=self.step, figures="")
        if console.is_terminal:
            self.bar.start()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.epoch = epoch
        self.step_ended = time.monotonic()
        self.epoch_started = self.step_ended - self.seconds_before
        self.epoch_step = epoch * self.steps
        self.seconds_before = 0.0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        now = time.monotonic()
        if self.step > self.first_step:
            self.counted += 1
            self.counted_seconds += now - self.step_ended
        self.step += 1
        self.step_ended = now
        if now - self.said > (DRAWN if console.is_terminal else EVERY):
            self._say(logs or {})

    def on_test_begin(self, logs: Logs = None) -> None:
        self.trained_at = time.monotonic()
        self.bar.update(self.task, completed=self.step)  # the last steps of the epoch were not shown

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.validated = batch + 1
        if batch == 0:
            self.first_validated_at = time.monotonic()

    def on_test_end(self, logs: Logs = None) -> None:
        now = time.monotonic()
        if self.validation_seconds is None:  # its first batch waited for a graph, as the first step did
            others = self.validated - 1
            self.validation_seconds = (now - self.first_validated_at) * self.validated / others if others else 0.0
        else:
            self.validation_seconds = now - self.trained_at

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        seconds = self.trained_at - self.epoch_started
        figures = logs if logs is not None else {}
        figures["learning_rate"] = float(self.model.optimizer.learning_rate)
        figures["seconds"] = seconds
        figures["memory_mb"] = psutil.Process().memory_info().rss / 1e6
        figures["images_per_second"] = (self.step - self.epoch_step) * self.batch_size / seconds
        name = shown_of(figures)
        shown = "  ".join(f"{key} {figures[key]:.4f}" for key in ("loss", name, "val_loss", f"val_{name}"))
        console.print(
            f"epoch {epoch + 1}  step {self.step} of {self.total_steps}  {shown}  "
            f"{figures['images_per_second']:.0f} images/s  rate {figures['learning_rate']:.2g}  "
            f"{figures['memory_mb'] / 1000:.1f} GB{self._left()}"
        )
        self.said = time.monotonic()

    def on_train_end(self, logs: Logs = None) -> None:
        self.close()

    def close(self) -> None:
        self.bar.stop()

    def _left(self) -> str:
        left = self.seconds_left
        return "" if left is None else f"  {left:.0f} s left"

    def _say(self, logs: dict[str, Any]) -> None:
        speed = f"  {self.counted * self.batch_size / self.counted_seconds:.0f} images/s" if self.counted else ""
        rate, memory = float(self.model.optimizer.learning_rate), psutil.Process().memory_info().rss / 1e9
        name = shown_of(logs)
        shown = f"loss {logs['loss']:.4f}  {name.replace('_', ' ')} {logs[name]:.3f}"
        figures = f"{shown}{speed}  rate {rate:.2g}  {memory:.1f} GB"
        self.bar.update(self.task, completed=self.step, description=f"epoch {self.epoch + 1}", figures=figures)
        if not console.is_terminal:
            console.print(f"epoch {self.epoch + 1}  step {self.step} of {self.total_steps}  {figures}{self._left()}")
        self.said = time.monotonic()
