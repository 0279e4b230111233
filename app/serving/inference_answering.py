"""What the Open Inference Protocol asks and answers. It has no signatures: which is meant says the parameter
`signature_name` of a request here, which other servers do not know."""

import importlib.metadata
from typing import Any, NamedTuple

import numpy as np

from app.serving import answering, binary_tensors, inference_tensors, json_reading
from app.serving.answering import Answer
from app.serving.inference_tensors import HEADER
from app.serving.json_writing import text
from app.serving.models import Models, Wanted
from app.serving.refusals import RefusedError
from app.serving.signatures import DEFAULT, Servable, Signature

SERVER = "inceptions"
EXTENSIONS = ("binary_tensor_data",)


class Written(NamedTuple):
    """An answer: JSON, of `header` bytes where others follow it."""

    content: bytes
    header: int | None = None


def infer(models: Models, wanted: Wanted, body: bytes, header: int | None) -> Answer[Written]:
    """`header` is how many bytes of the body are JSON: all, if none is said. Where there is none, the body is the
    one value of the one input, and the outputs are bytes.

    Raises:
        RefusedError: the request, or a picture that is alone in it, has no answer.
    """
    if header is not None and header > len(body):
        raise RefusedError(f"The header {HEADER} says {header} bytes, and the request has {len(body)}.")
    raw = header == 0
    request = {} if raw else json_reading.parse(body if header is None else body[:header])
    behind = memoryview(body)[len(body) if header is None else header :]
    name = _signature_name(request)
    identifier = request.get("id", "")
    if not isinstance(identifier, str):
        raise RefusedError(f"The `id` of a request is a text, and not {json_reading.excerpt(identifier)}.")
    number, servable = _find(models, wanted)
    signature = _signature(servable, name)
    if raw:
        inputs = {_only_input(signature): np.array([body], np.object_)}
        wanted_outputs = dict.fromkeys(sorted(signature.outputs), True)
    else:
        inputs = inference_tensors.inputs(request.get("inputs"), behind, signature.inputs)
        wanted_outputs = inference_tensors.wanted_outputs(request, signature.outputs)
    outputs = answering.run(servable, name, inputs)
    told, parts = [], []
    for key, binary in wanted_outputs.items():
        part = binary_tensors.written(outputs[key]) if binary else None
        told.append(inference_tensors.as_json(key, outputs[key], signature.outputs[key], part))
        parts.append(part or b"")
    said = f'{{"model_name": {text(wanted.name)}, "model_version": "{number}", '
    said += f'"id": {text(identifier)}, ' if "id" in request else ""
    written = f'{said}"outputs": [{", ".join(told)}]}}'.encode("utf-8", "replace")
    answer = Written(b"".join([written, *parts]), len(written) if any(wanted_outputs.values()) else None)
    return Answer(answer, number, name, answering.rows(inputs))


def server() -> dict[str, Any]:
    try:
        version = importlib.metadata.version(SERVER)
    except importlib.metadata.PackageNotFoundError:  # a checkout on the path
        version = "unknown"
    return {"name": SERVER, "version": version, "extensions": list(EXTENSIONS)}


def metadata(models: Models, wanted: Wanted, signature_name: str) -> dict[str, Any]:
    """Of one signature; `parameters` names all.

    Raises:
        RefusedError: there is no such version or signature.
    """
    number, servable = _find(models, wanted)
    signature = _signature(servable, signature_name)
    model = models.models.get(wanted.name)  # it may be gone since
    return {
        "name": wanted.name,
        "versions": list(map(str, model.available if model else [number])),
        "platform": getattr(servable, "platform", "unknown"),  # it is information alone
        "inputs": inference_tensors.metadata(signature.inputs),
        "outputs": inference_tensors.metadata(signature.outputs),
        "parameters": {"signature_name": signature_name, "signature_names": _names(servable)},
    }


def ready(models: Models, wanted: Wanted) -> dict[str, Any]:
    """
    Raises:
        RefusedError: it is not.
    """
    _find(models, wanted)
    return {"name": wanted.name, "ready": True}


def _find(models: Models, wanted: Wanted) -> tuple[int, Servable]:
    """As TensorFlow Serving finds it; but a label that is none is a version that is not there."""
    try:
        return models.find(wanted)
    except RefusedError as refusal:
        if wanted.label is None:
            raise
        raise RefusedError(refusal.message, "NOT_FOUND") from None


def _signature_name(request: dict[str, Any]) -> str:
    name = inference_tensors.parameters(request).get("signature_name", DEFAULT)
    if not isinstance(name, str):
        raise RefusedError(f"The parameter `signature_name` is a text, and not {json_reading.excerpt(name)}.")
    return name


def _signature(servable: Servable, name: str) -> Signature:
    if name not in servable.signatures:
        there = ", ".join(_names(servable))
        raise RefusedError(f"There is no signature {json_reading.excerpt(name)}; there are {there}.")
    return servable.signatures[name]


def _names(servable: Servable) -> list[str]:
    """Of the signatures that can be asked: a SavedModel also has one that initialises it."""
    return sorted(name for name, signature in servable.signatures.items() if signature.inputs)


def _only_input(signature: Signature) -> str:
    if [info.dtype for info in signature.inputs.values()] != ["DT_STRING"]:
        raise RefusedError(f"Without JSON, by {HEADER}: 0, only a signature of one input of BYTES is asked.")
    return next(iter(signature.inputs))
