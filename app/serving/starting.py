"""From an export to a server that is about to answer: for the command, and for notebooks."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from starlette.applications import Starlette

from app.serving import opening, server
from app.serving.application import application
from app.serving.models import Models
from app.serving.turns import Settings, Turns

if TYPE_CHECKING:  # it is imported where it is wanted
    from app.serving.grpc_server import Grpc


class Prepared(NamedTuple):
    """`url` is that of the network; `versions` are the numbers of those that are served; `grpc` answers beside, if it
    is wanted."""

    application: Starlette
    listening: socket.socket
    url: str
    versions: Sequence[int]
    grpc: "Grpc | None" = None


def prepare(
    export: Path,
    artefact: str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    labels: Mapping[str, int] | None = None,
    token: str | None = None,
    cors: bool = False,
    grpc_port: int | None = None,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Prepared:
    """
    Raises:
        UserError: it is no export, or none of its versions loads; a port is not to be had.
    """
    name, folders = opening.versions_of(export)
    with ExitStack() as stack:
        listening = stack.enter_context(server.listen(host, port))
        of_grpc = None
        if grpc_port is not None:
            of_grpc = stack.enter_context(server.listen(host, grpc_port, "--grpc-port"))
        model = opening.model(folders, artefact, labels or {}, tell)
        stack.pop_all()
    at = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/v1/models/{quote(name)}"
    models, turns = Models({name: model}), Turns(Settings(token, cors, model.threads))
    grpc = None
    if of_grpc is not None:
        from app.serving.grpc_server import Grpc

        grpc = Grpc(models, turns, of_grpc, host)
    return Prepared(application(models, turns), listening, at, model.available, grpc)


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
