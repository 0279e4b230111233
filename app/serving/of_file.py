"""A version answered by one file of it, of LiteRT, ONNX or OpenVINO: decoded here by Pillow. No TensorFlow."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.serving import at_work, batches, examples
from app.serving.batching import Batcher, Parameters
from app.serving.page.shown import Shown
from app.serving.refusals import RefusedError
from app.serving.signatures import Signature, TensorInfo
from export import picture_files

TOP = 10  # classes that are named, as the SavedModel does
PICTURES = ("DT_STRING", (-1,))
# In the words of the Open Inference Protocol.
PLATFORMS = {".tflite": "litert_tflite", ".onnx": "onnx_onnxv1", ".xml": "openvino_ir"}
LARGE = picture_files.LARGE  # pixels of a call; the memory that a runtime took for more it would never give back
TOGETHER = 1_000_000  # pixels that wait decoded, of a request; the memory of all that wait is so much each
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
    Without it the network stays. What waits meanwhile becomes one call, of pictures of the same size: two cores take a
    third less for each of eight than for eight one by one. Nothing is padded: a file takes any number, for its time.
    `narrow` loads it for one thread, as is done for every core when several wait: threads of one call wait for each
    other at every step, and while one of them shares its core with what reads requests, the other has nothing to do.
    `decode` makes pixels of a file's bytes, as `picture_files.decode` does.
    """

    shown: Shown | None = None

    def __init__(
        self,
        network: Network,
        again: Callable[[], Network] | None = None,
        parameters: Parameters | None = None,
        narrow: Callable[[], Network] | None = None,
        decode: Callable[[bytes], NDArray[Any]] = picture_files.decode,
    ) -> None:
        self.platform = PLATFORMS.get(Path(getattr(network, "path", "")).suffix, "unknown")
        self._answer: Any = network.answer
        self._again, self._narrow, self._decode = again, narrow, decode
        self._copies: list[Any] = []  # of one thread each, those that nobody asks
        self._labels = np.array([label.encode() for label in network.labels], np.object_)
        self._thresholds = np.array(getattr(network, "thresholds", ()), np.float32)
        self._top = len(self._labels) if len(self._thresholds) else min(TOP, len(self._labels))
        self._large = threading.Lock()
        parameters = parameters or Parameters()
        self._most = min(parameters.sizes[-1], batches.AT_ONCE)
        self.threads = (os.cpu_count() or 1) if narrow else 1
        self._batcher = Batcher(self._answered, parameters, self.threads, pad=False)
        best = {"classes": ("DT_STRING", (-1, self._top)), "scores": ("DT_FLOAT", (-1, self._top))}
        also = {"thresholds": ("DT_FLOAT", (-1, self._top))} if len(self._thresholds) else {}
        probabilities = {"probabilities": ("DT_FLOAT", (-1, len(self._labels)))}
        self.signatures: Mapping[str, Signature] = {
            "serving_default": _signature({"image_bytes": PICTURES}, best | also | {"errors": PICTURES}),
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
        best = {**self._best(scored, errors), "errors": errors}
        if len(self._thresholds):
            best["thresholds"] = self._thresholds[np.argsort(-scored, axis=1, kind="stable")]
        return best

    def _of_files(self, files: Iterable[bytes]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Probabilities (N, classes), zeros where a file cannot be decoded; and why it cannot, (N,), else empty."""
        scored: list[NDArray[Any]] = []
        errors: list[bytes] = []
        waiting: dict[int, NDArray[Any]] = {}  # decoded, by their places

        def ask() -> None:
            sizes: dict[tuple[int, ...], list[int]] = {}
            for place, picture in waiting.items():
                sizes.setdefault(picture.shape, []).append(place)
            for places in sizes.values():
                found = self._ask(np.stack([waiting.pop(place) for place in places]))
                for place, probabilities in zip(places, found, strict=True):
                    scored[place] = probabilities

        until = time.monotonic() + batches.LONGEST
        for place, file in enumerate(files):
            if time.monotonic() > until:
                raise batches.late()
            at_work.check()
            scored.append(np.zeros(len(self._labels), np.float32))
            errors.append(b"")
            try:
                waiting[place] = self._decode(file)
            except picture_files.RefusedError as error:
                errors[place] = str(error).encode()
            pixels = sum(picture.size for picture in waiting.values()) // 3
            if len(waiting) >= self._most or pixels > TOGETHER:
                ask()
        ask()
        told = np.empty(len(errors), np.object_)
        told[:] = errors
        return np.reshape(np.array(scored, np.float32), (len(errors), len(self._labels))), told

    def _ask(self, images: NDArray[Any]) -> NDArray[Any]:
        def ask() -> NDArray[Any]:
            parts = [images[start : start + self._most] for start in range(0, len(images), self._most)]
            found = [self._batcher.ask(part.shape[1:], {"images": part}, len(part))["of"] for part in parts]
            return found[0] if len(found) == 1 else np.concatenate(found)

        if images.size > 6 * TOGETHER:
            with self._large:  # one of them at a time: each has the memory of many
                return ask()
        with at_work.aside():
            return ask()

    def _answered(self, _: Any, inputs: Mapping[str, NDArray[Any]], alone: bool) -> Mapping[str, NDArray[Any]]:
        images = inputs["images"]
        try:
            found = self._by_all(images) if alone or not self._narrow else self._by_one_thread(images, self._narrow)
        except Exception as error:  # every runtime raises what it has
            LOG.exception("%s", images.shape)
            self._forget()
            said = "The network failed at this request, perhaps for want of memory; try smaller pictures, or later."
            raise RefusedError(said, "RESOURCE_EXHAUSTED") from error
        if images.size > 3 * LARGE:
            self._forget()
        return {"of": found}

    def _by_all(self, images: NDArray[Any]) -> NDArray[Any]:
        if self._answer is None and self._again:
            self._answer = self._again().answer
        # A copy: what a runtime returns may be its own memory.
        return np.array(self._answer(images), np.float32)

    def _by_one_thread(self, images: NDArray[Any], load: Callable[[], Network]) -> NDArray[Any]:
        answer = self._copies.pop() if self._copies else load().answer
        found = np.array(answer(images), np.float32)
        self._copies.append(answer)  # not one that has failed
        return found

    def _forget(self) -> None:
        self._copies.clear()
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
