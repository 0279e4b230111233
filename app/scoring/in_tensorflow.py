"""A network that is asked about files: a SavedModel, or a run by its own network. Both take the bytes of files of all
sizes and decode them inside the graph, on all cores.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from app import run_folder
from app.artefacts import loading
from app.images import decoding
from app.program.errors import UserError
from app.scoring.asking import BATCH, Answer, StoppedError, failure, read
from app.scoring.listing import File
from export import picture_files, run_artefact
from export.saved_model import Servable

AT_ONCE = 2  # calls: while one of them decodes, or ends on one core, the other has work for the rest
BYTES = 64_000_000  # of the files of a call
Reply = Mapping[str, Any]  # arrays, or lists, of a row for each


class InTensorFlow:
    """`ask` is given the contents of files and replies as the signatures `serving_default` and, where `width` is not 0,
    `features` do."""

    at_once = AT_ONCE

    def __init__(
        self, path: Path, ask: Callable[[list[bytes]], Reply], best: int, names: Mapping[str, str], width: int
    ) -> None:
        self._path, self._ask = path, ask
        self.best, self.names, self.width = best, names, width

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
            answers += [next(told) if isinstance(content, bytes) else Answer(error=content) for content in contents]
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
            classes = [name.decode() for name in reply["classes"][row][: self.best]]
            features = reply["embedding"][row] if self.width else None
            answers.append(Answer(classes, reply["scores"][row][: self.best].tolist(), features))
        return answers


def of_saved_model(version: Path, top: int, embeddings: bool) -> InTensorFlow:
    """
    Raises:
        UserError: it does not load, or has no features.
    """
    if not (version / "saved_model.pb").is_file():
        raise UserError(f"{version} is no export; `export RUN --to FOLDER` makes one of a run.")
    signatures = run_artefact.Signatures(str(version), keep=True)
    if embeddings and "features" not in signatures.known:
        raise UserError(f"{version} has no signature `features`: export the run again, or leave out --embeddings.")

    def ask(contents: list[bytes]) -> Reply:
        reply = signatures("serving_default", image_bytes=contents)
        return {**reply, **signatures("features", image_bytes=contents)} if embeddings else reply

    def columns(signature: str, output: str) -> int:
        return int(signatures.known[signature].outputs[output].tensor_shape.dim[1].size)

    best = min(top, columns("serving_default", "classes"))
    return InTensorFlow(
        version, ask, best, loading.labels_of(version)[1], columns("features", "embedding") if embeddings else 0
    )


def of_run(folder: Path, top: int, embeddings: bool) -> InTensorFlow:
    """
    Raises:
        UserError: not a finished run.
    """
    trained = run_folder.load(folder)
    model = trained.model
    classifier = next(layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.Dense))
    both = keras.Model(model.input, [model.output, classifier.input])
    shape = model.inputs[0].shape[1:]

    @tf.function(input_signature=[tf.TensorSpec([None, *shape], tf.float32)], autograph=False)
    def network(images: Any) -> list[Any]:
        return [tf.cast(output, tf.float32) for output in both(images, training=False)]

    servable = _Servable([(network, trained.preprocessing, shape)], trained.labels, [])
    servable.top = best = min(top, len(trained.labels))

    def ask(contents: list[bytes]) -> Reply:
        reply = {name: tensor.numpy() for name, tensor in servable.with_features(tf.constant(contents)).items()}
        readable = reply.pop("readable")
        return reply | {"errors": [b"" if can else refusal(each) for each, can in zip(contents, readable, strict=True)]}

    def refusal(content: bytes) -> bytes:
        try:
            trained.preprocessing.decode(content)
        except tf.errors.InvalidArgumentError as error:
            return decoding.refusal(error, content).encode()
        return picture_files.DAMAGED.encode()

    return InTensorFlow(folder, ask, best, trained.names, int(classifier.input.shape[-1]) if embeddings else 0)


class _Servable(Servable):
    """What an export answers, of a run that is none, with the features in the same call."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def with_features(self, image_bytes: Any) -> dict[str, Any]:
        probabilities, embedding, readable = self._on_files(image_bytes)
        return {**self._best(probabilities, readable), "embedding": embedding, "readable": readable}


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
