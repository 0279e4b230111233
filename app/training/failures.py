"""A training that TensorFlow ends: what is said of it, with the way on."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from app.datasets import changes
from app.datasets.dataset import Data
from app.program import unexpected
from app.program.errors import UserError
from app.program.files import whole
from app.program.progress import Watch, unwatched
from app.program.shown import counted
from app.run_folder.folder import Run
from app.training.checkpoints import checkpoint
from app.training.devices.faults import OF_OTHERS

LIST = "quarantine.txt"  # in the folder of the checkpoints, until the run is finished
# What a picture can be the cause of though its size and time of change are what they were. All are read for that, which
# takes long, and would tell nothing of a fault of the device.
OF_PICTURES = (
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.DataLossError,
    tf.errors.OutOfRangeError,
)


@contextmanager
def named(data: Data, run: Run, workers: int = 1, watch: Watch = unwatched) -> Iterator[None]:
    """Around what reads the pictures of `data`; `watch` shows how they are looked through afterwards. Errors of memory
    pass, and of several workers those that say nothing of pictures: see `faults`.

    Raises:
        UserError: an error of TensorFlow; with the pictures that are not any more what they were when they were looked
            at, where there are such, and a list that names them.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if unexpected.is_of_memory(error) or (workers > 1 and OF_OTHERS.search(str(error))):
            raise
        if lost := changes.spoiled(data, watch, contents=isinstance(error, OF_PICTURES)):
            raise UserError(_without(lost, run)) from error
        if workers > 1:
            raise
        raise UserError(f"{unexpected.sentence(error)} {_state(run)} The same command {_further(run)}.") from error


def _without(lost: list[tuple[str, str]], run: Run) -> str:
    """What to do without these files, after writing a list of them and of what was left out before."""
    listed = write_list([file for file, _ in lost], run)
    (file, why), *others = lost
    number = counted(len(others), "more image is not what it was", "more images are not what they were")
    more = f", and {number}" if others else ""
    further = _further(run)
    return (
        f"{file} {why}{more}. {_state(run)} Bring back what was there, and the same command {further}; with "
        f"--quarantine {listed} it {further} without."
    )


def write_list(lost: Iterable[str | Path], run: Run) -> Path:
    """The list to go on with, of these files and of what was left out before."""
    listed = run.checkpoints / LIST
    before = run.quarantine.read_bytes() if run.quarantine.is_file() else b""
    listed.parent.mkdir(exist_ok=True)
    with whole(listed) as beside:
        lines = dict.fromkeys([*before.splitlines(), *(os.fsencode(os.path.abspath(file)) for file in lost)])
        beside.write_bytes(b"\n".join(lines) + b"\n")
    return listed


def _state(run: Run) -> str:
    if (run.checkpoints / "last.keras").is_file():
        return "The training is over, and its weights are saved."
    step = checkpoint.newest_step(run.checkpoints)
    return f"The state after step {step} is saved." if step else "No step was saved yet."


def _further(run: Run) -> str:
    is_saved = (run.checkpoints / "last.keras").is_file() or checkpoint.newest_step(run.checkpoints)
    return "goes on" if is_saved else "begins again"


def forget(checkpoints: Path, given: Path | None) -> None:
    """Removes the list of a run that is finished, but where it was `given`: the same command finds it again."""
    listed = checkpoints / LIST
    if listed.is_file() and not (given and given.exists() and given.samefile(listed)):
        listed.unlink()
