"""A LiteRT file: decoded pixels in, scores out; resizing, scaling, labels and a description of it are inside.

input   uint8 [N, height, width, 3], RGB, resized by the caller's `resize_tensor_input` to the pictures' own size; of
        the network's own size, and one, for those who never call it
output  float32 [N, classes], probabilities in label order

Of a network that has it (see `strangeness`) a second signature, `unknown`, gives beside the probabilities `strangeness`
and `stranger`, float32 [N], and `unknown`, bool [N]. It is one of the same graph, whose other outputs they are not:
MediaPipe refuses files with several graphs, and takes every output for scores.
"""

import contextlib
import copy
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.tools import flatbuffer_utils
from tensorflow.lite.python.convert_phase import ConverterError

from . import fixed_size, metadata, on_pixels
from .on_pixels import ConversionError
from .preprocessing import Preprocessing
from .strangeness import Strangeness

PROBABILITIES, UNKNOWN = b"probabilities", b"unknown"


def write(
    model: keras.Model,
    preprocessing: Preprocessing,
    labels: Sequence[str],
    file: Path,
    english: Sequence[str] = (),
    thresholds: Sequence[float] = (),
    *,
    source: Path | None = None,
    known: Strangeness | None = None,
) -> None:
    """Writes the float32 LiteRT file of `model`, which takes preprocessed images and gives probabilities; with the
    English names of the labels, where they have such, their thresholds, where a picture may have several, and what is
    `known` of strangeness. `source` is its `as_saved_model`, where there is one already; it has no strangeness, so
    another is made where that is known.

    Raises:
        ConversionError: it has operations that LiteRT has not.
    """

    given = nullcontext(source) if source and not known else on_pixels.as_saved_model(model, preprocessing, file, known)
    with given as folder:
        try:
            content = tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert()
        except ConverterError as error:
            missing = ", ".join(sorted(set(re.findall(r"'(tf\.\w+)' op is neither", str(error))))) or "what it computes"
            raise ConversionError(f"LiteRT has no {missing}, which {model.name} needs") from error
    _write_of_size(content, (1, *model.input_shape[1:3], 3), file)
    said = on_pixels.description(model, preprocessing, labels, thresholds)
    metadata.write(file, model.name, said, labels, english, thresholds)


def _write_of_size(content: bytes, shape: tuple[int, ...], file: Path) -> None:
    """Writes the file with `shape` as the one of its input and with what follows for the other tensors, until somebody
    resizes it. The converter leaves a single pixel there, to which MediaPipe, which never resizes, shrinks pictures."""
    network = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    network.resize_tensor_input(network.get_input_details()[0]["index"], shape)
    network.allocate_tensors()
    shapes = {tensor["index"]: tensor["shape"].tolist() for tensor in network.get_tensor_details()}
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        if tensor.shapeSignature is not None:  # of those that can be resized
            tensor.shape = shapes[index]
    _name_signatures(model)
    flatbuffer_utils.write_model(model, file)


def _name_signatures(model: Any) -> None:
    """Leaves the probabilities as the only output of the graph; whatever else it gives gets a signature of its own."""
    (first,) = model.signatureDefs
    (probabilities,) = (output for output in first.outputs if output.name == PROBABILITIES)
    if len(first.outputs) > 1:
        second = copy.copy(first)
        second.signatureKey = UNKNOWN
        model.signatureDefs.append(second)
        first.outputs = [probabilities]
        model.subgraphs[0].outputs = [probabilities.tensorIndex]


def leave_out_unknown(model: Any) -> None:
    """Of a LiteRT model: the other signature, and what is in the graph for it alone."""
    graph = model.subgraphs[0]
    model.signatureDefs = [each for each in model.signatureDefs if each.signatureKey != UNKNOWN]
    graph.operators = fixed_size.needed(graph.operators, graph.outputs)
    parts = [graph.inputs, graph.outputs, *(part for each in graph.operators for part in (each.inputs, each.outputs))]
    kept = sorted({int(index) for part in parts for index in part if index >= 0})
    place = {index: number for number, index in enumerate(kept)} | {
        -1: -1
    }  # -1 is an input that an operator goes without
    graph.tensors = [graph.tensors[index] for index in kept]
    for each in (graph, *graph.operators):
        each.inputs, each.outputs = ([place[int(index)] for index in part] for part in (each.inputs, each.outputs))
    for end in (*model.signatureDefs[0].inputs, *model.signatureDefs[0].outputs):
        end.tensorIndex = place[end.tensorIndex]
    used = {tensor.buffer for tensor in graph.tensors} | {entry.buffer for entry in model.metadata or ()}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None


@contextlib.contextmanager
def without_unknown(source: Path) -> Iterator[Path]:
    """The LiteRT file as it is without the other signature, in a place of its own, for a while."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(source.read_bytes()))
    if len(model.signatureDefs) == 1:
        yield source
        return
    leave_out_unknown(model)
    with tempfile.TemporaryDirectory() as folder:
        flatbuffer_utils.write_model(model, Path(folder) / source.name)
        yield Path(folder) / source.name


def interpreter(file: Path) -> Any:
    return Interpreter(str(file), num_threads=os.cpu_count())
