"""What the files of an export say of themselves, read from them without the runtime that runs them.

A LiteRT file has labels in its tail and a description in its metadata, an ONNX and an OpenVINO file have labels and
preprocessing as JSON (see `on_pixels.facts`), a SavedModel has labels in its graph and as assets, and a server's name
for it in its warm-up requests.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import flatbuffers
from ai_edge_litert.schema_py_generated import Model

from . import metadata, runtime_errors
from .serving import WARMUP

METADATA_PROPS, DESCRIPTION = 14, 1  # numbers of the fields: of onnx.ModelProto, and of LiteRT's ModelMetadata
VARINT, FIXED_64, LENGTH, FIXED_32 = 0, 1, 2, 5  # how a field of a protocol buffer is written
JSON = ("labels", "labels_en", "thresholds", "preprocessing")
TEXTS = {"labels": metadata.LABELS, "labels_en": metadata.ENGLISH, "thresholds": metadata.THRESHOLDS}


class CarriedError(Exception):
    """A file in which nothing can be read: why, for a sentence."""


def said_by(artefact: Path) -> dict[str, Any]:
    """`labels`, `labels_en`, `thresholds`, `preprocessing`, `description`, those that this kind of artefact has; of a
    SavedModel also `graph_labels` and the `warmup_names`.

    Raises:
        CarriedError: it is damaged.
    """
    readers = {".tflite": _litert, ".onnx": _onnx, ".xml": _openvino}
    try:
        return readers.get(artefact.suffix, _saved_model)(artefact)
    except Exception as error:  # of damaged files the readers raise whatever they stumble over
        raise CarriedError(runtime_errors.sentence(error)) from error


def listed(lines: str) -> list[str]:
    """The labels of a text with one a line."""
    return lines.split("\n")[:-1]


def _litert(file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        found: dict[str, Any] = {
            key: listed(archive.read(name).decode()) for key, name in TEXTS.items() if name in names
        }
    model = Model.GetRootAs(content, 0)
    entries = [model.Metadata(place) for place in range(model.MetadataLength())]
    for entry in entries:
        if entry.Name() == metadata.ENTRY:
            buffer = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
            table = flatbuffers.table.Table(buffer, flatbuffers.encode.Get(flatbuffers.packer.uoffset, buffer, 0))
            if offset := table.Offset(4 + 2 * DESCRIPTION):
                found["description"] = table.String(table.Pos + offset).decode()
    return found


def _onnx(file: Path) -> dict[str, Any]:
    content = memoryview(file.read_bytes())
    texts = {}
    for number, entry in _fields(content):
        if number == METADATA_PROPS:
            parts = dict(_fields(entry))
            texts[bytes(parts[1]).decode()] = bytes(parts[2]).decode()
    return _parsed(texts)


def _fields(content: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and bytes of the fields of a protocol buffer that have a length."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == LENGTH:
            length, at = _varint(content, at)
            if at + length > len(content):
                raise ValueError("it is cut short")
            yield key >> 3, content[at : at + length]
            at += length
        elif kind == VARINT:
            _, at = _varint(content, at)
        elif kind in (FIXED_64, FIXED_32):
            at += 8 if kind == FIXED_64 else 4
        else:
            raise ValueError("it is no protocol buffer")


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (content[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if content[at - 1] < 128:
            return value, at


def _openvino(file: Path) -> dict[str, Any]:
    info = ElementTree.parse(file).getroot().find("rt_info")
    return _parsed({entry.tag: entry.get("value", "") for entry in (info if info is not None else ())})


def _parsed(texts: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {name: json.loads(texts[name]) for name in JSON if name in texts}
    return found | ({"description": texts["description"]} if "description" in texts else {})


def _saved_model(folder: Path) -> dict[str, Any]:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow_serving.apis import prediction_log_pb2

    files = {key: folder / "assets" / name for key, name in TEXTS.items()}
    found: dict[str, Any] = {key: listed(file.read_bytes().decode()) for key, file in files.items() if file.is_file()}
    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    (graph,) = (one.graph_def for one in model.meta_graphs)
    # Those of functions are of the decoders.
    constants = [node.attr["value"].tensor for node in graph.node if node.op == "Const"]
    lists = [one for one in constants if one.dtype == tf.string.as_datatype_enum and one.tensor_shape.dim]
    found["graph_labels"] = [[label.decode() for label in tf.make_ndarray(one).tolist()] for one in lists]
    if (folder / WARMUP).is_file():
        records = tf.data.TFRecordDataset(str(folder / WARMUP)).as_numpy_iterator()
        logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
        found["warmup_names"] = sorted({log.predict_log.request.model_spec.name for log in logs})
    return found
