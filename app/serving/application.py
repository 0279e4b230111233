"""The server as an ASGI application: who may ask, what is read, where it is answered, and how that is said in HTTP."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from app.serving import answering, inference_protocol, json_writing, metrics, routes
from app.serving.answering import Answer
from app.serving.models import Models, Wanted
from app.serving.refusals import RefusedError
from app.serving.turns import FAILED, Turns, ending

ASK: dict[str, Callable[[Models, Wanted, bytes], Answer[str]]] = {
    "predict": answering.predict,
    "classify": answering.classify,
    "regress": answering.regress,
}
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
LOG = logging.getLogger("app.serving")


def application(models: Models, turns: Turns) -> Starlette:
    rest = _Rest(models, turns)
    health = [Route(f"/v1/health/{name}", getattr(rest, name)) for name in ("ready", "live")]
    pages = [Route(path, rest.metrics_page) for path in (metrics.PATH, "/metrics")]
    # An object, not a function: it takes all methods.
    others = inference_protocol.places(models, turns)
    app = Starlette(routes=[*health, *pages, *others, Route("/{path:path}", rest)])
    app.router.default = rest  # of a path with an end of a line in it, which is no path to the route
    return app


class _Rest:
    def __init__(self, models: Models, turns: Turns) -> None:
        self.models, self.turns = models, turns
        self.settings, self.metrics = turns.settings, turns.metrics

    async def ready(self, request: Request) -> Response:
        return _json("{}", 200 if self.models.ready else 503)

    async def live(self, request: Request) -> Response:
        return _json("{}", 200)

    async def metrics_page(self, request: Request) -> Response:
        try:
            self.turns.check_token(request.headers.get("authorization", "").encode("latin-1"))  # as it came
        except RefusedError as refusal:
            return self._refused(refusal)
        if request.url.query:
            said = f"Unexpected path: {_target(request)}. Should be {request.url.path}"
            return Response(said, 400, media_type="text/plain")
        return Response(self.metrics.page(), media_type="text/plain")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        started = time.perf_counter()
        try:
            response = await self._response(request)
        except ClientDisconnect:
            return
        client = request.client.host if request.client else "-"
        milliseconds = 1000 * (time.perf_counter() - started)
        LOG.info('%s "%s %s" %d %.1f ms', client, request.method, _target(request), response.status_code, milliseconds)
        if self.settings.cors:
            response.headers.update(CORS)
            if self.settings.token:
                response.headers["Access-Control-Allow-Headers"] += ", Authorization"
        await response(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        target = _target(request)
        if not re.fullmatch(r"(?i)/v1/.*", target):
            return Response("<h1>Not Found</h1>", 404, media_type="text/html")
        if request.method == "OPTIONS":
            allowed = re.search("https?://", request.headers.get("origin", ""))
            return _json("", 200 if allowed else 400)
        name = ""
        try:
            self.turns.check_token(request.headers.get("authorization", "").encode("latin-1"))  # as it came
            route = routes.route(request.method, target)
            # Only names that are served: anybody can ask for others, and every one would be counted by itself.
            name = route.wanted.name if route.wanted.name in self.models.models else ""
            text = await self._answer(request, route)
        except RefusedError as refusal:
            self.metrics.count(name, refusal.code)
            return self._refused(refusal)
        except ClientDisconnect:
            raise
        except asyncio.CancelledError:  # the server waits no longer
            last = ending()
            self.metrics.count(name, last.code)
            return self._refused(last)
        except Exception:
            LOG.exception("%s %s", request.method, target)
            self.metrics.count(name, "INTERNAL")
            return self._refused(RefusedError(FAILED, "INTERNAL"))
        self.metrics.count(name, "OK")
        return _json(text, 200)

    async def _answer(self, request: Request, route: routes.Route) -> str:
        if route.method == "status":
            return json.dumps(self.models.status(route.wanted), indent=1)
        if route.method == "metadata":
            return json.dumps(answering.metadata(self.models, route.wanted), indent=1)
        started = time.perf_counter()
        packed = "gzip" in request.headers.get("content-encoding", "")
        await self.turns.room()
        bodies = self.turns.bodies
        body = await bodies.read(request)

        def ask() -> Answer[str]:
            if not packed:
                return ASK[route.method](self.models, route.wanted, body)
            content = bodies.unpacked(body)
            try:
                return ASK[route.method](self.models, route.wanted, content)
            finally:
                bodies.free(len(content))

        answer = await self.turns.take(ask, lambda: bodies.free(len(body)))
        self.metrics.answered(route.wanted.name, route.method, answer, time.perf_counter() - started)
        return answer.content

    def _refused(self, refusal: RefusedError) -> Response:
        return _json(json_writing.error(refusal.message), refusal.status, refusal.headers)


def _target(request: Request) -> str:
    """The path as it was sent, and the query."""
    query = request.scope["query_string"]
    target: bytes = request.scope["raw_path"] + (b"?" + query if query else b"")
    return target.decode("latin-1")


def _json(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # halves of surrogate pairs, which a request has said
        content = text.encode("utf-8", "replace")
    return Response(content, status, headers, "application/json")
