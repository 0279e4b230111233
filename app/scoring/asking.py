"""A network that is asked about files, some at a time; here one in a LiteRT, ONNX or OpenVINO file, without TensorFlow.

Which pictures are asked about in one call depends on nothing but the files of a unit: a call of other pictures may give
other last bits.
"""

import os
import queue
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from app.artefacts import loading, predicting
from app.program.errors import UserError
from app.scoring.listing import File
from export import picture_files, runtime_errors

BATCH = 32  # pictures of a call: more gain nothing, see benchmarks/bulk_prediction.py
# Of a call and of what waits decoded for one, in each of the threads: the memory of a network is a multiple of it.
PIXELS, WAITING = 4_000_000, 16_000_000
MOST_COPIES = 8


class StoppedError(Exception):
    """Nobody waits for the answers any more."""


class Answer(NamedTuple):
    """What is named and the scores, best first; of a network that says how strange pictures are `unknown` and
    `strangeness`; the features where they are asked for. Or why there are none."""

    classes: Sequence[str] = ()
    scores: Sequence[float] = ()
    unknown: bool | None = None
    strangeness: float | None = None
    features: NDArray[np.float32] | None = None
    error: str | None = None


class Network(Protocol):
    """`best` classes are named of each picture, or where that is 0 all labels that reach their thresholds; `names` are
    English ones beside those that have one. `judges` says whether answers have `unknown` and `strangeness`; `width` is
    the number of features, 0 without them. `at_once` threads may call `answer`."""

    best: int
    names: Mapping[str, str]
    judges: bool
    width: int
    at_once: int

    def answer(self, files: Sequence[File], over: threading.Event) -> list[Answer]:
        """One for each of the files.

        Raises:
            StoppedError: `over` was set.
            UserError: the network fails.
        """
        ...


class OfFile:
    """Copies of one thread each, one for every core: threads of one call wait for each other at every step, and while
    one of them shares its core with what decodes, the other has nothing to do. Twice as many threads call: half of them
    read and decode while the others ask.

    Raises:
        UserError: it does not load, or cannot call so many per cent of known pictures unknown as are `refused`.
    """

    width = 0

    def __init__(self, path: Path, top: int, refused: float | None = None) -> None:
        cores = os.cpu_count() or 1
        copies = min(cores, MOST_COPIES)
        self._path, self._threads = path, cores // copies
        self._copies, self._large = queue.LifoQueue[Any](), threading.Lock()
        for _ in range(copies):
            network = self._load()
            self._copies.put(network.told)
        self.judges, self._refused = network.judge is not None, refused
        predicting.check(self.judges, refused, path)
        self._labels, self.names, self._thresholds = network.labels, network.names, network.thresholds
        self.best = 0 if self._thresholds else min(top, len(self._labels))
        self.at_once = 2 * copies

    def answer(self, files: Sequence[File], over: threading.Event) -> list[Answer]:
        answers = [Answer()] * len(files)
        waiting: dict[tuple[int, ...], list[tuple[int, NDArray[np.uint8]]]] = {}  # decoded, by their sizes
        pixels = 0

        def ask(size: tuple[int, ...]) -> None:
            nonlocal pixels
            if over.is_set():
                raise StoppedError
            some = waiting.pop(size)
            pixels -= len(some) * size[0] * size[1]
            found = self._ask(np.stack([picture for _, picture in some]), files[some[0][0]].path)
            for row, (place, _) in enumerate(some):
                scores = found["probabilities"][row]
                named = predicting.chosen(scores, self._labels, self._thresholds, self.best)
                answers[place] = answered(named, predicting.judged(found, self._refused, row))

        for place, file in enumerate(files):
            if over.is_set():
                raise StoppedError
            picture = _decoded(file)
            if isinstance(picture, str):
                answers[place] = unread(file, picture)
                continue
            size = picture.shape
            waiting.setdefault(size, []).append((place, picture))
            pixels += size[0] * size[1]
            if len(waiting[size]) >= min(BATCH, PIXELS // (size[0] * size[1])):
                ask(size)
            while pixels > WAITING:
                ask(max(waiting, key=lambda size: len(waiting[size])))
        for size in [*waiting]:
            ask(size)
        return answers

    def _ask(self, images: NDArray[np.uint8], first: str) -> dict[str, NDArray[np.float32]]:
        large = images.size > 3 * picture_files.LARGE
        with self._large if large else nullcontext():  # one of them at a time: each has the memory of many
            copy = self._copies.get()
            try:
                # What a runtime returns may be its own memory.
                return {name: np.array(each, np.float32) for name, each in copy(images).items()}
            except Exception as error:  # every runtime raises what it has
                raise failure(self._path, first, runtime_errors.sentence(error)) from error
            finally:
                if large:  # what it took for so many pixels it would never give back
                    copy = self._load().told
                self._copies.put(copy)

    def _load(self) -> loading.Artefact:
        return loading.load(self._path, self._threads)


def answered(
    named: Sequence[tuple[str, float]], judged: Mapping[str, Any], features: NDArray[np.float32] | None = None
) -> Answer:
    """Of what `predicting.chosen` and `judged` say."""
    return Answer([label for label, _ in named], [score for _, score in named], **judged, features=features)


def unread(file: File, why: str) -> Answer:
    return Answer(error=predicting.unread(Path(file.path), why)["error"])


def failure(network: Path, first: str, why: str) -> UserError:
    return UserError(f"{network} fails at {first} and what is asked about with it: {why}.")


def read(file: File) -> bytes | str:
    """Its content, or why it cannot be read."""
    try:
        return Path(file.path).read_bytes()
    except OSError as error:
        return error.strerror or str(error)


def _decoded(file: File) -> NDArray[np.uint8] | str:
    content = read(file)
    if isinstance(content, str):
        return content
    try:
        pixels: NDArray[np.uint8] = picture_files.decode(content)
        return pixels
    except picture_files.RefusedError as error:
        return str(error)
