"""The server as an ASGI application, and of it TensorFlow Serving's paths: what is read, and where it is answered."""

import json
import re
import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.serving import answering, inference_protocol, metrics, routes, showing
from app.serving.answering import Answer
from app.serving.exchanges import Exchange, json_response, target, while_there
from app.serving.models import Models, Wanted
from app.serving.refusals import RefusedError
from app.serving.turns import Turns

ASK: dict[str, Callable[[Models, Wanted, bytes], Answer[str]]] = {
    "predict": answering.predict,
    "classify": answering.classify,
    "regress": answering.regress,
}


def application(models: Models, turns: Turns) -> Starlette:
    rest = _Rest(models, turns)
    health = [Route(f"/v1/health/{name}", getattr(rest, name)) for name in ("ready", "live")]
    pages = [Route(path, rest.metrics_page) for path in (metrics.PATH, "/metrics")]
    others = inference_protocol.places(models, turns)
    # An object, not a function: it takes all methods.
    app = Starlette(routes=[*health, *pages, *others, *showing.places(models, turns), Route("/{path:path}", rest)])
    app.router.redirect_slashes = False
    app.router.default = rest  # of a path with an end of a line in it, which is no path to the route
    return app


class _Rest(Exchange):
    async def ready(self, request: Request) -> Response:
        return json_response("{}", 200 if self.models.ready else 503)

    async def live(self, request: Request) -> Response:
        return json_response("{}")

    async def metrics_page(self, request: Request) -> Response:
        try:
            self.turns.check_token(request.headers.get("authorization", "").encode("latin-1"))  # as it came
        except RefusedError as refusal:
            return self.refused(refusal)
        if request.url.query:
            said = f"Unexpected path: {target(request)}. Should be {request.url.path}"
            return Response(said, 400, media_type="text/plain")
        return Response(self.turns.metrics.page(), media_type="text/plain")

    async def response(self, request: Request) -> Response:
        if not re.fullmatch(r"(?i)/v1/.*", target(request)):
            return Response("<h1>Not Found</h1>", 404, media_type="text/html")
        return await super().response(request)

    def route(self, method: str, target: str) -> routes.Route:
        return routes.route(method, target)

    async def answer(self, request: Request, route: routes.Route) -> Response:
        if route.method == "status":
            return json_response(json.dumps(self.models.status(route.wanted), indent=1))
        if route.method == "metadata":
            return json_response(json.dumps(answering.metadata(self.models, route.wanted), indent=1))
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

        answer = await while_there(request, self.turns.take(ask, lambda: bodies.free(len(body))))
        self.turns.metrics.answered(route.wanted.name, route.method, answer, time.perf_counter() - started)
        return json_response(answer.content)
