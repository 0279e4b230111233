"""The server as an ASGI application: who may ask, what is read, where it is answered, and how that is said in HTTP."""

import asyncio
import hmac
import json
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from app.serving import answering, json_writing, metrics, routes
from app.serving.answering import Answer
from app.serving.bodies import LATER, Bodies
from app.serving.models import Models, Wanted
from app.serving.refusals import RefusedError

WAITING = 100  # requests that are answered or wait for it
DEADLINE = 30.0  # seconds, TensorFlow Serving's
ASK: dict[str, Callable[[Models, Wanted, bytes], Answer]] = {
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


class Settings(NamedTuple):
    """`token` is what a client has to send as a bearer; `threads` answer at once."""

    token: str | None = None
    cors: bool = False
    threads: int = 1
    waiting: int = WAITING
    deadline: float = DEADLINE


def application(models: Models, settings: Settings, bodies: Bodies | None = None) -> Starlette:
    rest = _Rest(models, settings, bodies or Bodies())
    health = [Route(f"/v1/health/{name}", getattr(rest, name)) for name in ("ready", "live")]
    pages = [Route(path, rest.metrics_page) for path in (metrics.PATH, "/metrics")]
    # An object, not a function: it takes all methods.
    app = Starlette(routes=[*health, *pages, Route("/{path:path}", rest)])
    app.router.default = rest  # of a path with an end of a line in it, which is no path to the route
    return app


class _Rest:
    def __init__(self, models: Models, settings: Settings, bodies: Bodies) -> None:
        self.models, self.settings, self.bodies = models, settings, bodies
        self.metrics = metrics.Metrics()
        self._pool = ThreadPoolExecutor(settings.threads, "answering")
        self._waiting = 0

    async def ready(self, request: Request) -> Response:
        return _json("{}", 200 if self.models.ready else 503)

    async def live(self, request: Request) -> Response:
        return _json("{}", 200)

    async def metrics_page(self, request: Request) -> Response:
        try:
            self._check_token(request)
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
            self._check_token(request)
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
            ending = RefusedError("The server ends; try again.", "UNAVAILABLE", headers=LATER)
            self.metrics.count(name, ending.code)
            return self._refused(ending)
        except Exception:
            LOG.exception("%s %s", request.method, target)
            self.metrics.count(name, "INTERNAL")
            return self._refused(RefusedError("The server failed at this request; its log says how.", "INTERNAL"))
        self.metrics.count(name, "OK")
        return _json(text, 200)

    async def _answer(self, request: Request, route: routes.Route) -> str:
        if route.method == "status":
            return json.dumps(self.models.status(route.wanted), indent=1)
        if route.method == "metadata":
            return json.dumps(answering.metadata(self.models, route.wanted), indent=1)
        started = time.perf_counter()
        packed = "gzip" in request.headers.get("content-encoding", "")
        if self._waiting >= self.settings.waiting:
            raise self._full()
        body = await self.bodies.read(request)

        def ask() -> Answer:
            if not packed:
                return ASK[route.method](self.models, route.wanted, body)
            content = self.bodies.unpacked(body)
            try:
                return ASK[route.method](self.models, route.wanted, content)
            finally:
                self.bodies.free(len(content))

        answer = await self._in_turn(ask, lambda: self.bodies.free(len(body)))
        self.metrics.answered(route.wanted.name, route.method, answer, time.perf_counter() - started)
        return answer.text

    async def _in_turn(self, ask: Callable[[], Answer], done: Callable[[], None]) -> Answer:
        """Elsewhere than where requests are read, which goes on; in the order in which they came. `done` is called when
        nothing holds the request any more, which may be after its client was refused."""
        if self._waiting >= self.settings.waiting:
            done()
            raise self._full()
        given_up = False

        def in_time() -> Answer:
            if given_up:
                raise self._late()
            return ask()

        def ended(future: asyncio.Future[Answer]) -> None:
            self._waiting -= 1
            done()
            if not future.cancelled():
                future.exception()  # nobody may be there to look at it

        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, in_time)
        future.add_done_callback(ended)
        try:
            # Its place is that of another only when its turn is over: what has begun cannot be stopped.
            return await asyncio.wait_for(asyncio.shield(future), self.settings.deadline)
        except TimeoutError:
            given_up = True
            raise self._late() from None
        except asyncio.CancelledError:  # what waits for its turn would keep the process from its end
            given_up = True
            raise

    def _full(self) -> RefusedError:
        return RefusedError(f"{self._waiting} requests wait already; try again.", "UNAVAILABLE", headers=LATER)

    def _late(self) -> RefusedError:
        return RefusedError(f"There was no answer in {self.settings.deadline:g} seconds.", "DEADLINE_EXCEEDED")

    def _check_token(self, request: Request) -> None:
        if self.settings.token is None:
            return
        scheme, _, given = request.headers.get("authorization", "").encode("latin-1").partition(b" ")  # as it came
        same = hmac.compare_digest(given.lstrip(b" "), self.settings.token.encode())
        if scheme.lower() != b"bearer" or not same:
            headers = {"WWW-Authenticate": "Bearer"}
            raise RefusedError(
                "The header Authorization has not this server's token.", "UNAUTHENTICATED", headers=headers
            )

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
