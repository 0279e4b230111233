"""TensorFlow fails in a step: whether another worker is gone or this one is at fault, and whether starting again helps.

Where one of several workers fails, the others only see that it is gone. So it leaves a note in the run folder,
checkpoints/fault.json. The first time all end with exit code 75, and may be started again; a fault that comes back at
the same step ends all with its message. The note goes when training gets past that step.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from pydantic import BaseModel, ConfigDict, ValidationError

from app.program import unexpected
from app.program.errors import UserError, WorkerLostError
from app.program.files import write_json

NOTE = "fault.json"
WAIT = 5.0  # seconds: so much later than the connection breaks a note may be seen on a shared file system
# What TensorFlow and gRPC say when a connection to another worker breaks, or the service that watches them ends. The
# kind of the error says nothing, nor do names of devices, which have the worker in them.
OF_OTHERS = re.compile(
    "socket closed|connection (reset|refused|aborted|timed out)|failed to connect|broken pipe|error received from peer"
    "|remote target|coordination service|heartbeat|has (disconnected|restarted)|shutdown barrier|incarnation"
    "|tasks are unhealthy|error reported from",
    re.IGNORECASE,
)


class Fault(BaseModel):
    """`worker` failed for so many `times` after this step; `again` is whether starting again may help."""

    model_config = ConfigDict(frozen=True)

    worker: int
    step: int
    message: str
    times: int
    again: bool

    def error(self) -> UserError:
        often = f" {self.times} times" if self.times > 1 else ""
        said = f"Worker {self.worker} failed{often} after step {self.step}: {self.message}"
        if not self.again:
            return UserError(said)
        return WorkerLostError(
            f"{said} Start the same command on all hosts again: it goes on after the last checkpoint, and ends if this "
            "comes back."
        )


class Attempt:
    """What one of several workers knows of faults between its start and its end. `step` counts the steps done, of the
    whole run."""

    def __init__(self, checkpoints: Path, worker: int, batch_size: int) -> None:
        self.note = checkpoints / NOTE
        self.worker = worker
        self.batch_size = batch_size
        self.step = 0
        self.before = self._read()

    def judged(self, error: Exception) -> Exception:
        """What to raise for an error that ended it; leaves the note where it is this worker's own."""
        if isinstance(error, tf.errors.OpError) and OF_OTHERS.search(str(error)):
            if fault := self._of_another():
                return fault.error()
            return WorkerLostError(
                "Another worker is gone, or cannot be reached: start the same command on all hosts again, it goes on "
                f"after the last checkpoint. ({type(error).__name__})"
            )
        fault = self._left(error)
        return fault.error() if isinstance(error, tf.errors.OpError) else error

    def passed(self) -> None:
        """A step is done; the chief forgets what failed at it before."""
        self.step += 1
        if self.worker == 0 and self.before and self.step > self.before.step:
            self.note.unlink(missing_ok=True)
            self.before = None

    def _left(self, error: Exception) -> Fault:
        known = self.before
        back = known is not None and (known.worker, known.step) == (self.worker, self.step)
        times = known.times + 1 if known and back else 1
        again = isinstance(error, tf.errors.OpError) and times == 1
        fault = Fault(
            worker=self.worker, step=self.step, message=described(error, self.batch_size), times=times, again=again
        )
        try:
            write_json(self.note, fault.model_dump())
        except UserError:  # nobody would know, the next time
            return fault.model_copy(update={"again": False})
        return fault

    def _of_another(self) -> Fault | None:
        """The note that another worker has left since this one began."""
        until = time.monotonic() + WAIT
        while True:
            found = self._read()
            if found and found != self.before:
                return found
            if time.monotonic() > until:
                return None
            time.sleep(0.1)

    def _read(self) -> Fault | None:
        try:
            return Fault.model_validate_json(self.note.read_text())
        except (OSError, ValidationError):
            return None


class CountSteps(keras.callbacks.Callback):
    """Tells an attempt how far it has come; comes before callbacks that may fail."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__()
        self.attempt = attempt

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.attempt.passed()


def forget(checkpoints: Path) -> None:
    """Removes the note of a run that is finished."""
    (checkpoints / NOTE).unlink(missing_ok=True)


@contextmanager
def memory_named(batch_size: int) -> Iterator[None]:
    """Around what trains in such batches.

    Raises:
        UserError: memory ran out.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if not unexpected.is_of_memory(error):
            raise
        raise UserError(described(error, batch_size)) from error


def described(error: Exception, batch_size: int) -> str:
    """What went wrong, in one line, with what can be done about it where anybody knows; and the file of the rest."""
    if isinstance(error, UserError):
        return str(error)
    if not (isinstance(error, tf.errors.OpError) and unexpected.is_of_memory(error)):
        return unexpected.sentence(error)
    return (
        f"Memory ran out at batch_size={batch_size}: begin again with smaller batches, as in --set "
        f"batch_size={max(1, batch_size // 2)}, or a smaller image_size, and another --to. TensorFlow says: "
        f"{unexpected.line(error, unexpected.OF_MEMORY)}. {unexpected.trace(error)}"
    )
