"""An ONNX file: decoded pixels in, probabilities out; resizing, scaling and labels are inside.

input   `image`, uint8 [N, height, width, 3], RGB, of any size and number
output  `probabilities`, float32 [N, classes], in label order

Its metadata has `labels` and `preprocessing`, in JSON, and a `description`. Pictures are resized by products of
matrices: TensorFlow's antialiased resize has no counterpart that every runtime heeds.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from . import on_pixels, runtime_errors
from .on_pixels import ConversionError
from .preprocessing import Preprocessing

OPSET = 18  # the last one that the converter writes
AXES = {"image": ("N", "height", "width"), "probabilities": ("N",)}


def write(
    model: keras.Model,
    preprocessing: Preprocessing,
    labels: Sequence[str],
    file: Path,
    english: Sequence[str] = (),
    thresholds: Sequence[float] = (),
) -> None:
    """Writes the float32 ONNX file of `model`, which takes preprocessed images and gives probabilities; with the
    English names of the labels, where they have such, and their thresholds, where a picture may have several.

    Raises:
        ConversionError: it has operations that ONNX or the converter has not.
    """
    import onnx

    try:
        with _without_its_log():
            network = _converted(on_pixels.classifier(model, preprocessing, constant=True).get_concrete_function())
    except Exception as error:  # the converter raises whatever it stumbles over
        raise ConversionError(f"tf2onnx cannot convert {model.name}: {runtime_errors.sentence(error)}") from error
    # What it does not know it leaves in the file under TensorFlow's name.
    operations = set(_operations(network.graph))
    if missing := sorted(name for domain, name in operations if not onnx.defs.has(name, OPSET, domain)):
        raise ConversionError(f"ONNX has no {', '.join(missing)}, which {model.name} needs")
    for tensor in (*network.graph.input, *network.graph.output):
        for axis, name in zip(tensor.type.tensor_type.shape.dim, AXES[tensor.name], strict=False):
            axis.dim_param = name
    network.graph.name = model.name
    network.doc_string = on_pixels.description(model, preprocessing, labels, thresholds)
    onnx.helper.set_model_props(network, on_pixels.facts(model, preprocessing, labels, english, thresholds))
    try:
        onnx.checker.check_model(network, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        said = runtime_errors.sentence(error)
        raise ConversionError(f"tf2onnx wrote no valid file of {model.name}: {said}") from error
    file.write_bytes(network.SerializeToString())


def _converted(classify: Any) -> Any:
    """The ONNX model of a concrete function of constant weights.

    The steps of `tf2onnx.convert.from_function`, which takes three times as long and 11 GB for inception_resnet_v2: it
    freezes variables, copies the graph before each optimizer and writes all weights into protocol buffers after each,
    which keep the memory of what they held before.
    """
    from tf2onnx import optimizer
    from tf2onnx.tf_loader import tf_optimize
    from tf2onnx.tfonnx import process_tf_graph

    (image,), (probabilities,) = classify.inputs, classify.outputs
    ends = {"input_names": [image.name], "output_names": [probabilities.name]}
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(tf_optimize(graph_def=classify.graph.as_graph_def(), **ends), name="")
        names = {image.name: "image", probabilities.name: "probabilities"}
        converted = process_tf_graph(graph, opset=OPSET, tensors_to_rename=names, **ends)
    converted.update_proto = lambda external_tensor_storage=None: None
    optimized = optimizer.optimize_graph(converted, catch_errors=False)
    del converted.update_proto
    return optimized.make_model("")


@contextlib.contextmanager
def _without_its_log() -> Iterator[None]:
    """What the converter reports of its work is for its authors; what matters of it is said in an error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _operations(graph: Any) -> Iterator[tuple[str, str]]:
    """Domain and name of every operation, also of the graphs inside others."""
    for node in graph.node:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _operations(inner)
