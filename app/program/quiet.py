"""Calling TensorFlow and LiteRT without what they say on the way, which means nothing to a user."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def native() -> Iterator[None]:
    """Nothing reaches standard error, not even from C++, which writes past Python."""
    sys.stderr.flush()
    with _NOWHERE:
        yield


class _Nowhere:
    """Standard error, while some thread wants it silent: the first leaves it, and the last comes back to it."""

    def __init__(self) -> None:
        self._lock, self._inside, self._saved = threading.Lock(), 0, -1

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._saved = os.dup(2)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.close(nowhere)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                os.dup2(self._saved, 2)
                os.close(self._saved)


_NOWHERE = _Nowhere()


def apart() -> None:
    """From now on what Python writes to standard error reaches it whatever else is silent: for a program that goes on
    speaking while a thread loads."""
    try:
        is_ours = sys.stderr.fileno() == 2
    except (OSError, ValueError):  # a test has put something else there
        is_ours = False
    if is_ours:
        sys.stderr = _second(sys.stderr)


def _second(python: TextIO) -> TextIO:
    return os.fdopen(os.dup(2), "w", buffering=1, encoding=python.encoding, errors=python.errors)


@contextmanager
def libraries() -> Iterator[None]:
    """Nothing that C libraries write past Python reaches standard error; what Python writes there does, so that a
    progress bar goes on. For decoding many files: libjpeg and its kind say "Corrupt JPEG data", and not of which file.
    """
    python = sys.stderr
    python.flush()
    try:
        is_ours = python.fileno() == 2
    except (OSError, ValueError):  # a test has put something else there
        is_ours = False
    if is_ours:
        # Never closed by hand: a progress bar that an error left open may put it back once more.
        sys.stderr = _second(python)
    try:
        with _NOWHERE:
            yield
    finally:
        sys.stderr.flush()
        sys.stderr = python


@contextmanager
def tensorflow() -> Iterator[None]:
    """Around imports of TensorFlow, whose C++ half reports absent CUDA drivers before its log level can be set."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native():
        yield
        import tensorflow as tf

        tf.config.list_physical_devices()
