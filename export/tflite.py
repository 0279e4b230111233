"""A LiteRT file: decoded pixels in, scores out; resizing, scaling, labels and a description of it are inside.

input   uint8 [N, height, width, 3], RGB, resized by the caller's `resize_tensor_input` to the pictures' own size; of
        the network's own size, and one, for those who never call it
output  float32 [N, classes], probabilities in label order
"""

import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.tools import flatbuffer_utils
from tensorflow.lite.python.convert_phase import ConverterError

from . import metadata, on_pixels
from .on_pixels import ConversionError
from .preprocessing import Preprocessing


def write(
    model: keras.Model,
    preprocessing: Preprocessing,
    labels: Sequence[str],
    file: Path,
    english: Sequence[str] = (),
    thresholds: Sequence[float] = (),
    *,
    source: Path | None = None,
) -> None:
    """Writes the float32 LiteRT file of `model`, which takes preprocessed images and gives probabilities; with the
    English names of the labels, where they have such, and their thresholds, where a picture may have several. `source`
    is its `as_saved_model`, where there is one already.

    Raises:
        ConversionError: it has operations that LiteRT has not.
    """

    with nullcontext(source) if source else on_pixels.as_saved_model(model, preprocessing, file) as folder:
        try:
            content = tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert()
        except ConverterError as error:
            missing = ", ".join(sorted(set(re.findall(r"'(tf\.\w+)' op is neither", str(error))))) or "what it computes"
            raise ConversionError(f"LiteRT has no {missing}, which {model.name} needs") from error
    _write_of_size(content, (1, *model.input_shape[1:]), file)
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
    flatbuffer_utils.write_model(model, file)


def interpreter(file: Path) -> Any:
    return Interpreter(str(file), num_threads=os.cpu_count())
