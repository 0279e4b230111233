"""A network that is asked about files: a SavedModel, or a run by its own network. Both take the bytes of files of all
sizes and decode them inside the graph, on all cores.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from app import run_folder
from app.artefacts import loading, predicting
from app.evaluation import strangeness
from app.images import decoding
from app.program.errors import UserError
from app.run_folder.folder import Run
from app.scoring.asking import BATCH, Answer, StoppedError, answered, failure, read, unread
from app.scoring.listing import File
from export import picture_files, run_artefact
from export import strangeness as judging
from export.saved_model import Servable
from export.strangeness import Strangeness

AT_ONCE = 2  # calls: while one of them decodes, or ends on one core, the other has work for the rest
BYTES = 64_000_000  # of the files of a call
Reply = Mapping[str, Any]  # arrays, or lists, of a row for each


class InTensorFlow:
    """`ask` is given the contents of files and replies as the signatures `serving_default`, or where it `judges`
    `unknown`, and, where `width` is not 0, `features` do."""

    at_once = AT_ONCE

    def __init__(
        self,
        path: Path,
        ask: Callable[[list[bytes]], Reply],
        best: int,
        names: Mapping[str, str],
        width: int = 0,
        judges: bool = False,
        refused: float | None = None,
    ) -> None:
        """
        Raises:
            UserError: it does not judge, and so many per cent of known pictures may be `refused`.
        """
        predicting.check(judges, refused, path)
        self._path, self._ask, self._refused = path, ask, refused
        self.best, self.names, self.width, self.judges = best, names, width, judges

    def answer(self, files: Sequence[File], over: threading.Event) -> list[Answer]:
        answers: list[Answer] = []
        for some in _batches(files):
            if over.is_set():
                raise StoppedError
            contents = [read(file) for file in some]
            given = [content for content in contents if isinstance(content, bytes)]
            try:
                told = iter(self._told(given) if given else ())
            except (tf.errors.OpError, MemoryError) as error:
                raise failure(self._path, some[0].path, decoding.reason(error).removesuffix(".")) from error
            for file, content in zip(some, contents, strict=True):
                found = next(told) if isinstance(content, bytes) else Answer(error=content)
                answers.append(unread(file, found.error) if found.error else found)
        return answers

    def _told(self, contents: list[bytes]) -> list[Answer]:
        try:
            reply = self._ask(contents)
        except tf.errors.InvalidArgumentError as error:
            # Exports of before had no `errors`: the signature failed for all that one of them cannot be decoded.
            if len(contents) == 1:
                return [Answer(error=decoding.refusal(error, contents[0]))]
            return [self._told([content])[0] for content in contents]
        answers = []
        for row in range(len(contents)):
            if "errors" in reply and (why := reply["errors"][row]):
                answers.append(Answer(error=why.decode()))
                continue
            classes = [name.decode() for name in reply["classes"][row]]
            least = reply["thresholds"][row] if "thresholds" in reply else ()
            named = predicting.chosen(np.asarray(reply["scores"][row]), classes, least, self.best)
            judged = predicting.judged(reply, self._refused, row) if self.judges else {}
            answers.append(answered(named, judged, reply["embedding"][row] if self.width else None))
        return answers


def of_saved_model(version: Path, top: int, embeddings: bool, refused: float | None) -> InTensorFlow:
    """
    Raises:
        UserError: it does not load, or has no features, or does not say how strange pictures are.
    """
    if not (version / "saved_model.pb").is_file():
        raise UserError(f"{version} is no export; `export RUN --to FOLDER` makes one of a run.")
    signatures = run_artefact.Signatures(str(version), keep=True)
    if embeddings and "features" not in signatures.known:
        raise UserError(f"{version} has no signature `features`: export the run again, or leave out --embeddings.")

    judges = "unknown" in signatures.known
    asked = "unknown" if judges else "serving_default"
    outputs = signatures.known[asked].outputs

    def ask(contents: list[bytes]) -> Reply:
        reply = signatures(asked, image_bytes=contents)
        return {**reply, **signatures("features", image_bytes=contents)} if embeddings else reply

    def columns(output: Any) -> int:
        return int(output.tensor_shape.dim[1].size)

    best = 0 if "thresholds" in outputs else min(top, columns(outputs["classes"]))
    width = columns(signatures.known["features"].outputs["embedding"]) if embeddings else 0
    return InTensorFlow(version, ask, best, loading.labels_of(version)[1], width, judges, refused)


def of_run(folder: Path, top: int, embeddings: bool, refused: float | None) -> InTensorFlow:
    """
    Raises:
        UserError: not a finished run, or one that does not say how strange pictures are.
    """
    trained = run_folder.load(folder)
    known = strangeness.read(Run(folder))
    network, shape = _function(trained.model, known), trained.model.inputs[0].shape[1:]
    servable = _Servable([(network, trained.preprocessing, shape)], trained.labels, [], trained.thresholds)
    best = 0 if trained.thresholds else min(top, len(trained.labels))
    servable.top = best or len(trained.labels)

    def ask(contents: list[bytes]) -> Reply:
        reply = {name: tensor.numpy() for name, tensor in servable.everything(tf.constant(contents)).items()}
        readable = reply.pop("readable")
        return reply | {"errors": [b"" if can else refusal(each) for each, can in zip(contents, readable, strict=True)]}

    def refusal(content: bytes) -> bytes:
        try:
            trained.preprocessing.decode(content)
        except tf.errors.InvalidArgumentError as error:
            return decoding.refusal(error, content).encode()
        return picture_files.DAMAGED.encode()

    width = int(judging.classifier(trained.model).input.shape[-1]) if embeddings else 0
    return InTensorFlow(folder, ask, best, trained.names, width, known is not None, refused)


def _function(model: keras.Model, known: Strangeness | None) -> Any:
    """Prepared images -> probabilities, what the classifier is given and, where that is known, `judging.Measured`."""
    both = judging.network(model, known.layers if known else ())
    last = judging.classifier(model)

    @tf.function(input_signature=[tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32)], autograph=False)
    def network(images: Any) -> list[Any]:
        probabilities, before, *pooled = (tf.cast(output, tf.float32) for output in both(images, training=False))
        if known is None:
            return [probabilities, before]
        logits = tf.matmul(before, last.kernel) + (0.0 if last.bias is None else last.bias)
        return [probabilities, before, *judging.measured(known, pooled, logits, judging.is_independent(model))]

    return network


class _Servable(Servable):
    """What an export answers, of a run that is none: the signatures in one call."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def everything(self, image_bytes: Any) -> dict[str, Any]:
        probabilities, embedding, *found, readable = self._on_files(image_bytes)
        strange = judging.Measured(*found)._asdict() if found else {}
        named = {**self._best(probabilities, readable), **self._least(probabilities)}
        return {**named, **strange, "embedding": embedding, "readable": readable}


def _batches(files: Sequence[File]) -> Iterator[list[File]]:
    some: list[File] = []
    size = 0
    for file in files:
        if some and (len(some) == BATCH or size + file.size > BYTES):
            yield some
            some, size = [], 0
        some.append(file)
        size += file.size
    if some:
        yield some
