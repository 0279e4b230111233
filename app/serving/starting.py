"""From an export to a server that is about to answer: for the command, and for notebooks."""

import functools
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from starlette.applications import Starlette

from app.artefacts import version_folders
from app.program import paths
from app.program.errors import UserError
from app.serving import configuration, opening, server
from app.serving.application import application
from app.serving.models import Model, Models, Version
from app.serving.refusals import RefusedError
from app.serving.turns import Settings, Turns
from app.serving.watching import Watching

if TYPE_CHECKING:  # it is imported where it is wanted
    from app.serving.grpc_server import Grpc


class Prepared(NamedTuple):
    """`urls` are those of the networks, by name; within the block of `watching` their versions follow those on the
    disk; `grpc` answers beside, if it is wanted."""

    application: Starlette
    listening: socket.socket
    urls: Mapping[str, str]
    models: Models
    watching: Watching
    grpc: "Grpc | None" = None


def prepare(
    export: Path | None,
    artefact: str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    labels: Mapping[str, int] | None = None,
    token: str | None = None,
    cors: bool = False,
    grpc_port: int | None = None,
    tell: Callable[[str], None] = lambda sentence: None,
    versions: str | None = None,
    config_file: Path | None = None,
    config_seconds: float = 0,
) -> Prepared:
    """What is served is an export, or named by a `config_file`, which is read again every so many seconds, if any.

    Raises:
        UserError: it is no export, or none of the versions loads; the file is no configuration; a label of a version
            that is not served; a port is not to be had.
    """
    if config_file is not None:
        config = configuration.of_file(config_file)
    else:
        assert export is not None
        config = configuration.of_export(export, versions, labels)
    with ExitStack() as stack:
        listening = stack.enter_context(server.listen(host, port))
        of_grpc = None
        if grpc_port is not None:
            of_grpc = stack.enter_context(server.listen(host, grpc_port, "--grpc-port"))
        models = Models({})
        load = functools.partial(opening.load, artefact=artefact)
        watching = Watching(models, load, tell, config_file, config_seconds)
        try:
            watching.apply(config)
        except RefusedError as refusal:
            raise UserError(refusal.message) from refusal
        stack.pop_all()
    at = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/v1/models/"
    turns = Turns(Settings(token, cors))
    grpc = None
    if of_grpc is not None:
        from app.serving.grpc_server import Grpc

        grpc = Grpc(models, turns, of_grpc, host)
    urls = {served.name: at + quote(served.name, safe="") for served in config}
    return Prepared(application(models, turns), listening, urls, models, watching, grpc)


@contextmanager
def in_background(export: Path, artefact: str | None = None, tell: Callable[[str], None] = print) -> Iterator[str]:
    """The address of the network, which this process answers at within the block, as it is now. `tell` is told of
    versions that are not served.

    Raises:
        UserError: it is no run and no export of one network, or none of its versions loads.
    """
    if not paths.is_run(export):
        version_folders.newest(export)
    prepared = prepare(export, artefact, tell=tell)
    with server.in_background(prepared.application, prepared.listening):
        yield next(iter(prepared.urls.values()))


@contextmanager
def uncertified(name: str, artefact: Path, seconds: float) -> Iterator[tuple[str, str]]:
    """The address of a network for HTTP, and the server's for gRPC, of an artefact whose certificate is not written
    yet, at which this process answers within the block, in so many seconds.

    Raises:
        UserError: it does not load.
    """
    host = "127.0.0.1"
    servable = opening.artefact_of(artefact, warm=False)
    models = Models({name: Model({1: Version(servable)}, {})})
    turns = Turns(Settings(deadline=seconds))
    from app.serving.grpc_server import Grpc

    with server.listen(host, 0) as listening, server.listen(host, 0) as of_grpc:
        grpc = Grpc(models, turns, of_grpc, host)
        with server.in_background(application(models, turns), listening, grpc):
            yield f"http://{host}:{listening.getsockname()[1]}/v1/models/{quote(name)}", grpc.address
