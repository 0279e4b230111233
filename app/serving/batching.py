"""Requests that wait together become one call of the network.

Nobody waits for others to come: whoever finds the network idle is answered at once, and what comes meanwhile is
collected. So TensorFlow Serving's `batch_timeout_micros`, how long it waits for a batch to fill, is never reached.
"""

import bisect
import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
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
    sizes = tuple(said.allowed_batch_sizes) or range(1, most + 1)
    if not sizes or min(sizes) < 1 or list(sizes) != sorted(set(sizes)) or sizes[-1] != most:
        raise UserError(f"The allowed_batch_sizes of {file} do not rise from 1 or more to its max_batch_size, {most}.")
    enqueued = said.max_enqueued_batches.value if said.HasField("max_enqueued_batches") else 10
    if enqueued < 1:
        raise UserError(f"The max_enqueued_batches of {file} are {enqueued}; 1 is the least.")
    return Parameters(sizes, enqueued)


class _Request:
    """Of so many rows, which with others of the same `key` become one call; None is of what is no rows."""

    def __init__(self, key: Hashable, inputs: Tensors, rows: int | None) -> None:
        self.key, self.inputs, self.are_rows, self.rows = key, inputs, rows is not None, rows or 1
        self.bytes = sum(each.nbytes for each in inputs.values() if each.dtype != np.object_)
        self.task = at_work.now()
        self.leads = False
        self.woken = threading.Event()
        self.outputs: Tensors = {}
        self.error: Exception | None = None

    def is_given_up(self) -> bool:
        self.error = self.task.given_up() if self.task else None
        return self.error is not None


class Batcher:
    """`call` is called by at most `at_once` threads, those of the requests: the first of a batch calls for all of it,
    and then tells the first of the next."""

    def __init__(
        self, call: Callable[[Any, Tensors], Tensors], parameters: Parameters, at_once: int, pad: bool
    ) -> None:
        self._call, self._parameters, self._at_once, self._pad = call, parameters, at_once, pad
        self._calling = 0
        self._queue: deque[_Request] = deque()
        self._waiting = 0  # rows
        self._lock = threading.Lock()

    def ask(self, key: Hashable, inputs: Tensors, rows: int | None) -> Tensors:
        """What `call` says of `key` and these inputs: so many rows, which it may be asked with others of the same key;
        or None, what is no rows and is asked alone.

        Raises:
            RefusedError: too many wait; nobody waits for this any more.
            Exception: what `call` raises of these alone.
        """
        request = _Request(key, inputs, rows)
        with self._lock:
            if self._calling < self._at_once:
                self._calling += 1
                request.leads = True
            else:
                most = self._parameters.enqueued * self._parameters.sizes[-1]
                if self._waiting + request.rows > most:
                    said = f"{self._waiting} pictures wait for the network already; try again."
                    raise RefusedError(said, "UNAVAILABLE", headers=LATER)
                self._waiting += request.rows
                self._queue.append(request)
        if not request.leads:
            request.woken.wait()
        if request.leads:
            self._lead(request)
        if request.error:
            raise request.error
        return request.outputs

    def _lead(self, request: _Request) -> None:
        with self._lock:
            batch = [] if request.is_given_up() else [request, *self._companions(request)]
        try:
            self._answer(batch)
        finally:
            with self._lock:
                following = self._next()
                if following is None:
                    self._calling -= 1
            if following:
                following.leads = True
                following.woken.set()
            for other in batch[1:]:
                other.woken.set()

    def _next(self) -> _Request | None:
        if not self._queue:
            return None
        request = self._queue.popleft()
        self._waiting -= request.rows
        return request

    def _companions(self, first: _Request) -> list[_Request]:
        """Those that wait for the same, as they came, up to where least has to be padded."""
        if not first.are_rows:
            return []
        rows, size = first.rows, first.bytes
        best, least = 0, self._parameters.fitting(rows) / rows
        found: list[_Request] = []
        for other in self._queue:
            if other.key != first.key or not other.are_rows:
                continue
            rows, size = rows + other.rows, size + other.bytes
            if rows > self._parameters.sizes[-1] or size > TOGETHER:
                break
            found.append(other)
            if self._parameters.fitting(rows) / rows <= least:
                best, least = len(found), self._parameters.fitting(rows) / rows
        for other in found[:best]:
            self._queue.remove(other)
            self._waiting -= other.rows
        given_up = [other for other in found[:best] if other.is_given_up()]
        for other in given_up:
            other.woken.set()
        return [other for other in found[:best] if other not in given_up]

    def _answer(self, batch: Sequence[_Request]) -> None:
        if len(batch) > 1:
            try:
                self._answer_together(batch)
                return
            except Exception:  # one of them may be to blame: its neighbours are not
                pass
        for request in batch:
            try:
                request.outputs = self._padded(request, request.inputs, request.rows)
            except Exception as error:
                request.error = error

    def _answer_together(self, batch: Sequence[_Request]) -> None:
        first = batch[0]
        inputs = {name: np.concatenate([request.inputs[name] for request in batch]) for name in first.inputs}
        ends = np.cumsum([request.rows for request in batch])
        outputs = self._padded(first, inputs, int(ends[-1]))
        if any(len(each) != ends[-1] for each in outputs.values()):
            raise ValueError("the answers are not of the rows that were asked")
        for request, end in zip(batch, ends, strict=True):
            request.outputs = {name: each[end - request.rows : end] for name, each in outputs.items()}

    def _padded(self, first: _Request, inputs: Tensors, rows: int) -> Tensors:
        lacking = self._parameters.fitting(rows) - rows if self._pad and first.are_rows else 0
        if not lacking:
            return self._call(first.key, inputs)
        more = {name: np.concatenate([each, each[-1:].repeat(lacking, 0)]) for name, each in inputs.items()}
        return {name: each[:rows] for name, each in self._call(first.key, more).items()}


class Batched:
    """A version whose requests of one signature become one call, as far as what they ask and get are rows. Those of
    more rows than the largest batch are asked in parts."""

    shown: Shown | None = None

    def __init__(self, servable: Servable, parameters: Parameters) -> None:
        self.threads, self.signatures = servable.threads, servable.signatures
        self.platform = getattr(servable, "platform", "unknown")
        self._most = parameters.sizes[-1]

        def call(key: Any, inputs: Tensors) -> Tensors:
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
