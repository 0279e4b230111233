"""Tensors as the bytes that follow the JSON of the Open Inference Protocol: little-endian, row after row, and of BYTES
each element behind its length in four bytes (Triton's docs/protocol/extension_binary_data.md)."""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.serving.refusals import RefusedError

LENGTH = struct.Struct("<I")


def read(content: memoryview, kind: np.dtype[Any], shape: Sequence[int], name: str) -> NDArray[Any]:
    """The tensor of this type and shape that all of `content` is; it may lie in the memory of that. `name` is for the
    sentence.

    Raises:
        RefusedError: it is more or less than that, or no shape that an array has.
    """
    count = math.prod(shape)
    if kind == np.object_:
        values = _elements(content, count, name)
    elif len(content) != count * kind.itemsize:
        wanted = f"{count * kind.itemsize} bytes of the shape {list(shape)}"
        raise RefusedError(f"The input {name} has {len(content)} bytes, and not the {wanted}.")
    elif kind == np.bool_:
        values = np.frombuffer(content, np.uint8) != 0
    else:
        # TensorFlow and others want numbers where the processor does; behind JSON they lie anywhere.
        values = np.require(np.frombuffer(content, kind.newbyteorder("<")), kind, "A")
    return shaped(values, shape, name)


def shaped(values: NDArray[Any], shape: Sequence[int], name: str) -> NDArray[Any]:
    """
    Raises:
        RefusedError: no array has this shape.
    """
    try:
        return values.reshape(shape)
    except ValueError:  # of too many sides, or of none at all where others are beyond all measure
        raise RefusedError(f"The input {name} has a shape that no array has: {list(shape)[:8]}.") from None


def written(array: NDArray[Any]) -> bytes:
    if array.dtype != np.object_:
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return b"".join(part for value in array.ravel().tolist() for part in (LENGTH.pack(len(value)), value))


def _elements(content: memoryview, count: int, name: str) -> NDArray[Any]:
    if count * LENGTH.size > len(content):
        raise RefusedError(f"The input {name} has {len(content)} bytes, too few for {count} elements.")
    values, at = np.empty(count, np.object_), 0
    for place in range(count):
        if at + LENGTH.size > len(content):
            raise RefusedError(f"The input {name} ends before the length of its element {place}.")
        (length,) = LENGTH.unpack_from(content, at)
        at += LENGTH.size
        if length > len(content) - at:
            left = f"{length} bytes long, and {len(content) - at} are left"
            raise RefusedError(f"The element {place} of the input {name} is {left}.")
        values[place] = bytes(content[at : at + length])
        at += length
    if at != len(content):
        raise RefusedError(f"The input {name} has {len(content) - at} bytes behind its {count} elements.")
    return values
