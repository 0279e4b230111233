"""A LiteRT file without its resizing: for a runtime that knows one shape alone, as LiteRT.js.

input   float32 [1, height, width, 3], RGB, 0 to 255, already of the network's size
output  float32 [1, classes], probabilities in label order
"""

from pathlib import Path
from typing import Any

from ai_edge_litert.schema_py_generated import BuiltinOperator
from ai_edge_litert.tools import flatbuffer_utils

from .on_pixels import ConversionError


def write(source: Path, file: Path) -> None:
    """Writes what the LiteRT file `source`, which `tflite.write` or `quantization.write` made, does after its resizing:
    the same operations with the same weights. Labels and description are left out.

    Raises:
        ConversionError: no resizing by two matrix products is found in it.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(source.read_bytes()))
    graph = model.subgraphs[0]
    makers = {index: operator for operator in graph.operators for index in operator.outputs}
    products = [operator for operator in graph.operators if _code(model, operator) == BuiltinOperator.BATCH_MATMUL]
    turned = makers.get(products[0].inputs[0]) if len(products) > 1 else None  # to planes, which are resized
    if turned is None or _code(model, turned) != BuiltinOperator.TRANSPOSE:
        raise ConversionError(f"{source.name} does not resize as it should, so no file of one size can be cut from it")
    planes, resized, pixels = turned.outputs[0], products[1].outputs[0], turned.inputs[0]
    for operator in graph.operators:  # what is laid around a picture belongs to its resizing
        if resized in operator.inputs and _code(model, operator) == BuiltinOperator.ADD:
            resized = operator.outputs[0]
            break
    for operator in graph.operators:
        operator.inputs = [planes if index == resized else index for index in operator.inputs]
    # What comes out resized has this size already when it goes in.
    _, channels, height, width = graph.tensors[resized].shape
    graph.tensors[planes].shape = [1, channels, height, width]
    graph.tensors[pixels].shape = [1, height, width, channels]
    graph.inputs = [pixels]
    for signature in model.signatureDefs:
        signature.inputs[0].tensorIndex = pixels
    graph.operators = needed(graph.operators, graph.outputs, pixels)
    for tensor in graph.tensors:
        tensor.shapeSignature = None
    model.metadata = []
    flatbuffer_utils.write_model(model, file)


def needed(operators: list[Any], outputs: Any, given: int = -1) -> list[Any]:
    """The operators, in their order, that the outputs come of; `given` is what need not be computed."""
    wanted, kept = {*outputs}, []
    for operator in reversed(operators):
        if wanted & {*operator.outputs} - {given}:
            wanted |= {*operator.inputs}
            kept.append(operator)
    return kept[::-1]


def _code(model: Any, operator: Any) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)
