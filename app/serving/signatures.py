"""What a network can be asked, as its metadata says it, and what answers."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

DEFAULT = "serving_default"
# By TensorFlow's name of a type: the short one of its sentences, and NumPy's; of strings the values are bytes.
TYPES: dict[str, tuple[str, Any]] = {
    "DT_FLOAT": ("float", np.float32),
    "DT_DOUBLE": ("double", np.float64),
    "DT_INT8": ("int8", np.int8),
    "DT_INT16": ("int16", np.int16),
    "DT_INT32": ("int32", np.int32),
    "DT_INT64": ("int64", np.int64),
    "DT_UINT8": ("uint8", np.uint8),
    "DT_UINT16": ("uint16", np.uint16),
    "DT_UINT32": ("uint32", np.uint32),
    "DT_UINT64": ("uint64", np.uint64),
    "DT_BOOL": ("bool", np.bool_),
    "DT_STRING": ("string", np.object_),
    "DT_HALF": ("half", np.float16),
}


class TensorInfo(NamedTuple):
    """`name` is that inside the graph; of a shape that is known, -1 are the sides that are not."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None

    @property
    def short(self) -> str:
        """The type in a sentence: that of DT_BFLOAT16 is bfloat16."""
        return TYPES[self.dtype][0] if self.dtype in TYPES else self.dtype.removeprefix("DT_").lower()

    def admits(self, shape: tuple[int, ...]) -> bool:
        if self.shape is None:
            return True
        same = (wanted in (-1, side) for wanted, side in zip(self.shape, shape, strict=False))
        return len(shape) == len(self.shape) and all(same)


class Signature(NamedTuple):
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    method: str = "tensorflow/serving/predict"

    def metadata(self) -> dict[str, Any]:
        """As protobuf prints a SignatureDef, default values too."""
        return {
            "inputs": {key: _metadata(info) for key, info in self.inputs.items()},
            "outputs": {key: _metadata(info) for key, info in self.outputs.items()},
            "method_name": self.method,
            "defaults": {},
        }


def _metadata(info: TensorInfo) -> dict[str, Any]:
    sides = [{"size": str(side), "name": ""} for side in info.shape or ()]
    return {
        "dtype": info.dtype,
        "tensor_shape": {"dim": sides, "unknown_rank": info.shape is None},
        "name": info.name,
    }


class Servable(Protocol):
    """A loaded version. `run` may be called by any thread, and by as many as `threads` with profit."""

    @property
    def threads(self) -> int: ...

    @property
    def signatures(self) -> Mapping[str, Signature]: ...

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Tensors by the keys of the signature, of its types and shapes.

        Raises:
            RefusedError: the network cannot answer these.
        """
