"""A version answered by one file of it, of LiteRT, ONNX or OpenVINO: decoded here by Pillow. No TensorFlow."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.serving import batches, examples
from app.serving.refusals import RefusedError
from app.serving.signatures import Signature, TensorInfo
from export import picture_files

TOP = 10  # classes that are named, as the SavedModel does
PICTURES = ("DT_STRING", (-1,))
LARGE = picture_files.LARGE  # pixels of a call; the memory that a runtime took for more it would never give back
LOG = logging.getLogger("app.serving")


class Network(Protocol):
    """A loaded file: see `artefacts.loading.Artefact`."""

    @property
    def labels(self) -> Sequence[str]: ...

    @property
    def answer(self) -> Any: ...


class OfFile:
    """The signatures of the SavedModel, but for `features`, of which a file has none.

    `again` loads the file once more: after a failure, of which a runtime may not recover, and after many pixels.
    Without it the network stays.
    """

    threads = 1  # the runtime has threads of its own

    def __init__(self, network: Network, again: Callable[[], Network] | None = None) -> None:
        self._answer: Any = network.answer
        self._again = again
        self._labels = np.array([label.encode() for label in network.labels], np.object_)
        self._top = min(TOP, len(self._labels))
        self._one_at_a_time = threading.Lock()
        best = {"classes": ("DT_STRING", (-1, self._top)), "scores": ("DT_FLOAT", (-1, self._top))}
        probabilities = {"probabilities": ("DT_FLOAT", (-1, len(self._labels)))}
        self.signatures: Mapping[str, Signature] = {
            "serving_default": _signature({"image_bytes": PICTURES}, best | {"errors": PICTURES}),
            "classify": _signature({"inputs": PICTURES}, best),
            "predict_pixels": _signature({"images": ("DT_UINT8", (-1, -1, -1, 3))}, probabilities),
        }
        self._ask(np.zeros((1, 32, 32, 3), np.uint8))  # what fails does so now, and the first client waits no longer

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        if signature == "predict_pixels":
            return {"probabilities": self._ask(inputs["images"])}
        if signature == "classify":
            scored, errors = self._of_files(examples.picture(example) for example in inputs["inputs"])
            return self._best(scored, errors)
        scored, errors = self._of_files(inputs["image_bytes"])
        return {**self._best(scored, errors), "errors": errors}

    def _of_files(self, files: Iterable[bytes]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Probabilities (N, classes), zeros where a file cannot be decoded, and why it cannot, (N,), empty elsewhere.

        One by one: they are of many sizes, and only one at a time takes the memory of its pixels.
        """
        scored, errors = [], []
        until = time.monotonic() + batches.LONGEST
        for file in files:
            if time.monotonic() > until:
                raise batches.late()
            try:
                scored.append(self._ask(picture_files.decode(file)[np.newaxis])[0])
                errors.append(b"")
            except picture_files.RefusedError as error:
                scored.append(np.zeros(len(self._labels), np.float32))
                errors.append(str(error).encode())
        told = np.empty(len(errors), np.object_)
        told[:] = errors
        return np.reshape(np.array(scored, np.float32), (len(errors), len(self._labels))), told

    def _ask(self, images: NDArray[Any]) -> NDArray[Any]:
        with self._one_at_a_time:
            try:
                if self._answer is None and self._again:
                    self._answer = self._again().answer
                # A copy: what a runtime returns may be its own memory.
                found = np.array(self._answer(images), np.float32)
            except Exception as error:  # every runtime raises what it has
                LOG.exception("%s", images.shape)
                self._forget()
                said = "The network failed at this request, perhaps for want of memory; try smaller pictures, or later."
                raise RefusedError(said, "RESOURCE_EXHAUSTED") from error
            if images.size > 3 * LARGE:
                self._forget()
            return found

    def _forget(self) -> None:
        if self._again:
            self._answer = None

    def _best(self, scored: NDArray[Any], errors: NDArray[Any]) -> dict[str, NDArray[Any]]:
        order = np.argsort(-scored, axis=1, kind="stable")[:, : self._top]
        classes = self._labels[order]
        classes[errors != b""] = b""
        return {"classes": classes, "scores": np.take_along_axis(scored, order, 1)}


def _signature(
    inputs: Mapping[str, tuple[str, tuple[int, ...]]], outputs: Mapping[str, tuple[str, tuple[int, ...]]]
) -> Signature:
    def infos(said: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, TensorInfo]:
        return {key: TensorInfo(key, dtype, shape) for key, (dtype, shape) in said.items()}

    return Signature(infos(inputs), infos(outputs))
