"""From the JSON of a predict request to tensors, with TensorFlow Serving's rules and texts (util/json_tensor.cc)."""

import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.serving import batches
from app.serving.json_reading import excerpt, too_big
from app.serving.refusals import RefusedError
from app.serving.signatures import TYPES, TensorInfo

B64 = "b64"
SIDES = 64  # of a tensor: NumPy has no more
# What is accepted: Python's types of a JSON value, and the range of whole numbers. The small integers are not looked at
# more closely than int32, and wrap around.
WHOLE = frozenset({int})
ACCEPTED: dict[str, tuple[frozenset[type], tuple[int, int] | None]] = {
    "DT_FLOAT": (frozenset({int, float}), None),
    "DT_DOUBLE": (frozenset({int, float}), None),
    "DT_BOOL": (frozenset({bool}), None),
    "DT_STRING": (frozenset({str}), None),
    **dict.fromkeys(("DT_INT8", "DT_INT16", "DT_INT32", "DT_UINT8"), (WHOLE, (-(2**31), 2**31 - 1))),
    "DT_INT64": (WHOLE, (-(2**63), 2**63 - 1)),
    "DT_UINT32": (WHOLE, (0, 2**32 - 1)),
    "DT_UINT64": (WHOLE, (0, 2**64 - 1)),
}
NAMES: dict[type, str] = {
    type(None): "Null",
    dict: "Object",
    list: "Array",
    str: "String",
    int: "Number",
    float: "Number",
}


def of_request(request: Mapping[str, Any], infos: Mapping[str, TensorInfo]) -> tuple[dict[str, NDArray[Any]], bool]:
    """The inputs that a request gives, and whether by rows, `instances`, rather than by columns, `inputs`.

    Raises:
        RefusedError: it gives neither, both, or what is not of the inputs' types or of one shape.
    """
    if "instances" in request and "inputs" in request:
        raise _misformed(
            request, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if "inputs" in request:
        return _by_columns(request["inputs"], infos), False
    if "instances" not in request:
        raise RefusedError("Missing 'inputs' or 'instances' key")
    rows = request["instances"]
    if not isinstance(rows, list):
        raise _misformed(request, "Expecting 'instances' to be an list/array")
    if not rows:
        raise _misformed(request, "No values in 'instances' array")
    batches.check(len(rows))
    return _by_rows(rows, infos), True


def _misformed(request: Mapping[str, Any], why: str) -> RefusedError:
    return RefusedError(f"JSON Value: {excerpt(request)} {why}")


def is_b64(value: Any) -> bool:
    """Whether it is an object for bytes: {"b64": text} and nothing else."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(B64), str)


def decoded_b64(value: Any) -> bytes:
    """The bytes of such an object; blanks in it do not count, and its padding may lack.

    Raises:
        RefusedError: it is none, or not of base64's standard alphabet.
    """
    if not is_b64(value):
        raise RefusedError(f"JSON Value: {excerpt(value)} not formatted correctly for base64 data")
    try:
        text = value[B64].encode("ascii").translate(None, b" \t\r\n\v\f")
        bare = text.rstrip(b"=")
        padding = -len(bare) % 4
        if padding == 3 or len(text) - len(bare) not in (0, padding):
            raise ValueError(text)
        return binascii.a2b_base64(bare + b"=" * padding, strict_mode=True)
    except ValueError:  # of ASCII, too
        raise RefusedError("Unable to base64 decode") from None


def as_bytes(text: str) -> bytes:
    """What was in the request: bytes that are no UTF-8 came as surrogates.

    Raises:
        RefusedError: half of a surrogate pair.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise RefusedError("JSON Parse error: The surrogate pair in string is invalid. at offset: 0") from None


class _Values:
    """The values of one tensor as they are found, and the shape that all of them must have."""

    def __init__(self, info: TensorInfo) -> None:
        self.info = info
        self.found: list[Any] = []
        self.shape: tuple[int, ...] | None = None

    def add(self, value: Any) -> None:
        shape = _shape(value)
        before = len(self.found)
        self._fill(value, 0, shape)
        if self.shape is None:
            self.shape = shape
            self.size = len(self.found)
        elif len(self.found) - before != self.size:
            raise RefusedError(f"Expecting tensor size: {self.size} but got: {len(self.found) - before}")
        elif shape != self.shape:
            raise RefusedError(f"Expecting shape {_listed(self.shape)} but got: {_listed(shape)}")

    def _fill(self, value: Any, level: int, shape: tuple[int, ...]) -> None:
        if not isinstance(value, list):
            if level != len(shape):
                where = f"found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {len(shape)}"
                raise RefusedError(f"JSON Value: {excerpt(value)} {where}")
            self.found.append(self._one(value))
            return
        if level >= len(shape):
            raise RefusedError(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(value) != shape[level]:
            at = f"at level: {level} expected size: {shape[level]}"
            raise RefusedError(f"Encountered list at unexpected size: {len(value)} {at}")
        if level == len(shape) - 1 and self._are_plain(value):
            self.found.extend(value)
            return
        for each in value:
            self._fill(each, level + 1, shape)

    def _are_plain(self, values: list[Any]) -> bool:
        """Whether they are numbers that need not be looked at one by one."""
        accepted, limits = ACCEPTED.get(self.info.dtype, (frozenset(), None))
        if str in accepted or not {*map(type, values)} <= accepted:
            return False
        return limits is None or not values or (limits[0] <= min(values) and max(values) <= limits[1])

    def _one(self, value: Any) -> Any:
        dtype = self.info.dtype
        if isinstance(value, dict) and dtype == "DT_STRING":
            return decoded_b64(value)
        if dtype not in ACCEPTED and not isinstance(value, dict):
            said = f"Conversion of JSON Value: {excerpt(value)} to type: {self.info.short}"
            raise RefusedError(said, "UNIMPLEMENTED")
        accepted, limits = ACCEPTED.get(dtype, (frozenset[type](), None))
        fits = type(value) in accepted and (limits is None or limits[0] <= value <= limits[1])
        if not fits:
            kind = str(value) if isinstance(value, bool) else NAMES[type(value)]
            said = f"JSON Value: {excerpt(value)} Type: {kind} is not of expected type: {self.info.short}"
            raise RefusedError(said)
        return as_bytes(value) if isinstance(value, str) else value

    def tensor(self, shape: tuple[int, ...]) -> NDArray[Any]:
        if self.info.dtype not in TYPES:  # and there were no values, which would have been refused
            raise RefusedError(f"Conversion of JSON Value: [] to type: {self.info.short}", "UNIMPLEMENTED")
        if len(shape) > SIDES:
            raise RefusedError(f"A tensor has {SIDES} dimensions at most, and this one {len(shape)}.")
        kind = TYPES[self.info.dtype][1]
        if kind is np.object_:
            array = np.empty(len(self.found), np.object_)
            array[:] = self.found
            return array.reshape(shape)
        wide = {"i": np.int64, "u": np.uint64 if self.info.dtype == "DT_UINT64" else np.int64, "f": np.float64}
        try:
            array = np.array(self.found, wide.get(np.dtype(kind).kind, kind))
        except OverflowError:  # a whole number that no float holds
            raise too_big() from None
        with np.errstate(over="ignore"):  # of a float: infinite then
            return array.astype(kind).reshape(shape)


def _by_rows(rows: list[Any], infos: Mapping[str, TensorInfo]) -> dict[str, NDArray[Any]]:
    if not isinstance(rows[0], dict) and len(infos) > 1:
        raise RefusedError(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    by_name = isinstance(rows[0], dict) and not is_b64(rows[0])
    tensors: dict[str, _Values] = {name: _Values(info) for name, info in infos.items()}
    (first, *_) = infos
    for place, row in enumerate(rows):
        if by_name != (isinstance(row, dict) and not is_b64(row)):
            wanted, got = ("object", "list") if by_name else ("value/list", "object")
            raise RefusedError(f"Expecting {wanted} but got {got} at item {place} of input list")
        if not by_name:
            _add(tensors[first], row, f"Failed to process element: {place} of 'instances' list.")
            continue
        for name, value in row.items():
            where = f"Failed to process element: {place} key: {name} of 'instances' list."
            if name not in tensors:
                raise RefusedError(f"{where} Error: INVALID_ARGUMENT: JSON object: does not have named input: {name}")
            _add(tensors[name], value, where)
        if row.keys() != infos.keys():
            wanted = ",".join(sorted(infos))
            said = f"JSON object: {excerpt(row)} keys must be equal to: {wanted}"
            raise RefusedError(f"Failed to process element: {place} of 'instances' list. {said}")
    return {name: values.tensor((len(rows), *(values.shape or ()))) for name, values in tensors.items()}


def _add(values: _Values, value: Any, where: str) -> None:
    try:
        values.add(value)
    except RefusedError as refusal:
        raise RefusedError(f"{where} Error: {refusal}") from None


def _by_columns(columns: Any, infos: Mapping[str, TensorInfo]) -> dict[str, NDArray[Any]]:
    if not isinstance(columns, dict) or is_b64(columns):
        if len(infos) > 1:
            raise RefusedError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        columns = dict.fromkeys(infos, columns)
    tensors = {}
    for name, info in infos.items():
        if name not in columns:
            raise RefusedError(f"Missing named input: {name} in 'inputs' object.")
        values = _Values(info)
        batches.check(len(columns[name]) if isinstance(columns[name], list) else 1)
        values.add(columns[name])
        tensors[name] = values.tensor(values.shape or ())
    return tensors


def _shape(value: Any) -> tuple[int, ...]:
    """That of nested lists, going by the first element of each."""
    sides: list[int] = []
    while isinstance(value, list):
        sides.append(len(value))
        value = value[0] if value else None
    return tuple(sides)


def _listed(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
