"""What a process of its own does first, before it imports TensorFlow to work."""

import multiprocessing
import os
import threading

from app.program import quiet


def prepare() -> None:
    """The initializer of a pool: TensorFlow is imported without its messages, and the process ends with its parent."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    with quiet.tensorflow():
        pass


def _end_with_the_parent() -> None:
    """Nobody else ends a process whose parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
