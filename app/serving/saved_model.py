"""A version answered by its SavedModel: TensorFlow is imported here, when the first is loaded."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from app.program import quiet
from app.serving.refusals import HTTP, RefusedError
from app.serving.signatures import Signature, TensorInfo
from export import run_artefact


class SavedModel:
    """Loaded, and warmed up, unless it is asked once only, by the requests that TensorFlow Serving would send it.

    Raises:
        Exception: whatever TensorFlow has against it.
    """

    platform = "tensorflow_savedmodel"  # in the words of the Open Inference Protocol
    # What is decoded in one is so beside the network of another, which has threads of its own. With more at once few
    # would wait and become a batch, of which each takes a quarter of the time.
    threads = 2

    def __init__(self, version: Path, warm: bool = True) -> None:
        with quiet.tensorflow():
            import tensorflow as tf

            self._refusal = tf.errors.OpError
            self._ask = run_artefact.Signatures(str(version), keep=True)
            self.signatures: Mapping[str, Signature] = {
                name: _signature(said) for name, said in self._ask.known.items()
            }
            if warm:
                run_artefact.warm_up(str(version), lambda signature, **inputs: self.run(signature, inputs))

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        try:
            return self._ask(signature, **inputs)
        except self._refusal as error:
            code = type(error).__name__.removesuffix("Error")
            code = re.sub(r"(?<!^)(?=[A-Z])", "_", code).upper()
            raise RefusedError(_sentence(error.message), code if code in HTTP else "UNKNOWN") from error


def _sentence(message: str) -> str:
    """Without the names of functions and operations behind it, and the stack before it."""
    lines = message.split("\n\t [[")[0].split(" [Op:")[0].strip().splitlines()
    return re.sub(r"\{\{.*?\}\} ?", "", lines[-1]) if lines else "The network cannot answer this."


def _signature(said: Any) -> Signature:
    def info(tensor: Any) -> TensorInfo:
        unknown = tensor.tensor_shape.unknown_rank
        shape = None if unknown else tuple(side.size for side in tensor.tensor_shape.dim)
        return TensorInfo(
            tensor.name,
            type(tensor).DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number[tensor.dtype].name,
            shape,
        )

    inputs = {key: info(tensor) for key, tensor in said.inputs.items()}
    return Signature(inputs, {key: info(tensor) for key, tensor in said.outputs.items()}, said.method_name)
