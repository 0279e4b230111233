"""Requests that wait together become one call of the network.

Nobody waits for others to come: whoever finds the network idle is answered at once, and what comes meanwhile is
collected. So TensorFlow Serving's `batch_timeout_micros`, how long it waits for a batch to fill, is never reached.
"""

import bisect
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.program.errors import UserError
from app.serving import at_work
from app.serving.batches import are_rows
from app.serving.bodies import LATER
from app.serving.messages import message
from app.serving.page.shown import Shown
from app.serving.refusals import RefusedError
from app.serving.signatures import Servable

Tensors = Mapping[str, NDArray[Any]]
FILE = "batching_parameters.txt"
# Bytes of numbers, as of pixels, in a batch of several requests; one alone may have more. They are those of 16 pictures
# of 500 x 500, and a network takes a multiple.
TOGETHER = 12_000_000


class Parameters(NamedTuple):
    """`sizes` are the rows that a batch may have, in rising order, the last of them at most; `enqueued` batches of that
    many wait. Left out, they are what an export says."""

    sizes: Sequence[int] = (1, 2, 4, 8, 16)
    enqueued: int = 100

    def fitting(self, rows: int) -> int:
        """The smallest of the sizes that has room for so many."""
        place = bisect.bisect_left(self.sizes, rows)
        return self.sizes[place] if place < len(self.sizes) else rows


def read(folder: Path) -> Parameters:
    """Those of the file beside the version folders, as TensorFlow Serving reads it; if there is none, the usual ones.

    Raises:
        UserError: it is none, or TensorFlow Serving would not start with it.
    """
    from google.protobuf import text_format

    file = folder / FILE
    if not file.is_file():
        return Parameters()
    try:
        said = text_format.Parse(
            file.read_text(encoding="utf-8"),
            message("tensorflow.serving.BatchingParameters")(),
        )
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}.") from error
    most = said.max_batch_size.value if said.HasField("max_batch_size") else 1000
    sizes = list(said.allowed_batch_sizes) or [1, most]
    if sizes[0] < 1 or sizes != sorted(set(sizes)) or sizes[-1] != most:
        raise UserError(f"The allowed_batch_sizes of {file} do not rise from 1 or more to its max_batch_size, {most}.")
    enqueued = said.max_enqueued_batches.value if said.HasField("max_enqueued_batches") else 10
    if enqueued < 1:
        raise UserError(f"The max_enqueued_batches of {file} are {enqueued}; 1 is the least.")
    return Parameters(tuple(said.allowed_batch_sizes) or range(1, most + 1), enqueued)


class _Request:
    """Of so many rows, which with others of the same `key` become one call; None is of what is no rows."""

    def __init__(self, key: Hashable, inputs: Tensors, rows: int | None) -> None:
        self.key, self.inputs, self.are_rows, self.rows = key, inputs, rows is not None, rows or 1
        self.bytes = sum(each.nbytes for each in inputs.values() if each.dtype != np.object_)
        self.task = at_work.now()
        self.answered = threading.Event()
        self.outputs: Tensors = {}
        self.error: BaseException | None = None

    def is_given_up(self) -> bool:
        self.error = self.task.given_up() if self.task else None
        return self.error is not None


class Batcher:
    """`call` is called by at most `at_once` threads: by that of a request which finds the network idle, and for those
    that came meanwhile by others, which go on until nobody waits, so that no network waits for a thread to wake. It is
    told whether it is called alone, with all cores for it. What is not padded is shared out among the threads; of what
    is, large batches are cheap."""

    def __init__(
        self, call: Callable[[Any, Tensors, bool], Tensors], parameters: Parameters, at_once: int, pad: bool
    ) -> None:
        self._call, self._parameters, self._at_once, self._pad = call, parameters, at_once, pad
        self._calling = 0
        self._queue: deque[_Request] = deque()
        self._waiting = 0  # rows
        self._lock = threading.Lock()
        self._going_on = ThreadPoolExecutor(at_once, "network")

    def ask(self, key: Hashable, inputs: Tensors, rows: int | None) -> Tensors:
        """What `call` says of `key` and these inputs: so many rows, which it may be asked with others of the same key;
        or None, what is no rows and is asked alone.

        Raises:
            RefusedError: too many wait; nobody waits for this any more.
            Exception: what `call` raises of these alone.
        """
        request = _Request(key, inputs, rows)
        with self._lock:
            idle = not self._calling
            if idle:
                self._calling += 1
            else:
                most = self._parameters.enqueued * self._parameters.sizes[-1]
                if self._waiting + request.rows > most:
                    said = f"{self._waiting} pictures wait for the network already; try again."
                    raise RefusedError(said, "UNAVAILABLE", headers=LATER)
                self._waiting += request.rows
                self._queue.append(request)
                if self._pad or self._waiting > 1:
                    self._start_another()
        if idle:
            try:
                self._answer([] if request.is_given_up() else [request], alone=True)
            finally:
                with self._lock:
                    if self._queue:
                        self._going_on.submit(self._go_on)
                    else:
                        self._calling -= 1
        else:
            request.answered.wait()
        if request.error:
            raise request.error
        return request.outputs

    def _start_another(self) -> None:
        """A thread beside those that call, for those that wait, if there may be one. It is called with the lock."""
        if self._calling < self._at_once:
            self._calling += 1
            self._going_on.submit(self._go_on)

    def _go_on(self) -> None:
        batch, alone = self._next()
        while batch:
            try:
                self._answer(batch, alone)
            finally:
                following, alone = self._next()
                for request in batch:
                    request.answered.set()
            batch = following

    def _next(self) -> tuple[list[_Request], bool]:
        """The next to be asked together, and whether they are alone; if nobody waits none, and one less calls."""
        with self._lock:
            while self._queue:
                share = -(-self._waiting // (self._at_once - self._calling + 1))
                first = self._queue.popleft()
                self._waiting -= first.rows
                if first.is_given_up():
                    first.answered.set()
                    continue
                batch = [first]
                with contextlib.suppress(MemoryError):  # then the first is asked by itself
                    batch += self._companions(first, self._parameters.sizes[-1] if self._pad else share)
                if self._queue:
                    self._start_another()  # for what was not shared out, or is of another kind
                return batch, self._calling == 1 and len(batch) == 1
            self._calling -= 1
            return [], False

    def _companions(self, first: _Request, most: int) -> list[_Request]:
        """Those that wait for the same, as they came: up to so many rows, or to where least is padded."""
        if not first.are_rows:
            return []
        most = min(most, self._parameters.sizes[-1])
        rows, size = first.rows, first.bytes
        best, least = 0, self._padding(rows)
        found: list[_Request] = []
        for other in self._queue:
            if other.key != first.key or not other.are_rows:
                continue
            rows, size = rows + other.rows, size + other.bytes
            if rows > most or size > TOGETHER:
                break
            found.append(other)
            if self._padding(rows) <= least:
                best, least = len(found), self._padding(rows)
        for other in found[:best]:
            self._queue.remove(other)
            self._waiting -= other.rows
        given_up = [other for other in found[:best] if other.is_given_up()]
        for other in given_up:
            other.answered.set()
        return [other for other in found[:best] if other not in given_up]

    def _padding(self, rows: int) -> float:
        """How many rows are asked for each of these."""
        return self._parameters.fitting(rows) / rows if self._pad else 1.0

    def _answer(self, batch: Sequence[_Request], alone: bool) -> None:
        if len(batch) > 1:
            try:
                self._answer_together(batch, alone)
                return
            except Exception:  # one of them may be to blame: its neighbours are not
                pass
        for request in batch:
            if request.is_given_up():
                continue
            try:
                request.outputs = self._padded(request, request.inputs, request.rows, alone)
            except BaseException as error:  # whatever it is, its client is to hear of it
                request.error = error

    def _answer_together(self, batch: Sequence[_Request], alone: bool) -> None:
        first = batch[0]
        inputs = {name: np.concatenate([request.inputs[name] for request in batch]) for name in first.inputs}
        ends = np.cumsum([request.rows for request in batch])
        outputs = self._padded(first, inputs, int(ends[-1]), alone)
        if any(len(each) != ends[-1] for each in outputs.values()):
            raise ValueError("the answers are not of the rows that were asked")
        for request, end in zip(batch, ends, strict=True):
            request.outputs = {name: each[end - request.rows : end] for name, each in outputs.items()}

    def _padded(self, first: _Request, inputs: Tensors, rows: int, alone: bool) -> Tensors:
        lacking = self._parameters.fitting(rows) - rows if self._pad and first.are_rows else 0
        if not lacking:
            return self._call(first.key, inputs, alone)
        more = {name: np.concatenate([each, each[-1:].repeat(lacking, 0)]) for name, each in inputs.items()}
        return {name: each[:rows] for name, each in self._call(first.key, more, alone).items()}


class Batched:
    """A version whose requests of one signature become one call, as far as what they ask and get are rows. Those of
    more rows than the largest batch are asked in parts."""

    shown: Shown | None = None

    def __init__(self, servable: Servable, parameters: Parameters) -> None:
        self.threads, self.signatures = servable.threads, servable.signatures
        self.platform = getattr(servable, "platform", "unknown")
        self._most = parameters.sizes[-1]

        def call(key: Any, inputs: Tensors, alone: bool) -> Tensors:
            return servable.run(key[0], inputs)

        self._batcher = Batcher(call, parameters, servable.threads, pad=True)

    def run(self, signature: str, inputs: Tensors) -> Tensors:
        alike = {name: (each.dtype, each.shape[1:]) for name, each in inputs.items()}
        key = signature, *alike.items()
        with at_work.aside():
            if not are_rows(self.signatures[signature], inputs):
                return self._batcher.ask(key, inputs, None)
            rows = len(next(iter(inputs.values())))
            parts = []
            for start in range(0, rows, self._most):
                at_work.check()
                part = {name: each[start : start + self._most] for name, each in inputs.items()}
                parts.append(self._batcher.ask(key, part, min(self._most, rows - start)))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
