"""From tensors to the JSON of an answer, with TensorFlow Serving's numbers (util/json_tensor.cc)."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.serving.refusals import RefusedError
from app.serving.signatures import TYPES

BYTES = "_bytes"  # the end of the name of an output that is no text
DIGITS = {np.dtype(np.float32): 9, np.dtype(np.float64): 17}  # that tell every number from its neighbours
SHORT = {np.dtype(kind): short for short, kind in TYPES.values()}


def text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def error(message: str) -> str:
    return f'{{\n    "error": {text(message)}\n}}'


def rows(outputs: Mapping[str, NDArray[Any]]) -> str:
    """A list with an element for each of the batch: the value, or of several outputs an object.

    Raises:
        RefusedError: an output has not an element for each, or is of a type that JSON is not written of.
    """
    sizes: list[int] = []
    for name, tensor in outputs.items():
        if not tensor.ndim:
            raise RefusedError(f"Tensor name: {name} has no shape information ")
        if sizes and tensor.shape[0] != sizes[0]:
            expected = f"{tensor.shape[0]} expecting: {sizes[0]}"
            raise RefusedError(f"Tensor name: {name} has inconsistent batch size: {expected}")
        sizes.append(tensor.shape[0])
    written = {name: _rows(name, tensor) for name, tensor in outputs.items()}
    if len(written) == 1:
        (elements,) = written.values()
    else:
        keys = [text(name) for name in written]
        pairs = (
            [f"{key}: {value}" for key, value in zip(keys, row, strict=True)]
            for row in zip(*written.values(), strict=True)
        )
        elements = [f"{{{', '.join(row)}}}" for row in pairs]
    listed = ",\n        ".join(elements)
    return f'{{\n    "predictions": [\n        {listed}\n    ]\n}}'


def columns(outputs: Mapping[str, NDArray[Any]]) -> str:
    """The tensor, or of several an object of them.

    Raises:
        RefusedError: one is of a type that JSON is not written of.
    """
    written = {name: _nested(_tokens(name, tensor), tensor.shape) for name, tensor in outputs.items()}
    if len(written) == 1:
        (value,) = written.values()
    else:
        value = f"{{{', '.join(f'{text(name)}: {tensor}' for name, tensor in written.items())}}}"
    return f'{{\n    "outputs": {value}\n}}'


def classes(labels: NDArray[Any] | None, scores: NDArray[Any] | None) -> str:
    """`results`, a list of pairs [label, score] for each of the batch; both (N, classes), and one may be absent."""
    shape = next(tensor.shape for tensor in (labels, scores) if tensor is not None)
    label = _tokens("classes", labels) if labels is not None else ['""'] * (shape[0] * shape[1])
    score = _tokens("scores", scores) if scores is not None else ["0.0"] * (shape[0] * shape[1])
    pairs = [f"[{a}, {b}]" for a, b in zip(label, score, strict=True)]
    listed = ",\n        ".join(_parts(pairs, shape))
    return f'{{\n    "results": [\n        {listed}\n    ]\n}}'


def _rows(name: str, tensor: NDArray[Any]) -> list[str]:
    return _parts(_tokens(name, tensor), tensor.shape)


def _parts(tokens: Sequence[str], shape: tuple[int, ...]) -> list[str]:
    """One text for each of the first dimension."""
    size = len(tokens) // shape[0] if shape[0] else 0
    return [_nested(tokens[size * place : size * (place + 1)], shape[1:]) for place in range(shape[0])]


def _nested(tokens: Sequence[str], shape: tuple[int, ...]) -> str:
    return f"[{', '.join(_parts(tokens, shape))}]" if shape else tokens[0]


def _tokens(name: str, tensor: NDArray[Any]) -> list[str]:
    kind = tensor.dtype
    if kind in DIGITS:
        return decimals(tensor)
    values = tensor.ravel().tolist()
    if kind == np.object_ and name.endswith(BYTES):
        return [f'{{"b64": "{base64.b64encode(value).decode()}"}}' for value in values]
    if kind == np.object_:
        # As TensorFlow Serving, which writes bytes as they are, be they text or not.
        return [text(value.decode("utf-8", "surrogateescape")) for value in values]
    if kind == np.bool_:
        return ["true" if value else "false" for value in values]
    if kind.kind in "iu" and kind != np.uint16:
        return [str(value) for value in values]
    raise RefusedError(f"Failed to write JSON value for tensor type: {SHORT.get(kind, kind.name)}")


def decimals(tensor: NDArray[Any]) -> list[str]:
    """Six digits where they read back to the same number, else all; with a point where nothing else says that it is no
    whole number."""
    flat = tensor.ravel()
    written = [f"{value:.6g}" for value in flat.tolist()]
    if not written:
        return []
    with np.errstate(over="ignore"):
        same = np.array(written).astype(np.float64).astype(tensor.dtype) == flat
    digits = DIGITS[tensor.dtype]
    for place in np.flatnonzero(~same):
        written[place] = f"{flat[place]:.{digits}g}"
    finite = np.isfinite(flat)
    if not finite.all():
        names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
        for place in np.flatnonzero(~finite):
            written[place] = names[str(float(flat[place]))]
    return [number if "." in number or "e" in number or number[-1] in "Ny" else f"{number}.0" for number in written]
