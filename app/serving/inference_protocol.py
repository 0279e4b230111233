"""The Open Inference Protocol over HTTP, KServe's and Triton's, beside TensorFlow Serving's paths: one queue with them,
one count, one log."""

import json
import re
import time
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Place

from app.serving import inference_answering
from app.serving.answering import Answer
from app.serving.exchanges import Exchange, json_response, while_there
from app.serving.inference_answering import Written
from app.serving.inference_tensors import HEADER
from app.serving.models import Models, Wanted
from app.serving.refusals import RefusedError
from app.serving.routes import LARGEST, Route
from app.serving.signatures import DEFAULT
from app.serving.turns import Turns

ENCODINGS = ("gzip", "deflate")
_PATH = re.compile(r"/v2(?:/|/models/([^/]+)(?:/versions/([^/]+))?(/ready|/infer)?)?", re.ASCII)


def places(models: Models, turns: Turns) -> list[Place]:
    """Where it is answered."""
    protocol = _Protocol(models, turns)
    health = [Place(f"/v2/health/{name}", getattr(protocol, name)) for name in ("ready", "live")]
    return [*health, Place("/v2", protocol), Place("/v2/{path:path}", protocol)]


class _Protocol(Exchange):
    headers, shown = ("Content-Type", HEADER), (HEADER,)

    async def ready(self, request: Request) -> Response:
        return json_response(json.dumps({"ready": self.models.ready}), 200 if self.models.ready else 503)

    async def live(self, request: Request) -> Response:
        return json_response('{"live": true}')

    def route(self, method: str, target: str) -> Route:
        path = target.partition("?")[0]
        found = _PATH.fullmatch(path)
        if found is None:
            raise RefusedError(f"The Open Inference Protocol has no {method} {path}.", "NOT_FOUND")
        name, version, last = found.groups()
        asked = "server" if name is None else (last or "/metadata")[1:]
        allowed = "POST" if asked == "infer" else "GET"
        if method != allowed:
            said = f"{path} is asked by {allowed}, and not by {method}."
            raise RefusedError(said, "UNIMPLEMENTED", status=405, headers={"Allow": allowed})
        return Route(asked, _wanted(unquote(name or "", errors="surrogateescape"), version))

    async def answer(self, request: Request, route: Route) -> Response:
        if route.method == "infer":
            return await self._infer(request, route.wanted)
        if route.method == "server":
            told = inference_answering.server()
        elif route.method == "ready":
            told = inference_answering.ready(self.models, route.wanted)
        else:
            signature = request.query_params.get("signature_name", DEFAULT)
            told = inference_answering.metadata(self.models, route.wanted, signature)
        return json_response(json.dumps(told))

    async def _infer(self, request: Request, wanted: Wanted) -> Response:
        started = time.perf_counter()
        header = _header(request.headers.get(HEADER))
        packed = request.headers.get("content-encoding", "identity").strip().lower()
        if packed not in (*ENCODINGS, "identity"):
            raise RefusedError(f"A request is packed by {' or '.join(ENCODINGS)} here.", "UNIMPLEMENTED", status=415)
        await self.turns.room()
        bodies = self.turns.bodies
        body = await bodies.read(request)

        def ask() -> Answer[Written]:
            if packed == "identity":
                return inference_answering.infer(self.models, wanted, body, header)
            content = bodies.unpacked(body, either=True)
            try:
                if not content:
                    raise RefusedError(f"The request is not packed by {packed}, as its header says.")
                return inference_answering.infer(self.models, wanted, content, header)
            finally:
                bodies.free(len(content))

        answer = await while_there(request, self.turns.take(ask, lambda: bodies.free(len(body))))
        self.turns.metrics.answered(wanted.name, "infer", answer, time.perf_counter() - started)
        content, size = answer.content
        if size is None:
            return Response(content, media_type="application/json")
        return Response(content, headers={HEADER: str(size)}, media_type="application/octet-stream")


def _wanted(name: str, version: str | None) -> Wanted:
    """A version is a text in this protocol: what is no number is a label."""
    if version is None:
        return Wanted(name)
    said = unquote(version, errors="surrogateescape")
    if not re.fullmatch("[0-9]+", said):
        return Wanted(name, label=said)
    digits = said.lstrip("0") or "0"
    if len(digits) > len(str(LARGEST)) or int(digits) > LARGEST:
        raise RefusedError(f"Servable not found for request: Specific({name}, {digits[:40]})", "NOT_FOUND")
    return Wanted(name, int(digits))


def _header(said: str | None) -> int | None:
    if said is None:
        return None
    if not re.fullmatch("[0-9]{1,18}", said.strip()):
        raise RefusedError(f"The header {HEADER} is a number of bytes, and not {said[:40]!r}.")
    return int(said)
