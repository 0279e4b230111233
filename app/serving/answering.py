"""From a request to its answer: predict and classify, as far as they are no HTTP; on tensors, as far as no JSON."""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.serving import batches, examples, json_reading, json_writing, tensors
from app.serving.models import Models, Wanted
from app.serving.refusals import RefusedError
from app.serving.signatures import DEFAULT, Servable, Signature, TensorInfo
from export import picture_files

Tensors = Mapping[str, NDArray[Any]]
Content = TypeVar("Content")


class Answer(NamedTuple, Generic[Content]):
    """The JSON or message, and what answered, for those who count."""

    content: Content
    version: int
    signature: str
    rows: int


def predict(models: Models, wanted: Wanted, body: bytes) -> Answer[str]:
    """
    Raises:
        RefusedError: the request, or a picture that is alone in it, has no answer.
    """
    request = json_reading.parse(body)
    given = _signature_name(request)
    number, servable = models.find(wanted)
    name = given or DEFAULT
    if name not in servable.signatures:
        raise RefusedError(f'Serving signature name: "{name}" not found in signature def')
    signature = servable.signatures[name]
    if not signature.inputs:
        raise RefusedError(f"Failed to get input map for signature: {given or 'DEFAULT'}")
    inputs, by_rows = tensors.of_request(request, signature.inputs)
    del request  # its memory, a multiple of the tensors', is not kept while they wait
    outputs = run(servable, name, inputs)
    return Answer((json_writing.rows if by_rows else json_writing.columns)(outputs), number, name, rows(inputs))


def classify(models: Models, wanted: Wanted, body: bytes) -> Answer[str]:
    """
    Raises:
        RefusedError: the request, or a picture that is alone in it, has no answer, or its signature is none for this.
    """
    request = json_reading.parse(body)
    name = _signature_name(request) or DEFAULT
    serialised = examples.of_request(request)
    del request
    number, servable = models.find(wanted)
    labels, scores = classes(servable, name, serialised)
    return Answer(json_writing.classes(labels, scores), number, name, len(serialised))


def regress(models: Models, wanted: Wanted, body: bytes) -> NoReturn:
    """
    Raises:
        RefusedError: in every case. No network here is one of regression.
    """
    request = json_reading.parse(body)
    name = _signature_name(request) or DEFAULT
    examples.of_request(request)
    _, servable = models.find(wanted)
    refuse_regression(servable, name)


def metadata(models: Models, wanted: Wanted) -> dict[str, Any]:
    """
    Raises:
        RefusedError: there is no such version.
    """
    number, servable = models.find(wanted)
    return {
        "model_spec": {"name": wanted.name, "signature_name": "", "version": str(number)},
        "metadata": {
            "signature_def": {
                "signature_def": {name: signature.metadata() for name, signature in servable.signatures.items()}
            }
        },
    }


def classes(
    servable: Servable, name: str, serialised: Sequence[bytes]
) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Labels and scores, (N, classes), of serialised examples; a signature may have one of them alone.

    Raises:
        RefusedError: the signature is none for this; there are no examples, or they have no answer.
    """
    signature = _named(servable, name)
    if len(signature.inputs) != 1:
        raise RefusedError("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise RefusedError(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise RefusedError(f"No classification inputs found in SignatureDef: {name}")
    if not {"classes", "scores"} & signature.outputs.keys():
        missing = 'Expected classification signature outputs to contain at least one of "classes" or "scores".'
        raise RefusedError(f"{missing} Signature was: {name}")
    if not serialised:
        raise RefusedError("Input is empty.")
    inputs = np.empty(len(serialised), np.object_)
    inputs[:] = serialised
    outputs = run(servable, name, {"inputs": inputs})
    labels, scores = outputs.get("classes"), outputs.get("scores")
    _check_classes(labels, scores, len(serialised))
    return labels, scores


def refuse_regression(servable: Servable, name: str) -> NoReturn:
    """
    Raises:
        RefusedError: in every case, with what the signature lacks.
    """
    signature = _named(servable, name)
    if len(signature.inputs) != 1:
        raise RefusedError("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise RefusedError("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise RefusedError(f"No regression inputs found in SignatureDef: {name}")
    raise RefusedError(f"No regression outputs found in SignatureDef: {name}")


def run(servable: Servable, name: str, inputs: Tensors) -> Tensors:
    """
    Raises:
        RefusedError: a tensor is not of the signature's shape, or empty; a picture that is alone has no answer.
    """
    for key, info in servable.signatures[name].inputs.items():
        if not info.admits(inputs[key].shape):
            shape = list(info.shape or ())
            raise RefusedError(f"The input {key} of {name} has the shape {shape}, and not {list(inputs[key].shape)}.")
        if not inputs[key].size:
            raise RefusedError(f"The input {key} of {name} is empty.")
        _check_size(info, inputs[key].shape)
    try:
        outputs = batches.run(servable, name, inputs)
    except MemoryError:
        raise RefusedError("There is not enough memory for this request.", "RESOURCE_EXHAUSTED") from None
    # In a batch a bad picture leaves the others their answers; alone it is a request without one.
    errors = outputs.get("errors")
    if errors is not None and errors.shape == (1,) and errors[0]:
        raise RefusedError(errors[0].decode("utf-8", "replace"))
    classes = outputs.get("classes")
    if errors is None and classes is not None and classes.shape[:1] == (1,) and not any(classes.flat):
        raise RefusedError(f"The picture cannot be decoded; {DEFAULT} says why.")
    return outputs


def rows(inputs: Tensors) -> int:
    """How many pictures a request has."""
    return next((len(tensor) for tensor in inputs.values() if tensor.ndim), 1)


def _signature_name(request: Mapping[str, Any]) -> str:
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        said = "not formatted correctly. 'signature_name' key must be a string value."
        raise RefusedError(f"JSON Value: {json_reading.excerpt(request)} {said}")
    return name


def _named(servable: Servable, name: str) -> Signature:
    if name not in servable.signatures:
        raise RefusedError(f"No signature was found with the name: {name}")
    return servable.signatures[name]


def _check_size(info: TensorInfo, shape: tuple[int, ...]) -> None:
    batches.check(shape[0] if shape else 1)
    side = picture_files.LIMITS.side
    if info.dtype == "DT_UINT8" and len(info.shape or ()) == len(shape) == 4 and max(shape[1:3]) > side:
        said = f"These pictures have {shape[1]} x {shape[2]} pixels; {side} a side are the most."
        raise RefusedError(said)


def _check_classes(labels: NDArray[Any] | None, scores: NDArray[Any] | None, count: int) -> None:
    for name, tensor, kind in (("classes", labels, np.object_), ("scores", scores, np.float32)):
        if tensor is None:
            continue
        if tensor.ndim != 2:
            said = f"[{','.join(map(str, tensor.shape))}]"
            raise RefusedError(f"Expected Tensor shape: [batch_size num_classes] but got {said}")
        if tensor.dtype != kind:
            wanted = "DT_STRING" if kind is np.object_ else "DT_FLOAT"
            raise RefusedError(f"Expected {name} Tensor of {wanted}. Got: {tensor.dtype.name}")
        if len(tensor) != count:
            raise RefusedError(f"Expected {name} output batch size of {count}. Got: {len(tensor)}")
    if labels is not None and scores is not None and labels.shape[1] != scores.shape[1]:
        sides = f"{labels.shape[1]} vs. {scores.shape[1]}"
        raise RefusedError(f"Tensors class and score should match in dim_size(1). Got {sides}")
