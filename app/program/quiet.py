"""Calling TensorFlow and LiteRT without what they say on the way, which means nothing to a user."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native() -> Iterator[None]:
    """Nothing reaches standard error, not even from C++, which writes past Python."""
    sys.stderr.flush()
    with _nowhere():
        yield


@contextmanager
def _nowhere() -> Iterator[None]:
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


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
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=python.encoding, errors=python.errors)
    try:
        with _nowhere():
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
