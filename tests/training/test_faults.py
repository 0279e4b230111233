"""Errors of TensorFlow within a training: whose they are, what is said of them, and whether starting again helps."""

import json
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

from app import training
from app.__main__ import main
from app.datasets import loading
from app.evaluation import evaluating
from app.program import unexpected
from app.program.errors import UserError, WorkerLostError
from app.recipe import Recipe
from app.run_folder.folder import Run
from app.studies import comparing
from app.studies.comparing import Budget
from app.training.devices import faults
from app.training.devices.devices import Devices
from app.training.devices.faults import Attempt

# As TensorFlow 2.21 said them, to those who were left when a worker was killed.
GONE = (
    "{{function_node __wrapped__CollectiveReduceV2_device_/job:worker/replica:0/task:1/device:CPU:0}} Collective ops "
    "is aborted by: Socket closed\nAdditional GRPC error information from remote target /job:worker/replica:0/task:0 "
    "while calling /tensorflow.WorkerService/RecvBuf:\n:UNKNOWN:Error received from peer  {grpc_status:14}"
)
REFUSED = (
    "Collective ops is aborted by: failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:50951: "
    "Failed to connect to remote host: Connection refused"
)
CRASHED = (
    "Collective ops is aborted by: Error reported from /job:worker/task:1: The following tasks are unhealthy (stopped "
    "sending heartbeats):\n/job:worker/replica:0/task:1\nThe tasks have crashed. Check the task logs for an error"
)
# Those of a worker of its own, whose devices have the worker in their names.
OOM = (
    "Graph execution error:\n\nDetected at node lenet_1/conv defined at (most recent call last):\n<stack traces "
    "unavailable>\n2 root error(s) found.\n  (0) {{function_node f}} OOM when allocating tensor with shape[32,9] on "
    "/job:worker/replica:0/task:1/device:GPU:0 by allocator GPU_0_bfc\n\t [[{{node x}}]]\nHint: If you want"
)
CUDNN = (
    "{{function_node __wrapped__Conv2D_device_/job:worker/replica:0/task:1/device:GPU:0}} cuDNN launch failure\n[Op:x]"
)
# Of a training alone, as it came.
OOM_ALONE = (
    'Graph execution error:\n\nDetected at node Tile defined at (most recent call last):\n  File "x.py", line 6, in '
    '<module>\n\n  File "x.py", line 4, in f\n\nOOM when allocating tensor with shape[10000000,10000000] and type '
    "on /job:localhost/replica:0/task:0/device:CPU:0 by allocator mklcpu\n\t [[{{node Tile}}]]\nHint"
)
SOMEBODY = "Another worker is gone, or cannot be reached: start the same command on all hosts again"


@pytest.fixture(autouse=True)
def _waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "WAIT", 0.0)


def attempt(folder: Path, worker: int = 1, step: int = 5) -> Attempt:
    found = Attempt(folder, worker, 32)
    found.step = step
    return found


def judged(error: Exception, of: Attempt) -> UserError:
    """What a worker of two ends with."""
    with pytest.raises(UserError) as caught, Devices(worker=of.worker, workers=2).watched(of):
        raise error
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.UnavailableError(None, None, GONE),
        tf.errors.UnavailableError(None, None, REFUSED),
        tf.errors.InternalError(None, None, CRASHED),
        # The fault of another, as it arrives here: with the code of its own error.
        tf.errors.ResourceExhaustedError(None, None, f"Collective ops is aborted by: {OOM}\n{GONE}"),
    ],
    ids=["gone", "refused", "crashed", "another's"],
)
def test_an_error_that_speaks_of_the_connection_is_of_another_worker(error: Exception, tmp_path: Path) -> None:
    found = judged(error, attempt(tmp_path))
    assert isinstance(found, WorkerLostError)
    assert str(found).startswith(SOMEBODY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (tf.errors.InternalError(None, None, CUDNN), "InternalError: cuDNN launch failure."),
        (tf.errors.AbortedError(None, None, "Operation received an exception"), "AbortedError: Operation received"),
        (
            tf.errors.ResourceExhaustedError(None, None, OOM),
            "Memory ran out at batch_size=32: begin again with smaller batches, as in --set batch_size=16, or a "
            "smaller image_size, and another --to. TensorFlow says: OOM when allocating tensor with shape[32,9] on "
            "/job:worker/replica:0/task:1/device:GPU:0 by allocator GPU_0_bfc.",
        ),
    ],
    ids=["cudnn", "aborted", "memory"],
)
def test_a_fault_of_this_worker_is_temporary_once_and_final_when_it_comes_back(
    error: Exception, message: str, tmp_path: Path
) -> None:
    first = judged(error, attempt(tmp_path))
    assert isinstance(first, WorkerLostError)
    assert str(first).startswith(f"Worker 1 failed after step 5: {message}")
    assert "Start the same command on all hosts again" in str(first)
    elsewhere = judged(error, attempt(tmp_path, step=6))
    assert isinstance(elsewhere, WorkerLostError), "at another step it is another fault"
    second = judged(error, attempt(tmp_path, step=6))
    assert not isinstance(second, WorkerLostError)
    assert str(second).startswith(f"Worker 1 failed 2 times after step 6: {message}")
    assert "\n" not in str(second)
    note = json.loads((tmp_path / "fault.json").read_text())
    assert (note["step"], note["worker"], note["times"]) == (6, 1, 2)
    assert note["message"].startswith(message)


def test_the_others_end_as_the_worker_with_the_fault_does(tmp_path: Path) -> None:
    gone, fault = tf.errors.UnavailableError(None, None, GONE), tf.errors.InternalError(None, None, CUDNN)
    for kind in (WorkerLostError, UserError):
        chief = attempt(tmp_path, worker=0, step=4)
        mine = judged(fault, attempt(tmp_path))
        assert type(mine) is kind
        theirs = judged(gone, chief)
        assert (type(theirs), str(theirs)) == (kind, str(mine))
    # A note that was there when it began says nothing of a worker that was killed.
    assert str(judged(gone, attempt(tmp_path, worker=0))).startswith(SOMEBODY)


def test_a_note_that_comes_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "WAIT", 30.0)
    chief, other = attempt(tmp_path, worker=0), attempt(tmp_path)
    timer = threading.Timer(0.3, lambda: other.judged(tf.errors.InternalError(None, None, CUDNN)))
    timer.start()
    assert "cuDNN" in str(judged(tf.errors.UnavailableError(None, None, GONE), chief))
    timer.join()


def test_what_only_a_person_can_mend_ends_the_others_at_once(tmp_path: Path) -> None:
    full = UserError("/runs/x could not be written: no space left on the device.")
    other = attempt(tmp_path, worker=0)
    assert judged(full, attempt(tmp_path)) is full
    found = judged(tf.errors.UnavailableError(None, None, GONE), other)
    assert type(found) is UserError
    assert str(found) == f"Worker 1 failed after step 5: {full}"


def test_a_fault_that_nobody_can_note_ends_at_once(tmp_path: Path) -> None:
    found = judged(tf.errors.InternalError(None, None, CUDNN), attempt(tmp_path / "nowhere"))
    assert type(found) is UserError


@pytest.mark.parametrize("worker", [0, 1])
def test_the_chief_forgets_a_fault_when_training_gets_past_it(worker: int, tmp_path: Path) -> None:
    judged(tf.errors.InternalError(None, None, CUDNN), attempt(tmp_path))
    again = attempt(tmp_path, worker, step=4)
    again.passed()
    assert (tmp_path / "fault.json").exists(), "the step after which it failed"
    again.passed()
    assert (tmp_path / "fault.json").exists() == (worker == 1)


def test_a_training_that_runs_out_of_memory_is_one_sentence(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, OOM_ALONE)

    monkeypatch.setattr(keras.Model, "fit", fail)
    data = loading.load(str(pictures))
    with pytest.raises(UserError) as caught:
        training.train(data, "lenet_bn", tmp_path / "run", Recipe(batch_size=9, image_size=32))
    assert str(caught.value).startswith(
        "Memory ran out at batch_size=9: begin again with smaller batches, as in --set batch_size=4, or a smaller "
        "image_size, and another --to. TensorFlow says: OOM when allocating tensor with "
        "shape[10000000,10000000]"
    )
    assert "\n" not in str(caught.value)
    assert not (Run(tmp_path / "run").checkpoints / "fault.json").exists()
    # Of several networks one that is too large is a row of the comparison.
    with pytest.raises(UserError, match="Memory ran out at batch_size=9"):
        comparing._member(data, "lenet_bn", tmp_path / "other", Recipe(batch_size=9, image_size=32), Budget())


@pytest.mark.parametrize(
    ("kind", "message", "memory"),
    [
        (tf.errors.InternalError, "CUDA_ERROR_OUT_OF_MEMORY: out of memory", True),
        (tf.errors.ResourceExhaustedError, "Out of memory while trying to allocate 8 bytes.", True),
        (tf.errors.ResourceExhaustedError, "events.out; No space left on device", False),
        (tf.errors.InternalError, CUDNN, False),
    ],
)
def test_memory_is_told_from_a_full_disk_and_other_errors(kind: Any, message: str, memory: bool) -> None:
    with pytest.raises(UserError if memory else kind), faults.memory_named(8):
        raise kind(None, None, message)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (tf.errors.ResourceExhaustedError(None, None, OOM_ALONE), "Memory ran out: take smaller batches or images, or"),
        (
            tf.errors.InternalError(None, None, f"Graph execution error:\n\n{CUDNN}"),
            "InternalError: cuDNN launch failure.",
        ),
        (tf.errors.InvalidArgumentError(None, None, "{{node x}} This file is damaged."), "This file is damaged."),
        (KeyError("colour"), "KeyError: 'colour'."),
        (ValueError(), "ValueError: ValueError."),
    ],
)
def test_an_error_that_nobody_foresaw_is_a_sentence_with_the_file_of_its_trace(
    error: Exception, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(evaluating, "evaluate", fail)
    monkeypatch.setattr("app.evaluation.evaluate", fail)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "classifier.json").write_text("{}")  # a run at first sight
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(tmp_path / "run"), "--data", "digits"])
    said = str(ended.value.code)
    assert said.startswith("Error: ")
    assert words in said
    assert "\n" not in said
    written = re.search(r" The full trace is in (\S+)\.$", said)
    assert written, said
    assert Path(written[1]).parent == tmp_path / "inceptions" / "errors"
    assert "in fail" in Path(written[1]).read_text()


def test_a_trace_that_cannot_be_written_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert f"is in {tmp_path}/20" in unexpected.sentence(ValueError("x"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    assert unexpected.sentence(ValueError("x")) == "ValueError: x. The full trace could not be written anywhere."
