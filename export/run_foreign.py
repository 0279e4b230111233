"""A program of its own: runs a file that somebody else converted, in a process that imports its runtime alone.

    python -I run_foreign.py FILE

FILE is a SavedModel folder or a .tflite, .onnx or .xml file, the last of OpenVINO with the .bin beside it. The first
line that it prints is what the file says of itself, in JSON: `inputs` and `outputs`, each with `name`, `dtype` (encoded
pictures are "string") and `shape`, None where a side is free or nothing is known; and what it `computes` in, "float32",
"float16" or "int8". Then it reads lines {"pictures": FILE.npz, "output": NAME, "to": FILE.npz}: the arrays are inputs
of one picture each, encoded pictures as uint8 of one dimension. For each line it prints one: {} when the answers are
written, `answers` (N, classes) and perhaps `names` of the same shape; or {"error": a sentence}.

Quantised inputs and outputs are turned from and into real numbers, as the file says.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

if __package__:
    from . import runtime_errors
else:  # isolated, a program finds not even what lies beside it
    sys.path.append(str(Path(__file__).parent))
    runtime_errors = importlib.import_module("runtime_errors")
    sys.path.pop()

PROJECT = ("models", "export", "app", "inceptions")


class Loaded(NamedTuple):
    """`answer` takes one input and gives the outputs by name."""

    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    computes: str
    answer: Callable[[Any], dict[str, Any]]


def described(name: str, dtype: Any, shape: Any) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape}


def saved_model(folder: str) -> Loaded:
    import tensorflow as tf

    def of(spec: Any, name: str) -> dict[str, Any]:
        shape = None if spec.shape.rank is None else spec.shape.as_list()
        return described(name, spec.dtype.name, shape)

    signatures = (loaded := tf.saved_model.load(folder)).signatures
    if "serving_default" not in signatures and len(signatures) != 1:
        listed = ", ".join(signatures) or "none"
        raise ValueError(f"it has no signature serving_default, by which it would be asked, but {listed}")
    run = signatures["serving_default" if "serving_default" in signatures else next(iter(signatures))]
    run.of = loaded  # it holds the weights
    inputs = [of(spec, name) for name, spec in run.structured_input_signature[1].items()]
    outputs = [of(spec, name) for name, spec in run.structured_outputs.items()]

    def answer(picture: Any) -> dict[str, Any]:
        if inputs[0]["dtype"] == "string":
            value = tf.constant(picture.tobytes())
            value = value if inputs[0]["shape"] == [] else value[tf.newaxis]
        else:
            value = tf.constant(picture)
        return {name: found.numpy() for name, found in run(**{inputs[0]["name"]: value}).items()}

    return Loaded(inputs, outputs, "float32", answer)


def tflite(file: str) -> Loaded:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(file)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def of(details: dict[str, Any]) -> dict[str, Any]:
        shape = details.get("shape_signature", details["shape"])
        real = "float32" if details["quantization"][0] else np.dtype(details["dtype"]).name
        return described(details["name"], real, [None if side < 0 else int(side) for side in shape])

    kinds = set()
    for tensor in interpreter.get_tensor_details():
        if tensor["dtype"] == np.float16 or len(tensor["quantization_parameters"]["scales"]):
            kinds.add(np.dtype(tensor["dtype"]).name)
    computes = "int8" if kinds - {"float16", "int32"} else "float16" if "float16" in kinds else "float32"

    def answer(picture: Any) -> dict[str, Any]:
        (image,) = interpreter.get_input_details()
        scale, zero = image["quantization"]
        if scale:
            limits = np.iinfo(image["dtype"])
            picture = np.clip(np.round(picture / scale) + zero, limits.min, limits.max).astype(image["dtype"])
        if tuple(image["shape"]) != picture.shape:
            interpreter.resize_tensor_input(image["index"], picture.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], picture)
        interpreter.invoke()
        found = {}
        for output in outputs:
            value = interpreter.get_tensor(output["index"])
            scale, zero = output["quantization"]
            found[output["name"]] = (value.astype(np.float32) - zero) * scale if scale else value
        return found

    return Loaded([of(each) for each in inputs], [of(each) for each in outputs], computes, answer)


def onnx(file: str) -> Loaded:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    network = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def of(tensor: Any) -> dict[str, Any]:
        name = tensor.type.removeprefix("tensor(").removesuffix(")")
        dtype = {"float": "float32", "double": "float64"}.get(name, name)
        return described(tensor.name, dtype, [side if isinstance(side, int) else None for side in tensor.shape])

    inputs, outputs = ([of(each) for each in ends] for ends in (network.get_inputs(), network.get_outputs()))
    names = [output["name"] for output in outputs]

    def answer(picture: Any) -> dict[str, Any]:
        return dict(zip(names, network.run(None, {inputs[0]["name"]: picture}), strict=True))

    return Loaded(inputs, outputs, of_onnx(file), answer)


def of_onnx(file: str) -> str:
    """What it computes in, as far as anybody can read it here."""
    try:
        import onnx
    except ImportError:
        return "float32"
    graph = onnx.load(file, load_external_data=False).graph
    if any("QuantizeLinear" in node.op_type or "Integer" in node.op_type for node in graph.node):
        return "int8"
    half = any(weights.data_type == onnx.TensorProto.FLOAT16 for weights in graph.initializer)
    return "float16" if half else "float32"


def openvino(file: str) -> Loaded:
    from openvino import Core

    core = Core()
    model = core.read_model(file)

    def of(port: Any, place: int) -> dict[str, Any]:
        shape = port.get_partial_shape()
        sides = [None if side.is_dynamic else side.get_length() for side in shape] if shape.rank.is_static else None
        name = port.get_any_name() if port.get_names() else str(place)
        return described(name, port.get_element_type().to_dtype().name, sides)

    inputs, outputs = ([of(port, place) for place, port in enumerate(ports)] for ports in (model.inputs, model.outputs))
    operations = [(node.get_type_name(), node) for node in model.get_ops()]
    constants = {node.get_element_type().get_type_name() for name, node in operations if name == "Constant"}
    quantized = any(name == "FakeQuantize" for name, _ in operations)
    computes = "int8" if quantized else "float16" if "f16" in constants else "float32"
    # Where the processor has bfloat16, it would compute in that.
    network = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def answer(picture: Any) -> dict[str, Any]:
        found = network([picture])
        return {output["name"]: found[place].copy() for place, output in enumerate(outputs)}

    return Loaded(inputs, outputs, computes, answer)


RUNTIMES: dict[str, Callable[[str], Loaded]] = {".tflite": tflite, ".onnx": onnx, ".xml": openvino, "": saved_model}


def ask(loaded: Loaded, request: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    (image,) = loaded.inputs
    rows, names = [], list[Any]()
    with np.load(request["pictures"]) as pictures:
        for place in range(len(pictures)):
            picture = pictures[f"arr_{place}"]
            if image["dtype"] != "string":
                # A file of a fixed number of pictures gets the same one so many times.
                many = (image["shape"] or [1])[0] or 1 if picture.ndim == 4 else 1
                picture = np.repeat(picture.astype(image["dtype"]), many, axis=0)
            found = loaded.answer(picture)
            scores = np.asarray(found[request["output"]])
            classes = scores.shape[-1]
            rows.append(scores.reshape(-1, classes)[0].astype(np.float64))
            beside = [each for each in found.values() if each.dtype == object and each.shape == scores.shape]
            if beside:
                names.append([text.decode() for text in beside[0].reshape(-1, classes)[0]])
    answers = {"answers": np.stack(rows)} | ({"names": np.array(names)} if names else {})
    np.savez(request["to"], **answers)  # type: ignore[arg-type]
    return {}


def main(file: str) -> None:
    # Whatever a runtime prints goes to standard error; the first one is for the replies alone.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for name in (*PROJECT, *(("tensorflow", "keras") if Path(file).is_file() else ())):
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails from here on

    def reply(content: dict[str, Any]) -> None:
        print(json.dumps(content), file=replies)

    try:
        loaded = RUNTIMES[Path(file).suffix if Path(file).is_file() else ""](file)
    except Exception as error:  # runtimes raise whatever they stumble over
        reply({"error": runtime_errors.sentence(error)})
        return
    reply({"inputs": loaded.inputs, "outputs": loaded.outputs, "computes": loaded.computes})
    for line in sys.stdin:
        try:
            reply(ask(loaded, json.loads(line)))
        except Exception as error:
            reply({"error": runtime_errors.sentence(error)})


if __name__ == "__main__":
    main(sys.argv[1])
