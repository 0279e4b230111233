"""What every contestant of `benchmarks.training_step` tells of its steps, whatever it computes with. Imports nothing
beside the standard library: it is used in environments that have PyTorch alone, too."""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

WARM_UP = 2  # steps after the first, which are not counted
RATE, MOMENTUM, CLASSES = 0.01, 0.9, 1000


class Asked(NamedTuple):
    """What a contestant is asked: pixels of a `side`, pictures of a `batch`, `steps` that count."""

    network: str
    side: int
    batch: int
    steps: int
    classes: int = CLASSES

    @property
    def all_steps(self) -> int:
        return 1 + WARM_UP + self.steps

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.side, self.side, 3


def asked(arguments: Sequence[str]) -> Asked:
    network, *numbers = arguments
    return Asked(network, *map(int, numbers))


def forget_peak() -> None:
    """From here on the peak of this process is counted anew; on Linux."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def peak() -> int:
    """The most memory of this process, bytes, since it began or `forget_peak`; on Linux."""
    return _status("VmHWM")


def resident() -> int:
    """Bytes of this process in memory now; on Linux."""
    return _status("VmRSS")


def _status(key: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))


class Steps:
    """Told of the `begin` of a training of `count` steps beside the first and those that warm up, and of the `end` of
    each. The first step has what is done once: compiling, tracing. The peak of the memory is the whole one, and that of
    the steps after the first alone, which a peak of tracing does not hide.

    `wait` returns when the step is done: of every step, or with `apart` False only where the clock is read for what is
    told, so that a device has the next step before it is done with this one.
    """

    def __init__(self, count: int, apart: bool = True) -> None:
        self.last = WARM_UP + count
        self.apart = apart
        self.ends: list[float] = []
        self.start = time.perf_counter()
        self.whole = self.before = 0

    def begin(self) -> None:
        self.before = resident()
        self.start = time.perf_counter()

    def end(self, wait: Callable[[], Any]) -> None:
        number = len(self.ends)
        if self.apart or number in (0, WARM_UP, self.last):
            wait()
        self.ends.append(time.perf_counter())
        if number == 0:
            self.whole = peak()
            forget_peak()

    def told(self, **more: object) -> str:
        """A JSON object: `first` and `step`, the median where steps are apart and else the mean, in seconds, `bytes`
        `bytes_of_steps`, and `bytes_before`, what there was at the beginning."""
        counted = sorted(self.ends)[WARM_UP : self.last + 1]  # threads may tell of them in another order
        times = [after - before for before, after in itertools.pairwise(counted)]
        of_steps = peak()
        figures = {
            "first": min(self.ends) - self.start,
            "step": statistics.median(times) if self.apart else statistics.mean(times),
            "bytes": max(self.whole, of_steps),
            "bytes_of_steps": of_steps,
            "bytes_before": self.before,
        }
        return json.dumps(figures | more)
