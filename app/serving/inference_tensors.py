"""The tensors of the Open Inference Protocol: what its JSON says of them, and their values in it or behind it
(kserve/open-inference-protocol, specification/protocol/inference_rest.md)."""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.serving import batches, binary_tensors, json_writing
from app.serving.json_reading import excerpt, too_big
from app.serving.refusals import RefusedError
from app.serving.routes import LARGEST
from app.serving.signatures import TYPES, TensorInfo
from app.serving.tensors import as_bytes
from export import picture_files

# By TensorFlow's name of a type.
DATATYPES = {
    "DT_FLOAT": "FP32",
    "DT_DOUBLE": "FP64",
    "DT_HALF": "FP16",
    "DT_BFLOAT16": "BF16",
    "DT_BOOL": "BOOL",
    "DT_STRING": "BYTES",
    **{f"DT_{sign}INT{bits}": f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
}
SIDES = 32  # of a shape at most
BINARY = "binary_data_size"
HEADER = "Inference-Header-Content-Length"
NO_BYTES = (
    "JSON of this protocol has text, and no bytes in base64: send them as they are behind the JSON, with "
    f"`{BINARY}` and the header {HEADER}."
)
ACCEPTED: dict[str, frozenset[type]] = {
    "f": frozenset({int, float}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "b": frozenset({bool}),
    "O": frozenset({str}),
}


def metadata(infos: Mapping[str, TensorInfo]) -> list[dict[str, Any]]:
    """In the order of their names; a shape that is not known at all is one of no sides."""
    return [{"name": key, "datatype": _datatype(infos[key]), "shape": infos[key].shape or ()} for key in sorted(infos)]


def inputs(given: Any, behind: memoryview, infos: Mapping[str, TensorInfo]) -> dict[str, NDArray[Any]]:
    """The tensors that a request's `inputs` are, with the bytes that follow its JSON.

    Raises:
        RefusedError: one is missing, unknown, twice there, of another type or shape, or none; the sizes do not add up.
    """
    if not isinstance(given, list) or not given:
        raise RefusedError("The request has no list of `inputs`.")
    found: dict[str, NDArray[Any]] = {}
    at = 0
    for said in given:
        name = _name(said, "input", infos)
        if name in found:
            raise RefusedError(f"The input {name} is there twice.")
        info, shape = infos[name], _shape(said.get("shape"), name)
        if said.get("datatype") != _datatype(info):
            wanted = f"{_datatype(info)}, and not {excerpt(said.get('datatype'))}"
            raise RefusedError(f"The input {name} is of the datatype {wanted}.")
        if info.dtype not in TYPES:
            raise RefusedError(f"The datatype {_datatype(info)} of the input {name} is not read here.")
        if not info.admits(shape):
            raise RefusedError(f"The input {name} has the shape {list(info.shape or ())}, and not {list(shape)}.")
        batches.check(shape[0] if shape else 1)
        kind = np.dtype(TYPES[info.dtype][1])
        size = _binary_size(said, name)
        if size is None:
            found[name] = _of_json(said["data"], kind, shape, name)
            continue
        if size > len(behind) - at:
            left = f"and {len(behind) - at} are left behind the JSON, whose length the header {HEADER} says"
            raise RefusedError(f"The input {name} has {size} bytes by its `{BINARY}`, {left}.")
        found[name] = binary_tensors.read(behind[at : at + size], kind, shape, name)
        at += size
    if missing := sorted(infos.keys() - found.keys()):
        raise RefusedError(f"The request lacks the input {' and '.join(missing)}.")
    if at != len(behind):
        raise RefusedError(f"Behind the inputs of the request are {len(behind) - at} bytes that none of them says.")
    return found


def wanted_outputs(request: Mapping[str, Any], infos: Mapping[str, TensorInfo]) -> dict[str, bool]:
    """Which outputs a request wants, and of each whether as bytes behind the JSON: all, if it does not say.

    Raises:
        RefusedError: one is unknown, twice there, or wanted as it is not given here.
    """
    everything = _flag(parameters(request), "binary_data_output") or False
    given = request.get("outputs", [])
    if not isinstance(given, list):
        raise RefusedError("The `outputs` of the request are no list.")
    found: dict[str, bool] = {}
    for said in given:
        name = _name(said, "output", infos)
        if name in found:
            raise RefusedError(f"The output {name} is there twice.")
        told = parameters(said)
        for extension in ("classification", "shared_memory_region"):
            if extension in told:
                raise RefusedError(f"The output {name} cannot be had by `{extension}` here.")
        binary = _flag(told, "binary_data")
        found[name] = everything if binary is None else binary
    return found or dict.fromkeys(sorted(infos), everything)


def as_json(name: str, array: NDArray[Any], info: TensorInfo, behind: bytes | None) -> str:
    """What the answer says of an output: its values, or how many bytes they are where they come behind the JSON.

    Raises:
        RefusedError: its values are none that JSON has.
    """
    shape = ", ".join(map(str, array.shape))
    said = f'{{"name": {json_writing.text(name)}, "datatype": "{_datatype(info)}", "shape": [{shape}], '
    if behind is not None:
        return f'{said}"parameters": {{"{BINARY}": {len(behind)}}}}}'
    return f'{said}"data": [{", ".join(_tokens(name, array, info))}]}}'


def parameters(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    Raises:
        RefusedError: they are no object.
    """
    found = said.get("parameters", {})
    if not isinstance(found, dict):
        raise RefusedError(f"The `parameters` of a request are an object, and not {excerpt(found)}.")
    return found


def _name(said: Any, what: str, infos: Mapping[str, TensorInfo]) -> str:
    name = said.get("name") if isinstance(said, dict) else said
    if not isinstance(said, dict) or not isinstance(name, str) or name not in infos:
        there = f"this signature has {' and '.join(sorted(infos))}; the parameter `signature_name` names another"
        raise RefusedError(f"There is no {what} {excerpt(name)}: {there}.")
    return name


def _shape(said: Any, name: str) -> tuple[int, ...]:
    if not isinstance(said, list) or len(said) > SIDES or not all(_is_whole(side) for side in said):
        raise RefusedError(
            f"The input {name} has a `shape` of whole numbers from 0, {SIDES} at most, and not {excerpt(said)}."
        )
    return tuple(said)


def _is_whole(value: Any) -> bool:
    """From 0, of 64 bits; true is no number."""
    return type(value) is int and 0 <= value <= LARGEST


def _binary_size(said: Mapping[str, Any], name: str) -> int | None:
    """How many bytes behind the JSON the tensor has; none if its values are in it."""
    told = parameters(said)
    if "shared_memory_region" in told:
        raise RefusedError(f"The input {name} cannot be read from shared memory here.")
    size = told.get(BINARY)
    if (size is None) != ("data" in said):
        raise RefusedError(f"The input {name} has either `data` or the parameter `{BINARY}`.")
    if size is not None and not _is_whole(size):
        raise RefusedError(f"The `{BINARY}` of the input {name} is a whole number from 0, and not {excerpt(size)}.")
    if told.get("content_type") == "base64":  # MLServer's word for it
        raise RefusedError(f"The input {name} is base64. {NO_BYTES}")
    return size


def _of_json(data: Any, kind: np.dtype[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    values = _flat(data, shape, name)
    if len(values) != math.prod(shape):
        raise RefusedError(f"The input {name} has {len(values)} values, and not those of the shape {list(shape)}.")
    if kind == np.float16:
        raise RefusedError(f"The input {name} is FP16, which JSON has not; send it as bytes, with `{BINARY}`.")
    if dict in {*map(type, values)}:
        raise RefusedError(f"The input {name} has an object among its values. {NO_BYTES}")
    if not {*map(type, values)} <= ACCEPTED[kind.kind]:
        odd = next(value for value in values if type(value) not in ACCEPTED[kind.kind])
        raise RefusedError(f"The input {name} has a value that is not of its datatype: {excerpt(odd)}.")
    if kind == np.object_:
        texts = np.empty(len(values), np.object_)
        texts[:] = [_text(value, name) for value in values]
        return binary_tensors.shaped(texts, shape, name)
    if kind.kind in "iu" and values:
        limits = np.iinfo(kind)
        if min(values) < limits.min or max(values) > limits.max:
            raise RefusedError(f"The input {name} has values from {limits.min} to {limits.max}.")
    try:
        with np.errstate(over="ignore"):  # of a float: infinite then
            array = np.array(values, np.float64 if kind.kind == "f" else kind).astype(kind)
    except OverflowError:  # a whole number that no float holds
        raise too_big() from None
    return binary_tensors.shaped(array, shape, name)


def _flat(data: Any, shape: Sequence[int], name: str) -> list[Any]:
    """Row after row, as the protocol has it; or nested as the shape says, which it allows."""
    if not isinstance(data, list):
        raise RefusedError(f"The `data` of the input {name} is no list.")
    if list not in {*map(type, data)}:
        return data
    level: list[list[Any]] = [data]
    for place, side in enumerate(shape):
        if any(type(part) is not list or len(part) != side for part in level):
            raise RefusedError(f"The `data` of the input {name} is not nested as its shape {list(shape)}.")
        if place == len(shape) - 1:
            break
        level = list(chain.from_iterable(level))
    return list(chain.from_iterable(level))


def _text(value: str, name: str) -> bytes:
    beginning = value[:200].rpartition(";base64,")[2][:64]  # of a data URL, too
    try:
        decoded = base64.b64decode(beginning[: len(beginning) // 4 * 4], validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if picture_files.kind_of(decoded):
        raise RefusedError(f"The input {name} has a picture in base64. {NO_BYTES}")
    return as_bytes(value)


def _datatype(info: TensorInfo) -> str:
    return DATATYPES.get(info.dtype, info.dtype)


def _flag(told: Mapping[str, Any], name: str) -> bool | None:
    value = told.get(name)
    if value is not None and not isinstance(value, bool):
        raise RefusedError(f"The parameter `{name}` is true or false, and not {excerpt(value)}.")
    return value


def _tokens(name: str, array: NDArray[Any], info: TensorInfo) -> list[str]:
    if array.dtype in json_writing.DIGITS:
        return json_writing.decimals(array)
    values = array.ravel().tolist()
    if array.dtype == np.object_:
        try:
            return [json_writing.text(value.decode()) for value in values]
        except UnicodeDecodeError:
            raise RefusedError(f"The output {name} is no text; ask for it with `binary_data`.") from None
    if array.dtype == np.bool_:
        return ["true" if value else "false" for value in values]
    if array.dtype.kind in "iu":
        return [str(value) for value in values]
    raise RefusedError(f"JSON has no {_datatype(info)}, which the output {name} is; ask for it with `binary_data`.")
