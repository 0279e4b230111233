"""`tf.train.Example`, which `:classify` asks with: from JSON, and to what a picture is taken from.

The messages are TensorFlow's (core/example/example.proto and feature.proto), described here once more, since importing
TensorFlow's own takes seconds and hundreds of megabytes.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from app.serving import batches
from app.serving.bodies import MOST
from app.serving.json_reading import excerpt, too_big
from app.serving.refusals import RefusedError
from app.serving.tensors import NAMES, as_bytes, decoded_b64, is_b64

PICTURE = "image/encoded"
LISTS = {"bytes": "BytesList", "float": "FloatList", "int64": "Int64List"}


@functools.cache
def _message() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")

    def add(to: Any, name: str, number: int, kind: Any, of: str = "", **more: Any) -> None:
        label = field.LABEL_REPEATED if more.pop("repeated", False) else field.LABEL_OPTIONAL
        named = {"type_name": f".tensorflow.{of}"} if of else {}
        to.field.add(name=name, number=number, type=kind, label=label, **named, **more)

    kinds = {"bytes": field.TYPE_BYTES, "float": field.TYPE_FLOAT, "int64": field.TYPE_INT64}
    for kind, name in LISTS.items():
        add(file.message_type.add(name=name), "value", 1, kinds[kind], repeated=True)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (kind, name) in enumerate(LISTS.items(), 1):
        add(feature, f"{kind}_list", number, field.TYPE_MESSAGE, name, oneof_index=0)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    add(entry, "key", 1, field.TYPE_STRING)
    add(entry, "value", 2, field.TYPE_MESSAGE, "Feature")
    add(features, "feature", 1, field.TYPE_MESSAGE, "Features.FeatureEntry", repeated=True)
    add(file.message_type.add(name="Example"), "features", 1, field.TYPE_MESSAGE, "Features")
    # A pool of its own: TensorFlow's, once imported, has messages of these names.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def of_request(request: Mapping[str, Any]) -> list[bytes]:
    """The serialised examples of a classify request, each behind its `context`, whose features they overrule.

    Raises:
        RefusedError: it has none, or one with values of several types.
    """
    context = _serialised(request["context"]) if "context" in request else b""
    said = "JSON Value: {} {}"
    if "examples" not in request:
        why = "When method is classify, key 'examples' is expected and was not found"
        raise RefusedError(said.format(excerpt(request), why))
    examples = request["examples"]
    if not isinstance(examples, list):
        raise RefusedError(said.format(excerpt(request), "Expecting 'examples' value to be an list/array"))
    if not examples:
        raise RefusedError(said.format(excerpt(request), "'examples' value is an empty array"))
    batches.check(len(examples))  # before they are written
    return behind(context, [_serialised(example) for example in examples])


def behind(context: bytes, examples: Sequence[bytes]) -> list[bytes]:
    """Each example behind the context.

    Raises:
        RefusedError: they are too many, or too large with as many contexts.
    """
    batches.check(len(examples))
    if len(context) * len(examples) > MOST:
        raise RefusedError(f"The examples with their context are larger than {MOST} bytes.", "RESOURCE_EXHAUSTED")
    return [context + example for example in examples]


def picture(serialised: bytes) -> bytes:
    """The encoded picture of an example, empty where it has none.

    Raises:
        RefusedError: it is no example, or holds something else there.
    """
    from google.protobuf.message import DecodeError

    try:
        example = _message().FromString(serialised)
    except DecodeError:
        raise RefusedError("Could not parse example input") from None
    feature = example.features.feature.get(PICTURE)
    kind = feature.WhichOneof("kind") if feature is not None else None
    if kind is None:
        return b""
    if kind != "bytes_list":
        raise RefusedError(f"Key: {PICTURE}.  Data types don't match. Expected type: string")
    if len(feature.bytes_list.value) != 1:
        count = len(feature.bytes_list.value)
        raise RefusedError(
            f"Key: {PICTURE}.  Number of bytes values != expected.  Values size: {count} but output shape: []"
        )
    return bytes(feature.bytes_list.value[0])


def _serialised(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise RefusedError(f"Example must be JSON object but got JSON {_type(value)}")
    example = _message()()
    for name, content in value.items():
        feature = example.features.feature[as_bytes(name).decode("utf-8", "replace")]
        for one in content if isinstance(content, list) else [content]:
            _add(feature, name, one)
    return bytes(example.SerializeToString())


def _add(feature: Any, name: str, value: Any) -> None:
    kind = _kind(value)
    if kind is None:
        raise RefusedError(f"Feature: {name} has element with unexpected JSON type: {_type(value)}")
    if feature.WhichOneof("kind") not in (None, f"{kind}_list"):
        wanted = str(feature.WhichOneof("kind")).removesuffix("_list")
        raise RefusedError(f"Unexpected element type in feature: {name} expecting type: {wanted}")
    if kind == "int64" and value >= 2**63:
        raise RefusedError(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    values = getattr(feature, f"{kind}_list").value
    if kind == "bytes":
        values.append(as_bytes(value) if isinstance(value, str) else decoded_b64(value))
        return
    try:
        values.append(int(value) if kind == "int64" else float(value))
    except OverflowError:
        raise too_big() from None


def _kind(value: Any) -> str | None:
    if isinstance(value, str) or is_b64(value):
        return "bytes"
    # Whole numbers that no 64 bits hold are decimals to TensorFlow Serving's parser.
    if isinstance(value, float) or (type(value) is int and not -(2**63) <= value < 2**64):
        return "float"
    return "int64" if isinstance(value, int) else None


def _type(value: Any) -> str:
    return str(value) if isinstance(value, bool) else NAMES[type(value)]
