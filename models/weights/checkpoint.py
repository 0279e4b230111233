"""Opening a published file as one network of ours: what is in it, and the builder's arguments that make its equal."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import caffe, keras_h5, pytorch, safe_tensors
from .tables import TABLES, Table
from .tensors import Array, Tensor, WeightsError

SOURCES = ("slim", "keras", "torchvision", "timm", "facenet", "cadene", "caffe")
PYTORCH_SUFFIXES = (".pth", ".pt", ".safetensors")

# What training leaves in a file beside the weights.
BOOKKEEPING = (
    (re.compile(r"(^|/)global_step$"), "counts the training steps"),
    (re.compile(r"(^|/)beta[12]_power(_\d+)?$"), "state of the optimizer"),
    (re.compile(r"/(Momentum|Adagrad|(RMSProp|Adam|Adadelta|Ftrl)(_\d+)?)$"), "state of the optimizer"),
    (re.compile(r"/ExponentialMovingAverage$"), "shadow average of a weight"),
    (re.compile(r"(^|\.)num_batches_tracked$"), "counts the training steps"),
    (
        re.compile(r"/factor$"),
        "the two sums before it are divided by it into mean and variance, as Caffe does with use_global_stats",
    ),
)


@dataclass(frozen=True)
class Checkpoint:
    """A file whose names fit `network`. Its tensors are read one at a time, when they are assigned.

    `classes` is None where the file has no classifier. `arguments` are those of the network's builder that build the
    network the file was made with: classes (or include_top=False; neither where the file ends in a bottleneck, and the
    classifier has to be named as partial), scale, ported_from, bottleneck. `tensors` go by the names of `table`; each
    knows its own name in the file.
    """

    path: Path
    network: str
    source: str
    classes: int | None
    arguments: dict[str, Any]
    table: Table
    tensors: Mapping[str, Tensor]


def read(path: Path | str, network: str, source: str) -> Checkpoint:
    """The names and shapes in `path`, a file of `source` with the weights of `network`.

    A TensorFlow checkpoint is named by its one file (version 1), or by its prefix or any of its parts (version 2).

    Raises:
        WeightsError: an unknown source, one that has no such network, a file that cannot be read or has another
            network's names, which one, if it is of the family; a checkpoint of TensorFlow where that is not installed.
    """
    path = Path(path)
    if source not in SOURCES:
        raise WeightsError(f"source={source!r} is none of {', '.join(SOURCES)}.")
    tables = [table for table in TABLES if (table.network, table.source) == (network, source)]
    if not tables:
        known = sorted({table.network for table in TABLES if table.source == source})
        raise WeightsError(f"{source} has no weights of {network!r}: it has {', '.join(known)}.")
    # facenet has two formats; TensorFlow's files have no suffix to go by.
    in_pytorch = path.suffix in PYTORCH_SUFFIXES
    table = next((table for table in tables if (table.format == "pytorch") == in_pytorch), tables[0])
    tensors = _tensors(path, table)
    _check_network(path, table, tensors)
    shapes = {layer: _dense_shape(table, tensors, layer) for layer in ("predictions", "bottleneck_dense")}
    classes = shapes["predictions"][1] if shapes["predictions"] else None
    return Checkpoint(path, network, source, classes, _arguments(table, tensors, shapes), table, tensors)


def bookkeeping(key: str) -> str | None:
    """What the tensor `key` was for while training, or None if it is a weight."""
    return next((reason for pattern, reason in BOOKKEEPING if pattern.search(key)), None)


def convert(values: Array, table: Table, role: str, rank: int) -> tuple[Array, list[str]]:
    """`values` of the file in Keras' layout for a weight of `rank` axes, and what was done to them, in words."""
    done = []
    outputs_first = table.format in ("pytorch", "caffe") and role == "kernel"
    if outputs_first and values.ndim == 4:
        values = values.transpose(2, 3, 1, 0)
        done.append("OIHW to HWIO")
    elif outputs_first and values.ndim == 2:
        values = values.T
        done.append("transposed")
    if rank == 2 and values.ndim == 4 and values.shape[:2] == (1, 1):
        values = values[0, 0]
        done.append("1x1 convolution to dense")
    if rank == 1 and values.ndim == 2 and values.shape[0] == 1:
        values = values[0]
        done.append("(1, C) to (C,)")
    return values, done


def stand_in(shape: tuple[int, ...]) -> Array:
    """An array of `shape` that takes no memory, to try a conversion on."""
    return np.broadcast_to(np.float32(0), shape)


def _tensors(path: Path, table: Table) -> dict[str, Tensor]:
    if table.format == "tensorflow":
        # Here, so that TensorFlow is imported only by those who read its files.
        try:
            from . import slim
        except ModuleNotFoundError as error:
            if error.name != "tensorflow":
                raise
            raise WeightsError(
                f"{path} is a checkpoint of TensorFlow, which reads it and is not installed: install `tensorflow` "
                "beside the backend of Keras, or save the weights as .weights.h5 where it is."
            ) from error
        return slim.tensors(path)
    if table.format == "keras":
        return keras_h5.tensors(path)
    if table.format == "caffe":
        return caffe.tensors(path, table)
    found = safe_tensors.tensors(path) if path.suffix == ".safetensors" else pytorch.tensors(path)
    # The dense layers of old files have norm.1 for norm1; torchvision's own densenet121 is one of them.
    return {re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", name): found[name] for name in found}


def _check_network(path: Path, named: Table, tensors: Mapping[str, Tensor]) -> None:
    """Compares the file's layers with those of every table of its format: the named one must fit best."""
    separator = "." if named.format == "pytorch" else "/"

    def fit(table: Table) -> float:
        expected = set(table.layers.values())
        held = {
            key.rpartition(separator)[0] for key in tensors if not bookkeeping(key) and not key.startswith(table.heads)
        }
        return len(expected & held) / len(expected | held)

    best = max((table for table in TABLES if table.format == named.format), key=fit)
    if fit(best) < 0.2:
        raise WeightsError(f"{path} has none of the names of {named.network} as {named.source} writes it.")
    if fit(best) > fit(named):
        raise WeightsError(
            f"{path} does not have the names of {named.network} from {named.source}: "
            f"it looks like {best.network} from {best.source}."
        )


def _dense_shape(table: Table, tensors: Mapping[str, Tensor], layer: str) -> tuple[int, ...] | None:
    if layer not in table.layers:
        return None
    tensor = tensors.get(table.tensor(table.layers[layer], "kernel"))
    if tensor is None:
        return None
    shape = convert(stand_in(tensor.shape), table, "kernel", rank=2)[0].shape
    if len(shape) != 2:
        raise WeightsError(f"{tensor.name} has the shape {tensor.shape}, which is no dense layer's.")
    return shape


def _arguments(
    table: Table, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...] | None]
) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    classifier, bottleneck = shapes["predictions"], shapes["bottleneck_dense"]
    if classifier:
        arguments["classes"] = classifier[1]
    elif not bottleneck:  # which is part of the top
        arguments["include_top"] = False
    normalized = [theirs for ours, theirs in table.layers.items() if ours.endswith("_bn")]
    if normalized and not any(table.tensor(layer, "gamma") in tensors for layer in normalized):
        arguments["scale"] = False
    if bottleneck:
        arguments["bottleneck"] = bottleneck[1]
    if table.ported_from:
        arguments["ported_from"] = table.ported_from
    return arguments
