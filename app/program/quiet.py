"""Calling TensorFlow and LiteRT without what they say on the way, which means nothing to a user."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native() -> Iterator[None]:
    """Nothing reaches standard error, not even from C++, which writes past Python."""
    sys.stderr.flush()
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
def tensorflow() -> Iterator[None]:
    """Around imports of TensorFlow, whose C++ half reports absent CUDA drivers before its log level can be set."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native():
        yield
        import tensorflow as tf

        tf.config.list_physical_devices()
