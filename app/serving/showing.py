"""The page over HTTP: its files, and what it asks beside `:predict`. No path is taken from a request."""

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.serving import page, routes
from app.serving.exchanges import Exchange, while_there
from app.serving.models import Models, Wanted
from app.serving.page.shown import Shown, png
from app.serving.refusals import RefusedError
from app.serving.turns import Turns
from export import picture_files

FILES = {
    "/": ("index.html", "text/html"),
    "/page/style.css": ("style.css", "text/css"),
    "/page/page.js": ("page.js", "text/javascript"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
# Nothing from elsewhere, nothing to elsewhere, and no page of others around it.
SAFE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
DIGITS = 19  # of a version
Ask = Callable[[Request], Awaitable[Response]]


class _Route(Route):
    """Starlette's, which takes a path with an end of a line behind it for the path without."""

    def __init__(self, path: str, *given: Any, **options: Any) -> None:
        super().__init__(path, *given, **options)
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z")


def places(models: Models, turns: Turns) -> list[Route]:
    showing = _Showing(models, turns)
    version = "/page/models/{name}/versions/{version}"
    asked: list[tuple[str, str, Ask]] = [
        ("GET", "/page/models", showing.served),
        ("GET", f"{version}/examples/{{place}}", showing.example),
        ("POST", f"{version}/seen", showing.seen),
        ("POST", f"{version}/inside", showing.inside),
    ]
    return [
        *(_Route(path, _file(*found)) for path, found in FILES.items()),
        *(_Route(path, _Asked(models, turns, ask), methods=[method]) for method, path, ask in asked),
    ]


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = (Path(page.__file__).parent / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, headers=SAFE, media_type=kind)

    return answer


class _Asked(Exchange):
    """What the page asks, as other requests are asked: with the token, counted and logged."""

    def __init__(self, models: Models, turns: Turns, ask: Ask) -> None:
        super().__init__(models, turns)
        self._ask = ask

    def route(self, method: str, target: str) -> routes.Route:
        return routes.Route("page", Wanted(""))  # the request itself says which

    async def answer(self, request: Request, route: routes.Route) -> Response:
        return await self._ask(request)

    async def response(self, request: Request) -> Response:
        response = await super().response(request)
        response.headers.update(SAFE)
        return response


class _Showing:
    def __init__(self, models: Models, turns: Turns) -> None:
        self.models, self.turns = models, turns

    async def served(self, request: Request) -> Response:
        """All that can be asked, the newest version of each network first."""
        listed = [
            {"name": name, "version": str(number)} | _told(getattr(version.servable, "shown", None))
            for name, model in sorted(self.models.models.items())
            for number, version in sorted(model.versions.items(), reverse=True)
            if version.servable
        ]
        return JSONResponse({"versions": listed, "largest": picture_files.LIMITS.bytes})

    async def example(self, request: Request) -> Response:
        examples: Sequence[Any] = self._shown(request).examples
        place = _number(request.path_params["place"])
        if place is None or place >= len(examples):
            raise RefusedError(f"There are {len(examples)} examples, counted from 0.", "NOT_FOUND")
        try:
            content = await asyncio.to_thread(examples[place].file.read_bytes)
        except OSError:
            raise RefusedError("This example is gone.", "NOT_FOUND") from None
        return Response(content, media_type=f"image/{picture_files.kind_of(content)}")

    async def seen(self, request: Request) -> Response:
        shown = self._shown(request)
        content = await self._of_picture(request, shown.seen)
        return Response(content, media_type="image/png")

    async def inside(self, request: Request) -> Response:
        inside = self._shown(request).inside
        if inside is None:
            raise RefusedError("Only of a run can this be told: an export is folded.", "UNIMPLEMENTED")
        found = await self._of_picture(request, inside)
        heat = base64.b64encode(png(found.heat)).decode()
        return JSONResponse({"heat": heat, "label": found.label, "like": found.like, "is_like": found.is_like})

    async def _of_picture(self, request: Request, ask: Callable[[bytes], Any]) -> Any:
        """What is told of the picture that is the body."""
        await self.turns.room()
        bodies = self.turns.bodies
        body = await bodies.read(request)

        def told() -> Any:
            try:
                return ask(body)
            except picture_files.RefusedError as refusal:
                raise RefusedError(str(refusal)) from None

        return await while_there(request, self.turns.take(told, lambda: bodies.free(len(body))))

    def _shown(self, request: Request) -> Shown:
        number = _number(request.path_params["version"])
        if number is None:
            raise RefusedError("That is no number of a version.", "NOT_FOUND")
        _, servable = self.models.find(Wanted(request.path_params["name"], number))
        shown: Shown | None = getattr(servable, "shown", None)
        if shown is None:
            raise RefusedError("Of this version there is nothing to show but its answers.", "NOT_FOUND")
        return shown


def _told(shown: Shown | None) -> dict[str, Any]:
    if shown is None:
        return {"examples": [], "sees": "", "names": {}, "inside": False}
    return {
        "examples": [example.label for example in shown.examples],
        "sees": shown.described,
        "names": dict(shown.names),
        "inside": shown.inside is not None,
    }


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= DIGITS else None
