"""A version answered by its SavedModel: TensorFlow is imported here, when the first is loaded."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.program import quiet
from app.serving.refusals import HTTP, RefusedError
from app.serving.signatures import Signature, TensorInfo
from export import run_artefact


class SavedModel:
    """Loaded, and warmed up by the requests that TensorFlow Serving would send it.

    Raises:
        Exception: whatever TensorFlow has against it.
    """

    platform = "tensorflow_savedmodel"  # in the words of the Open Inference Protocol
    threads = os.cpu_count() or 1  # what is decoded in one is so beside the network of another

    def __init__(self, version: Path) -> None:
        with quiet.tensorflow():
            import tensorflow as tf
            from tensorflow.core.protobuf import saved_model_pb2

            self._tf = tf
            self._loaded = tf.saved_model.load(str(version))
            content = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
            names = content.meta_graphs[0].signature_def
            self.signatures: Mapping[str, Signature] = {name: _signature(said, tf) for name, said in names.items()}
            run_artefact.warm_up(str(version), lambda signature, **inputs: self.run(signature, inputs))

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        tf = self._tf
        infos = self.signatures[signature].inputs
        try:
            given = {
                name: tf.constant(tensor, getattr(tf, infos[name].short), tensor.shape)
                for name, tensor in inputs.items()
            }
            outputs = self._loaded.signatures[signature](**given)
            return {name: _array(output) for name, output in outputs.items()}
        except tf.errors.OpError as error:
            code = type(error).__name__.removesuffix("Error")
            code = re.sub(r"(?<!^)(?=[A-Z])", "_", code).upper()
            raise RefusedError(_sentence(error.message), code if code in HTTP else "UNKNOWN") from error


def _array(output: Any) -> NDArray[Any]:
    # Of strings, TensorFlow gives one alone as bytes.
    array: NDArray[Any] = np.asarray(output.numpy(), np.object_ if output.dtype == "string" else None)
    return array


def _sentence(message: str) -> str:
    """Without the names of functions and operations behind it, and the stack before it."""
    lines = message.split("\n\t [[")[0].split(" [Op:")[0].strip().splitlines()
    return re.sub(r"\{\{.*?\}\} ?", "", lines[-1]) if lines else "The network cannot answer this."


def _signature(said: Any, tf: Any) -> Signature:
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
