"""Checkpoints: all that a training needs to go on after any step as if it had never stopped.

checkpoints/step-00000120/
    variables.safetensors   of the network (Dropout's seeds too), the optimizer, and the metrics of the epoch so far
    state.json              the step, what the callbacks remember, and what is being trained
    SHA256SUMS              of both, as `sha256sum --check` reads them

A checkpoint is written beside, flushed and renamed: it is there whole, or not at all. Nothing else has a state: the
order of the images and what augmentation does to them are functions of (seed, epoch, index), and so of the step; the
rate is a function of the optimizer's count.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from app.program.errors import UserError
from app.program.files import digest, whole_folder
from app.program.progress import console
from app.run_folder.classifier import Classifier
from app.training.callbacks.epochs import Row

KEPT = 2  # the newest, and one to fall back to
VARIABLES, STATE, SUMS = "variables.safetensors", "state.json", "SHA256SUMS"


class State(BaseModel):
    """`step` counts the steps done, of the whole run, `seconds` those of the epoch that has begun; `history` are the
    rows of history.csv."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    classifier: Classifier
    step: int = 0
    seconds: float = 0.0
    history: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    state: State

    def restore(self, model: keras.Model) -> None:
        """Gives a compiled model the weights, the seeds and the optimizer that it had.

        Raises:
            UserError: it is another network, or has another optimizer.
        """
        if not model.optimizer.built:  # the one that scales the loss could be built twice
            model.optimizer.build(model.trainable_variables)
        self._restore(model, "network", "optimizer")

    def restore_metrics(self, model: keras.Model) -> None:
        """After Keras has reset them for the epoch: then its means are those of all its steps."""
        build_metrics(model)
        self._restore(model, "metrics")

    def _restore(self, model: keras.Model, *parts: str) -> None:
        variables = {name: variable for name, variable in _variables(model) if name.startswith(parts)}
        with safetensors.safe_open(self.folder / VARIABLES, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys() if name.startswith(parts)}  # noqa: SIM118
        if _shapes(variables) != _shapes(arrays):
            raise UserError(
                f"{self.folder} is of another network or optimizer; remove {self.folder.parent.parent} to begin the "
                "run again."
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])


def build_metrics(model: keras.Model) -> None:
    """Makes the variables that Keras makes within the first step."""
    if not all(metric.variables for metric in model.metrics):
        answers = keras.tree.map_structure(lambda answer: np.zeros((1, *answer.shape[1:])), model.output)
        model.compute_loss(y=answers, y_pred=answers)
        model.compute_metrics(None, answers, answers)


def write(folder: Path, model: keras.Model, state: State, of_metrics: bool = True) -> None:
    """Adds the checkpoint of `model` to `folder`, with its metrics or without; removes those before the last two and of
    steps to come, which a training that fell back has left.

    Raises:
        UserError: the disk is full, or cannot be written to. The checkpoints before are kept.
    """
    path = folder / f"step-{state.step:08}"
    with whole_folder(path) as beside:
        (beside / STATE).write_text(state.model_dump_json() + "\n")
        _save(
            {name: np.asarray(variable.numpy()) for name, variable in _variables(model, of_metrics)}, beside / VARIABLES
        )
        shutil.copymode(beside / STATE, beside / VARIABLES)  # safetensors lets nobody else read it
        (beside / SUMS).write_text("".join(_sums(beside)))
    found = _newest_first(folder)
    for other in found[found.index(path) + KEPT :] + found[: found.index(path)] + list(folder.glob(".*-step-*")):
        shutil.rmtree(other, ignore_errors=True)


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in `folder` that is as it was written; None where there is none. What is damaged is passed
    over, and named.

    Raises:
        UserError: there are checkpoints, and all are damaged.
    """
    found = _newest_first(folder)
    for path in found:
        if _is_whole(path):
            return Checkpoint(path, State.model_validate_json((path / STATE).read_text()))
        console.print(f"{path} is damaged: its checksums are others than {SUMS} says; the one before counts.")
    if found:
        raise UserError(f"All checkpoints in {folder} are damaged; remove {folder.parent} to begin the run again.")
    return None


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint, be it damaged or not; 0 where there is none."""
    found = _newest_first(folder)
    return int(found[0].name.partition("-")[2]) if found else 0


def clear(folder: Path) -> None:
    """Removes all checkpoints, and what processes that were killed have left of such."""
    for path in [*_newest_first(folder), *folder.glob(".*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def _variables(model: keras.Model, of_metrics: bool = True) -> Iterator[tuple[str, Any]]:
    """All that training changes. By number, since names repeat, and count what was made before in the same process."""
    metrics = [variable for metric in model.metrics for variable in metric.variables] if of_metrics else []
    parts = {"network": model.variables, "optimizer": model.optimizer.variables, "metrics": metrics}
    for part, variables in parts.items():
        for i, variable in enumerate(variables):
            yield f"{part}.{i}", variable


def _shapes(arrays: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in arrays.items()}


def _save(arrays: dict[str, NDArray[Any]], file: Path) -> None:
    try:
        safetensors.numpy.save_file(arrays, file)
    except safetensors.SafetensorError as error:
        raise OSError(str(error)) from error


def _sums(folder: Path) -> Iterator[str]:
    for name in (VARIABLES, STATE):
        yield f"{digest(folder / name)}  {name}\n"


def _is_whole(path: Path) -> bool:
    try:
        return (path / SUMS).read_text() == "".join(_sums(path))
    except (OSError, UnicodeDecodeError):
        return False
