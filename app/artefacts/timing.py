"""How long artefacts take for a picture on this machine: each in processes of its own, and in turn."""

import multiprocessing
import signal
import statistics
import time
from collections.abc import Mapping
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.artefacts import loading
from app.program import worker_process
from app.program.errors import UserError
from app.program.progress import Watch
from export import runtime_errors

BATCHES = (1, 8)
ROUNDS, TURN = 3, 0.5  # TURN: seconds that a batch is asked about at least in each, or one call
WARM_UP = 2  # calls


def measure(
    artefacts: Mapping[str, Path], pictures: NDArray[np.uint8], watch: Watch, rounds: int = ROUNDS
) -> dict[str, dict[int, float]]:
    """Milliseconds per picture, by name and number of pictures in a batch: medians over the rounds. `artefacts` are
    those of `choosing.names`; `pictures`, uint8 (N, height, width, 3), are at least as many as the largest batch.

    In every round every artefact is loaded anew and its process ended before the next one begins: one at a time is in
    memory, and no thread of one looks for work while another is measured.

    Raises:
        UserError: an artefact does not load or does not answer; its process died.
    """
    found: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in BATCHES} for name in artefacts}
    turns = [name for _ in range(rounds) for name in artefacts]
    for name in watch(turns, len(turns), "Measuring the artefacts in turn"):
        for batch, milliseconds in _apart(artefacts[name], pictures[: max(BATCHES)]).items():
            found[name][batch].append(milliseconds)
    return {name: {batch: statistics.median(times) for batch, times in of.items()} for name, of in found.items()}


def _apart(path: Path, pictures: NDArray[np.uint8]) -> dict[int, float]:
    """`_visit` in a process of its own, which is gone afterwards."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(its, path, pictures))
    # Blocked from its first moment on: of Ctrl-C, which reaches all processes, this one says what there is to say.
    resource_tracker.ensure_running()  # the first process would start it, which unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        its.close()
        found: dict[int, float] | UserError = ours.recv()
    except EOFError:
        raise UserError(f"The process that ran {path} died.") from None
    finally:
        process.kill()
        process.join()
        ours.close()
    if isinstance(found, UserError):
        raise found
    return found


def _send(to: Connection, path: Path, pictures: NDArray[np.uint8]) -> None:
    worker_process.end_with_the_parent()
    try:
        to.send(_visit(path, pictures))
    except UserError as error:
        to.send(error)
    except Exception as error:  # every runtime raises what it has
        to.send(UserError(f"{path} does not answer: {runtime_errors.sentence(error)}."))


def _visit(path: Path, pictures: NDArray[np.uint8]) -> dict[int, float]:
    """Milliseconds per picture by the number of pictures in a batch, each the median of its calls."""
    network = loading.load(path)
    found = {}
    for batch in BATCHES:
        for _ in range(WARM_UP):
            network.answer(pictures[:batch])
        times: list[float] = []
        while sum(times) < TURN:
            started = time.perf_counter()
            network.answer(pictures[:batch])
            times.append(time.perf_counter() - started)
        found[batch] = 1000 * statistics.median(times) / batch
    return found
