"""How long artefacts take for a picture on this machine: each in a process of its own, and in turn."""

import multiprocessing
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.artefacts import loading
from app.program import worker_process
from app.program.progress import Watch

BATCHES = (1, 8)
ROUNDS, TURN = 5, 0.3  # seconds that a turn takes at least, or one call
WARM_UP = 2  # calls
PAUSE = 0.1  # seconds, in which the threads of the one before stop looking for work

_asked: dict[int, Any] = {}  # in a process that measures: what is asked about a batch of so many


def measure(
    artefacts: Mapping[str, Path], pictures: NDArray[np.uint8], watch: Watch, rounds: int = ROUNDS
) -> dict[str, dict[int, float]]:
    """Milliseconds per picture, by name and number of pictures in a batch: medians over the rounds. `artefacts` are
    those of `choosing.names`; `pictures`, uint8 (N, height, width, 3), are at least as many as the largest batch."""
    found: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in BATCHES} for name in artefacts}
    with ExitStack() as stack:
        pools = {name: stack.enter_context(_process()) for name in artefacts}
        for name, pool in watch(pools.items(), len(pools), "Loading the artefacts"):
            pool.submit(_prepare, artefacts[name], pictures[: max(BATCHES)]).result()
        turns = [(name, batch) for _ in range(rounds) for batch in BATCHES for name in artefacts]
        for name, batch in watch(turns, len(turns), "Measuring them in turn"):
            found[name][batch].append(pools[name].submit(_turn, batch).result())
            time.sleep(PAUSE)
    return {name: {batch: statistics.median(times) for batch, times in of.items()} for name, of in found.items()}


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn"), initializer=worker_process.end_with_the_parent
    )


def _prepare(path: Path, pictures: NDArray[np.uint8]) -> None:
    network = loading.load(path)
    for batch in BATCHES:
        _asked[batch] = (network, pictures[:batch])
        for _ in range(WARM_UP):
            network.answer(pictures[:batch])


def _turn(batch: int) -> float:
    """Milliseconds per picture, the median of its calls."""
    network, pictures = _asked[batch]
    times: list[float] = []
    network.answer(pictures)  # those before may have been of another size
    while sum(times) < TURN:
        started = time.perf_counter()
        network.answer(pictures)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times) / batch
