"""ONNX files as others convert them: what Keras itself exports, with steps before and after that somebody put there."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18


class Step(NamedTuple):
    """An operation on what comes before it and on `constants`."""

    operation: str
    constants: tuple[Any, ...] = ()
    attributes: Mapping[str, Any] = MappingProxyType({})


def by_keras(model: keras.Model, file: Path) -> onnx.ModelProto:
    """What Keras exports of the network alone: its input in its own range, its probabilities."""
    model.predict_on_batch(np.zeros((1, *model.input_shape[1:]), np.float32))  # it exports what was called
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras asks NumPy for a name that is to come back
        model.export(file, format="onnx", verbose=False, opset_version=OPSET)
    return onnx.load(file)


def with_steps(
    base: onnx.ModelProto,
    file: Path,
    before: Sequence[Step] = (),
    after: Sequence[Step] = (),
    *,
    takes: int = TensorProto.FLOAT,
    shape: Sequence[int | str | None] | None = None,
    classes: int | None = None,
) -> Path:
    """Writes the base with steps in front of it and behind it; its input has this type and shape then."""
    model = onnx.ModelProto()
    model.CopyFrom(base)
    graph = model.graph
    (image,), (scores,) = graph.input, graph.output
    first = _chain(graph, "picture", image.name, before)
    last = _chain(graph, scores.name, "answer", after)
    sides = [axis.dim_value or axis.dim_param or None for axis in image.type.tensor_type.shape.dim]
    count = classes or scores.type.tensor_type.shape.dim[1].dim_value
    ends = (
        helper.make_tensor_value_info("picture" if before else image.name, takes, shape or sides),
        helper.make_tensor_value_info("answer" if after else scores.name, TensorProto.FLOAT, [None, count]),
    )
    nodes = [*first, *graph.node, *last]
    made = helper.make_graph(nodes, graph.name, ends[:1], ends[1:], graph.initializer)
    opsets = [helper.make_opsetid(each.domain, each.version) for each in model.opset_import]
    written = helper.make_model(made, opset_imports=opsets, ir_version=model.ir_version)
    onnx.checker.check_model(written)
    onnx.save(written, file)
    return file


def _chain(graph: Any, name: str, to: str, steps: Sequence[Step]) -> list[Any]:
    nodes = []
    for place, step in enumerate(steps):
        made = to if place == len(steps) - 1 else f"{to}_{place}"
        constants = []
        for number, value in enumerate(step.constants):
            constant = f"{made}_constant_{number}"
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), constant))
            constants.append(constant)
        nodes.append(helper.make_node(step.operation, [name, *constants], [made], **step.attributes))
        name = made
    return nodes


def times(factor: float) -> Step:
    return Step("Mul", (np.float32(factor),))


def plus(number: float) -> Step:
    return Step("Add", (np.float32(number),))


def channels_swapped(axis: int = 3) -> Step:
    return Step("Gather", (np.array([2, 1, 0]),), {"axis": axis})


def transposed(*axes: int) -> Step:
    return Step("Transpose", (), {"perm": axes})


REAL = Step("Cast", (), {"to": TensorProto.FLOAT})


def resized(height: int, width: int, **how: Any) -> list[Step]:
    """Of (N, rows, columns, 3), by ONNX's own operation."""
    # Without a region of interest and scales; constants come after the pictures.
    resize = Step(
        "Resize",
        (np.array([], np.float32), np.array([], np.float32), np.array([height, width])),
        how | {"axes": [2, 3]},
    )
    return [transposed(0, 3, 1, 2), resize, transposed(0, 2, 3, 1)]
