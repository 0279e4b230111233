"""`batch_size=auto`: the smallest batch that trains nearly as many images a second as any.

Steps of a fresh network are timed on noise, in batches of 8, 16, 32 and so on; how fast images are read and decoded
hardly depends on the size. Smaller batches mean more steps to an epoch, and so more learning from the same images,
which is why the smallest counts.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
import tensorflow as tf

from app.program import unexpected
from app.program.errors import UserError
from app.program.progress import console

FIRST, LAST = 8, 1024  # images
NEARLY = 0.95  # of the most images a second
NO_GAIN = 2  # sizes after which none was faster
SECONDS = 60.0  # for all sizes, but for the first, which has to be timed
STEPS, OF_SIZE = 3, 2.0  # so many steps at least, and so many seconds of them, of every size
HEADROOM = 1.25  # times the batch that is taken must fit into the memory, too
OF_FREE = 0.8  # the share of the free memory that steps may take
EPOCH = 16  # steps that an epoch must have left


def smallest(speeds: Mapping[int, float]) -> int:
    """Of images per second by batch size, the smallest size that is nearly as fast as the fastest."""
    most = max(speeds.values())
    return min(size for size, speed in speeds.items() if speed >= NEARLY * most)


def measured(model: keras.Model, images: int) -> int:
    """The batch size for a compiled model that is to train on so many images. Its weights and optimizer are not what
    they were then.

    Raises:
        UserError: not even the smallest batch fits into the memory.
    """
    console.print(f"batch_size=auto: steps in batches of {FIRST} and more are timed, for about {SECONDS:.0f} s at most")
    step = _stepper(model)
    speeds: dict[int, float] = {}
    began = time.monotonic()
    try:
        for size in _sizes(images):
            if speeds and not _may_follow(speeds, size, time.monotonic() - began):
                break
            with _watched() as peak:
                seconds = _seconds(step, size)
            speeds[size] = size / seconds
            if not _fits(peak, size):
                break
    except tf.errors.OpError as error:
        if not unexpected.is_of_memory(error):
            raise
        if not speeds:
            raise UserError(
                f"batch_size=auto: memory runs out at {FIRST} images; take a smaller image_size or network."
            ) from error
    found = _with_headroom(step, speeds)
    said = ", ".join(f"{size}: {speed:.3g}" for size, speed in speeds.items())
    console.print(f"batch_size=auto: {found}, the smallest within 95 % of the most images a second ({said})")
    return found


def _sizes(images: int) -> Iterator[int]:
    size = FIRST
    yield size
    while (size := 2 * size) <= min(LAST, images // EPOCH):
        yield size


def _may_follow(speeds: Mapping[int, float], size: int, seconds: float) -> bool:
    """Whether a larger size is worth its time, and has some."""
    *before, last = speeds.values()
    fastest = [max([*before, last][: place + 1]) for place in range(len(speeds))]
    gains = len(fastest) <= NO_GAIN or fastest[-1] > 1.01 * fastest[-1 - NO_GAIN]
    return gains and seconds + (STEPS + 1) * size / last < SECONDS


def _stepper(model: keras.Model) -> Callable[[int], None]:
    rng = np.random.default_rng(0)

    def step(size: int) -> None:
        images = rng.random((size, *model.input_shape[1:]), np.float32)
        labels = {name: np.eye(shape[-1], dtype=np.float32)[np.zeros(size, int)] for name, shape in _outputs(model)}
        model.train_on_batch(images, labels if len(labels) > 1 else next(iter(labels.values())))

    return step


def _outputs(model: keras.Model) -> list[tuple[str, Any]]:
    shapes = model.output_shape if len(model.outputs) > 1 else [model.output_shape]
    return list(zip(model.output_names, shapes, strict=True))


def _seconds(step: Callable[[int], None], size: int) -> float:
    """The median of some steps. A first one is not counted, in which TensorFlow makes a graph."""
    step(size)
    times: list[float] = []
    while len(times) < STEPS or (sum(times) < OF_SIZE and len(times) < 10 * STEPS):
        began = time.perf_counter()
        step(size)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _fits(peak: list[int], size: int) -> bool:
    """Whether twice the size would leave some memory free, as far as this size tells. On GPUs nobody knows how much
    there is: there it is tried."""
    if tf.config.list_logical_devices("GPU"):
        return True
    took = max(peak) - peak[0]
    return 2 * took < OF_FREE * (_free() + peak[-1] - peak[0])


def _free() -> int:
    """Bytes that this process may still take; of a container, which may have less than the machine."""
    free = psutil.virtual_memory().available
    try:
        most = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # there is none, or it has no limit
        return free
    return min(free, most - used)


def _with_headroom(step: Callable[[int], None], speeds: dict[int, float]) -> int:
    """On GPUs a somewhat larger batch must fit, too."""
    while True:
        found = smallest(speeds)
        if len(speeds) == 1 or not tf.config.list_logical_devices("GPU"):
            return found
        try:
            step(int(HEADROOM * found))
        except tf.errors.OpError as error:
            if not unexpected.is_of_memory(error):
                raise
            speeds = {size: speed for size, speed in speeds.items() if size < found}
            if speeds:
                continue
        return found


@contextmanager
def _watched() -> Iterator[list[int]]:
    """The memory of this process in bytes, asked for many times a second in the block; the first before it."""
    process, done = psutil.Process(), threading.Event()
    found = [process.memory_info().rss]

    def ask() -> None:
        while not done.wait(0.01):
            found.append(process.memory_info().rss)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
