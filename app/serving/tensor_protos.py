"""TensorProto, as gRPC carries tensors, to NumPy and back (core/framework/tensor.cc)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.serving import messages
from app.serving.bodies import MOST
from app.serving.json_reading import VALUES
from app.serving.refusals import RefusedError
from app.serving.signatures import TYPES, TensorInfo

# Where values stand that are not in `tensor_content`.
FIELDS = {
    "DT_FLOAT": "float_val",
    "DT_DOUBLE": "double_val",
    **dict.fromkeys(("DT_INT8", "DT_INT16", "DT_INT32", "DT_UINT8", "DT_UINT16"), "int_val"),
    "DT_INT64": "int64_val",
    "DT_UINT32": "uint32_val",
    "DT_UINT64": "uint64_val",
    "DT_BOOL": "bool_val",
    "DT_STRING": "string_val",
    "DT_HALF": "half_val",
}


def inputs(given: Mapping[str, Any], infos: Mapping[str, TensorInfo]) -> dict[str, NDArray[Any]]:
    """The tensors of a predict request by the keys of its signature.

    Raises:
        RefusedError: one is missing, unknown, of another type, or none.
    """
    if len(given) != len(infos):
        extra, missing = sorted(given.keys() - infos.keys()), sorted(infos.keys() - given.keys())
        raise RefusedError(
            f"input size does not match signature: {len(given)}!={len(infos)} len({_set(given)}) != "
            f"len({_set(infos)}). Sent extra: {_set(extra)}. Missing but required: {_set(missing)}."
        )
    for name in given:
        if name not in infos:
            raise RefusedError(
                f"input tensor alias not found in signature: {name}. Inputs expected to be in the set {_set(infos)}."
            )
    found = {}
    for place, (name, info) in enumerate(infos.items()):
        proto = given[name]
        dtype = _name(proto.dtype)
        if dtype not in ("DT_INVALID", info.dtype):
            short = TensorInfo("", dtype, None).short
            raise RefusedError(f"Expects arg[{place}] to be {info.short} but {short} is provided")
        found[name] = _array(proto, name, dtype)
    return found


def output_names(wanted: list[str], infos: Mapping[str, TensorInfo]) -> list[str]:
    """Which outputs a request's filter leaves: all, where there is none.

    Raises:
        RefusedError: one is unknown, or named twice.
    """
    for place, name in enumerate(wanted):
        if name not in infos:
            said = f"output tensor alias not found in signature: {name}"
            raise RefusedError(f"{said} Outputs expected to be in the set {_set(infos)}.")
        if name in wanted[:place]:
            raise RefusedError(f"duplicate output tensor alias: {name}")
    return wanted or list(infos)


def write(array: NDArray[Any], dtype: str, proto: Any) -> None:
    """In the field of its type, as TensorFlow Serving answers unless it is told otherwise."""
    proto.dtype = _numbers()[dtype].number
    for side in array.shape:
        proto.tensor_shape.dim.add(size=side)
    if dtype == "DT_HALF":
        array = array.view(np.uint16)
    getattr(proto, FIELDS[dtype]).extend(array.ravel().tolist())


def _array(proto: Any, name: str, dtype: str) -> NDArray[Any]:
    bad = RefusedError(f"tensor parsing error: {name}")
    sides = [side.size for side in proto.tensor_shape.dim]
    if dtype not in TYPES or proto.tensor_shape.unknown_rank or min(sides, default=0) < 0:
        raise bad
    kind, count = np.dtype(TYPES[dtype][1]), math.prod(sides)
    # A tensor may say its last value once for all that follow: a few bytes can ask for any amount of memory.
    if count * kind.itemsize > MOST:
        raise RefusedError(f"The input {name} is larger than {MOST} bytes.", "RESOURCE_EXHAUSTED")
    if proto.tensor_content:
        if kind == np.object_ or len(proto.tensor_content) != count * kind.itemsize:
            raise bad
        values: NDArray[Any] = np.frombuffer(proto.tensor_content, kind.newbyteorder("<"))
    else:
        said = getattr(proto, FIELDS[dtype])
        if len(said) > VALUES:  # each takes many times its bytes once it is Python's
            raise RefusedError(f"The input {name} has more than {VALUES} values; send them as tensor_content.")
        said = said[:count]
        values = np.full(count, b"" if kind == np.object_ else 0, kind)
        if said:
            values[: len(said)] = _said(said, FIELDS[dtype], kind)
            values[len(said) :] = values[len(said) - 1]
    try:
        return values.reshape(sides)
    except ValueError:  # of a tensor without values whose other sides are beyond all measure
        raise bad from None


def _said(values: list[Any], field: str, kind: np.dtype[Any]) -> NDArray[Any]:
    found: NDArray[Any] = np.empty(len(values), np.object_)
    if kind == np.object_:
        found[:] = values
        return found
    found = np.array(values, np.int64 if field in ("int_val", "half_val") else kind)
    return found.astype(np.uint16).view(np.float16) if field == "half_val" else found.astype(kind)


def _name(number: int) -> str:
    return next((name for name, value in _numbers().items() if value.number == number), f"DT_{number}")


def _numbers() -> Mapping[str, Any]:
    found: Mapping[str, Any] = messages.pool().FindEnumTypeByName("tensorflow.DataType").values_by_name
    return found


def _set(names: Any) -> str:
    return f"{{{','.join(sorted(names))}}}"
