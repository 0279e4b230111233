"""Asking a training to stop, from outside: SIGTERM, as a machine that is taken away sends it, or Ctrl-C."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# The codes of the command. What SIGTERM ends without a checkpoint has 143: whoever sees 75, "temporary failure; try
# again" in sysexits.h, need only give the command once more.
CODES = {signal.SIGTERM: 75, signal.SIGINT: 130}


class Stopped(KeyboardInterrupt):
    """A training has left because it was asked to; its checkpoint of `step` is written."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(number, step)
        self.code = CODES[signal.Signals(number)]
        self.step = step


class Request:
    """`signal` is the number of the signal that asked, None while nobody has."""

    signal: int | None = None


@contextmanager
def requests() -> Iterator[Request]:
    """Within the block SIGTERM and a first Ctrl-C are requests; a second Ctrl-C interrupts, as ever.

    A signal that is ignored stays so, as Ctrl-C is by what a shell has started in the background. Only the main thread
    can take signals; elsewhere nobody asks.
    """
    request = Request()
    before: dict[signal.Signals, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        request.signal = number
        if signal.SIGINT in before:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is threading.main_thread():
        for number in CODES:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
