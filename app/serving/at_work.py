"""What the thread that answers a request knows of it: whether anybody waits for the answer still, and its place among
those that compute."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from app.serving.refusals import RefusedError


class Task:
    """`given_up` is called from the thread that it is for, or by who answers it together with others. `places` are of
    those that read requests, decode and write: Python does one of these at a time, and each takes memory."""

    def __init__(self, given_up: Callable[[], RefusedError | None], places: threading.Semaphore) -> None:
        self.given_up, self.places = given_up, places


_NOW: ContextVar[Task | None] = ContextVar("task", default=None)


@contextlib.contextmanager
def on(task: Task) -> Iterator[None]:
    """Within the block this thread is at work on it.

    Raises:
        RefusedError: it is given up, when its place is free.
    """
    with task.places:
        before = _NOW.set(task)
        try:
            check()
            yield
        finally:
            _NOW.reset(before)


def now() -> Task | None:
    """The task of this thread, if it was told of one."""
    return _NOW.get()


def check() -> None:
    """To be asked between two parts of much work.

    Raises:
        RefusedError: nobody waits for this any more.
    """
    task = _NOW.get()
    if task is not None and (why := task.given_up()):
        raise why


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Within the block this thread only waits, and another has its place."""
    task = _NOW.get()
    if task is None:
        yield
        return
    task.places.release()
    try:
        yield
    finally:
        task.places.acquire()
