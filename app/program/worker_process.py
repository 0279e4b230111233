"""What a process of its own does first, before it imports TensorFlow to work."""

import multiprocessing
import os
import threading

from app.program import quiet


def prepare() -> None:
    """The initializer of a pool: TensorFlow is imported without its messages, and the process ends with its parent."""
    end_with_the_parent()
    with quiet.tensorflow():
        pass


def end_with_the_parent() -> None:
    """Nobody else ends a process whose parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
