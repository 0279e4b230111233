"""A request by HTTP until its answer: who may ask, what is counted and logged, and how a refusal is said."""

import asyncio
import logging
import re
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.serving import json_writing
from app.serving.models import Models
from app.serving.refusals import RefusedError
from app.serving.routes import Route
from app.serving.turns import FAILED, Turns, ending

LOG = logging.getLogger("app.serving")
SOON = 0.2  # seconds
Found = TypeVar("Found")


class Exchange:
    """An ASGI application: what one of the contracts has of its own is in `route` and `answer`.

    `headers` are those of a request, and `shown` those of an answer, that pages of other addresses have to do with.
    """

    headers: tuple[str, ...] = ("Content-Type",)
    shown: tuple[str, ...] = ()

    def __init__(self, models: Models, turns: Turns) -> None:
        self.models, self.turns = models, turns

    def route(self, method: str, target: str) -> Route:
        """
        Raises:
            RefusedError: nothing is there.
        """
        raise NotImplementedError

    async def answer(self, request: Request, route: Route) -> Response:
        """
        Raises:
            RefusedError: there is none.
        """
        raise NotImplementedError

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        started = time.perf_counter()
        try:
            response = await self.response(request)
        except ClientDisconnect:
            return
        client = request.client.host if request.client else "-"
        milliseconds = 1000 * (time.perf_counter() - started)
        LOG.info('%s "%s %s" %d %.1f ms', client, request.method, target(request), response.status_code, milliseconds)
        if self.turns.settings.cors:
            self._let_pages_read(response)
        await response(scope, receive, send)

    async def response(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            allowed = re.search("https?://", request.headers.get("origin", ""))
            return json_response("", 200 if allowed else 400)
        name = ""
        try:
            self.turns.check_token(request.headers.get("authorization", "").encode("latin-1"))  # as it came
            route = self.route(request.method, target(request))
            # Only names that are served: anybody can ask for others, and every one would be counted by itself.
            name = route.wanted.name if route.wanted.name in self.models.models else ""
            response = await self.answer(request, route)
        except RefusedError as error:
            refusal = error.with_traceback(None)  # without the frames that hold the request, of which this is one
        except ClientDisconnect:
            raise
        except asyncio.CancelledError:  # the server waits no longer
            refusal = ending()
        except Exception:
            LOG.exception("%s %s", request.method, target(request))
            refusal = RefusedError(FAILED, "INTERNAL")
        else:
            self.turns.metrics.count(name, "OK")
            return response
        self.turns.metrics.count(name, refusal.code)
        return self.refused(refusal)

    def refused(self, refusal: RefusedError) -> Response:
        return json_response(json_writing.error(refusal.message), refusal.status, refusal.headers)

    def _let_pages_read(self, response: Response) -> None:
        token = ("Authorization",) if self.turns.settings.token else ()
        response.headers.update(
            {
                "Access-Control-Allow-Origin": "*",
                "Access-Control-Allow-Methods": "POST, GET",
                "Access-Control-Allow-Headers": ", ".join((*self.headers, *token)),
            }
        )
        if self.shown:
            response.headers["Access-Control-Expose-Headers"] = ", ".join(self.shown)


async def while_there(request: Request, answer: Coroutine[Any, Any, Found]) -> Found:
    """The answer, which is given up if its client goes. Most have one before it is worth looking.

    Raises:
        ClientDisconnect: it has gone.
    """
    task = asyncio.ensure_future(answer)
    watching: asyncio.Task[None] | None = None
    try:
        await asyncio.wait({task}, timeout=SOON)
        if not task.done():
            watching = asyncio.ensure_future(_gone(request))
            await asyncio.wait({task, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        if watching:
            watching.cancel()
        del task  # which holds what it raised, and that this frame


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def target(request: Request) -> str:
    """The path as it was sent, and the query."""
    query = request.scope["query_string"]
    found: bytes = request.scope["raw_path"] + (b"?" + query if query else b"")
    return found.decode("latin-1")


def json_response(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # halves of surrogate pairs, which a request has said
        content = text.encode("utf-8", "replace")
    return Response(content, status, headers, "application/json")
