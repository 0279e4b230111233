"""Networks that answer at once, and a client of the application in this process."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette

from app.serving.refusals import RefusedError
from app.serving.signatures import TYPES, Signature, TensorInfo


def ask(app: Starlette, method: str, target: str, body: Any = None, **options: Any) -> httpx.Response:
    """What the application answers."""
    return asyncio.run(asking(app, method, target, body, **options))


async def asking(app: Starlette, method: str, target: str, body: Any = None, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8501") as client:
        content = body.encode() if isinstance(body, str) else body
        return await client.request(method, target, content=content, **options)


def texts(*values: bytes) -> NDArray[Any]:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array


class Echo:
    """A signature for every type, `float` to `string`, that gives back its input `x` as `y`; and others that TensorFlow
    Serving's rules speak of."""

    threads = 1

    def __init__(self, number: int = 1) -> None:
        self.number = number

        def signature(inputs: dict[str, str], outputs: dict[str, str]) -> Signature:
            def infos(of: dict[str, str]) -> dict[str, TensorInfo]:
                return {name: TensorInfo(f"{name}:0", dtype, None) for name, dtype in of.items()}

            return Signature(infos(inputs), infos(outputs))

        every = (*TYPES, "DT_BFLOAT16")
        self.signatures: Mapping[str, Signature] = {
            **{TensorInfo("", name, None).short: signature({"x": name}, {"y": name}) for name in every},
            "serving_default": signature({"x": "DT_FLOAT"}, {"y": "DT_FLOAT"}),
            "two": signature({"a": "DT_FLOAT", "b": "DT_STRING"}, {"a": "DT_FLOAT", "b_bytes": "DT_STRING"}),
            "nothing": signature({}, {"y": "DT_FLOAT"}),
            "number": signature({"x": "DT_FLOAT"}, {"version": "DT_INT64"}),
            "static": signature({"x": "DT_FLOAT"}, {"y": "DT_FLOAT", "z": "DT_FLOAT"}),
            "to_half": signature({"x": "DT_FLOAT"}, {"y": "DT_HALF"}),
            "both": signature({"inputs": "DT_STRING"}, {"classes": "DT_STRING", "scores": "DT_FLOAT"}),
            "only_classes": signature({"inputs": "DT_STRING"}, {"classes": "DT_STRING"}),
            "only_scores": signature({"inputs": "DT_STRING"}, {"scores": "DT_FLOAT"}),
            "wide": signature({"inputs": "DT_STRING"}, {"scores": "DT_DOUBLE"}),
            "uneven": signature({"inputs": "DT_STRING"}, {"classes": "DT_STRING", "scores": "DT_FLOAT"}),
            "regress": signature({"inputs": "DT_STRING"}, {"values": "DT_FLOAT"}),
            "fails": signature({"x": "DT_FLOAT"}, {"y": "DT_FLOAT"}),
            "breaks": signature({"x": "DT_FLOAT"}, {"y": "DT_FLOAT"}),
        }
        self.seen: list[bytes] = []

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        x = next(iter(inputs.values()))
        if signature == "two":
            return {"a": inputs["a"], "b_bytes": inputs["b"]}
        if signature == "number":
            return {"version": np.full(x.shape[:1], self.number, np.int64)}
        if signature == "static":
            return {"y": x, "z": np.zeros(7, np.float32)}
        if signature == "to_half":
            return {"y": x.astype(np.float16)}
        if signature == "fails":
            raise RefusedError("it ran out", "RESOURCE_EXHAUSTED")
        if signature == "breaks":
            raise ZeroDivisionError("a secret of the program")
        if "inputs" in inputs:
            self.seen = x.tolist()
            classes = texts(*[b"cat", b"dog"] * len(x)).reshape(-1, 2)
            scores = np.tile(np.array([0.75, 0.25], np.float32), (len(x), 1))
            outputs = {"classes": classes, "scores": scores}
            if signature == "wide":
                return {"scores": scores.astype(np.float64)}
            if signature == "uneven":
                return {"classes": classes, "scores": scores[:, :1]}
            return {name: outputs[name] for name in self.signatures[signature].outputs}
        return {"y": x}
