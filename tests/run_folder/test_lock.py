"""The lock of a run folder: who trains there, on this host or another, and whether that still runs."""

import errno
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import psutil
import pytest

from app import training
from app.program.errors import UserError
from app.recipe import Recipe
from app.run_folder import lock
from app.run_folder.folder import Run
from app.run_folder.lock import Owner


@pytest.fixture
def other() -> Iterator[int]:
    """The number of another process that runs."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate()


@pytest.fixture(autouse=True)
def _sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOOK", 0.05)
    monkeypatch.setattr(lock, "BEAT", 0.1)


def left_by(folder: Path, process: int, age: float = 0.0, **owner: Any) -> Path:
    """A lock as that process would have made it, and last renewed so many seconds ago."""
    folder.mkdir(exist_ok=True)
    began = lock._began(process) if psutil.pid_exists(process) else 1.0
    path = folder / "training.lock"
    path.write_text(json.dumps({**vars(Owner.here()), "process": process, "began": began, **owner}))
    os.utime(path, (time.time() - age,) * 2)
    return path


def owner_in(folder: Path) -> Any:
    return json.loads((folder / "training.lock").read_text())


def test_a_process_of_this_host_that_runs_keeps_its_lock_and_is_named(other: int, tmp_path: Path) -> None:
    path = left_by(tmp_path / "run", other, age=10_000)  # it may have been asleep
    before = path.read_bytes()
    with pytest.raises(UserError) as caught, lock.held(tmp_path / "run"):
        pass
    assert str(caught.value) == (
        f"{tmp_path / 'run'} is being trained by process {other} on {socket.gethostname()}: wait until that has ended, "
        "or choose another --to."
    )
    assert path.read_bytes() == before


def test_what_a_process_of_this_host_left_that_runs_no_more_is_taken_over_at_once(
    other: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "SILENCE", 60.0)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    unasked = subprocess.Popen([sys.executable, "-c", ""])
    until = time.monotonic() + 20
    while psutil.Process(unasked.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
        time.sleep(0.02)
    # The number of the last may be another's by now.
    for process, owner in ((gone.pid, {}), (unasked.pid, {}), (other, {"began": 5.0})):
        left_by(tmp_path, process, **owner)
        started = time.monotonic()
        with lock.held(tmp_path):
            assert owner_in(tmp_path) == vars(Owner.here())
        assert time.monotonic() - started < 30, "it waits"
        assert list(tmp_path.iterdir()) == []
    unasked.wait()


@pytest.mark.parametrize("elsewhere", [{"host": "node7"}, {"system": "another container"}])
def test_on_another_host_only_a_lock_that_is_renewed_counts(
    elsewhere: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process has a number that runs here as well."""
    monkeypatch.setattr(lock, "SILENCE", 60.0)
    path = left_by(tmp_path, os.getpid(), **elsewhere)
    over = threading.Event()
    renewing = threading.Thread(target=lock._beat, args=(path, over))
    renewing.start()
    try:
        with pytest.raises(UserError, match=f"by process {os.getpid()} on "), lock.held(tmp_path):
            pass
    finally:
        over.set()
        renewing.join()
    monkeypatch.setattr(lock, "SILENCE", 0.5)
    with lock.held(tmp_path):  # nobody renews it any more
        assert owner_in(tmp_path) == vars(Owner.here())


def test_an_old_lock_of_another_host_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SILENCE", 60.0)
    monkeypatch.setattr(time, "sleep", None)
    left_by(tmp_path, 1, age=61, host="node7")
    with lock.held(tmp_path):
        assert owner_in(tmp_path)["host"] == socket.gethostname()


def test_the_lock_is_renewed_while_it_is_held(tmp_path: Path) -> None:
    with lock.held(tmp_path):
        path = tmp_path / "training.lock"
        os.utime(path, (1, 1))
        until = time.monotonic() + 20
        while path.stat().st_mtime == 1 and time.monotonic() < until:
            time.sleep(0.02)
        assert path.stat().st_mtime > 1


def test_a_lock_that_somebody_was_faster_to_take_over_goes_back(tmp_path: Path) -> None:
    path = left_by(tmp_path, os.getpid())
    as_it_is = lock._seen(path)
    for other in (as_it_is._replace(owner=Owner("node7", "", 1, 1.0)), as_it_is._replace(changed=1.0)):
        lock._remove(path, other)
        assert owner_in(tmp_path) == vars(Owner.here())
        assert [file.name for file in tmp_path.iterdir()] == ["training.lock"]
    lock._remove(path, as_it_is)
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_take_over_a_lock_the_slower_one_leaves_it(
    other: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by(tmp_path, os.getpid(), began=1.0)
    check, judged = lock.check, []

    def slowly(folder: Path) -> Any:
        judged.append(check(folder))
        left_by(folder, other)  # which has judged it as well, and begun
        return judged[-1]

    monkeypatch.setattr(lock, "check", slowly)
    with pytest.raises(UserError, match=f"is being trained by process {other} on "), lock.held(tmp_path):
        pass
    assert len(judged) == 1
    assert owner_in(tmp_path)["process"] == other


def test_a_clock_that_is_set_makes_no_other_process_of_a_training(
    other: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = psutil.Process.create_time

    def set_the_clock() -> None:  # what psutil computes from the clock and from how long the system runs
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + 3600)

    with lock.held(tmp_path / "mine"):
        (tmp_path / "mine" / "split.csv").touch()
        left_by(tmp_path / "run", other)
        set_the_clock()
    assert not (tmp_path / "mine" / "training.lock").exists()
    if sys.platform == "linux":  # elsewhere nothing else tells
        with pytest.raises(UserError, match=f"is being trained by process {other} on "), lock.held(tmp_path / "run"):
            pass


def test_a_lock_that_could_not_be_written_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(UserError, match=r"training\.lock could not be written: No space left on device"):
        lock.held(tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_nothing_was_put_into_goes_again(tmp_path: Path) -> None:
    with pytest.raises(UserError), lock.held(tmp_path / "new"):
        raise UserError("the recipe does not fit")
    assert not (tmp_path / "new").exists()


def test_the_same_training_twice_is_one_sentence_and_hurts_nobody(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    left_by(run.folder, os.getpid(), began=1.0)  # of a training that was killed before it had written anything

    def again(*_: object, **__: object) -> None:
        (run.checkpoints / ".1-step-00000003").mkdir()  # what it is about to write
        with pytest.raises(UserError, match=re.escape(f"{run.folder} is being trained by process {os.getpid()} on ")):
            training.train("photos", "lenet_bn", run.folder, Recipe(image_size=32))
        assert (run.checkpoints / ".1-step-00000003").is_dir()
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "fit", again)
    with pytest.raises(KeyboardInterrupt):
        training.train(str(pictures), "lenet_bn", run.folder, Recipe(image_size=32))
    assert not (run.folder / "training.lock").exists()
