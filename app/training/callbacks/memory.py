"""What a training keeps of the memory that it once needed."""

import ctypes
import sys
from typing import Any

import keras


class GiveBackMemory(keras.callbacks.Callback):
    """Gives back after every epoch what its report, its checkpoint and its validation needed. The C library of Linux
    keeps it for the next ones, in pieces that do not fit them, and the process grows by some per cent over the epochs.
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        # Other C libraries than GNU's have no such call.
        self.trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.trim:
            self.trim(0)
