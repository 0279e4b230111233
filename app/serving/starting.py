"""From an export to a server that is about to answer: for the command, and for notebooks."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from starlette.applications import Starlette

from app.serving import opening, server
from app.serving.application import Settings, application
from app.serving.models import Models


class Prepared(NamedTuple):
    """`url` is that of the network; `versions` are the numbers of those that are served."""

    application: Starlette
    listening: socket.socket
    url: str
    versions: Sequence[int]


def prepare(
    export: Path,
    artefact: str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    labels: Mapping[str, int] | None = None,
    token: str | None = None,
    cors: bool = False,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Prepared:
    """
    Raises:
        UserError: it is no export, or none of its versions loads; the port is not to be had.
    """
    name, folders = opening.versions_of(export)
    listening = server.listen(host, port)
    try:
        model = opening.model(folders, artefact, labels or {}, tell)
    except BaseException:
        listening.close()
        raise
    at = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/v1/models/{quote(name)}"
    settings = Settings(token, cors, model.threads)
    return Prepared(application(Models({name: model}), settings), listening, at, model.available)


@contextmanager
def in_background(export: Path, artefact: str | None = None, tell: Callable[[str], None] = print) -> Iterator[str]:
    """The address of the network, which this process answers at within the block. `tell` is told of versions that are
    not served.

    Raises:
        UserError: it is no export, or none of its versions loads.
    """
    prepared = prepare(export, artefact, tell=tell)
    with server.in_background(prepared.application, prepared.listening):
        yield prepared.url
